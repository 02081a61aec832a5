"""Checks of y: counts, tables of labels, sets of labels, and one class for each sample."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from sdlgm.errors import DataError, warn
from sdlgm.estimators.frames import (
    column_name,
    column_names,
    in_order,
    is_frame,
    is_missing,
    name_array,
    shown,
)
from sdlgm.estimators.validation import as_array

__all__ = [
    "Labels",
    "Targets",
    "check_counts",
    "check_targets",
    "is_sets",
    "read_labels",
    "targets_of",
    "with_unknown",
]

SEPARATORS = ("|", ";", ",")
"""Characters that join labels in files."""
LARGEST_COUNT = 2**53
"""Largest count: that up to which double precision holds all integers."""


def check_counts(
    y: Any, samples: int, budget: int | None, names: NDArray[Any] | None = None
) -> tuple[Tensor, NDArray[Any] | None]:
    """Return counts as int64 ``(n, K)``, and the names of the classes if y is a frame.

    Parameters
    ----------
    y
        Counts ``(n, K)``.
    samples
        Number n of samples.
    budget
        Largest sum of a row; ``None`` for no limit.
    names
        Names of the classes: the columns of a frame are put in their order.

    Raises
    ------
    DataError
        If they are not a table of one row for each sample, or an entry is not whole, negative or
        above 2^53, or a row exceeds the budget; the message names the first such row. If a frame
        lacks a class.
    """
    if y is None:
        raise DataError("A counter requires y to be passed, but the target y is None.")
    given = column_names(y, "y")
    values = _native(as_array(y.toarray() if sp.issparse(y) else y, "y"), "y", given)
    if values.ndim != 2 or values.shape[1] < 1:
        raise DataError(
            f"y must be counts of shape (n, K), one column for each class, got {values.shape}."
        )
    if len(values) != samples:
        raise DataError(f"X has {samples} samples and y has {len(values)} rows of counts.")
    if values.dtype.kind not in "biuf":
        raise DataError(f"y must hold integers, got values of type {values.dtype}.")
    if given is not None and names is not None:
        values = values[:, in_order(given, names, "y")]
    whole = np.isfinite(values) & (np.floor(values) == values)
    _refuse_counts(values, ~whole, "not whole numbers", "Counts are integers; round them first.")
    _refuse_counts(values, values < 0, "negative", "A count is 0 or more.")
    large = f"above {LARGEST_COUNT:,}"
    _refuse_counts(values, values > LARGEST_COUNT, large, "Count in larger units.")
    counts = values.astype(np.int64)
    sums = counts.sum(1, dtype=np.float64)
    largest = int(sums.max())
    if budget is not None and largest > budget:
        row = int(sums.argmax())
        raise DataError(
            f"The counts of y[{row}] sum to {largest}, more than budget = {budget}. Raise budget "
            f"to {largest} or more, or leave it out."
        )
    return torch.from_numpy(counts), given


def _refuse_counts(values: NDArray[Any], bad: NDArray[np.bool_], what: str, remedy: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"y has {int(bad.sum())} entries that are {what}, the first ({values[row, column]}) "
            f"at [{row}, {column}]. {remedy}"
        )


# --- labels -----------------------------------------------------------------------------------


class Labels(NamedTuple):
    """A table of labels, and what its columns are called."""

    table: sp.csr_array
    """Ones, ``(n, K)``."""
    names: NDArray[Any] | None
    """Names of the columns, if labels came with names."""
    unknown: sp.csr_array | None = None
    """Ones where a label is unknown, ``(n, K)``; ``None`` if all are known."""

    def values(self) -> NDArray[np.float64]:
        """Return the labels as a dense table of 0, 1 and, where they are unknown, NaN."""
        return with_unknown(self.table.toarray(), self.unknown)


def with_unknown(
    table: NDArray[Any], unknown: sp.csr_array | None, index: Any = slice(None)
) -> NDArray[Any]:
    """Return a dense table of some rows, with NaN where ``unknown`` has ones in these rows."""
    if unknown is None:
        return table
    return np.where(unknown[index].toarray() > 0, np.nan, table)


def read_labels(
    Y: Any,  # noqa: N803 (scikit-learn's name)
    samples: int,
    names: NDArray[Any] | None = None,
) -> Labels:
    """Read labels: a table of 0 and 1, a frame of them, or a set of names for each sample.

    A table may hold NaN where a label is unknown; a sparse one, where it is stored as NaN.

    Parameters
    ----------
    Y
        A table ``(n, K)``, dense or sparse; a frame, whose columns are labels; or n lists or sets
        of names.
    samples
        Number n of samples.
    names
        Names of the labels that are known. The columns of a frame are put in their order, and sets
        may hold only these. Default: those in Y, sorted for sets.

    Raises
    ------
    DataError
        If they are not as described; the message names the first wrong entry. If a frame lacks a
        label, or it or a set has an unknown one.
    """
    sets = _as_sets(Y)
    if sets is not None:
        _check_number(len(sets), samples)
        return _binarised(sets, names)
    given = column_names(Y, "Y")
    values = _native(Y if sp.issparse(Y) else as_array(Y, "y"), "Y", given)
    if len(values.shape) != 2 or values.shape[1] < 1:
        raise DataError(
            f"Y must be 0 and 1 of shape (n, K), one column for each label, got {values.shape}."
        )
    _check_number(values.shape[0], samples)
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"Y must hold 0 and 1, got values of type {values.dtype}. For names of labels, pass a "
            "list or set of names for each sample."
        )
    table = sp.csr_array(values)
    table.sum_duplicates()
    table.eliminate_zeros()
    table, unknown = _without_unknown(table)
    wrong = table.data != 1
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        row = int(np.searchsorted(table.indptr, place, side="right")) - 1
        raise DataError(
            f"Y must hold 0 and 1 only, but has {int(wrong.sum())} other values, the first "
            f"({table.data[place]}) at [{row}, {table.indices[place]}]. Labels that are numbers "
            "come in sets, such as {1, 2}. For counts, use SDLGMCounter."
        )
    table = table.astype(np.int8)
    if given is None or names is None:
        return Labels(table, given, unknown)
    order = in_order(given, names, "Y")
    unknown = None if unknown is None else sp.csr_array(unknown[:, order])
    return Labels(sp.csr_array(table[:, order]), names, unknown)


def _without_unknown(table: sp.csr_array) -> tuple[sp.csr_array, sp.csr_array | None]:
    """Return labels with 0 in place of NaN, and where they were NaN, if anywhere.

    Raises
    ------
    DataError
        If all are NaN.
    """
    if table.dtype.kind != "f" or not np.isnan(table.data).any():
        return table, None
    unknown = np.isnan(table.data)
    if unknown.sum() == table.shape[0] * table.shape[1]:
        raise DataError("All labels in Y are unknown (NaN): there is nothing to learn.")
    places = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))[unknown]
    ones = np.ones(len(places), np.int8)
    mask = sp.csr_array((ones, (places, table.indices[unknown])), shape=table.shape)
    table = table.copy()
    table.data[unknown] = 0
    table.eliminate_zeros()
    return table, mask


def _check_number(found: int, samples: int) -> None:
    if found != samples:
        raise DataError(f"X has {samples} samples and Y has {found} rows of labels.")


def is_sets(labels: Any) -> bool:
    """Return whether labels are a list or set of names for each sample."""
    return _as_sets(labels) is not None


def _as_sets(labels: Any) -> list[list[Any]] | None:
    """Return the names of each sample, or ``None`` if labels are not sets of names.

    Lists of numbers are rows of a table; sets may hold numbers, since a table has no sets.
    """
    rows = _as_list(labels)
    if not rows or not any(map(_is_collection, rows)):
        return None
    sets = any(isinstance(row, set | frozenset) for row in rows)
    if not sets:
        filled = (row for row in rows if _is_collection(row) and len(row))
        first = next(filled, None)
        if first is not None and not isinstance(next(iter(first)), str):
            return None
    for place, row in enumerate(rows):
        if not _is_collection(row):
            raise DataError(
                f"y[{place}] is {row!r:.40}, not a list or set of labels. Use [] for no labels."
            )
        for name in row:
            if isinstance(name, bool) or not isinstance(name, str | int | np.integer):
                raise DataError(
                    f"y[{place}] holds {name!r:.40}: labels are text or, in sets, integers."
                )
    return [list(row) for row in rows]


def _as_list(labels: Any) -> Sequence[Any]:
    """Return the rows of a list, or of a column of objects; nothing for other tables."""
    if isinstance(labels, list | tuple):
        return labels
    if is_frame(labels) or sp.issparse(labels) or isinstance(labels, Tensor):
        return ()
    for method in ("to_pylist", "to_list"):  # pyarrow; pandas and polars
        if hasattr(labels, method):
            kind = getattr(getattr(labels, "dtype", None), "kind", "O")
            return getattr(labels, method)() if kind == "O" else ()
    if isinstance(labels, np.ndarray) and labels.dtype == object and labels.ndim == 1:
        return labels.tolist()
    return ()


def _is_collection(row: Any) -> bool:
    return isinstance(row, list | tuple | set | frozenset) or (
        isinstance(row, np.ndarray) and row.ndim == 1
    )


def _binarised(sets: list[list[Any]], names: NDArray[Any] | None) -> Labels:
    found = {name for row in sets for name in row}
    kinds = {isinstance(name, str) for name in found}
    if len(kinds) > 1:
        raise DataError("y has labels that are text and labels that are numbers. Use one kind.")
    if found and found <= {"0", "1"}:
        raise DataError("y holds the texts '0' and '1' only. Convert them to numbers.")
    if names is None:
        names = name_array(sorted(found), "y")
    places = {name: place for place, name in enumerate(names.tolist())}
    unknown = sorted(found - places.keys(), key=str)
    if unknown:
        raise DataError(
            f"y has the unknown labels {shown(unknown)}. The classifier was fitted on "
            f"{shown(names)}."
        )
    if not len(names):
        raise DataError("No sample in Y has any label: there is nothing to learn.")
    columns = [sorted({places[name] for name in row}) for row in sets]
    starts = np.cumsum([0, *map(len, columns)])
    flat = np.array([place for row in columns for place in row], np.int64)
    table = (np.ones(len(flat), np.int8), flat, starts)
    return Labels(sp.csr_array(table, shape=(len(sets), len(names))), names)


@dataclass(frozen=True)
class Targets:
    """The targets of a classifier: sets of labels, or one class for each sample."""

    table: sp.csr_array
    """Labels ``(n, K)`` of ones."""
    classes: NDArray[Any]
    """Names of the K columns, or their numbers."""
    names: NDArray[Any] | None
    """Names of the K columns, if labels came with names."""
    multilabel: bool
    """Whether targets are sets of labels."""
    unknown: sp.csr_array | None = None
    """Ones where a label is unknown, ``(n, K)``; ``None`` if all are known."""

    def numbers(self, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the numbers of labels of the kept samples whose labels are all known.

        If there are none, 0, the only number that no sample falls below.
        """
        if self.unknown is not None:
            kept = kept & (np.diff(self.unknown.indptr) == 0)
        numbers = np.diff(self.table.indptr)[kept].astype(np.int64)
        return numbers if len(numbers) else np.zeros(1, np.int64)

    def most_labels(
        self, max_labels: int | None, kept: NDArray[np.bool_], fitted: NDArray[np.bool_]
    ) -> int:
        """Return the most labels of a fitted sample, 0 if none has any.

        Raises
        ------
        DataError
            If a kept sample, fitted or not, has more than ``max_labels``.
        """
        numbers = np.diff(self.table.indptr) * kept
        largest = int(numbers.max(initial=0))
        if max_labels is not None and largest > max_labels:
            raise DataError(
                f"Y[{int(numbers.argmax())}] has {largest} labels, more than max_labels = "
                f"{max_labels}. Raise max_labels to {largest} or more, or leave it out."
            )
        return int(numbers[fitted].max(initial=0))


def check_targets(y: Any, samples: int) -> Targets:
    """Read labels as :func:`read_labels`, or one class for each sample, ``(n,)`` or ``(n, 1)``.

    Raises
    ------
    DataError
        If they are neither, or do not have one row for each sample.
    """
    if y is None:
        raise DataError("This classifier requires y to be passed, but the target y is None.")
    sets = _as_sets(y)
    values = y if sets is not None or sp.issparse(y) else as_array(y, "y")
    if sets is None and not sp.issparse(values) and values.ndim == 2 and values.shape[1] == 1:
        warn(
            "A column-vector y was passed when a 1d array was expected: it is read as one class "
            "for each sample. For a table of one label, pass scipy.sparse.csr_array(y).",
            DataConversionWarning,
        )
        values = values.ravel()
    if sets is not None or values.ndim != 1:
        labels = read_labels(y, samples)
        classes = np.arange(labels.table.shape[1]) if labels.names is None else labels.names
        return Targets(labels.table, classes, labels.names, True, labels.unknown)
    if values.shape[0] != samples:
        raise DataError(f"X has {samples} samples and y has {values.shape[0]} classes.")
    if sp.issparse(values):
        raise DataError(
            f"y is sparse, of shape {values.shape}. For one class a sample pass y.toarray(), for a "
            "table of one label y.reshape(-1, 1)."
        )
    _check_classes(values)
    try:
        check_classification_targets(values)
    except ValueError as error:
        raise DataError(
            f"{error} For sets of labels, pass a list or set of names for each sample."
        ) from error
    classes, codes = np.unique(values, return_inverse=True)
    _warn_of_joined(classes, samples)
    one = (np.ones(samples, np.int8), codes, np.arange(samples + 1))
    return Targets(sp.csr_array(one, shape=(samples, len(classes))), classes, None, False)


def targets_of(
    y: Any,
    samples: int,
    classes: NDArray[Any],
    names: NDArray[Any] | None = None,
    multilabel: bool | None = None,
) -> Targets:
    """Read the targets of some rows, whose labels are among known ones.

    Parameters
    ----------
    y, samples
        As of :func:`check_targets`.
    classes
        All labels, K of them.
    names
        The same, if the columns of a table have names. Columns of a frame are put in their order.
    multilabel
        Whether targets are sets of labels; ``None``: what y looks like.

    Raises
    ------
    DataError
        If they are not as described, or have a label that is none of the known ones.
    """
    if len(set(classes.tolist())) < len(classes):
        raise DataError(f"classes has a label more than once: {shown(classes)}.")
    sets = is_sets(y)
    values = y if sets or sp.issparse(y) else as_array(y, "y")
    if multilabel is None:
        multilabel = sets or values.ndim != 1
        classes = classes if multilabel else np.unique(classes)
        names = classes if is_frame(y) else None
    if multilabel:
        labels = read_labels(y, samples, classes if sets else names)
        if labels.table.shape[1] != len(classes):
            raise DataError(
                f"y has {labels.table.shape[1]} labels, but the classifier knows {len(classes)}."
            )
        return Targets(labels.table, classes, labels.names, True, labels.unknown)
    if values.shape != (samples,):
        raise DataError(f"y must be {samples} classes, one for each row, got {values.shape}.")
    _check_classes(values)
    places = {name: place for place, name in enumerate(classes.tolist())}
    unknown = sorted(set(values.tolist()) - places.keys(), key=str)
    if unknown:
        raise DataError(f"y has the unknown classes {shown(unknown)}. Known are {shown(classes)}.")
    codes = np.array([places[value] for value in values.tolist()])
    one = (np.ones(samples, np.int8), codes, np.arange(samples + 1))
    return Targets(sp.csr_array(one, shape=(samples, len(classes))), classes, None, False)


def _check_classes(values: NDArray[Any]) -> None:
    """Raise :class:`DataError` for classes that cannot be compared or saved."""
    if values.dtype.kind in "Mm":
        raise DataError(
            f"y holds times ({values.dtype}). As classes, turn them into text first: y.astype(str)."
        )
    if values.dtype.kind == "S":
        raise DataError("y holds bytes. Turn them into text first: y.astype(str).")
    for row, value in enumerate(values.tolist() if values.dtype.kind in "Of" else ()):
        if is_missing(value):
            raise DataError(
                f"y[{row}] is missing ({value}). Drop such rows, or name a class; a table of one "
                "label that is unknown in some rows is sparse, such as scipy.sparse.csr_array(y), "
                "y of shape (n, 1)."
            )
        if isinstance(value, bytes):
            raise DataError(f"y[{row}] is {value!r:.40}. Turn bytes into text first.")


def _warn_of_joined(classes: NDArray[Any], samples: int) -> None:
    """Warn if classes look like several labels joined to one text, or like free text."""
    texts = [name for name in classes.tolist() if isinstance(name, str)]
    if len(texts) != len(classes) or len(texts) < 3:
        return
    for separator in SEPARATORS:
        joined = [text for text in texts if separator in text]
        parts = {part.strip() for text in texts for part in text.split(separator)}
        if len(joined) > 1 and len(parts) < len(texts):
            warn(
                f"y has {len(texts)} classes such as {joined[0]!r:.40}, which look like labels "
                f"joined by {separator!r}. For sets of labels, pass "
                f"[text.split({separator!r}) for text in y]."
            )
            return
    if len(texts) > samples / 2 and samples >= 20:
        warn(
            f"y has {len(texts)} different texts in {samples} rows, and each is a class. For sets "
            "of labels, pass a list or set of names for each sample."
        )


def _native(values: Any, what: str, names: NDArray[Any] | None) -> Any:
    """Return values in a type that torch and scipy compute with, as far as they are numbers."""
    if values.dtype == object:
        return _objects_as_floats(values, what, names)
    if values.dtype.kind not in "iuf":
        return values
    kind = values.dtype.newbyteorder("=")
    if kind.kind == "f" and kind.itemsize not in (4, 8):
        kind = np.dtype(np.float64)
    return values if kind == values.dtype and values.dtype.isnative else values.astype(kind)


def _objects_as_floats(values: NDArray[Any], what: str, names: NDArray[Any] | None) -> NDArray[Any]:
    """Convert objects that hold numbers, as pandas returns for mixed columns, to float64.

    What is missing becomes NaN.
    """
    with contextlib.suppress(TypeError, ValueError):
        return values.astype(np.float64)
    if values.ndim != 2:
        return values  # its type is refused by the caller
    gaps = np.frompyfunc(is_missing, 1, 1)(values).astype(bool)
    with contextlib.suppress(TypeError, ValueError):
        return np.where(gaps, np.nan, values).astype(np.float64)
    for (row, place), value in np.ndenumerate(values):
        if not gaps[row, place] and not _is_number(value):
            raise DataError(
                f"{what} must hold numbers, but {column_name(names, place)} has {value!r:.40} in "
                f"row {row}."
            )
    return values


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
