"""Drift: values far outside of the range that a model was trained on, counted over many tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.errors import warn

if TYPE_CHECKING:
    from sdlgm.data.columns import Columns

__all__ = ["Drift"]


class Drift:
    """Counts values far outside of the training range of their column.

    Far is beyond the smallest or largest training value by more than the range of these. Nothing is
    counted if the ranges are unknown, or are those of another number of columns.

    Parameters
    ----------
    known
        The columns of the training data, with their ranges.
    """

    def __init__(self, known: Columns) -> None:
        self.known = known
        width = len(known.low or ())
        self._seen, self._far = 0, np.zeros(width)
        self._low, self._high = np.full(width, np.inf), np.full(width, -np.inf)

    def add(self, values: NDArray[Any]) -> None:
        """Count the values of a table ``(n, D)``."""
        if not self.known.low or len(self.known.low) != values.shape[1] or not len(values):
            return
        low, high = np.asarray(self.known.low), np.asarray(self.known.high)
        far = (values < low - (high - low)) | (values > high + (high - low))
        self._seen += values.size
        self._far += far.sum(0)
        self._low = np.minimum(self._low, values.min(0))
        self._high = np.maximum(self._high, values.max(0))

    def counts(self) -> list[float]:
        """Return all counts as plain numbers, which another process can :meth:`merge`."""
        return [float(self._seen), *self._far, *self._low, *self._high]

    def merge(self, counts: list[float]) -> None:
        """Add what :meth:`counts` returned of other rows."""
        self._seen += int(counts[0])
        far, low, high = np.asarray(counts[1:]).reshape(3, -1)
        self._far += far
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def warn(self, name: str) -> None:
        """Give one warning if any value lay far outside; ``name`` says of which data."""
        number = int(self._far.sum())
        if not number or self.known.low is None or self.known.high is None:
            return
        from sdlgm.data.arrow_columns import listed

        columns = np.flatnonzero(self._far)
        labels = [self.known.label(int(column)) for column in columns]
        counted = [
            f"{listed([label])} ({int(self._far[column]):,})"
            for label, column in zip(labels, columns, strict=True)
        ]
        first = int(columns[0])
        warn(
            f"{name}: {number:,} of {self._seen:,} values lie far outside of the range that the "
            f"model was trained on, in column {listed(counted if len(counted) > 1 else labels)}: "
            f"{listed(labels[:1])} has {self._low[first]:g} to {self._high[first]:g}, in training "
            f"{self.known.low[first]:g} to {self.known.high[first]:g}."
        )
