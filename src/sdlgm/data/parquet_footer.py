"""Sizes of the columns of a Parquet file, read from its footer without pyarrow.

pyarrow ends the process if it is asked for the columns of some damaged footers (a C++ exception
that its Python layer does not expect). This reader knows just enough of Thrift's compact protocol
(https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from sdlgm.errors import DataError, SDLGMError
from sdlgm.limits import open_regular

__all__ = ["Chunk", "column_chunks"]

SMALL = 2**18
"""Footers up to this size are always read."""
_STRING, _LIST, _SET, _MAP, _STRUCT = 8, 9, 10, 11, 12
_DEPTH = 16


class Chunk(NamedTuple):
    """What a footer says about one column of one row group."""

    column: str
    """First part of the column's path."""
    values: int
    """Number of values; those of a list count each."""
    size: int
    """Bytes of all pages before compression."""


def column_chunks(path: Path | str, error: type[SDLGMError] = DataError) -> list[Chunk]:
    """Return the size of each column of each row group.

    A large footer is read only if it is large for its file, as that takes time.

    Raises
    ------
    SDLGMError
        ``error``, if the footer is damaged.
    """
    with open_regular(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - 8))
        end = file.read(8)
        length = int.from_bytes(end[:4], "little")
        if end[4:] != b"PAR1" or length > size - 8:
            raise error(f"{path} is damaged, or is not a Parquet file.")
        if length > SMALL and length < size // 16:
            return []
        file.seek(size - 8 - length)
        footer = file.read(length)
    try:
        groups = _Reader(footer).struct(0).get(4, [])
        columns = [column[3] for group in groups for column in group[1]]
        return [Chunk(c[3][0].decode("utf-8", "replace"), c[5], c[6]) for c in columns]
    except (IndexError, KeyError, TypeError, AttributeError, ValueError) as problem:
        raise error(f"{path} is damaged: its footer cannot be read ({problem!r}).") from None


class _Reader:
    """Decodes structs to dictionaries from field numbers to values."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _DEPTH:
            raise ValueError("too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._integer()
        if kind in (7, _STRING):
            return self._take(8 if kind == 7 else self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._varint()
            if depth > _DEPTH or size > len(self.data):
                raise ValueError("too large")
            return [self._value(head & 15, depth + 1) for _ in range(size)]
        if kind == _MAP:
            size = self._varint()
            kinds = self._byte() if size else 0
            for _ in range(size):
                self._value(kinds >> 4, depth + 1)
                self._value(kinds & 15, depth + 1)
            return None
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise ValueError(f"type {kind}")

    def _byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def _take(self, size: int) -> bytes:
        self.place += size
        if self.place > len(self.data):
            raise ValueError("it ends early")
        return self.data[self.place - size : self.place]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 70:
                raise ValueError("too long a number")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
