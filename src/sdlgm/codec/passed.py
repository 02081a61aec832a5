"""What a file of codes or data says of its table: the layout, and columns that are passed through.

::

    bytes 8 | layout in JSON | bytes 8 | kept columns, an Arrow stream compressed by zlib

The stream is read without copies, so that it takes no more memory than its bytes; a stream that is
compressed inside, or has types whose values share memory, is refused.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from sdlgm.data import Columns
from sdlgm.errors import CodeFileError
from sdlgm.limits import check, check_cells, limit, parse_json, reading

__all__ = ["Passed", "pack_passed", "storable", "unpack_passed"]

_LENGTH = struct.Struct("<Q")
_HEADER_FIELD, _DATA_FIELD, _COMPRESSION_FIELD = 2, 1, 3
_DICTIONARY_BATCH = "dictionary"
_TYPE = b"sdlgm.type"
"""Metadata key of a stored column of :data:`_STORED_AS`: its type in the table."""
_STORED_AS = {
    "null": pa.bool_(),
    "string_view": pa.string(),
    "binary_view": pa.binary(),
    "extension<arrow.uuid>": pa.binary(16),
}
"""Types whose values take no bytes or can share them, and the types as which they are stored."""


class Passed(NamedTuple):
    """The layout of a table and its kept columns."""

    columns: Columns | None = None
    """Names, types and layout of the table, if they are known."""
    kept: pa.Table | None = None
    """The columns that are passed through."""
    source: Any = None
    """What the file was made from, if it says so."""


def pack_passed(
    columns: Columns | None,
    kept: pa.Table | None,
    rows: int,
    source: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the bytes of the layout and the kept columns; none if there are neither.

    ``source`` says what the file was made from. It is written with the layout.

    Raises
    ------
    CodeFileError
        If the kept columns have another number of rows, or a type that would not be read.
    """
    if columns is None and kept is None:
        return b""
    layout = b""
    if columns is not None:
        about = columns.layout().to_dict() | ({"source": dict(source)} if source else {})
        layout = json.dumps(about).encode()
    stream = pa.BufferOutputStream()
    if kept is not None:
        kept = storable(kept, rows)
        with pa.ipc.new_stream(stream, kept.schema) as writer:
            writer.write_table(kept.unify_dictionaries())
    content = stream.getvalue().to_pybytes()
    parts = (layout, zlib.compress(content) if content else b"")
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def storable(kept: pa.Table, rows: int) -> pa.Table:
    """Return kept columns as they are stored, or raise :class:`CodeFileError` if they cannot be."""
    if len(kept) != rows:
        raise CodeFileError(f"{len(kept)} rows of columns to keep for {rows} rows of data.")
    kept = _stored(kept)
    for field in kept.schema:
        _check_type(field.type, f"The kept column {field.name!r}")
    return kept


def unpack_passed(content: bytes, where: str, rows: int, width: int) -> tuple[Passed, int]:
    """Undo :func:`pack_passed` at the start of ``content``; return also the number of its bytes.

    Raises
    ------
    CodeFileError
        If it is damaged, does not fit ``rows`` and ``width``, or exceeds a limit of
        :mod:`sdlgm.limits`.
    """
    with reading(f"The table of {where}", CodeFileError):
        parts, end = [], 0
        for _ in range(2):
            (length,) = _LENGTH.unpack_from(content, end)
            start = end + _LENGTH.size
            end = start + length
            if end > len(content):
                raise CodeFileError(f"{where} is damaged: its table ends early.")
            parts.append(content[start:end])
        layout, packed = parts
        columns = kept = source = None
        if layout:
            check("json_bytes", len(layout), f"The layout in {where}", CodeFileError)
            about = parse_json(layout, where, CodeFileError)
            columns, source = Columns.from_dict(about, where), about.get("source")
        if packed:
            kept = _read_kept(_inflated(packed, where), where, rows)
        if columns is not None and columns.width not in (None, width):
            raise CodeFileError(
                f"{where} describes {columns.width} columns, but its codes or data are of {width}."
            )
        return Passed(columns, kept, source), end


def _inflated(packed: bytes, where: str) -> bytes:
    most = max(limit("inflated_bytes"), limit("cells_per_byte") * len(packed))
    inflater = zlib.decompressobj()
    content = inflater.decompress(packed, most)
    if inflater.unconsumed_tail:
        check("inflated_bytes", most + 1, f"Bytes of the kept columns of {where}", CodeFileError)
    if not inflater.eof:
        raise CodeFileError(f"{where} is damaged: its kept columns end early, or are too large.")
    return content


def _read_kept(content: bytes, where: str, rows: int) -> pa.Table:
    buffer = pa.py_buffer(content)
    for message in pa.ipc.MessageReader.open_stream(buffer):
        if _is_compressed(message):
            raise CodeFileError(f"{where} is damaged: its kept columns are compressed twice.")
    with pa.ipc.open_stream(buffer) as stream:
        check("columns", len(stream.schema), f"The kept columns of {where}", CodeFileError)
        for field in stream.schema:
            _check_type(field.type, f"The kept column {field.name!r} of {where}")
        table = stream.read_all()
    table.validate(full=True)
    if len(table) != rows:
        raise CodeFileError(f"{where} has {len(table)} rows of kept columns for {rows} rows.")
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            _check_text(column, len(content), where)
    return _as_they_were(table)


def _stored(table: pa.Table) -> pa.Table:
    """Return a table whose columns of :data:`_STORED_AS` are of types that are stored."""
    for place, field in enumerate(table.schema):
        kind = _STORED_AS.get(str(field.type))
        if kind is not None:
            stored = pa.field(field.name, kind, metadata={_TYPE: str(field.type)})
            table = table.set_column(place, stored, table.column(place).cast(kind))
    return table


def _as_they_were(table: pa.Table) -> pa.Table:
    """Undo :func:`_stored`."""
    for place, field in enumerate(table.schema):
        name = (field.metadata or {}).get(_TYPE, b"").decode()
        if name in _STORED_AS and field.type == _STORED_AS[name]:
            kind = pa.uuid() if name.endswith("uuid>") else pa.type_for_alias(name)
            column = table.column(place)
            column = (
                pa.chunked_array([pa.nulls(len(column))]) if name == "null" else column.cast(kind)
            )
            table = table.set_column(place, pa.field(field.name, kind), column)
    return table


def _check_text(column: pa.ChunkedArray, size: int, where: str) -> None:
    """Raise an error if values of a dictionary would take too much space one by one."""
    if not pa.types.is_primitive(column.type.value_type):
        for chunk in column.chunks:
            lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
            check_cells((pc.sum(lengths).as_py() or 0) // 8, size, where, CodeFileError)


def _check_type(kind: pa.DataType, what: str, nested: bool = False) -> None:
    """Raise an error for types whose values can share memory, and so be more than their bytes."""
    types = pa.types
    if types.is_dictionary(kind) and not nested:
        _check_plain(kind.value_type, what)
    elif types.is_list(kind) or types.is_large_list(kind):
        _check_type(kind.value_type, what, nested=True)
    elif types.is_struct(kind) and kind.num_fields:
        for field in kind:
            _check_type(field.type, what, nested=True)
    else:
        _check_plain(kind, what)


def _check_plain(kind: pa.DataType, what: str) -> None:
    types = pa.types
    text = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    wide = types.is_fixed_size_binary(kind) and kind.byte_width > 0
    good = types.is_primitive(kind) or types.is_decimal(kind) or any(each(kind) for each in text)
    good = good or wide
    if not good:
        raise CodeFileError(f"{what} is of type {kind}, which cannot be kept. Convert it first.")


def _is_compressed(message: pa.Message) -> bool:
    """Whether the buffers of a message are compressed, by the flatbuffer that describes it."""
    if message.type not in ("record batch", _DICTIONARY_BATCH):
        return False
    data = message.metadata.to_pybytes()
    table = _table_of(data, _child(data, int.from_bytes(data[:4], "little"), _HEADER_FIELD))
    if message.type == _DICTIONARY_BATCH:
        table = _table_of(data, _child(data, table, _DATA_FIELD))
    return _child(data, table, _COMPRESSION_FIELD) is not None


def _child(data: bytes, table: int, field: int) -> int | None:
    """Return the place of a field of a flatbuffer's table, or ``None`` if it is not there."""
    (back,) = struct.unpack_from("<i", data, table)
    (size,) = struct.unpack_from("<H", data, table - back)
    place = 4 + 2 * field
    if place >= size:
        return None
    (offset,) = struct.unpack_from("<H", data, table - back + place)
    return table + offset if offset else None


def _table_of(data: bytes, place: int | None) -> int:
    if place is None:
        raise ValueError("a message without content")
    return int(place + struct.unpack_from("<I", data, place)[0])
