"""Drift: values far outside of the range that a model was trained on, counted over many tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.errors import warn

if TYPE_CHECKING:
    from sdlgm.data.columns import Columns

__all__ = ["Drift"]

FAR = 1.0
"""A value is far outside if it is more than this many ranges below the lowest training value of its
column, or above the highest. A change from Celsius to Kelvin is, and hardly a normal outlier."""

VALUES_AT_ONCE = 2**21


class Drift:
    """Counts values far outside of the training range of their column.

    Far is beyond the smallest or largest training value by more than :data:`FAR` times the range of
    these. The range of a constant column counts as 1, because such columns are not scaled. Nothing
    is counted if the ranges are unknown, or are those of another number of columns.

    Parameters
    ----------
    known
        The columns of the training data, with their ranges.
    """

    def __init__(self, known: Columns) -> None:
        self.known = known
        self._bottom = np.asarray(known.low or (), np.float64)
        self._top = np.asarray(known.high or (), np.float64)
        with np.errstate(over="ignore"):
            span = FAR * np.where(self._top > self._bottom, self._top - self._bottom, 1.0)
            self._least, self._most = self._bottom - span, self._top + span
        width = len(self._bottom)
        self._seen, self._far = 0, np.zeros(width)
        self._low, self._high = np.full(width, np.inf), np.full(width, -np.inf)

    def add(self, values: NDArray[Any]) -> None:
        """Count the values of a table ``(n, D)``."""
        width = len(self._bottom)
        if not width or values.shape[1] != width:
            return
        size = max(1, VALUES_AT_ONCE // width)
        for start in range(0, len(values), size):
            part = values[start : start + size]
            self._seen += part.size
            self._far += ((part < self._least) | (part > self._most)).sum(0)
            self._low = np.minimum(self._low, part.min(0))
            self._high = np.maximum(self._high, part.max(0))

    def counts(self) -> list[float]:
        """Return all counts as plain numbers, which another process can :meth:`merge`."""
        return [float(self._seen), *self._far, *self._low, *self._high]

    def merge(self, counts: list[float]) -> None:
        """Add what :meth:`counts` returned of other rows."""
        self._seen += int(counts[0])
        far, low, high = np.asarray(counts[1:]).reshape(3, -1)
        self._far += far
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def warn(self, name: str) -> bool:
        """Give one warning if any value lay far outside, and return whether one did.

        ``name`` says of which data.
        """
        number = int(self._far.sum())
        if not number:
            return False
        first = int(np.flatnonzero(self._far)[0])
        warn(
            f"{name}: {number:,} of {self._seen:,} values lie far outside of the range that the "
            f"model was trained on{self._places()} {self._low[first]:g} to {self._high[first]:g}, "
            f"in training {self._bottom[first]:g} to {self._top[first]:g}. Check the units, or fit "
            "on rows that represent all of the data."
        )
        return True

    def _places(self) -> str:
        """Name the columns, with counts if there are several, and the first one once more."""
        from sdlgm.data.arrow_columns import listed

        if self.known.names is None and len(self._far) == 1:
            return ":"
        columns = np.flatnonzero(self._far).tolist()
        labels = [self.known.label(column) for column in columns]
        counted = [
            f"{listed([label])} ({int(self._far[column]):,})"
            for label, column in zip(labels, columns, strict=True)
        ]
        shown = listed(counted if len(counted) > 1 else labels)
        numbered = ", counted from 0" if self.known.names is None else ""
        return f", in column {shown}{numbered}: {listed(labels[:1])} has"
