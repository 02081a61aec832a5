"""Temporary signal handlers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["handling"]


@contextmanager
def handling(handler: Callable[[int, Any], object], *signals: signal.Signals) -> Iterator[None]:
    """Handle signals with ``handler`` inside the block, then restore the previous handlers.

    Only the main thread can set handlers. In any other thread this does nothing.
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
