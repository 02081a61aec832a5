"""Temporary signal handlers."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["handling", "interruptible", "postponed"]


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


@contextmanager
def postponed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the end of the block, which must be short.

    For code that crashes if an exception is raised inside it, such as the start of some libraries.
    """
    received: list[int] = []
    try:
        with handling(lambda number, _: received.append(number), signal.SIGINT, signal.SIGTERM):
            yield
    finally:
        for number in dict.fromkeys(received):
            signal.raise_signal(number)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Raise ``KeyboardInterrupt`` inside the block on Ctrl-C and SIGTERM; yield those received.

    In a place that cannot raise, such as a destructor, the process ends at once.
    """
    received: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    def unraisable(about: Any) -> None:
        if issubclass(about.exc_type, KeyboardInterrupt):
            os._exit(130)
        hook(about)

    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) != signal.SIG_IGN
    ]
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        with handling(interrupt, *numbers):
            yield received
    finally:
        sys.unraisablehook = hook
