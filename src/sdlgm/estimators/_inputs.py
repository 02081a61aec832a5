"""Inputs of a classifier: rows that may be sparse, and how they are put on one scale."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from sdlgm.errors import ConfigError, DataError
from sdlgm.estimators._checks import check_inputs

__all__ = ["InputScaling", "Inputs", "check_rows", "take_rows"]

InputScaling = Literal["standard", "quantile", "none"]
Table: TypeAlias = Any
"""Checked rows ``(n, D)``: an array, or ``scipy.sparse.csr_array``, which has no types."""


def check_rows(X: Any, features: int | None = None) -> Table:  # noqa: N803 (scikit-learn's name)
    """Return rows as float32, dense or CSR as they came.

    Raises
    ------
    DataError
        If they are no table of finite numbers, or not of the width ``features``.
    """
    if sp.issparse(X):
        rows: Table = sp.csr_array(X, dtype=np.float32)
        if 0 in rows.shape:
            raise DataError(f"X must be rows (n, features), got shape {rows.shape}.")
        if not np.isfinite(rows.data).all():
            bad = int(np.flatnonzero(~np.isfinite(rows.data))[0])
            row = int(np.searchsorted(rows.indptr, bad, side="right")) - 1
            raise DataError(
                f"X holds {rows.data[bad]} at [{row}, {rows.indices[bad]}]. Drop or fill such "
                "samples first."
            )
    else:
        tensor = check_inputs(X)
        if tensor.dim() != 2:
            raise DataError(f"X must be rows (n, features), got shape {tuple(tensor.shape)}.")
        rows = tensor.to(torch.float32).numpy()
    if features is not None and rows.shape[1] != features:
        raise DataError(
            f"X has {rows.shape[1]} features, but the classifier was fitted on {features}."
        )
    return rows


def take_rows(rows: Table, index: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return some rows, dense."""
    taken = rows[index]
    return taken.toarray() if sp.issparse(taken) else taken


class Inputs:
    """A scaling of inputs, fitted on the training rows.

    - ``"standard"``: mean 0 and deviation 1 each feature. Of sparse rows only the deviation is
      scaled, so that zeros stay zeros.
    - ``"quantile"``: each value goes to the normal quantile of its mean rank among the training
      values, then as ``"standard"``. Ties share their middle rank, so that a feature that is mostly
      zero does not throw its zeros into the tail. Dense rows only.
    - ``"none"``: as they are.
    """

    def __init__(self, kind: InputScaling, rows: Table) -> None:
        if kind not in get_args(InputScaling):
            raise ConfigError(
                f"inputs must be one of {', '.join(map(repr, get_args(InputScaling)))}, got "
                f"{kind!r}."
            )
        self.sorted: NDArray[np.float32] | None = None
        if kind == "quantile":
            if sp.issparse(rows):
                raise ConfigError(
                    "inputs='quantile' ranks all values and would make X dense: use 'standard' or "
                    "'none' for a sparse X."
                )
            self.sorted = np.sort(rows, axis=0)
            rows = self._ranked(rows)
        features = rows.shape[1]
        self.shift, self.scale = np.zeros(features, np.float32), np.ones(features, np.float32)
        if kind == "none":
            return
        if sp.issparse(rows):
            mean = np.asarray(rows.mean(axis=0, dtype=np.float64)).ravel()
            square = np.asarray(rows.multiply(rows).mean(axis=0, dtype=np.float64)).ravel()
            deviation = np.sqrt(np.maximum(square - mean**2, 0))
        else:
            mean, deviation = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
            self.shift = mean.astype(np.float32)
        varies = deviation > 1e-6 * (1 + np.abs(mean))
        self.scale = np.where(varies, deviation, 1).astype(np.float32)

    def __call__(self, rows: NDArray[np.float32]) -> Tensor:
        """Scale dense rows ``(b, D)``."""
        if self.sorted is not None:
            rows = self._ranked(rows)
        return torch.from_numpy((rows - self.shift) / self.scale)

    def _ranked(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.sorted is None:
            return rows
        number = len(self.sorted)
        ranks = np.empty(rows.shape)
        for feature, values in enumerate(self.sorted.T):
            below = np.searchsorted(values, rows[:, feature], side="left")
            up_to = np.searchsorted(values, rows[:, feature], side="right")
            ranks[:, feature] = (below + up_to) / (2 * number)
        return ndtri(np.clip(ranks, 0.5 / number, 1 - 0.5 / number)).astype(np.float32)
