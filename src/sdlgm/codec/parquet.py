"""Codes in Parquet files: lists of the present features and their counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from sdlgm.codec.description import CodeFile, CodesDigest, check_budget, check_expected
from sdlgm.errors import CodeFileError
from sdlgm.outputs import atomic_path

__all__ = [
    "SCHEMA",
    "CodeFile",
    "CodeWriter",
    "code_writer",
    "from_arrow",
    "read_codes",
    "read_passed",
    "to_arrow",
    "write_codes",
]

FORMAT_VERSION = 1
TABLE = "sdlgm.table"
"""Metadata key of the layout of the table that was encoded, in JSON."""
SCHEMA = pa.schema(
    [
        pa.field(
            "indices", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False
        ),
        pa.field("counts", pa.list_(pa.field("item", pa.uint16(), nullable=False)), nullable=False),
    ]
)


def to_arrow(codes: Tensor) -> pa.RecordBatch:
    """Turn codes of shape ``(n, K)`` into rows of ascending ``indices`` and their ``counts``."""
    row, column = codes.nonzero(as_tuple=True)
    counts = codes[row, column].to(torch.int64).numpy().astype(np.uint16)
    present = torch.bincount(row, minlength=len(codes))
    offsets = np.concatenate([[0], present.cumsum(0).numpy()]).astype(np.int32)
    arrays = [
        pa.ListArray.from_arrays(offsets, values, type=field.type)
        for values, field in zip(
            (pa.array(column.numpy().astype(np.uint32)), pa.array(counts)), SCHEMA, strict=True
        )
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def from_arrow(batch: pa.RecordBatch, about: CodeFile, first_row: int = 0) -> Tensor:
    """Turn rows into codes of shape ``(n, K)``, float32, and check each.

    Raises
    ------
    CodeFileError
        If a row is not a code: lists of unequal length, features out of order or range, counts
        below one, or a sum over the budget. The message names the row.
    """
    lists = [batch.column(name) for name in ("indices", "counts")]
    lengths = [np.diff(part.offsets.to_numpy()) for part in lists]
    indices, counts = (part.flatten().to_numpy().astype(np.int64) for part in lists)
    if not np.array_equal(*lengths):
        bad = int(np.flatnonzero(lengths[0] != lengths[1])[0])
        raise _damaged(first_row + bad, "indices and counts differ in length")
    rows = np.repeat(np.arange(len(batch)), lengths[0])
    repeated = (np.diff(rows) == 0) & (np.diff(indices) <= 0)
    for wrong, what in (
        (indices >= about.features, f"a feature is not among the {about.features}"),
        (np.append(repeated, False), "the features are not in ascending order"),
        (counts < 1, "a count is 0"),
    ):
        if wrong.any():
            raise _damaged(first_row + int(rows[np.flatnonzero(wrong)[0]]), what)
    codes = torch.zeros(len(batch), about.features)
    codes[torch.from_numpy(rows), torch.from_numpy(indices)] = torch.from_numpy(counts).float()
    check_budget(codes, about, first_row)
    return codes


def write_codes(path: Path | str, batches: Iterable[Tensor], about: CodeFile) -> int:
    """Write batches of codes, shape ``(n, K)`` each, atomically; return the number of rows.

    The file's metadata hold K, L0, the groups, the model's hash and a SHA-256 of all codes.
    ``about.n_codes`` is ignored.
    """
    with code_writer(path, about) as writer:
        for codes in batches:
            writer.write(to_arrow(codes))
    return writer.rows


@contextlib.contextmanager
def code_writer(
    path: Path | str,
    about: CodeFile,
    schema: pa.Schema = SCHEMA,
    notes: Mapping[str, str] | None = None,
) -> Iterator[CodeWriter]:
    """Write a file of codes batch by batch; it appears when the block ends without an error.

    ``schema`` may have more columns than ``indices`` and ``counts``; :func:`read_codes` ignores
    them. ``notes`` are added to the metadata.
    """
    metadata = {
        "sdlgm.format_version": str(FORMAT_VERSION),
        "K": str(about.features),
        "L0": str(about.budget),
        "groups": str(about.groups),
        "model_sha256": about.model_sha256,
        **(notes or {}),
    }
    schema = schema.with_metadata(metadata)
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as file,
    ):
        writer = CodeWriter(file, schema)
        yield writer
        file.add_key_value_metadata({"codes_sha256": writer.sha.hexdigest()})


class CodeWriter:
    """Appends batches of rows to one file; see :func:`code_writer`."""

    def __init__(self, file: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._file, self._metadata = file, schema.metadata
        self.sha, self.rows = CodesDigest(), 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the schema's columns."""
        self.sha.update(batch)
        self._file.write_batch(batch.replace_schema_metadata(self._metadata))
        self.rows += len(batch)


def read_passed(path: Path | str) -> tuple[str | None, pa.Table | None]:
    """Return the note on the table that was encoded, and the columns that were passed through.

    Either is ``None`` if the file has none. Call this after :func:`read_codes`, which checks the
    file.
    """
    with pq.ParquetFile(path) as file:
        note = (file.metadata.metadata or {}).get(TABLE.encode())
        ours = {*SCHEMA.names, "n_active"}
        names = [name for name in file.schema_arrow.names if name not in ours]
        kept = file.read(columns=names) if names else None
    return None if note is None else note.decode(), kept


def read_codes(
    path: Path | str, expected: CodeFile | None = None, batch_size: int = 8192
) -> tuple[CodeFile, Iterator[Tensor]]:
    """Read what :func:`write_codes` wrote: its description and batches of codes.

    The SHA-256 of the codes is compared after the last batch, so read all batches before you rely
    on any.

    Raises
    ------
    CodeFileError
        If the file is missing, damaged, of a newer format, or made by another model than
        ``expected``.
    """
    path = Path(path)
    if not path.is_file():
        raise CodeFileError(f"{path} does not exist.")
    try:
        file = pq.ParquetFile(path)
        if [field for field in file.schema_arrow if field.name in SCHEMA.names] != list(SCHEMA):
            raise CodeFileError(f"{path} does not have the columns indices and counts of codes.")
        keys = {k.decode(): v.decode() for k, v in (file.metadata.metadata or {}).items()}
        if int(keys["sdlgm.format_version"]) > FORMAT_VERSION:
            raise CodeFileError(f"{path} is of a newer format than this sdlgm reads. Update sdlgm.")
        about = CodeFile(
            file.metadata.num_rows,
            int(keys["K"]),
            int(keys["L0"]),
            int(keys["groups"]),
            keys["model_sha256"],
        )
        sha = keys["codes_sha256"]
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        if isinstance(error, CodeFileError):
            raise
        raise CodeFileError(f"{path} is damaged, or is not a file of codes ({error}).") from None
    check_expected(path, about, expected)
    return about, _batches(path, file, about, sha, batch_size)


def _batches(
    path: Path, file: pq.ParquetFile, about: CodeFile, expected: str, size: int
) -> Iterator[Tensor]:
    sha, row = CodesDigest(), 0
    try:
        for batch in file.iter_batches(size, columns=SCHEMA.names):
            sha.update(batch)
            yield from_arrow(batch, about, row)
            row += len(batch)
    except CodeFileError as error:
        raise CodeFileError(f"{path} is damaged: {error}") from None
    except (pa.ArrowException, OSError) as error:
        raise CodeFileError(f"{path} is damaged after row {row} ({error}).") from None
    if sha.hexdigest() != expected:
        raise CodeFileError(
            f"{path} is damaged or was tampered with: its codes do not match their SHA-256 "
            f"{expected[:12]}... Encode the data again."
        )


def _damaged(row: int, what: str) -> CodeFileError:
    return CodeFileError(f"row {row} is not a code: {what}.")
