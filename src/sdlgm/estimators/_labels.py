"""Labels of samples as lists of those that are there: never a dense table as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.errors import DataError

__all__ = ["ActiveLabels", "check_labels", "row_weights"]


def check_labels(
    Y: Any,  # noqa: N803 (scikit-learn's name)
    samples: int,
    max_labels: int | None,
) -> tuple[sp.csr_array, int]:
    """Return labels as CSR ``(n, K)`` of ones, and the budget they keep (default: their most).

    Raises
    ------
    DataError
        If they are no table of 0 and 1 with one row a sample, or a row has more than
        ``max_labels``; the first fault is named.
    """
    sparse = sp.issparse(Y)
    values = Y if sparse else np.asarray(Y)
    if values.ndim != 2 or values.shape[1] < 1:
        raise DataError(
            f"Y must be 0 and 1 of shape (n, K), one column a label, got shape {values.shape}."
        )
    if values.shape[0] != samples:
        raise DataError(f"X has {samples} samples and Y has {values.shape[0]} rows of labels.")
    if values.dtype.kind not in "biuf":
        raise DataError(f"Y must hold 0 and 1, got values of type {values.dtype}.")
    table = sp.csr_array(values)
    table.sum_duplicates()
    table.eliminate_zeros()
    wrong = table.data != 1
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        row = int(np.searchsorted(table.indptr, place, side="right")) - 1
        raise DataError(
            f"Y must hold 0 and 1 only, but the first of {int(wrong.sum())} others is "
            f"{table.data[place]} "
            f"at [{row}, {table.indices[place]}]. For counts there is SDLGMCounter."
        )
    numbers = np.diff(table.indptr)
    largest = int(numbers.max(initial=0))
    if largest == 0:
        raise DataError("No sample in Y has any label: there is nothing to learn.")
    if max_labels is not None and largest > max_labels:
        raise DataError(
            f"Y[{int(numbers.argmax())}] has {largest} labels, over the budget max_labels = "
            f"{max_labels}. Raise max_labels to {largest} or more, or leave it out."
        )
    return table.astype(np.int8), max_labels or largest


def row_weights(sample_weight: Any, samples: int) -> NDArray[np.float64]:
    """Return the weight of each sample over their mean, shape ``(n,)``.

    Raises
    ------
    DataError
        If there is not one finite number of 0 or more a sample, or they are all 0.
    """
    weights = np.ones(samples) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if weights.shape != (samples,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise DataError(
            f"sample_weight must be {samples} finite numbers of 0 or more, not all 0, got shape "
            f"{weights.shape}."
        )
    return weights / weights.mean()


class ActiveLabels:
    """Where the labels of samples are, to be looked up batch by batch."""

    def __init__(self, table: sp.csr_array) -> None:
        self.starts = torch.from_numpy(table.indptr.astype(np.int64))
        self.columns = torch.from_numpy(table.indices.astype(np.int64))

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows ``0, 1, ...`` in the flattened ``samples`` and columns of their labels."""
        samples = samples.flatten()
        first, end = self.starts[samples], self.starts[samples + 1]
        numbers = end - first
        rows = torch.repeat_interleave(torch.arange(len(samples)), numbers)
        before = numbers.cumsum(0) - numbers
        places = torch.arange(len(rows)) - before[rows] + first[rows]
        return rows, self.columns[places]
