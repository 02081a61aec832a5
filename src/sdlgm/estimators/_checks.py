"""What an estimator asks of the data it gets, and how it says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from torch import Tensor

from sdlgm.errors import DataError, SDLGMError

__all__ = ["EstimatorNotFittedError", "check_counts", "check_inputs", "check_like_training"]


class EstimatorNotFittedError(SDLGMError, NotFittedError):  # type: ignore[misc]
    """A prediction was asked of an estimator that has learned nothing yet."""


def check_inputs(x: Any) -> Tensor:
    """Return inputs as a tensor ``(n, D)`` or ``(n, h, w)``: bytes as they are, else float32.

    Raises
    ------
    DataError
        If they are neither rows nor images of finite numbers; the first gap is named.
    """
    values = np.asarray(x)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind not in "iuf":
        raise DataError(f"X must hold numbers, got values of type {values.dtype}.")
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise DataError(
            "X must be rows (n, features) or images (n, height, width), got shape "
            f"{values.shape}. One sample alone is X[None]."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))
        place = ", ".join(map(str, bad[0]))
        raise DataError(
            f"X has {len(bad)} values that are not finite, the first ({values[tuple(bad[0])]}) at "
            f"[{place}]. Drop or fill such samples first."
        )
    if values.dtype != np.uint8:
        values = values.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(values))


def check_counts(y: Any, samples: int, max_count: int | None) -> tuple[Tensor, int]:
    """Return counts as int64 ``(n, K)`` and the budget they keep (default: their largest sum).

    Raises
    ------
    DataError
        If they are no table of one row a sample, not whole, negative, or over the budget; the
        first such row is named.
    """
    values = np.asarray(y)
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
