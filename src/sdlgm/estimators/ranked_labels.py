"""Held-out labels in the order of their scores: what a threshold can change, and no more."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.frames import by_name
from sdlgm.estimators.metrics import dense_labels

__all__ = ["RankedLabels"]

Floats = NDArray[np.float64]


class RankedLabels:
    """Held-out rows with their labels in the order of the scores, best first.

    The set of a row at any threshold is a number of its first labels, so that all that a threshold
    can change is in these tables. Only the ``max_labels`` best labels of a row are kept.

    Parameters
    ----------
    scores
        Shape ``(n, K)``.
    Y
        0 and 1, shape ``(n, K)``, dense or sparse; NaN where it is unknown. Of two frames, columns
        are matched by name.
    min_labels, max_labels
        Smallest and largest size of a set.
    """

    def __init__(
        self,
        scores: ArrayLike,
        Y: Any,  # noqa: N803 (scikit-learn's name)
        min_labels: int,
        max_labels: int,
    ) -> None:
        values = np.asarray(by_name(Y, scores, "scores"), np.float64)
        truth = dense_labels(Y).astype(np.float64)
        if values.ndim != 2 or truth.shape != values.shape:
            raise DataError(f"scores have shape {values.shape}, but Y has {truth.shape}.")
        self.labels = values.shape[1]
        self.low, self.high = min_labels, min(max_labels, self.labels)
        if not 0 <= self.low <= self.high:
            raise ConfigError(
                f"min_labels = {min_labels} must lie from 0 to the most labels of a set, "
                f"{self.high}."
            )
        order = np.argsort(-values, axis=1, kind="stable")[:, : self.high]
        best = np.take_along_axis(truth, order, 1)
        self.scores = np.take_along_axis(values, order, 1)
        self.hits = _running(np.nan_to_num(best))
        self.known = _running(~np.isnan(best))
        self.true = np.nansum(truth, axis=1)

    @classmethod
    def joined(cls, parts: list[RankedLabels]) -> RankedLabels:
        """Return the rows of all parts, which must have the same bounds."""
        whole = cls.__new__(cls)
        whole.low, whole.high, whole.labels = parts[0].low, parts[0].high, parts[0].labels
        for name in ("scores", "hits", "known", "true"):
            setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
        return whole

    def __len__(self) -> int:
        return len(self.true)

    def take(self, index: NDArray[Any]) -> RankedLabels:
        """Return the rows at these indices, or of this mask."""
        part = self.__class__.__new__(self.__class__)
        part.low, part.high, part.labels = self.low, self.high, self.labels
        for name in ("scores", "hits", "known", "true"):
            setattr(part, name, getattr(self, name)[index])
        return part

    def sizes(self, thresholds: Floats) -> NDArray[np.int64]:
        """Return the sizes of the sets at some thresholds, shape ``(n, thresholds)``."""
        above = np.zeros((len(self), len(thresholds)), np.int64)
        for column in self.scores.T:
            above += column[:, None] > thresholds
        return np.clip(above, self.low, self.high)

    def in_sets(self, table: Floats, sizes: NDArray[np.int64]) -> Floats:
        """Return the entries of ``hits`` or ``known`` for sets of these sizes."""
        return np.take_along_axis(table, sizes, 1)


def _running(table: NDArray[Any]) -> Floats:
    """Return sums of the first 0, 1, ... columns of each row, shape ``(n, columns + 1)``."""
    return np.pad(np.cumsum(table, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
