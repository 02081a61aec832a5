"""The description and the digest in every file of codes, whatever its format."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from torch import Tensor

from sdlgm.errors import CodeFileError

__all__ = ["CodeFile", "CodesDigest", "check_budget", "check_expected"]


class CodeFile(NamedTuple):
    """Description of a file of codes."""

    n_codes: int
    """Number of rows."""
    features: int
    """Number K of features."""
    budget: int
    """Hard budget L0."""
    groups: int
    """Number G of groups, each with a budget of ``L0 / G``."""
    model_sha256: str
    """Hash of the model that made the codes."""


def check_expected(path: Path, about: CodeFile, expected: CodeFile | None) -> None:
    """Raise :class:`CodeFileError` unless the file was made by the model in ``expected``."""
    if expected is None:
        return
    if about.model_sha256 != expected.model_sha256:
        raise CodeFileError(
            f"{path} was encoded by another model (hash {about.model_sha256[:12]}..., this one is "
            f"{expected.model_sha256[:12]}...). Decode it with the model that made it."
        )
    if about[1:] != expected[1:]:
        raise CodeFileError(f"{path} was tampered with: K, L0 or groups are not the model's.")


def check_budget(codes: Tensor, about: CodeFile, first_row: int = 0) -> None:
    """Raise :class:`CodeFileError` with the first row whose groups exceed their budget."""
    sums = codes.unflatten(1, (about.groups, about.features // about.groups)).sum(-1)
    over = (sums > about.budget // about.groups).any(-1)
    if bool(over.any()):
        bad = int(over.nonzero()[0])
        raise CodeFileError(
            f"row {first_row + bad} is not a code: the counts ({int(codes[bad].sum())} in all) "
            "exceed the budget."
        )


class CodesDigest:
    """SHA-256 of codes as Arrow rows; independent of the split into batches."""

    def __init__(self) -> None:
        self._parts = [hashlib.sha256() for _ in range(3)]

    def update(self, batch: pa.RecordBatch) -> None:
        """Add rows of ``indices`` and ``counts``."""
        indices, counts = (batch.column(name) for name in ("indices", "counts"))
        streams = (np.diff(indices.offsets.to_numpy()), indices.flatten(), counts.flatten())
        for part, stream in zip(self._parts, streams, strict=True):
            part.update(np.asarray(stream).astype("<u4").tobytes())

    def hexdigest(self) -> str:
        """Return the digest of all rows so far."""
        return hashlib.sha256(b"".join(part.digest() for part in self._parts)).hexdigest()
