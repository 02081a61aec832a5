"""Ctrl-C and SIGTERM during a training."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sdlgm.interrupts import handling

__all__ = ["collected_signals"]


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that no step is cut short; a second one interrupts at once."""
    seen: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    with handling(handle, signal.SIGINT, signal.SIGTERM):
        yield seen
