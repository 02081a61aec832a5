"""Weights of the labels of single rows: unknown labels, positive labels, and weights ``(n, K)``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators.frames import column_names, in_order
from sdlgm.estimators.targets import Targets
from sdlgm.estimators.validation import as_weights, validate_weights

__all__ = ["MAX_WEIGHTS", "WeightedTargets", "entry_weights", "split_weights"]

MAX_WEIGHTS = 100_000_000
"""Most weights of labels of single rows (rows x labels), which are stored as a dense table."""


class WeightedTargets(NamedTuple):
    """Targets with the weights of their rows, and of the labels of each row."""

    targets: Targets
    weight: NDArray[np.float64]
    """Weight of each row, ``(n,)``."""
    entries: NDArray[np.float64] | None
    """Weight of each label of each row, ``(n, K)``; ``None`` if they are all equal."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which rows have a weight, ``(n,)``; the others count as left out."""
        return self.weight > 0

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of kept rows, and of labels."""
        return int(self.kept.sum()), self.targets.table.shape[1]

    def take(self, rows: NDArray[np.bool_]) -> Self:
        """Return the targets of some rows, with their weights."""
        table, unknown = self.targets.table[rows], self.targets.unknown
        targets = replace(
            self.targets, table=table, unknown=None if unknown is None else unknown[rows]
        )
        entries = None if self.entries is None else self.entries[rows]
        return type(self)(targets, self.weight[rows], entries)


def split_weights(sample_weight: Any, targets: Targets) -> WeightedTargets:
    """Split weights into those of rows and, if there is one a label, those of labels of rows.

    A label with a weight of 0 is unknown in the returned targets.

    Raises
    ------
    DataError
        If weights are neither ``(n,)`` nor ``(n, K)``, or not finite numbers of 0 or more; if a
        frame of them lacks a label of the frame y.
    """
    size = targets.table.shape
    if sample_weight is None:
        return WeightedTargets(targets, validate_weights(None, size[0]), None)
    weights = as_weights(sample_weight)
    if weights.ndim != 2:
        return WeightedTargets(targets, validate_weights(weights, size[0]), None)
    names = column_names(sample_weight, "sample_weight")
    if names is not None and targets.names is not None:
        weights = weights[:, in_order(names, targets.names, "sample_weight")]
    if not targets.multilabel or weights.shape != size:
        raise DataError(
            f"sample_weight has shape {weights.shape}; it must hold one number for each of the "
            f"{size[0]} rows, or for each label of each row, {size}, if y is a table of labels."
        )
    if not np.isfinite(weights).all() or weights.min() < 0 or not weights.any():
        raise DataError("sample_weight must hold finite numbers of 0 or more, not all zero.")
    unknown = sp.csr_array(weights == 0).astype(np.int8)
    if targets.unknown is not None:
        unknown = sp.csr_array((unknown + targets.unknown) > 0).astype(np.int8)
    if unknown.nnz:
        table = sp.csr_array(targets.table - targets.table.multiply(unknown))
        table.eliminate_zeros()
        targets = replace(targets, table=table, unknown=unknown)
    return WeightedTargets(targets, np.ones(size[0]), weights)


def entry_weights(
    labels: sp.csr_array,
    unknown: sp.csr_array | None,
    label_weight: Tensor | None,
    positive_weight: Tensor | None,
    given: NDArray[np.float64] | None,
) -> Tensor | None:
    """Return the weights of a likelihood: none, of each label, or of each label of each row.

    Parameters
    ----------
    labels
        Ones, ``(n, K)``.
    unknown
        Ones where a label is unknown; its weight is 0.
    label_weight, positive_weight
        Weight of each label, ``(K,)``, and a factor where the label is present.
    given
        Weight of each label of each row, which are divided by their mean over known labels.

    Raises
    ------
    ConfigError
        If weights of single rows need more than ``MAX_WEIGHTS`` numbers.
    """
    if unknown is None and positive_weight is None and given is None:
        return label_weight
    rows, number = labels.shape
    if rows * number > MAX_WEIGHTS:
        raise ConfigError(
            f"Unknown labels, positive_weight and weights (n, K) need {rows} x {number} weights at "
            f"once, more than {MAX_WEIGHTS:,}. Use fewer rows or labels."
        )
    weights = np.ones((rows, number), np.float32)
    if label_weight is not None:
        weights *= label_weight.numpy()
    if positive_weight is not None:
        weights *= np.where(labels.toarray() > 0, positive_weight.numpy(), 1)
    if given is not None:
        weights *= (given / given[given > 0].mean()).astype(np.float32)
    if unknown is not None:
        weights[unknown.toarray() > 0] = 0
    return torch.from_numpy(weights)
