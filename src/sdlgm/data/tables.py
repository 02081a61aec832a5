"""The user's tables: CSV, Parquet and NumPy files with one sample a row.

A :class:`Table` keeps what a matrix of numbers loses: names, types and order of the columns, and
columns that are only passed through.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.data.columns import Columns, match_names
from sdlgm.data.file_limits import check_table_file
from sdlgm.data.rows import Rows, as_numbers
from sdlgm.data.separators import refuse_other_separator
from sdlgm.errors import DataError, warn
from sdlgm.outputs import atomic_path

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SUFFIXES", "Table", "file_sha256", "read_rows", "read_table", "write_rows"]

SUFFIXES = (".csv", ".parquet", ".npy")


@dataclass(frozen=True)
class Table:
    """A table as it was read: columns with names, or an array without."""

    data: pa.Table | NDArray[Any]
    """An Arrow table, or an array ``(n, D)`` of numbers."""
    name: str = "the table"
    """What messages call it."""
    inputs: tuple[str, ...] | None = None
    """The columns that the model reads, in its order. ``None`` for an array."""
    keep: tuple[str, ...] = ()
    """The columns that are passed through."""
    index: tuple[str, ...] = ()
    """The columns that hold the index of a pandas table."""
    types: tuple[str, ...] = ()
    """Arrow's name of each column's type, for an array."""
    header: bool = True
    """Whether a CSV file of the table has a line of names."""
    image_shape: tuple[int, int] | None = None
    """Height and width, if the file holds an array of images."""
    first_row: int = 0
    """Number of the first row in messages, for a part of a file."""
    csv: Path | None = None
    """The CSV file that the table was read from, whole."""

    def __len__(self) -> int:
        return len(self.data)

    @classmethod
    def of(cls, data: Any, name: str = "the data") -> Table:
        """Return an array, an Arrow table or a data frame of pandas or polars as a table.

        Raises
        ------
        DataError
            If it is anything else, or two columns have one name.
        """
        import pyarrow as pa

        from sdlgm.data.arrow_columns import index_columns

        if isinstance(data, np.ndarray):
            return _array_table(data, name)
        if type(data).__module__.startswith("pandas"):
            _check_names([str(each) for each in data.columns], name)
            data = pa.Table.from_pandas(data)
        elif hasattr(data, "__arrow_c_stream__"):
            data = pa.table(data)
        if not isinstance(data, pa.Table):
            raise DataError(
                f"{name} must be an array, an Arrow table or a data frame, got "
                f"{type(data).__name__}."
            )
        _check_names(data.column_names, name)
        return cls(data, name, index=index_columns(data.schema))

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of all columns, or ``None`` for an array."""
        return None if isinstance(self.data, np.ndarray) else tuple(self.data.column_names)

    @property
    def _arrow(self) -> pa.Table:
        """The table, where it is not an array."""
        return typing.cast("pa.Table", self.data)

    @property
    def _inputs(self) -> tuple[str, ...]:
        return tuple(self._arrow.column_names) if self.inputs is None else self.inputs

    def select(self, columns: Sequence[str] | None = None, keep: Sequence[str] = ()) -> Table:
        """Choose the columns to read and those to pass through.

        Parameters
        ----------
        columns
            Columns to read, in the model's order. Default: all except ``keep`` and the index of
            a pandas table.
        keep
            Columns to pass through.

        Raises
        ------
        DataError
            If a column does not exist or is named twice, or none is left to read.
        """
        from sdlgm.data.arrow_columns import listed

        names = self.names
        if names is None:
            if columns or keep:
                raise DataError(
                    f"{self.name} has no names of columns: --columns and --keep cannot be used."
                )
            return self
        absent = [name for name in (*(columns or ()), *keep) if name not in names]
        if absent:
            raise DataError(
                f"{self.name} has no column {listed(absent)}; it has {listed(names, 20)}."
            )
        inputs = tuple(columns or (n for n in names if n not in keep and n not in self.index))
        if len({*inputs, *keep}) < len(inputs) + len(keep):
            raise DataError(f"A column is named twice: {listed([*inputs, *keep], 20)}.")
        unused = [n for n in self.index if n not in keep]
        if unused and columns is None:
            warn(
                f"{self.name}: column {listed(unused)} is the index of a pandas table, and is not "
                "used. To use it, name the columns with --columns; to pass it through, --keep."
            )
        if not inputs:
            raise DataError(f"{self.name} has no columns to read.")
        return replace(self, inputs=inputs).passing(keep)

    def passing(self, keep: Sequence[str]) -> Table:
        """Return the table with columns to pass through, which exist and are as in the file."""
        data = self.data
        if self.csv is not None and keep:
            from sdlgm.data.csv_text import exact_columns

            data = exact_columns(self._arrow, self.csv, keep)
        return replace(self, data=data, keep=tuple(keep), csv=None)

    def match(
        self,
        known: Columns,
        columns: Sequence[str] | None = None,
        keep: Sequence[str] = (),
        *,
        skip_others: bool = False,
    ) -> Table:
        """Choose the columns of a model: by name where both have names, else by position.

        Parameters
        ----------
        known
            The columns of the model's training data.
        columns
            Columns to read instead, in the model's order.
        keep
            Columns to pass through.
        skip_others
            Whether to skip columns that the model does not know, as the training did.

        Raises
        ------
        DataError
            If columns are missing, or the model does not know them.
        """
        names, wanted = self.names, known.names
        if names is None or wanted is None:
            return self.select(columns, keep)
        if columns is not None:
            # The same columns in another order are put right; others stand for the model's.
            return self.select(wanted if set(columns) == set(wanted) else columns, keep)
        rest = [name for name in names if name not in keep and name not in self.index]
        if self._are_lists(rest) != known.lists and len(rest) in (1, known.width):
            return self.select(None, keep)  # one column of lists for columns, or the reverse
        match_names(wanted, names, names if skip_others else {*keep, *self.index}, self.name)
        return self.select(wanted, keep)

    def _are_lists(self, names: Sequence[str]) -> bool:
        from sdlgm.data.arrow_columns import is_list

        return any(is_list(self._arrow.schema.field(name).type) for name in names)

    def rows(self) -> Rows:
        """Return the columns to read as checked rows.

        They are in single precision if that changes no value, else in double precision.

        Raises
        ------
        DataError
            If a column holds no numbers, or a value is missing, infinite or too large.
        """
        if isinstance(self.data, np.ndarray):
            values, columns = _array_numbers(self.data, self.name), None
        else:
            values, columns = self._numbers()
        return Rows(
            torch.from_numpy(np.require(values, requirements=["C", "W"])),
            name=self.name,
            columns=columns,
            first_row=self.first_row,
        )

    def _numbers(self) -> tuple[NDArray[Any], tuple[str, ...]]:
        from sdlgm.data import arrow_columns as arrow

        inputs = self._inputs
        parts = [self._arrow.column(name) for name in inputs]
        arrow.check_numeric(inputs, [part.type for part in parts], self.name)
        if len(parts) == 1 and arrow.is_list(parts[0].type):
            values = _list_numbers(parts[0], inputs[0], self.name, self.first_row)
            labels = tuple(f"{inputs[0]}[{place}]" for place in range(values.shape[1]))
            return as_numbers(values), labels
        found = [arrow.to_numbers(p, n, self.name) for n, p in zip(inputs, parts, strict=True)]
        single = all(np.can_cast(part.dtype, np.float32) for part in found)
        values = np.empty((len(self.data), len(found)), np.float32 if single else np.float64)
        for place, part in enumerate(found):
            values[:, place] = part
        return as_numbers(values), inputs

    def columns(self) -> Columns:
        """Describe the columns and their layout, without ranges."""
        if isinstance(self.data, np.ndarray):
            return Columns(types=self.types, header=self.header, image_shape=self.image_shape)
        from sdlgm.data.arrow_columns import is_list, leaf_type

        inputs = self._inputs
        kinds = [self.data.schema.field(name).type for name in inputs]
        types = tuple(str(leaf_type(kind)) for kind in kinds)
        lists = len(kinds) == 1 and is_list(kinds[0])
        if lists and len(self.data):
            first = self.data.column(inputs[0])[0].as_py()
            types *= len(first) if first else 1
        order = tuple(n for n in self.data.column_names if n in inputs or n in self.keep)
        return Columns(inputs, types, lists=lists, order=order)

    def kept(self) -> pa.Table | None:
        """Return the columns that are passed through, or ``None`` if there are none."""
        if isinstance(self.data, np.ndarray) or not self.keep:
            return None
        return self.data.select(list(self.keep))

    def take(self, index: Tensor) -> Table:
        """Return the rows at ``index``."""
        if isinstance(self.data, np.ndarray):
            return replace(self, data=self.data[index.numpy()])
        return replace(self, data=self.data.take(index.numpy()))


def read_table(path: Path | str, header: bool | None = None) -> Table:
    """Read a file as a table, without a choice of its columns.

    Parameters
    ----------
    path
        A ``.csv``, ``.parquet`` or ``.npy`` file.
    header
        Whether the first line of a CSV file holds names. Default: it must; a first line of numbers
        alone is an error, so that no row is lost.

    Raises
    ------
    DataError
        If the file is missing or unreadable, two columns have one name, or the names are numbers.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} must end in {', '.join(SUFFIXES)}.")
    check_table_file(path)
    try:
        if path.suffix == ".npy":
            return _array_table(np.load(path, allow_pickle=False), str(path))
        if path.suffix == ".csv":
            return _read_csv(path, header)
        import pyarrow.parquet as pq

        from sdlgm.data.arrow_columns import index_columns

        with pq.ParquetFile(path) as file:
            _check_names(file.schema_arrow.names, str(path))
            table = file.read()
        return Table(table, str(path), index=index_columns(table.schema))
    except DataError:
        raise
    except Exception as error:  # readers raise many types of error on damaged files
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from None


def _read_csv(path: Path, header: bool | None) -> Table:
    import pyarrow as pa
    import pyarrow.csv

    from sdlgm.data.arrow_columns import check_numeric, index_columns, listed, to_numbers

    options = pa.csv.ReadOptions(autogenerate_column_names=header is False)
    try:
        table = pa.csv.read_csv(path, read_options=options)
    except pa.ArrowInvalid:
        refuse_other_separator(path)
        raise
    names, kinds = table.column_names, table.schema.types
    texts = any(str(kind) in ("string", "null") for kind in kinds)
    if texts and (header is False or len(names) == 1):
        refuse_other_separator(path)
    if header is False:
        where, places = str(path), [str(place) for place in range(len(names))]
        check_numeric(places, kinds, where)
        parts = [to_numbers(c, n, where) for n, c in zip(places, table.columns, strict=True)]
        types = tuple(map(str, kinds))
        return Table(np.stack(parts, 1), where, types=types, header=False)
    if header is None and names and all(map(_is_number, names)):
        raise DataError(
            f"The first line of {path} holds numbers ({listed(names)}), not names of columns. If "
            "it is a row of data, say so with --no-header (in Python: header=False); if these are "
            "the names, with --header."
        )
    _check_names(names, str(path))
    return Table(table, str(path), index=index_columns(table.schema, csv=True), csv=path)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_names(names: Sequence[str], where: str) -> None:
    from sdlgm.data.arrow_columns import listed

    seen: set[str] = set()
    twice = list(dict.fromkeys(n for n in names if n in seen or seen.add(n)))  # type: ignore[func-returns-value]
    if twice:
        raise DataError(f"{where} has several columns named {listed(twice)}. Rename them first.")


def _array_table(values: NDArray[Any], where: str) -> Table:
    """Return an array ``(n, D)`` or ``(n, height, width)`` of numbers as a table."""
    if values.dtype.kind in "Mm":
        raise DataError(
            f"{where} holds times ({values.dtype}). Convert them to numbers first, for example to "
            "seconds: (x - x.min()) / np.timedelta64(1, 's')."
        )
    if values.dtype.kind not in "buif":
        raise DataError(f"{where} holds {values.dtype}, not numbers.")
    shape = (values.shape[1], values.shape[2]) if values.ndim == 3 else None
    if shape:
        values = values.reshape(len(values), shape[0] * shape[1])
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(
            f"{where} must have rows and columns, got an array of shape {tuple(values.shape)}."
        )
    kind = {"bool": "bool", "float16": "halffloat", "float32": "float"}.get(values.dtype.name)
    if kind is None:
        kind = "double" if values.dtype.kind == "f" else values.dtype.name
    return Table(values, where, types=(kind,) * values.shape[1], image_shape=shape)


def _array_numbers(values: NDArray[Any], where: str) -> NDArray[Any]:
    """Return an array as bytes, or as floats that equal its values."""
    from sdlgm.data.arrow_columns import EXACT, too_large

    if values.dtype == np.uint8:
        return values
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and values.size:
        beyond = (values > EXACT) | (values < -EXACT if values.dtype.kind == "i" else False)
        if beyond.any():
            raise too_large(str(int(np.argwhere(beyond)[0, 1])), where)
    return as_numbers(values)


def _list_numbers(column: pa.ChunkedArray, name: str, where: str, first_row: int) -> NDArray[Any]:
    """Return a column of lists of equal length as an array ``(n, D)``."""
    import pyarrow.compute as pc

    from sdlgm.data.arrow_columns import listed, to_numbers

    array = column.combine_chunks()
    lengths = pc.list_value_length(array).fill_null(-1).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero((lengths != lengths[:1]) | (lengths < 1))
    if len(wrong):
        row = int(wrong[0])
        what = "is missing" if lengths[row] < 0 else f"has {lengths[row]} values"
        raise DataError(
            f"{where}: the list in row {first_row + row} (counted from 0), column "
            f"{listed([name])} {what}, but the first has {max(lengths[0], 0)}. All lists "
            "must have one length."
        )
    flat = to_numbers(pc.list_flatten(array), name, where)
    return flat.reshape(len(array), -1) if len(array) else np.empty((0, 1))


def read_rows(path: Path | str) -> tuple[Rows, tuple[int, int] | None]:
    """Read a file of numbers, with the height and width if it is an array of images.

    Raises
    ------
    DataError
        If the file is missing, unreadable or empty, or holds anything but finite numbers.
    """
    table = read_table(path).select()
    return table.rows(), table.image_shape


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_rows(
    path: Path | str,
    values: Tensor,
    columns: Columns | None = None,
    kept: pa.Table | None = None,
    *,
    whole: bool = False,
) -> None:
    """Write a table ``(n, D)`` of numbers atomically, in the format given by the suffix.

    Parameters
    ----------
    path
        A file that ends in ``.csv``, ``.parquet`` or ``.npy``.
    values
        The numbers.
    columns
        Names, types and order of the columns to give back. Default: ``x0``, ``x1``, ...
    kept
        Columns that were passed through; a ``.npy`` file cannot hold them.
    whole
        Whether to round values of columns that were integers or bools to such.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} must end in {', '.join(SUFFIXES)}.")
    columns = columns or Columns()
    if columns.width not in (None, values.shape[1]):
        raise DataError(
            f"{path}: {values.shape[1]} columns were decoded, but {columns.width} are described."
        )
    array = values.numpy()
    with atomic_path(path) as temporary:
        if path.suffix == ".npy":
            _write_array(temporary, array, columns, whole)
            if kept is not None:
                from sdlgm.data.arrow_columns import listed

                warn(
                    f"{path} cannot hold the kept columns {listed(kept.column_names)}: write .csv "
                    "or .parquet for them."
                )
            return
        table = _restored(array, columns, kept, whole)
        _write_table(temporary, table, columns.header, str(path))


def _write_table(temporary: Path, table: pa.Table, header: bool, where: str) -> None:
    """Write a table; a value or type that the format cannot hold is a :class:`DataError`."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    try:
        if temporary.suffix == ".csv":
            options = pa.csv.WriteOptions(include_header=header)
            pa.csv.write_csv(_for_csv(table), temporary, options)
        else:
            pa.parquet.write_table(table, temporary)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise DataError(
            f"{where} cannot hold this table: {error}. Write another format, or keep other columns."
        ) from None


def _write_array(path: Path, array: NDArray[Any], columns: Columns, whole: bool) -> None:
    from sdlgm.data.arrow_columns import from_numbers

    if columns.types and len(set(columns.types)) == 1:
        flat = from_numbers(array.reshape(-1), columns.types[0], whole)
        array = flat.to_numpy(zero_copy_only=False).reshape(array.shape)
    if columns.image_shape:
        array = array.reshape(len(array), *columns.image_shape)
    with path.open("wb") as file:
        # Without the file's descriptor, past which numpy would lose errors of the disk.
        np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)


def _restored(
    array: NDArray[Any], columns: Columns, kept: pa.Table | None, whole: bool
) -> pa.Table:
    """Return the table with its columns in their order."""
    import pyarrow as pa

    from sdlgm.data.arrow_columns import from_numbers

    width = array.shape[1]
    types = columns.types or (None,) * width
    if columns.lists and columns.names:
        flat = from_numbers(np.ascontiguousarray(array).reshape(-1), types[0], whole)
        offsets = np.arange(len(array) + 1, dtype=np.int64) * width
        parts = {columns.names[0]: pa.LargeListArray.from_arrays(offsets, flat)}
        if len(flat) < 2**31:
            name, lists = parts.popitem()
            parts = {name: lists.cast(pa.list_(flat.type))}
    else:
        names = columns.names or [f"x{place}" for place in range(width)]
        parts = {
            name: from_numbers(array[:, place], types[place], whole)
            for place, name in enumerate(names)
        }
    passed = {} if kept is None else dict(zip(kept.column_names, kept.columns, strict=True))
    found = {**parts, **passed}
    order = [name for name in columns.order or () if name in found]
    return pa.table({name: found[name] for name in (*order, *(n for n in found if n not in order))})


def _for_csv(table: pa.Table) -> pa.Table:
    """Return a table with columns of types that CSV cannot write as those of like types."""
    import pyarrow as pa

    written = {pa.float16(): pa.float32(), pa.string_view(): pa.string()}
    for place, field in enumerate(table.schema):
        if field.type in written:
            column = table.column(place).cast(written[field.type])
            table = table.set_column(place, field.name, column)
    return table
