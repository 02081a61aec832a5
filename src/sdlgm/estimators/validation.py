"""What every estimator asks of its rows, weights and seeds, on top of scikit-learn's own checks."""

from __future__ import annotations

import numbers
import secrets
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data
from torch import Tensor

from sdlgm.errors import ConfigError, DataError, SDLGMError

__all__ = [
    "EstimatorNotFittedError",
    "Table",
    "as_array",
    "as_numbers",
    "pad_rows",
    "validate_rows",
    "validate_samples",
    "validate_seed",
    "validate_weights",
]

Table: TypeAlias = Any
"""Checked rows ``(n, D)``: an array, or ``scipy.sparse.csr_array``, which has no types."""

BLOCK = 64
"""Fewest rows that a network is asked for at a time."""


class EstimatorNotFittedError(SDLGMError, NotFittedError):  # type: ignore[misc]
    """A prediction was asked of an estimator that has learned nothing yet."""


def validate_rows(
    estimator: Any,
    X: Any,  # noqa: N803 (scikit-learn's name)
    *,
    reset: bool,
    accept_sparse: bool = True,
    dtype: Any = np.float32,
) -> Table:
    """Return rows ``(n, D)`` as an array, or as a ``csr_array`` if they came sparse.

    Rows are numpy arrays and lists, sparse matrices and arrays of any format, pandas and polars
    frames, or torch tensors.

    Parameters
    ----------
    estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are set, or held against X.
    X
        Rows of finite numbers.
    reset
        ``True`` in ``fit``: set these attributes; ``False``: check against them.
    accept_sparse
        Whether sparse rows are taken.
    dtype
        Type to return; ``None`` keeps that of the rows.

    Raises
    ------
    DataError
        If X is no table of finite numbers, or not like the one of ``fit``; the first gap is named.
    TypeError
        If sparse rows are not taken, or an entry is neither number nor text.
    """
    values = X if sp.issparse(X) or hasattr(X, "columns") else as_array(X)
    if len(values.shape) != 2:
        raise DataError(
            f"X must be rows (n, features), got shape {tuple(values.shape)}. Reshape your data: "
            "one sample alone is X.reshape(1, -1)."
        )
    _refuse_text(values)
    try:
        # What is too large for the type becomes infinite, and is refused below.
        with np.errstate(over="ignore"):
            rows: Table = validate_data(
                estimator,
                values,
                reset=reset,
                accept_sparse="csr" if accept_sparse else False,
                dtype="numeric" if dtype is None else dtype,
                ensure_all_finite=False,
            )
            if rows.dtype.kind == "O":  # scikit-learn leaves a frame's own texts to us
                rows = rows.astype(np.float64)
    except ValueError as error:
        raise DataError(str(error)) from error
    if sp.issparse(rows):
        rows = _canonical(rows)
    _refuse_gaps(rows)
    return rows


def validate_samples(estimator: Any, X: Any, *, reset: bool) -> Tensor:  # noqa: N803
    """Return rows ``(n, D)`` or images ``(n, h, w)`` as a tensor: bytes as they are, else float32.

    Sparse rows are made dense. Of images ``n_features_in_`` is the number of their pixels; whether
    they are like those of ``fit`` is for the estimator to check, which may take other widths.

    Raises
    ------
    DataError
        As of :func:`validate_rows`.
    """
    if not sp.issparse(X) and not hasattr(X, "columns"):
        X = as_array(X)  # noqa: N806
        if X.ndim == 3:
            return _validate_images(estimator, X, reset=reset)
        if X.ndim != 2:
            raise DataError(
                "X must be rows (n, features) or images (n, height, width), got shape "
                f"{X.shape}. Reshape your data: one sample alone is X[None]."
            )
    rows = validate_rows(estimator, X, reset=reset, dtype=None)
    return _as_samples(rows.toarray() if sp.issparse(rows) else rows)


def validate_weights(sample_weight: Any, samples: int) -> NDArray[np.float64]:
    """Return the weight of each sample, shape ``(n,)``: 1 if there are none.

    Raises
    ------
    DataError
        If there is not one finite number of 0 or more a sample, or they are all zero.
    """
    if sample_weight is None:
        return np.ones(samples)
    weights = np.asarray(as_array(sample_weight), np.float64)
    if weights.shape != (samples,) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
        raise DataError(
            f"sample_weight must be {samples} finite numbers of 0 or more, not all zero, got shape "
            f"{weights.shape}."
        )
    return weights


def validate_seed(random_state: Any) -> int:
    """Return the integer that all randomness of a fit comes from.

    An integer is its own seed; from a ``RandomState`` or numpy ``Generator`` one is drawn, which
    moves it on; ``None`` is a fresh one from the operating system. No global state is touched.

    Raises
    ------
    ConfigError
        If it is none of these, or negative.
    """
    if random_state is None:
        return secrets.randbits(32)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**32, dtype=np.uint64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**32))
    whole = isinstance(random_state, numbers.Integral) and not isinstance(random_state, bool)
    if not whole or random_state < 0:
        raise ConfigError(
            "random_state must be an integer of 0 or more, a RandomState or None, got "
            f"{random_state!r}."
        )
    return int(random_state)


def pad_rows(rows: Tensor) -> Tensor:
    """Append rows of zeros to less than ``BLOCK`` rows ``(n, ...)``.

    Products of matrices of a few rows are summed in another order than those of many: with this,
    a prediction of a row is the same, in nearly all cases in every bit, alone and among others.
    """
    missing = BLOCK - len(rows)
    if missing <= 0:
        return rows
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])])


def as_array(values: Any) -> Any:
    """Return an array of anything that is no frame; tensors may be on any device."""
    if isinstance(values, Tensor):
        if values.layout != torch.strided:
            raise DataError(
                "Sparse tensors are not taken: use a scipy.sparse array, or to_dense()."
            )
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of unequal lengths
        raise DataError(f"X must be rows (n, features): {error}") from error


def as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return objects that are numbers, as pandas makes them of mixed columns, as such."""
    if values.dtype != object:
        return values
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return values  # to be refused for its type


def _refuse_text(values: Any) -> None:
    kind = getattr(getattr(values, "dtype", None), "kind", "f")
    if kind not in "biufcO":
        raise DataError(f"X must hold numbers, got values of type {values.dtype}.")


def _canonical(rows: Any) -> sp.csr_array:
    """Return rows whose indices lie in the table, in order and once each; X is left as it is."""
    table = sp.csr_array(rows)
    try:
        table.check_format(full_check=True)
    except ValueError as error:
        raise DataError(f"X is no sound sparse table: {error}.") from error
    if not table.has_canonical_format:
        table = table.copy()
        table.sum_duplicates()
    return table


def _refuse_gaps(values: Table) -> None:
    """Raise :class:`DataError` with the place of the first value that is not finite."""
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
        "and inf are not taken. Drop or fill such samples first."
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
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype != np.uint8:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        _refuse_gaps(values)
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))
