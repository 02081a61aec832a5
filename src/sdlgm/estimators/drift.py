"""The range of the training rows, and a warning of later values far outside of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.data import Columns, SparseRows
from sdlgm.data.drift import Drift
from sdlgm.errors import ModelFileError
from sdlgm.estimators.validation import Table
from sdlgm.nn import rows_at_once

__all__ = ["check_range", "training_range", "warn_of_drift", "widened_range"]


def training_range(rows: Table | Tensor) -> NDArray[np.float64]:
    """Return the smallest and largest value of each column, ``(2, D)``.

    Parameters
    ----------
    rows
        Rows ``(n, D)``, dense or CSR, or images ``(n, h, w)``, whose pixels count as one column.
    """
    ends: list[Any]
    if isinstance(rows, Tensor):
        values = rows.reshape(-1, 1) if rows.dim() == 3 else rows
        ends = [values.amin(0).numpy(), values.amax(0).numpy()]
    else:
        ends = [rows.min(axis=0), rows.max(axis=0)]
    dense = [end.toarray() if sp.issparse(end) else end for end in ends]
    return np.stack([np.asarray(end, np.float64).ravel() for end in dense])


def widened_range(limits: NDArray[np.float64] | None, rows: Table) -> NDArray[np.float64]:
    """Return the range of rows and, unless it is ``None``, another range together, ``(2, D)``."""
    own = training_range(rows)
    if limits is None:
        return own
    return np.stack([np.minimum(limits[0], own[0]), np.maximum(limits[1], own[1])])


def warn_of_drift(
    estimator: Any, rows: Table | Tensor | SparseRows, names: Sequence[str] | None = None
) -> None:
    """Warn once of values of rows or images far outside of the range of the training rows.

    ``names`` are those of the columns of the rows, by default ``feature_names_in_``. Estimators
    that were saved by 0.1 do not know the range.
    """
    limits = getattr(estimator, "_limits", None)
    if limits is None:
        return
    names = getattr(estimator, "feature_names_in_", None) if names is None else names
    low, high = (tuple(ends.tolist()) for ends in limits)
    drift = Drift(Columns(None if names is None else tuple(map(str, names)), low=low, high=high))
    for part in _dense(rows):
        drift.add(part)
    drift.warn("X")


def _dense(rows: Table | Tensor | SparseRows) -> Iterator[NDArray[Any]]:
    """Yield rows ``(n, D)`` as dense arrays, and images as one column of pixels."""
    if sp.issparse(rows):
        rows = SparseRows(rows)
    if isinstance(rows, SparseRows):
        yield from (part.numpy() for part in rows.split(rows_at_once(rows.n_inputs)))
        return
    values = rows.numpy() if isinstance(rows, Tensor) else rows
    yield values.reshape(-1, 1) if values.ndim == 3 else values


def check_range(estimator: Any, columns: int, where: str) -> None:
    """Raise :class:`ModelFileError` if the range that a file gives does not fit its columns."""
    limits = getattr(estimator, "_limits", None)
    if limits is None:
        return
    good = (
        isinstance(limits, np.ndarray)
        and limits.dtype == np.float64
        and limits.shape == (2, columns)
        and np.isfinite(limits).all()
        and (limits[0] <= limits[1]).all()
    )
    if not good:
        raise ModelFileError(f"{where} is damaged: the range of its columns does not fit.")
