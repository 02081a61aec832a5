"""Checks of rows, images, targets, weights and seeds, on top of scikit-learn's own."""

from __future__ import annotations

import secrets
import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import Tensor

from sdlgm.data import as_numbers
from sdlgm.errors import ConfigError, DataError, SDLGMError
from sdlgm.estimators.parameters import is_integer

__all__ = [
    "EstimatorNotFittedError",
    "Table",
    "Targets",
    "check_counts",
    "check_labels",
    "check_same_shape",
    "check_targets",
    "pad_rows",
    "validate_rows",
    "validate_samples",
    "validate_seed",
    "validate_weights",
]

Table: TypeAlias = Any
"""Checked rows ``(n, D)``: an array, or ``scipy.sparse.csr_array``, which has no types."""

BLOCK = 64
"""Smallest number of rows that a network predicts at a time."""


class EstimatorNotFittedError(SDLGMError, NotFittedError):  # type: ignore[misc]
    """A prediction was requested from an estimator that is not fitted."""


def validate_rows(
    estimator: Any,
    X: Any,  # noqa: N803 (scikit-learn's name)
    *,
    reset: bool,
    accept_sparse: bool = True,
    dtype: Any = None,
) -> Table:
    """Return rows ``(n, D)`` as an array, or as a ``csr_array`` if they came sparse.

    Rows are numpy arrays and lists, sparse matrices and arrays of any format, pandas and polars
    frames, or torch tensors.

    Parameters
    ----------
    estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set, or X is checked against them.
    X
        Rows of finite numbers.
    reset
        ``True`` in ``fit``: set these attributes; ``False``: check X against them.
    accept_sparse
        Whether sparse rows are accepted.
    dtype
        Type of the result. ``None``: float32, or float64 if float32 would change a value.

    Raises
    ------
    DataError
        If X is not a table of finite numbers, or differs from that of ``fit``; the message names
        the first missing value.
    TypeError
        If sparse rows are not accepted, or an entry is neither a number nor text.
    """
    values = X if sp.issparse(X) or hasattr(X, "columns") else _as_array(X)
    if len(values.shape) != 2:
        raise DataError(
            f"X must be rows (n, features), got shape {tuple(values.shape)}. Reshape your data: "
            "for a single sample, use X.reshape(1, -1)."
        )
    _refuse_text(values)
    try:
        # Values beyond the range of float32 become infinite, and are refused below.
        with np.errstate(over="ignore"):
            rows: Table = validate_data(
                estimator,
                values,
                reset=reset,
                accept_sparse="csr" if accept_sparse else False,
                dtype="numeric" if dtype is None else dtype,
                ensure_all_finite=False,
            )
            if rows.dtype.kind == "O":  # scikit-learn does not convert a frame's text
                rows = rows.astype(np.float64)
    except ValueError as error:
        raise DataError(str(error)) from error
    if sp.issparse(rows):
        rows = _canonical(rows)
    rows = _exact(rows) if dtype is None else rows
    _refuse_gaps(rows)
    return rows


def validate_samples(estimator: Any, X: Any, *, reset: bool) -> Tensor:  # noqa: N803
    """Return rows ``(n, D)`` or images ``(n, h, w)`` as a tensor of bytes, float32 or float64.

    Sparse rows become dense. For images, ``n_features_in_`` is the number of pixels; the estimator
    checks their shape (:func:`check_same_shape`), since it may accept other widths.

    Raises
    ------
    DataError
        See :func:`validate_rows`.
    """
    if not sp.issparse(X) and not hasattr(X, "columns"):
        X = _as_array(X)  # noqa: N806
        if X.ndim == 3:
            return _validate_images(estimator, X, reset=reset)
        if X.ndim != 2:
            raise DataError(
                "X must be rows (n, features) or images (n, height, width), got shape "
                f"{X.shape}. Reshape your data: for a single sample, use X[None]."
            )
    rows = validate_rows(estimator, X, reset=reset)
    return _as_samples(rows.toarray() if sp.issparse(rows) else rows)


def validate_weights(sample_weight: Any, samples: int) -> NDArray[np.float64]:
    """Return the weight of each sample, shape ``(n,)``: ones for ``None``.

    Raises
    ------
    DataError
        If there is not one finite number of 0 or more for each sample, or all are zero.
    """
    if sample_weight is None:
        return np.ones(samples)
    weights = np.asarray(_as_array(sample_weight), np.float64)
    if weights.shape != (samples,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise DataError(
            f"sample_weight must be {samples} finite numbers of 0 or more, not all zero, got shape "
            f"{weights.shape}."
        )
    return weights


def validate_seed(random_state: Any) -> int:
    """Return the integer that seeds all randomness of a fit.

    An integer is returned unchanged; a ``RandomState`` or numpy ``Generator`` draws one, which
    advances its state; ``None`` takes a fresh one from the operating system. No global state is
    used.

    Raises
    ------
    ConfigError
        If it is of another type, or negative.
    """
    if random_state is None:
        return secrets.randbits(32)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.uint64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    if not is_integer(random_state) or random_state < 0:
        raise ConfigError(
            "random_state must be an integer of 0 or more, a RandomState or None, got "
            f"{random_state!r}."
        )
    return int(random_state)


def pad_rows(rows: Tensor) -> Tensor:
    """Append rows of zeros to fewer than ``BLOCK`` rows ``(n, ...)``.

    Matrix products of few rows are summed in another order than those of many. With padding, the
    prediction for a row is almost always bit-identical alone and in a batch.
    """
    missing = BLOCK - len(rows)
    if missing <= 0:
        return rows
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])


def _as_array(values: Any) -> Any:
    """Return an array of anything but a frame; tensors may be on any device."""
    if isinstance(values, Tensor):
        if values.layout != torch.strided:
            raise DataError(
                "Sparse tensors are not accepted: use a scipy.sparse array, or to_dense()."
            )
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of unequal lengths
        raise DataError(f"X must be rows (n, features): {error}") from error


def _as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Convert objects that hold numbers, as pandas returns for mixed columns, to float64."""
    if values.dtype != object:
        return values
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return values  # its type is refused by the caller


def _refuse_text(values: Any) -> None:
    kind = getattr(getattr(values, "dtype", None), "kind", "f")
    if kind not in "biufcO":
        raise DataError(f"X must hold numbers, got values of type {values.dtype}.")


def _canonical(rows: Any) -> sp.csr_array:
    """Return rows with valid, sorted and unique indices, without changing X."""
    table = sp.csr_array(rows)
    try:
        table.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"X is not a valid sparse table: {error}.") from error
    if not table.has_canonical_format:
        table = table.copy()
        table.sum_duplicates()
    return table


def _refuse_gaps(values: Table) -> None:
    """Raise :class:`DataError` with the position of the first value that is not finite."""
    sparse = sp.issparse(values)
    data = values.data if sparse else values
    if data.dtype.kind != "f" or np.isfinite(data).all():
        return
    bad = np.argwhere(~np.isfinite(data))
    place = tuple(map(int, bad[0]))
    first = data[place]
    if sparse:
        row = int(np.searchsorted(values.indptr, place[0], side="right")) - 1
        place = (row, int(values.indices[place[0]]))
    raise DataError(
        f"X has {len(bad)} values that are not finite, the first ({first}) at {list(place)}: NaN "
        "and inf are not accepted. Drop these samples or fill in the values first."
    )


def _validate_images(estimator: Any, images: NDArray[Any], *, reset: bool) -> Tensor:
    if images.dtype.kind not in "biuf":
        raise DataError(f"X must hold numbers, got values of type {images.dtype}.")
    if 0 in images.shape:
        raise DataError(f"X must be images (n, height, width), got shape {images.shape}.")
    _refuse_gaps(images)
    validate_data(estimator, images, reset=reset, skip_check_array=True, ensure_2d=False)
    if reset:
        estimator.n_features_in_ = int(np.prod(images.shape[1:]))
    return _as_samples(images)


def _as_samples(values: NDArray[Any]) -> Tensor:
    values = as_numbers(values)
    _refuse_gaps(values)
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def _exact(rows: Table) -> Table:
    """Return rows as float32, or as float64 if float32 would change a value."""
    values = as_numbers(rows.data if sp.issparse(rows) else rows)
    values = values.astype(np.float32) if values.dtype == np.uint8 else values
    if not sp.issparse(rows):
        return values
    return sp.csr_array((values, rows.indices, rows.indptr), shape=rows.shape)


# --- counts -----------------------------------------------------------------------------------


def check_counts(y: Any, samples: int, budget: int | None) -> tuple[Tensor, int]:
    """Return counts as int64 ``(n, K)``, and the budget (by default their largest sum).

    Raises
    ------
    DataError
        If they are not a table of one row for each sample, or an entry is not whole, or negative,
        or a row exceeds the budget; the message names the first such row.
    """
    if y is None:
        raise DataError("A counter requires y to be passed, but the target y is None.")
    values = _as_numbers(_as_array(y.toarray() if sp.issparse(y) else y))
    if values.ndim != 2 or values.shape[1] < 1:
        raise DataError(
            f"y must be counts of shape (n, K), one column for each class, got {values.shape}."
        )
    if len(values) != samples:
        raise DataError(f"X has {samples} samples and y has {len(values)} rows of counts.")
    if values.dtype.kind not in "biuf":
        raise DataError(f"y must hold integers, got values of type {values.dtype}.")
    whole = np.isfinite(values) & (np.floor(values) == values)
    _refuse_counts(values, ~whole, "not whole numbers", "Counts are integers; round them first.")
    _refuse_counts(values, values < 0, "negative", "A count is 0 or more.")
    counts = values.astype(np.int64)
    sums = counts.sum(1)
    largest = int(sums.max())
    if budget is None:
        return torch.from_numpy(counts), max(largest, 1)
    if largest > budget:
        row = int(sums.argmax())
        raise DataError(
            f"The counts of y[{row}] sum to {largest}, more than budget = {budget}. Raise budget "
            f"to {largest} or more, or leave it out."
        )
    return torch.from_numpy(counts), int(budget)


def check_same_shape(x: Tensor, shape: tuple[int, ...], column_width: int | None) -> None:
    """Raise :class:`DataError` unless samples have the shape of the training samples.

    With a ``column_width``, images may have any number of columns of that width.
    """
    found = tuple(x.shape[1:])
    if column_width is not None and len(found) == 2:
        if found[0] == shape[0] and found[1] % column_width == 0:
            return
        raise DataError(
            f"X has images of {found[0]} x {found[1]}; the counter was fitted on columns of "
            f"{shape[0]} x {column_width}. An image may have any whole number of these columns."
        )
    if found != shape:
        raise DataError(
            f"X has samples of shape {found}, but the counter was fitted on samples of {shape}."
        )


def _refuse_counts(values: NDArray[Any], bad: NDArray[np.bool_], what: str, remedy: str) -> None:
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise DataError(
            f"y has {int(bad.sum())} entries that are {what}, the first ({values[row, column]}) "
            f"at [{row}, {column}]. {remedy}"
        )


# --- labels -----------------------------------------------------------------------------------


def check_labels(
    Y: Any,  # noqa: N803 (scikit-learn's name)
    samples: int,
) -> sp.csr_array:
    """Return labels as CSR ``(n, K)`` of ones.

    Raises
    ------
    DataError
        If they are not a table of 0 and 1 with one row for each sample; the message names the first
        wrong entry.
    """
    values = Y if sp.issparse(Y) else _as_numbers(_as_array(Y))
    if values.ndim != 2 or values.shape[1] < 1:
        raise DataError(
            f"Y must be 0 and 1 of shape (n, K), one column for each label, got {values.shape}."
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
            f"Y must hold 0 and 1 only, but has {int(wrong.sum())} other values, the first "
            f"({table.data[place]}) at [{row}, {table.indices[place]}]. For counts, use "
            "SDLGMCounter."
        )
    return table.astype(np.int8)


@dataclass(frozen=True)
class Targets:
    """The targets of a classifier: sets of labels, or one class for each sample."""

    table: sp.csr_array
    """Labels ``(n, K)`` of ones."""
    classes: NDArray[Any]
    """Names of the K columns."""
    multilabel: bool
    """Whether targets are sets of labels."""

    def most_labels(self, max_labels: int | None, kept: NDArray[np.bool_]) -> int:
        """Return ``max_labels``, by default the most labels of a kept sample.

        Raises
        ------
        DataError
            If no kept sample has a label, or one has more than ``max_labels``.
        """
        if not self.multilabel:
            return 1
        numbers = np.diff(self.table.indptr) * kept
        largest = int(numbers.max(initial=0))
        if largest == 0:
            raise DataError("No sample in Y has any label: there is nothing to learn.")
        if max_labels is not None and largest > max_labels:
            raise DataError(
                f"Y[{int(numbers.argmax())}] has {largest} labels, more than max_labels = "
                f"{max_labels}. Raise max_labels to {largest} or more, or leave it out."
            )
        return int(max_labels or largest)


def check_targets(y: Any, samples: int) -> Targets:
    """Read labels: a table of 0 and 1, or one class for each sample as ``(n,)`` or ``(n, 1)``.

    Raises
    ------
    DataError
        If they are neither, or do not have one row for each sample.
    """
    if y is None:
        raise DataError("This classifier requires y to be passed, but the target y is None.")
    values = y if sp.issparse(y) else _as_array(y)
    if not sp.issparse(values) and values.ndim == 2 and values.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected: it is read as one class "
            "for each sample.",
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
        raise DataError(
            f"{error} To make a table of sets of labels, use MultiLabelBinarizer."
        ) from error
    classes, codes = np.unique(values, return_inverse=True)
    one = (np.ones(samples, np.int8), codes, np.arange(samples + 1))
    return Targets(sp.csr_array(one, shape=(samples, len(classes))), classes, False)
