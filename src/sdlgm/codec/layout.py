"""Bytes of a compact container (``.sdz``), version 1.

::

    magic 8 | bytes of description 4 | bytes of table 4 | description | table | digest 16
    for each block:  mark 4 | number 4 | words of payload 4 | payload | digest 8
    mark 4 | blocks 4 | place of each block, 8 bytes | digest 8
    place of the index 8 | end mark 8

Numbers are little-endian. The description is JSON; the table (zlib) says how often each outcome of
each group occurs in the whole file, and is what the blocks are coded with. Digests are BLAKE2b. The
header's is the key of the others, and a block's covers its number: a block out of place, or of
another file, is a damaged one.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sdlgm.codec.about import CodeFile
from sdlgm.errors import CodeFileError

__all__ = ["MAGIC", "Bytes", "Header", "find_blocks", "pack_block", "pack_index", "read_payload"]

MAGIC = b"\x93sdz\r\n\x1a\n"
FORMAT_VERSION = 1
_BLOCK, _INDEX, _END = b"\x93blk", b"\x93idx", b"\x93sdzend\n"
_LAW = "gated multinomial, slot counts of this file"
_FIELDS = {"K": "features", "L0": "budget", "groups": "groups", "n_codes": "n_codes"}


class Bytes(Protocol):
    """What is read from: bytes, or a file that is mapped into memory."""

    def __getitem__(self, place: slice, /) -> bytes: ...
    def __len__(self) -> int: ...
    def find(self, what: bytes, start: int, /) -> int:
        """Place of the next occurrence, or -1."""


class Header(NamedTuple):
    """What stands before the blocks."""

    about: CodeFile
    """What the file says of itself."""
    block_rows: int
    """Rows of each block but the last."""
    codes_sha256: str
    """SHA-256 of all codes, the same as in a Parquet file of the same codes."""
    table: NDArray[np.int64]
    """How often each outcome occurs, "closed" last: ``(G, K/G + 1)``."""

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.about.n_codes // self.block_rows)

    def pack(self) -> tuple[bytes, bytes]:
        """Return the bytes, and their digest, which is the file's key."""
        keys = {
            "format_version": FORMAT_VERSION,
            **{name: getattr(self.about, field) for name, field in _FIELDS.items()},
            "model_sha256": self.about.model_sha256,
            "block_rows": self.block_rows,
            "law": _LAW,
            "codes_sha256": self.codes_sha256,
        }
        described = json.dumps(keys).encode()
        packed = zlib.compress(self.table.astype("<i8").tobytes(), 9)
        content = struct.pack("<8sII", MAGIC, len(described), len(packed)) + described + packed
        key = hashlib.blake2b(content, digest_size=16).digest()
        return content + key, key

    @classmethod
    def read(cls, file: Bytes, name: str) -> tuple[Header, bytes, int]:
        """Return the header of a file, its key, and the place where the blocks begin.

        Raises
        ------
        CodeFileError
            If it is damaged, of a newer format, or no header; the message begins with ``name``.
        """
        magic, described, packed = struct.unpack("<8sII", file[:16].ljust(16, b"\0"))
        if magic != MAGIC:
            raise CodeFileError(f"{name} is no container of codes, or its first bytes are damaged.")
        end = 16 + described + packed
        content, key = file[:end], file[end : end + 16]
        if hashlib.blake2b(content, digest_size=16).digest() != key:
            raise CodeFileError(
                f"{name} is damaged in its header, without which no block can be read. Encode the "
                "data again."
            )
        keys = _read_keys(content[16 : 16 + described], name)
        try:
            about = CodeFile(
                **{field: int(keys[key]) for key, field in _FIELDS.items()},
                model_sha256=str(keys["model_sha256"]),
            )
            table = _read_table(content[16 + described :], about)
            header = cls(about, max(1, int(keys["block_rows"])), str(keys["codes_sha256"]), table)
        except (ValueError, KeyError, TypeError, ArithmeticError, zlib.error) as error:
            raise CodeFileError(f"{name} has a header that makes no sense ({error}).") from None
        return header, key, end + 16


def _read_keys(described: bytes, name: str) -> dict[str, Any]:
    """Read a description of a format and a law that we know."""
    try:
        keys: dict[str, Any] = json.loads(described)
        version, law = int(keys["format_version"]), keys["law"]
    except (ValueError, KeyError, TypeError) as error:
        raise CodeFileError(f"{name} has a header that makes no sense ({error}).") from None
    if version > FORMAT_VERSION:
        raise CodeFileError(f"{name} is of a newer format than this sdlgm reads. Update sdlgm.")
    if law != _LAW:
        raise CodeFileError(f"{name} is coded by a law that this sdlgm does not know: {law!r}.")
    return keys


def _read_table(packed: bytes, about: CodeFile) -> NDArray[np.int64]:
    """Unpack a table and check that it fits the description."""
    shape = (about.groups, about.features // about.groups + 1)
    unpacked = zlib.decompressobj().decompress(packed, 8 * shape[0] * shape[1] + 1)
    table = np.frombuffer(unpacked, "<i8").astype(np.int64).reshape(shape)
    slots = about.budget // about.groups
    if slots < 1 or (table < 0).any() or (table.sum(-1) != about.n_codes * slots).any():
        raise ValueError("its table does not add up")
    return table


def pack_block(key: bytes, number: int, payload: bytes) -> bytes:
    """Return the bytes of a block."""
    content = _BLOCK + struct.pack("<II", number, len(payload) // 4) + payload
    return content + _digest(key, content)


def read_payload(file: Bytes, key: bytes, number: int, place: int) -> bytes | None:
    """Return the payload of a block, or None unless it lies at this place, sound."""
    head = file[place : place + 12]
    if len(head) < 12:
        return None
    end = place + 12 + 4 * int.from_bytes(head[8:], "little")
    payload = file[place + 12 : end]
    sound = file[place : end + 8] == pack_block(key, number, payload)
    return payload if sound else None


def pack_index(key: bytes, places: list[int], place: int) -> bytes:
    """Return all that stands behind the blocks; ``place`` is where this will be."""
    content = _INDEX + struct.pack(f"<I{len(places)}Q", len(places), *places)
    return content + _digest(key, content) + struct.pack("<Q", place) + _END


def find_blocks(file: Bytes, key: bytes, start: int, n_blocks: int) -> dict[int, int]:
    """Return the places of blocks by number: those in the index, or else all that are sound.

    An index is what :func:`pack_index` would make of its own places, and of no others.
    """
    place = len(file) - (4 + 4 + 8 * n_blocks + 8) - 16
    if place >= start:
        listed = file[place + 8 : place + 8 + 8 * n_blocks]
        places = list(struct.unpack(f"<{n_blocks}Q", listed))
        if file[place : len(file)] == pack_index(key, places, place):
            return dict(enumerate(places))
    found: dict[int, int] = {}
    place = file.find(_BLOCK, start)
    while place >= 0:
        number = int.from_bytes(file[place + 4 : place + 8], "little")
        payload = read_payload(file, key, number, place) if number < n_blocks else None
        if payload is not None:
            found[number] = place
        place = file.find(_BLOCK, place + (1 if payload is None else 20 + len(payload)))
    return found


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8, key=key).digest()
