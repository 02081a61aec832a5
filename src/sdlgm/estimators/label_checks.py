"""Labels of samples as lists of those that are there: never a dense table as a whole."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from sdlgm.errors import DataError
from sdlgm.estimators.validation import as_array, as_numbers

__all__ = ["ActiveLabels", "Targets", "check_labels", "check_targets"]


def check_labels(
    Y: Any,  # noqa: N803 (scikit-learn's name)
    samples: int,
) -> sp.csr_array:
    """Return labels as CSR ``(n, K)`` of ones.

    Raises
    ------
    DataError
        If they are no table of 0 and 1 with one row a sample; the first fault is named.
    """
    sparse = sp.issparse(Y)
    values = Y if sparse else as_numbers(as_array(Y))
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
    return table.astype(np.int8)


@dataclass(frozen=True)
class Targets:
    """What a classifier is to learn: sets of labels, or one class a sample."""

    table: sp.csr_array
    """Labels ``(n, K)`` of ones."""
    classes: NDArray[Any]
    """Names of the K columns."""
    multilabel: bool
    """Whether a sample may have other numbers of labels than one."""

    def budget(self, max_labels: int | None, kept: NDArray[np.bool_]) -> int:
        """Return the most labels of a sample, of those that are kept.

        Raises
        ------
        DataError
            If that is none, or over ``max_labels``.
        """
        return _budget(self.table, max_labels, kept) if self.multilabel else 1


def check_targets(y: Any, samples: int) -> Targets:
    """Read labels: a table of 0 and 1, or one class a sample as ``(n,)`` or ``(n, 1)``.

    Raises
    ------
    DataError
        If they are neither, or not one row a sample.
    """
    if y is None:
        raise DataError("This classifier requires y to be passed, but the target y is None.")
    values = y if sp.issparse(y) else as_array(y)
    if not sp.issparse(values) and values.ndim == 2 and values.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected: it is read as one class a "
            "sample.",
            DataConversionWarning,
            stacklevel=3,
        )
        values = values.ravel()
    if values.ndim != 1:
        table = check_labels(values, samples)
        names = [str(name) for name in getattr(y, "columns", range(table.shape[1]))]
        named = hasattr(y, "columns") and all(isinstance(name, str) for name in y.columns)
        return Targets(table, np.array(names) if named else np.arange(table.shape[1]), True)
    if len(values) != samples:
        raise DataError(f"X has {samples} samples and y has {len(values)} classes.")
    try:
        check_classification_targets(values)
    except ValueError as error:
        raise DataError(f"{error} For sets of labels there is MultiLabelBinarizer.") from error
    classes, codes = np.unique(values, return_inverse=True)
    one = (np.ones(samples, np.int8), codes, np.arange(samples + 1))
    return Targets(sp.csr_array(one, shape=(samples, len(classes))), classes, False)


def _budget(table: sp.csr_array, max_labels: int | None, kept: NDArray[np.bool_]) -> int:
    numbers = np.diff(table.indptr) * kept
    largest = int(numbers.max(initial=0))
    if largest == 0:
        raise DataError("No sample in Y has any label: there is nothing to learn.")
    if max_labels is not None and largest > max_labels:
        raise DataError(
            f"Y[{int(numbers.argmax())}] has {largest} labels, over the budget max_labels = "
            f"{max_labels}. Raise max_labels to {largest} or more, or leave it out."
        )
    return max_labels or largest


class ActiveLabels:
    """Where the labels of samples are, to be looked up batch by batch."""

    def __init__(self, table: sp.csr_array) -> None:
        ends = torch.from_numpy(table.indptr.astype(np.int64))
        self.starts, self.numbers = ends[:-1], ends.diff()
        self.columns = torch.from_numpy(table.indices.astype(np.int64))

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows ``0, 1, ...`` in the flattened ``samples`` and columns of their labels."""
        samples = samples.flatten()
        numbers = self.numbers[samples]
        rows = torch.repeat_interleave(numbers)
        # The first place of a row, less the labels of the rows before it.
        offset = self.starts[samples] + numbers - numbers.cumsum(0)
        return rows, self.columns[torch.arange(len(rows)).add_(offset[rows])]
