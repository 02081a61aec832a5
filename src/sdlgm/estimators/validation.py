"""Checks of rows, images, weights and seeds, on top of scikit-learn's own."""

from __future__ import annotations

import secrets
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data
from torch import Tensor

from sdlgm.data import as_numbers
from sdlgm.data.rows import cure_of, not_finite
from sdlgm.errors import ConfigError, DataError, SDLGMError
from sdlgm.estimators.frames import (
    check_column,
    check_columns,
    column_name,
    column_names,
    is_frame,
    shown,
)
from sdlgm.estimators.parameters import is_integer

__all__ = [
    "EstimatorNotFittedError",
    "Table",
    "as_array",
    "as_weights",
    "check_same_shape",
    "pad_rows",
    "validate_codes",
    "validate_columns",
    "validate_rows",
    "validate_samples",
    "validate_seed",
    "validate_weights",
]

Table: TypeAlias = Any
"""Checked rows ``(n, D)``: an array, or ``scipy.sparse.csr_array``, which has no types."""

CURE_OF_GAPS = "Fill in the values first, for example with SimpleImputer, or drop these rows."
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
    values = X if sp.issparse(X) or is_frame(X) else as_array(X)
    check_columns(X, "X")
    _refuse_text(values)
    if len(values.shape) != 2:
        raise DataError(
            f"X must be rows (n, features), got shape {tuple(values.shape)}. Reshape your data: "
            "for a single sample, use X.reshape(1, -1)."
        )
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
        raise DataError(_first_line(error)) from error
    _refuse_other_order(estimator, X, reset=reset)
    if sp.issparse(rows):
        rows = _canonical(rows)
    rows = _exact(rows) if dtype is None else rows
    _refuse_gaps(rows, column_names(X, "X"), _cure_of_gaps(estimator))
    return rows


def validate_columns(estimator: Any, X: Any, *, reset: bool) -> None:  # noqa: N803
    """Set the number and the names of the columns of X, or check them; not what they hold.

    Raises
    ------
    DataError
        If they differ from those of ``fit``.
    """
    try:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    except ValueError as error:
        raise DataError(_first_line(error)) from error
    _refuse_other_order(estimator, X, reset=reset)


def _refuse_other_order(estimator: Any, X: Any, *, reset: bool) -> None:  # noqa: N803
    """Remember names of columns that scikit-learn does not compare, or check their order.

    It compares texts only, not integers or the parts of a ``MultiIndex``. Integers may also be the
    places of columns in another frame, so that other ones are not refused.
    """
    names = column_names(X, "X")
    if reset:
        estimator.__dict__.pop("_columns", None)
        if names is not None and not hasattr(estimator, "feature_names_in_"):
            estimator._columns = names
        return
    fitted = getattr(estimator, "_columns", None)
    if names is None or not isinstance(fitted, np.ndarray):
        return
    given, before = (list(map(str, each.tolist())) for each in (names, fitted))
    if given != before and sorted(given) == sorted(before):
        raise DataError(
            f"X has the columns {shown(names)}, but the estimator was fitted on {shown(fitted)}, "
            "in this order."
        )


def _cure_of_gaps(estimator: Any) -> str:
    if getattr(estimator, "mixed", None) in (None, True):
        return CURE_OF_GAPS
    return f"{CURE_OF_GAPS} {type(estimator).__name__} fills in NaN in dense rows with mixed=True."


def validate_samples(estimator: Any, X: Any, *, reset: bool) -> Tensor:  # noqa: N803
    """Return rows ``(n, D)`` or images ``(n, h, w)`` as a tensor of bytes, float32 or float64.

    Sparse rows become dense. For images, ``n_features_in_`` is the number of pixels; the estimator
    checks their shape (:func:`check_same_shape`), since it may accept other widths.

    Raises
    ------
    DataError
        See :func:`validate_rows`.
    """
    if not sp.issparse(X) and not is_frame(X):
        X = as_array(X)  # noqa: N806
        if X.ndim == 3:
            return _validate_images(estimator, X, reset=reset)
        if X.ndim != 2:
            raise DataError(
                "X must be rows (n, features) or images (n, height, width), got shape "
                f"{X.shape}. Reshape your data: for a single sample, use X[None]."
            )
    rows = validate_rows(estimator, X, reset=reset)
    return _as_samples(rows.toarray() if sp.issparse(rows) else rows)


def validate_codes(codes: Any, features: int) -> Table:
    """Return codes ``(n, K)``, dense, sparse or a frame, as an array or CSR of float32.

    Raises
    ------
    DataError
        If they are not a table of finite numbers with one column for each feature.
    """
    try:
        found = check_array(codes, accept_sparse="csr", dtype=np.float32)
    except ValueError as error:
        raise DataError(f"The codes are not a table of numbers: {error}") from error
    if found.shape[1] != features:
        raise DataError(
            f"The codes have {found.shape[1]} columns, but the model has {features} features."
        )
    return found


def validate_weights(sample_weight: Any, samples: int) -> NDArray[np.float64]:
    """Return the weight of each sample, shape ``(n,)``: ones for ``None``.

    Raises
    ------
    DataError
        If there is not one finite number of 0 or more for each sample, or all are zero.
    """
    if sample_weight is None:
        return np.ones(samples)
    weights = as_weights(sample_weight)
    if weights.shape != (samples,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise DataError(
            f"sample_weight must be {samples} finite numbers of 0 or more, not all zero, got shape "
            f"{weights.shape}."
        )
    return weights


def as_weights(sample_weight: Any) -> NDArray[np.float64]:
    """Return weights as an array of double precision.

    Raises
    ------
    DataError
        If they are not numbers.
    """
    dense = sample_weight.toarray() if sp.issparse(sample_weight) else sample_weight
    try:
        return np.asarray(as_array(dense, "sample_weight"), np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"sample_weight must hold numbers: {error}.") from error


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


def as_array(values: Any, what: str = "X") -> Any:
    """Return an array of anything but a frame; tensors may be on any device."""
    if isinstance(values, Tensor):
        if values.layout != torch.strided:
            raise DataError(
                "Sparse tensors are not accepted: use a scipy.sparse array, or to_dense()."
            )
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if np.ma.is_masked(values):
        values = values.astype(np.float64).filled(np.nan)  # missing, not what lies under the mask
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of unequal lengths
        hint = " Labels that are numbers come in sets, such as {1, 2}." if what == "y" else ""
        raise DataError(f"The rows of {what} must have one length: {error}.{hint}") from error


def _first_line(error: ValueError) -> str:
    """Return what scikit-learn says, without the rows that it appends, and with a cure."""
    text = str(error).partition("\n[")[0].strip()
    if text.endswith("in the same order as they were in fit."):
        text += " Those of X[estimator.feature_names_in_] are."
    return text


def _refuse_text(values: Any) -> None:
    if not hasattr(values, "dtype") or sp.issparse(values):
        return
    if values.dtype.kind in "mMSUTO":
        check_column(values, "X", "an array", str(values.dtype))
    elif values.dtype.kind not in "biufc":
        raise DataError(f"X must hold numbers, got values of type {values.dtype}.")


def _canonical(rows: Any) -> sp.csr_array:
    """Return rows with valid, sorted and unique indices, without changing X."""
    table = sp.csr_array(rows)
    try:
        table.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"X is not a valid sparse table: {error}.") from error
    if not table.has_canonical_format or not table.data.all():
        table = table.copy()
        table.sum_duplicates()
        table.eliminate_zeros()  # which are stored may depend on how a table was made
    return table


def _refuse_gaps(
    values: Table, names: NDArray[Any] | None = None, cure: str = CURE_OF_GAPS
) -> None:
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
        f"X has {len(bad)} values that are not finite, the first ({not_finite(first)}) at "
        f"{list(place)}"
        + ("" if names is None else f", {column_name(names, place[1])}")
        + f": NaN and inf are not accepted. {cure}{cure_of(first)}"
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
