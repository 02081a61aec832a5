"""What a fit that fails leaves behind: nothing, or what was there before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sdlgm.training.loop import Interrupted

__all__ = ["as_keyboard_interrupt", "unchanged_unless_done", "unfitted_unless_done"]


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
def unchanged_unless_done(estimator: object) -> Iterator[None]:
    """Give an estimator the attributes that it had if the block fails or is interrupted."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


@contextmanager
def unfitted_unless_done(estimator: object) -> Iterator[None]:
    """Remove the fitted attributes of an estimator if the block fails or is interrupted."""
    try:
        yield
    except BaseException:
        for name in [name for name in vars(estimator) if name.endswith("_")]:
            delattr(estimator, name)
        raise
