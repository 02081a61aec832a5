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
from sdlgm.data.parquet_footer import column_chunks
from sdlgm.errors import CodeFileError
from sdlgm.limits import MAX_BUDGET, check, check_cells, open_regular, reading
from sdlgm.outputs import atomic_path

__all__ = [
    "SCHEMA",
    "WIDE_SCHEMA",
    "CodeFile",
    "CodeWriter",
    "code_schema",
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


def _schema(counts: pa.DataType) -> pa.Schema:
    types = {"indices": pa.uint32(), "counts": counts}
    lists = {name: pa.list_(pa.field("item", kind, nullable=False)) for name, kind in types.items()}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in lists.items()])


SCHEMA = _schema(pa.uint16())
"""Columns of a file of codes whose groups have a budget of up to 65,535."""
WIDE_SCHEMA = _schema(pa.uint32())
"""Columns for larger budgets."""
BATCH_CELLS = 2**24
"""Largest size of a batch of codes that is read."""
PAGE_BYTES = 2**20
"""Bytes that small files may take in memory in addition to their values."""


def code_schema(budget: int, groups: int) -> pa.Schema:
    """Return the columns of a file of codes: counts have 16 bits, or 32 if the budget needs them.

    Examples
    --------
    >>> code_schema(70_000, 1).field("counts").type.value_type
    DataType(uint32)
    """
    return SCHEMA if budget // groups < 2**16 else WIDE_SCHEMA


def to_arrow(codes: Tensor, schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    """Turn codes of shape ``(n, K)`` into rows of ascending ``indices`` and their ``counts``.

    Raises
    ------
    CodeFileError
        If a count does not fit the type of the schema (:func:`code_schema` chooses one that does).
    """
    codes = codes.cpu()
    row, column = codes.nonzero(as_tuple=True)
    counts = codes[row, column].to(torch.int64).numpy()
    kind = np.dtype(schema.field("counts").type.value_type.to_pandas_dtype())
    if len(counts) and not 0 <= counts.min() <= counts.max() <= np.iinfo(kind).max:
        raise CodeFileError(f"A count of {counts.max():,} does not fit into {kind}.")
    counts = counts.astype(kind)
    present = torch.bincount(row, minlength=len(codes))
    offsets = np.concatenate([[0], present.cumsum(0).numpy()]).astype(np.int32)
    arrays = [
        pa.ListArray.from_arrays(offsets, values, type=field.type)
        for values, field in zip(
            (pa.array(column.numpy().astype(np.uint32)), pa.array(counts)), schema, strict=True
        )
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


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
            writer.write(to_arrow(codes, writer.schema))
    return writer.rows


@contextlib.contextmanager
def code_writer(
    path: Path | str,
    about: CodeFile,
    schema: pa.Schema | None = None,
    notes: Mapping[str, str] | None = None,
) -> Iterator[CodeWriter]:
    """Write a file of codes batch by batch; it appears when the block ends without an error.

    ``schema`` may have more columns than those of :func:`code_schema`, the default;
    :func:`read_codes` ignores them. ``notes`` are added to the metadata.
    """
    metadata = {
        "sdlgm.format_version": str(FORMAT_VERSION),
        "K": str(about.features),
        "L0": str(about.budget),
        "groups": str(about.groups),
        "model_sha256": about.model_sha256,
        **(notes or {}),
    }
    schema = (schema or code_schema(about.budget, about.groups)).with_metadata(metadata)
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
        self._file, self.schema = file, schema
        self.sha, self.rows = CodesDigest(), 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the schema's columns."""
        self.sha.update(batch)
        self._file.write_batch(batch.replace_schema_metadata(self.schema.metadata))
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
        check("columns", len(names), f"The kept columns of {path}", CodeFileError)
        _check_kept(Path(path), ours)
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
        If the file is missing, damaged, of a newer format, made by another model than
        ``expected``, or exceeds a limit of :mod:`sdlgm.limits`.
    """
    path = Path(path)
    open_regular(path, CodeFileError).close()
    with reading(path, CodeFileError):
        file = pq.ParquetFile(path)
        about, sha = _read_metadata(path, file)
    check_expected(path, about, expected)
    with reading(path, CodeFileError):
        _check_size(path, file, about)
    batch_size = max(1, min(batch_size, BATCH_CELLS // about.features))
    return about, _batches(path, file, about, sha, batch_size)


def _read_metadata(path: Path, file: pq.ParquetFile) -> tuple[CodeFile, str]:
    """Return the description of a file of codes and the SHA-256 of its codes."""
    fields = [field for field in file.schema_arrow if field.name in SCHEMA.names]
    if fields not in (list(SCHEMA), list(WIDE_SCHEMA)):
        raise CodeFileError(f"{path} does not have the columns indices and counts of codes.")
    keys = {k.decode(): v.decode() for k, v in (file.metadata.metadata or {}).items()}
    named = ("sdlgm.format_version", "K", "L0", "groups")
    for name in (*named, "model_sha256", "codes_sha256"):
        if name not in keys:
            raise CodeFileError(f"{path} is not a file of codes: its metadata lack {name}.")
    for name in named:
        check("digits", len(keys[name]), f"{name} of {path}", CodeFileError)
    version, features, budget, groups = (int(keys[name]) for name in named)
    if version > FORMAT_VERSION:
        raise CodeFileError(f"{path} is of a newer format than this sdlgm reads. Update sdlgm.")
    rows = file.metadata.num_rows
    return CodeFile(rows, features, budget, groups, keys["model_sha256"]), keys["codes_sha256"]


def _check_size(path: Path, file: pq.ParquetFile, about: CodeFile) -> None:
    """Compare what the metadata claim with the limits and with the size of the file."""
    check("features", about.features, f"K of {path}", CodeFileError)
    if not (
        about.features > 0 < about.groups
        and 0 < about.budget <= MAX_BUDGET
        and about.features % about.groups == about.budget % about.groups == 0
    ):
        raise CodeFileError(f"{path} is damaged: K, L0 or groups are invalid.")
    cells, size = about.n_codes * about.features, path.stat().st_size
    check_cells(cells, size, str(path), CodeFileError, coded=True)
    most = min(about.features, about.budget)
    chunks = [chunk for chunk in column_chunks(path, CodeFileError) if chunk.column in SCHEMA.names]
    # Indices, counts and levels of the present features, and some room for dictionaries.
    room = PAGE_BYTES * max(1, file.metadata.num_row_groups) + about.n_codes * (16 + 16 * most)
    values = 2 * about.n_codes * max(1, most)  # an empty list counts as one
    if sum(each.size for each in chunks) > room or sum(each.values for each in chunks) > values:
        raise CodeFileError(f"{path} claims more values than its {about.n_codes:,} codes hold.")


def _check_kept(path: Path, ours: set[str]) -> None:
    """Compare what the footer claims of the columns passed through with the size of the file."""
    size = path.stat().st_size
    chunks = [each for each in column_chunks(path, CodeFileError) if each.column not in ours]
    for cells in (sum(each.values for each in chunks), sum(each.size for each in chunks) // 8):
        check_cells(cells, size, f"{path} (kept columns)", CodeFileError)


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
    except Exception as error:  # readers raise many types of error on damaged files
        raise CodeFileError(f"{path} is damaged after row {row} ({error}).") from None
    if sha.hexdigest() != expected:
        raise CodeFileError(
            f"{path} is damaged or was tampered with: its codes do not match their SHA-256 "
            f"{expected[:12]}... Encode the data again."
        )


def _damaged(row: int, what: str) -> CodeFileError:
    return CodeFileError(f"row {row} is not a code: {what}.")
