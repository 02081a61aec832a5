"""Signals that are handled for a while."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["handling"]


@contextmanager
def handling(handler: Callable[[int, Any], object], *signals: signal.Signals) -> Iterator[None]:
    """Let ``handler`` take these signals, and afterwards whoever took them before.

    In another thread than the main one, where no handler can be set, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
