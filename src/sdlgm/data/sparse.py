"""Data in memory that are mostly zeros: CSR, made dense a batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdlgm.data.rows import Rows
from sdlgm.errors import DataError

__all__ = ["Samples", "SparseRows"]


@dataclass(frozen=True)
class SparseRows:
    """Samples as rows of a sparse table, handed out as dense batches like those of ``Rows``."""

    table: Any
    """A ``scipy.sparse.csr_array`` of float32, shape ``(n, D)``."""
    dynamic: bool = False
    """Whether each visit draws bits anew, with the values as probabilities."""

    def __len__(self) -> int:
        return self.table.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, D)``."""
        return self.table.shape

    @property
    def n_inputs(self) -> int:
        """Number D of columns."""
        return self.table.shape[1]

    @property
    def values(self) -> Tensor:
        """All values that occur, in one dimension: the stored ones and a zero."""
        return torch.from_numpy(np.append(self.table.data, np.float32(0)))

    def check(self, what: str, columns: Sequence[str] | None = None) -> None:
        """Raise :class:`DataError` unless this is a table of finite numbers; name the first gap."""
        if 0 in self.shape:
            raise DataError(
                f"{what} must have rows and columns, got an array of shape {self.shape}."
            )
        bad = np.flatnonzero(~np.isfinite(self.table.data))
        if len(bad):
            row = int(np.searchsorted(self.table.indptr, bad[0], side="right")) - 1
            Rows(self._dense(slice(row, row + 1))).check(f"{what}, row {row},", columns)

    def batch(self, index: Tensor | slice, generator: torch.Generator) -> Tensor:
        """Return rows as float32 ``(b, D)``; ``generator`` draws the bits of dynamic ones."""
        rows = Rows(self._dense(index), dynamic=self.dynamic)
        return rows.batch(slice(None), generator)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Hand out all rows in order."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), generator)

    def split(self, size: int, /) -> Iterator[Tensor]:
        """Hand out all rows in order as they are, dynamic or not."""
        for start in range(0, len(self), size):
            yield self._dense(slice(start, start + size))

    def grey(self) -> SparseRows:
        """Return these rows: values on the scale of the model's input."""
        return self

    def sha256(self) -> str:
        """Digest of the values, to tell whether two runs saw the same data."""
        sha = hashlib.sha256(f"csr {self.shape}".encode())
        for part in (self.table.indptr, self.table.indices, self.table.data):
            sha.update(np.ascontiguousarray(part).data)
        return sha.hexdigest()

    def _dense(self, index: Tensor | slice) -> Tensor:
        place = index.numpy() if isinstance(index, Tensor) else index
        return torch.from_numpy(self.table[place].toarray())


Samples = Rows | SparseRows
"""Rows that a model can be trained on."""
