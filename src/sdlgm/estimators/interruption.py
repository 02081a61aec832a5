"""What an interrupted fit leaves behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sdlgm.training.loop import Interrupted

__all__ = ["as_keyboard_interrupt", "unfitted_unless_done"]


@contextmanager
def as_keyboard_interrupt() -> Iterator[None]:
    """Turn an interrupted training into ``KeyboardInterrupt``.

    Unlike an ``Exception``, it also ends a search that fits many estimators.
    """
    try:
        yield
    except Interrupted as stop:
        raise KeyboardInterrupt(f"{stop} Nothing is kept.") from None


@contextmanager
def unfitted_unless_done(estimator: object) -> Iterator[None]:
    """Remove the fitted attributes of an estimator if the block fails or is interrupted."""
    try:
        yield
    except BaseException:
        for name in [name for name in vars(estimator) if name.endswith("_")]:
            delattr(estimator, name)
        raise
