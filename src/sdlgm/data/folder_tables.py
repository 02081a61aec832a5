"""Folders and patterns of files as one table that is never in memory as a whole."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.config import Binarisation
from sdlgm.data.columns import Columns, match_names
from sdlgm.data.drift import Drift
from sdlgm.data.file_limits import check_table_file
from sdlgm.data.folders import find_files
from sdlgm.data.parquet_footer import column_chunks
from sdlgm.data.partitions import NamedKeys
from sdlgm.data.rows import Rows
from sdlgm.data.tables import SUFFIXES, Table, file_sha256, read_table
from sdlgm.errors import DataError, warn
from sdlgm.progress import progress_bar
from sdlgm.random import generator as make_generator

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["FolderRows", "FolderTable", "Part", "folder_sha256", "sample_indices"]

VALUES_AT_ONCE = 2**22
"""Values that are read at a time."""
VALUES_IN_MEMORY = 2**26
"""Values that are kept in memory unless ``max_rows`` says how many rows: 256 MB as float32."""
SECONDS_WITHOUT_PROGRESS = 2.0


@dataclass(frozen=True)
class Part:
    """One file of a folder."""

    path: Path
    name: Path
    """Its name relative to the folder."""
    rows: int
    types: tuple[str, ...]
    """Arrow's name of each chosen column's type; of one for a column of lists."""


@dataclass(frozen=True)
class FolderTable:
    """The rows of several files, one after the other, as one table.

    Parquet files are read in parts, ``.csv`` and ``.npy`` files one at a time.
    """

    data: str
    """The folder or pattern."""
    parts: tuple[Part, ...]
    """The files in order."""
    first: Table
    """The first file without its rows, with its columns chosen."""
    width: int
    """Number of values in a row."""
    others: Collection[str] | None = ()
    """Columns that files may have besides those chosen; ``None``: any."""
    header: bool | None = None
    """As for :func:`~sdlgm.data.read_table`."""
    keys: NamedKeys = NamedKeys()  # noqa: RUF009 (frozen)
    """Columns that may be keys in the names of folders."""

    @classmethod
    def open(
        cls,
        data: str,
        choose: Callable[[Table], Table],
        *,
        others: Collection[str] | None = (),
        header: bool | None = None,
        keys: NamedKeys = NamedKeys(),  # noqa: B008 (frozen)
    ) -> FolderTable:
        """Find the files and compare their columns.

        Parameters
        ----------
        data
            A folder, at any depth, or a pattern.
        choose
            Chooses the columns of the first file; every other file must have the same ones, in
            any order.
        others
            Columns that files may have besides those that are chosen, passed through or an index;
            ``None``: any.
        header
            Whether CSV files have a line of names.
        keys
            Columns that may be keys in the names of folders, such as ``year=2024/``.

        Raises
        ------
        DataError
            If there are no files or rows, files are of several formats, or one is unreadable or has
            other columns; the message names file and columns.
        """
        files = find_files(data, suffixes=SUFFIXES)
        kinds = sorted({file.suffix for file, _ in files})
        if len(kinds) > 1:
            raise DataError(
                f"{data} has files of several formats ({', '.join(kinds)}). Name those to use with "
                f"a pattern, such as {Path(data) / '*'}{kinds[0]}."
            )
        heads = (_head(path, name, header, keys) for path, name in files)
        start = next(heads)
        first = choose(start.table)
        first = replace(first, data=first.data[:0])
        parts, width = [], 0
        for (path, name), head in zip(files, itertools.chain([start], heads), strict=True):
            chosen = _like(first, head.table, others)
            width = width or _width(chosen, path)
            parts.append(Part(path, name, head.rows, chosen.columns().types or ()))
        if not sum(part.rows for part in parts):
            raise DataError(f"{data} has no rows: all of its {len(files):,} files are empty.")
        return cls(data, tuple(parts), first, width, others, header, keys)

    def __len__(self) -> int:
        return sum(part.rows for part in self.parts)

    def columns(self) -> Columns:
        """Describe the columns, without ranges; a type stands for those of all files."""
        found = [part.types for part in self.parts if part.rows and part.types]
        types = tuple(_common(kinds) for kinds in zip(*found, strict=True))
        about = self.first.columns()
        types = types * self.width if about.lists else types
        return replace(about, types=types or None)

    def rows(self, max_rows: int | None = None, seed: int = 0) -> tuple[Rows, Tensor]:
        """Read the rows into memory, with the number of each; a sample if there are too many.

        Parameters
        ----------
        max_rows
            Largest number of rows. Default: as many as hold 2^26 values. If there are more, each
            row has the same chance to be in the sample, and a warning says so.
        seed
            Source of the sample.

        Raises
        ------
        DataError
            If a value is not a finite number, or a file changes meanwhile.
        """
        number, most = len(self), max_rows or max(2, VALUES_IN_MEMORY // self.width)
        if number > most:
            warn(
                f"{self.data}: {most:,} of {number:,} rows are used, a random sample (seed "
                f"{seed}). Raise --max-rows to use more, as far as memory allows."
            )
        index = sample_indices(most, number, seed)
        read = min(len(index), number)
        values: NDArray[Any] = np.empty((read, 0), np.uint8)
        names: tuple[str, ...] | None = None
        done = 0
        with progress_bar("reading", read, after=SECONDS_WITHOUT_PROGRESS) as update:
            for start, table in self.tables(index):
                stop = start + len(table)
                picked = index[np.searchsorted(index, start) : np.searchsorted(index, stop)]
                if not len(picked):
                    continue
                block = self.numbers(table)
                names, part = block.columns, block.values.numpy()[picked - start]
                kind = np.promote_types(values.dtype, part.dtype) if done else part.dtype
                values = values if done else np.empty((read, self.width), kind)
                values = values.astype(kind, copy=False)
                values[done : done + len(part)] = part
                done += len(part)
                update(done, {})
        rows = Rows(torch.from_numpy(values), name=self.data, columns=names)
        return rows, torch.from_numpy(index)

    def tables(self, index: NDArray[np.int64] | None = None) -> Iterator[tuple[int, Table]]:
        """Yield the rows in order, some at a time, each part with the number of its first row.

        ``index`` lists ascending numbers of rows; files without any of these are skipped.
        """
        start = 0
        for part in self.parts:
            stop, seen = start + part.rows, 0
            wanted = index is None or np.searchsorted(index, start) < np.searchsorted(index, stop)
            for table in self._read(part) if part.rows and wanted else ():
                yield start + seen, table
                seen += len(table)
            if seen != part.rows and wanted:
                raise self._changed(part, seen)
            start = stop

    def whole(self, part: Part) -> Table:
        """Read one file with its kept columns.

        Raises
        ------
        DataError
            If it cannot be read, lacks a kept column, or has changed.
        """
        table = _with_keys(read_table(part.path, self.header), part.name, self.keys)
        source = table.csv
        table = _like(self.first, table, self.others)
        absent = [name for name in table.keep if name not in (table.names or ())]
        if absent:
            raise DataError(f"{part.path} has no column {', '.join(absent)} to keep.")
        if len(table) != part.rows:
            raise self._changed(part, len(table))
        return replace(table, csv=source).passing(table.keep)

    def _changed(self, part: Part, rows: int) -> DataError:
        return DataError(
            f"{part.path} changed while it was read ({rows:,} rows instead of {part.rows:,})."
        )

    def numbers(self, table: Table) -> Rows:
        """Return a part of the table as checked rows."""
        rows = table.rows()
        if rows.n_inputs != self.width:
            raise DataError(
                f"{table.name} has rows of {rows.n_inputs} values, but {self.first.name} of "
                f"{self.width}."
            )
        return rows

    def _read(self, part: Part) -> Iterator[Table]:
        """Yield a file's rows, some at a time."""
        path = part.path
        size = max(1, VALUES_AT_ONCE // self.width)
        if path.suffix != ".parquet":
            table = _head(path, part.name, self.header, self.keys).table
            table = _like(self.first, table, self.others)
            for start in range(0, len(table), size):
                yield replace(table, data=table.data[start : start + size], first_row=start)
            return
        import pyarrow as pa

        row = 0
        with _opened(path) as file:
            head = _with_keys(_empty(path, file), part.name, self.keys)
            head = _like(self.first, head, self.others)
            names = [n for n in head.inputs or () if n in file.schema_arrow.names]
            try:
                for batch in file.iter_batches(size, columns=names):
                    data = self.keys.add(pa.Table.from_batches([batch]), part.name)
                    yield replace(head, data=data, first_row=row)
                    row += len(batch)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{path} cannot be read as parquet: {error}") from None


@dataclass(frozen=True)
class FolderRows:
    """Rows that are read from the files of a folder each time they are used.

    Unlike :class:`~sdlgm.data.Rows`, they are checked when they are reached.
    """

    table: FolderTable
    """The files."""
    binarisation: Binarisation = "none"
    """How grey values become bits."""
    seed: int = 0
    """Source of fixed bits."""
    known: Columns = Columns()  # noqa: RUF009 (frozen)
    """Columns of the training data; values far outside of their ranges are counted in a warning."""
    check: Callable[[Rows], None] | None = None
    """Raises an error if rows do not suit their use."""

    def __len__(self) -> int:
        return len(self.table)

    @property
    def name(self) -> str:
        """What messages call these rows."""
        return self.table.data

    @property
    def n_inputs(self) -> int:
        """Number D of columns."""
        return self.table.width

    def checked_by(self, check: Callable[[Rows], None]) -> FolderRows:
        """Return these rows with a check of each part that is read."""
        return replace(self, check=check)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield all rows in order, ``size`` at a time, whatever the lengths of the files.

        Raises
        ------
        DataError
            If a value is not a finite number or unsuitable, or a file changes meanwhile; the
            message names file, row and column.
        """
        drift, fixed = Drift(self.known), make_generator(self.seed, "fixed")
        at_once = max(1, VALUES_AT_ONCE // self.n_inputs // size) * size
        for values, dynamic in _recut(self._parts(drift), at_once):
            rows = Rows(values, dynamic=dynamic, name=self.name)
            if self.binarisation == "fixed":
                rows = Rows(rows.batch(slice(None), fixed), name=self.name)
            yield from rows.batches(size, generator)
        drift.warn(self.name)

    def _parts(self, drift: Drift) -> Iterator[Rows]:
        kind: Binarisation = "dynamic" if self.binarisation == "fixed" else self.binarisation
        for _, table in self.table.tables():
            rows = self.table.numbers(table).binarise(kind, self.seed)
            if self.check:
                self.check(rows)
            drift.add(rows.values.numpy())
            yield rows


def sample_indices(number: int, of: int, seed: int) -> NDArray[np.int64]:
    """Return ``number`` of the first ``of`` integers in ascending order, all sets equally likely.

    The memory is that of the result, however large ``of`` is. All integers are returned if there
    are not more than ``number``.

    Examples
    --------
    >>> sample_indices(3, 10**12, seed=0).shape, sample_indices(5, 3, seed=0)
    ((3,), array([0, 1, 2]))
    """
    source = make_generator(seed, "rows of a folder")
    if number >= of:
        return np.arange(of)
    if of < 4 * number:
        return torch.randperm(of, generator=source)[:number].sort().values.numpy()
    # Numbers are drawn one by one until enough differ, so that no set is preferred.
    found = torch.empty(0, dtype=torch.int64)
    while len(found) < number:
        more = torch.randint(of, (number - len(found),), generator=source)
        found = torch.cat([found, more]).unique()
    return found.numpy()


def folder_sha256(data: str) -> str:
    """Return the SHA-256 of the names and contents of the files of a folder or pattern."""
    files, sha = find_files(data, suffixes=SUFFIXES), hashlib.sha256()
    with progress_bar("hashing files", len(files), after=SECONDS_WITHOUT_PROGRESS) as update:
        for done, (path, name) in enumerate(files, 1):
            about = path.stat()
            digest = _digest(path, about.st_size, about.st_mtime_ns)
            sha.update(f"{digest} {name.as_posix()}\n".encode())
            update(done, {})
    return sha.hexdigest()


@functools.lru_cache(maxsize=2**16)
def _digest(path: Path, size: int, modified_ns: int) -> str:
    """Return the SHA-256 of a file; an unchanged one is read once."""
    return file_sha256(path)


@dataclass(frozen=True)
class _Head:
    """A file's columns and its number of rows; for Parquet, the table has no rows."""

    table: Table
    rows: int


def _head(path: Path, name: Path, header: bool | None, keys: NamedKeys) -> _Head:
    if path.suffix != ".parquet":
        table = _with_keys(read_table(path, header), name, keys)
        return _Head(table, len(table))
    check_table_file(path)
    with _opened(path) as file:
        return _Head(_with_keys(_empty(path, file), name, keys), file.metadata.num_rows)


def _with_keys(table: Table, name: Path, keys: NamedKeys) -> Table:
    if isinstance(table.data, np.ndarray):
        return table
    return replace(table, data=keys.add(table.data, name))


def _opened(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # With a buffer, a row group is read page by page, not as a whole.
        return pq.ParquetFile(path, buffer_size=2**18)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged, or is not a Parquet file ({error}).") from None


def _empty(path: Path, file: pq.ParquetFile) -> Table:
    """Return the columns of a Parquet file as a table without rows."""
    return Table.of(file.schema_arrow.empty_table(), str(path))


def _like(first: Table, table: Table, others: Collection[str] | None) -> Table:
    """Choose in a table the columns that were chosen in the first one, by name.

    Raises
    ------
    DataError
        If it lacks one, or has others.
    """
    names = table.names
    if (names is None) != (first.names is None):
        raise DataError(f"{table.name} has no names of columns, but {first.name} has, or reverse.")
    if names is None:
        shape, expected = (each.image_shape or each.data.shape[1:] for each in (table, first))
        if shape != expected:
            raise DataError(
                f"{table.name} has rows of shape {shape}, but {first.name} of {expected}."
            )
        return table
    wanted = first.inputs or ()
    passed = names if others is None else (*others, *first.keep, *table.index)
    match_names(wanted, names, passed, table.name, first.name)
    return replace(table, inputs=wanted, keep=first.keep)


def _width(table: Table, path: Path) -> int:
    """Return the number of values in a row, or 0 if the file has no rows to tell."""
    if isinstance(table.data, np.ndarray):
        return table.data.shape[1]
    about = table.columns()
    if not about.lists:
        return len(table.inputs or ())
    if path.suffix != ".parquet":
        return about.width or 0
    name = (table.inputs or ("",))[0]
    chunks = [c for c in column_chunks(path) if c.column == name]
    with _opened(path) as file:
        rows = file.metadata.num_rows
    return sum(chunk.values for chunk in chunks) // rows if rows else 0


def _common(kinds: Sequence[str]) -> str:
    """Return a type that holds the numbers of several: the same one, or one of 64 bits."""
    named = {kind for kind in kinds if kind != "null"} or {"null"}
    if len(named) == 1:
        return named.pop()
    whole = all(kind.startswith(("int", "uint", "bool")) for kind in named)
    return "int64" if whole else "double"


def _recut(parts: Iterator[Rows], size: int) -> Iterator[tuple[Tensor, bool]]:
    """Join the values of parts and cut them into pieces of ``size`` rows."""
    waiting: list[Tensor] = []
    number, dynamic = 0, False
    for part in parts:
        dynamic = part.dynamic
        waiting.append(part.values)
        number += len(part)
        while number >= size:
            joined = _joined(waiting)
            yield joined[:size], dynamic
            waiting, number = [joined[size:]], number - size
    if number:
        yield _joined(waiting), dynamic


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(tuple(parts))
