"""Which rows a classifier was fitted on, and which of its members left them out."""

from __future__ import annotations

import hashlib
from typing import NamedTuple, Self

import numpy as np
import scipy.sparse as sp

from sdlgm.errors import DataError, ModelFileError
from sdlgm.estimators.label_network import LabelTraining, MemberRows
from sdlgm.estimators.validation import Table
from sdlgm.limits import is_integer
from sdlgm.nn import rows_at_once

__all__ = ["FittedRows"]


class FittedRows(NamedTuple):
    """What tells the rows of a fit from others, and gives back the folds that members left out."""

    number: int
    """How many rows there were, without those of weight 0."""
    sparse: bool
    """Whether they were sparse."""
    digest: str
    """BLAKE2 of their values."""
    folds: int
    same: bool
    """See :class:`~sdlgm.estimators.label_network.MemberRows`."""

    @classmethod
    def of(cls, training: LabelTraining) -> Self:
        """Describe the rows of a training."""
        rows, members = training.rows, training.members
        sparse = bool(sp.issparse(rows))
        return cls(rows.shape[0], sparse, _digest(rows, sparse), members.folds, members.same)

    @classmethod
    def restore(cls, values: object, where: str) -> Self | None:
        """Return what a file holds; older files hold nothing, ``None``.

        Raises
        ------
        ModelFileError
            If the values are not what :meth:`of` makes.
        """
        if values is None:
            return None
        good = (
            isinstance(values, tuple)
            and len(values) == len(cls._fields)
            and is_integer(values[0], 1)
            and is_integer(values[3], 0, values[0])
            and values[3] != 1
            and all(isinstance(values[place], bool) for place in (1, 4))
            and isinstance(values[2], str)
        )
        if not (good and isinstance(values, tuple)):
            raise ModelFileError(f"{where} is damaged: what it tells of the rows of the fit.")
        return cls(*values)

    def check(self, rows: Table) -> None:
        """Raise :class:`DataError` unless rows have the values of those of the fit, in order."""
        found = rows.shape[0]
        if found == self.number and _digest(rows, self.sparse) == self.digest:
            return
        differ = f"X has {found} rows" if found != self.number else "X has other values"
        raise DataError(
            f"The classifier was fitted on {self.number} rows, and {differ}. Which members left "
            "out a row is known only of the rows of the latest fit, in their order, without those "
            "of weight 0. Predict other rows with predict_proba."
        )

    def members(self, number: int, seed: int) -> MemberRows:
        """Return which rows each of so many members left out."""
        return MemberRows(self.number, number, self.folds, seed, same=self.same)


def _digest(rows: Table, sparse: bool) -> str:
    """Return a hash of the values of rows, as sparse or as dense ones, whichever form they have."""
    sums = [hashlib.blake2b(digest_size=16) for _ in range(3)]
    stays = sparse and sp.issparse(rows)
    size = rows_at_once(rows.nnz // rows.shape[0] if stays else rows.shape[1])
    for start in range(0, rows.shape[0], size):
        part = rows[start : start + size]
        if sparse:
            part = sp.csr_array(part)
            streams = [part.data, part.indices, np.diff(part.indptr)]
        else:
            streams = [part.toarray() if sp.issparse(part) else part]
        for own, stream in zip(sums, streams, strict=False):
            own.update((np.ascontiguousarray(stream, "<f8") + 0.0).data)  # -0 and 0 are the same
    return "".join(own.hexdigest() for own in sums)
