"""What a counter asks of counts, and of images that are like those of its training."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from sdlgm.errors import DataError
from sdlgm.estimators.validation import as_array, as_numbers

__all__ = ["check_counts", "check_like_training"]


def check_counts(y: Any, samples: int, max_count: int | None) -> tuple[Tensor, int]:
    """Return counts as int64 ``(n, K)`` and the budget they keep (default: their largest sum).

    Raises
    ------
    DataError
        If they are no table of one row a sample, not whole, negative, or over the budget; the
        first such row is named.
    """
    if y is None:
        raise DataError("A counter requires y to be passed, but the target y is None.")
    values = as_numbers(as_array(y.toarray() if sp.issparse(y) else y))
    if values.ndim != 2 or values.shape[1] < 1:
        raise DataError(
            f"y must be counts of shape (n, K), one column a class, got shape {values.shape}."
        )
    if len(values) != samples:
        raise DataError(f"X has {samples} samples and y has {len(values)} rows of counts.")
    if values.dtype.kind not in "biuf":
        raise DataError(f"y must hold integers, got values of type {values.dtype}.")
    whole = np.isfinite(values) & (np.floor(values) == values)
    _refuse(values, ~whole, "not whole numbers", "Counts are integers; round them first.")
    _refuse(values, values < 0, "negative", "A count is 0 or more.")
    counts = values.astype(np.int64)
    sums = counts.sum(1)
    largest = int(sums.max())
    if max_count is None:
        return torch.from_numpy(counts), max(largest, 1)
    if largest > max_count:
        row = int(sums.argmax())
        raise DataError(
            f"y[{row}] counts {largest} in all, over the budget max_count = {max_count}. Raise "
            f"max_count to {largest} or more, or leave it out."
        )
    return torch.from_numpy(counts), max_count


def check_like_training(x: Tensor, shape: tuple[int, ...], column_width: int | None) -> None:
    """Raise :class:`DataError` unless samples have the shape of the training's.

    ``column_width`` says that images may have any number of columns of that width.
    """
    found = tuple(x.shape[1:])
    if column_width is not None and len(found) == 2:
        if found[0] == shape[0] and found[1] % column_width == 0:
            return
        raise DataError(
            f"X has images of {found[0]} x {found[1]}; the counter was fitted on columns of "
            f"{shape[0]} x {column_width}, of which an image may have any whole number."
        )
    if found != shape:
        raise DataError(
            f"X has samples of shape {found}, but the counter was fitted on samples of {shape}."
        )


def _refuse(values: np.ndarray, bad: np.ndarray, what: str, way_out: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"y has {int(bad.sum())} entries that are {what}, the first ({values[row, column]}) "
            f"at [{row}, {column}]. {way_out}"
        )
