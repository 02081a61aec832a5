"""Byte layout of a compact container (``.sdz``), versions 1 to 3.

::

    magic 8 | version 4 | K 4 | L0 4 | groups 4 | rows of a block 4 | codes 8
      | SHA-256 of the model 32 | SHA-256 of the codes 32 | bytes of the table 4
      | from version 2: bytes passed through 8 | their digest 16
      | table | digest 16
    from version 2: layout and kept columns of the table of data, see :mod:`sdlgm.codec.passed`
    for each block:  mark 4 | number 4 | words of payload 4 | payload | digest 8
    mark 4 | blocks 4 | place of each block, 8 bytes | digest 8
    place of the index 8 | end mark 8

Numbers are little-endian. The table holds the frequency of each outcome of each group in the whole
file, rounded to five leading bits; the blocks are encoded with it. Digests are BLAKE2b. The digest
of the header is the key of the others, and the digest of a block covers its number. A block that
was moved, or taken from another file, therefore counts as damaged.

Version 3 has no table: the blocks are encoded under the structured prior of the model, part by
part. A payload then begins with the digest of its codes, 8 bytes, which tells whether the model's
outputs were the same.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sdlgm.codec.description import CodeFile
from sdlgm.errors import CodeFileError
from sdlgm.limits import MAX_BUDGET, check, check_cells, limit

__all__ = [
    "MAGIC",
    "Bytes",
    "Header",
    "pack_block",
    "pack_index",
    "read_index",
    "read_payload",
    "rounded",
    "rows_of_block",
    "scan_blocks",
]

MAGIC = b"\x93sdz\r\n\x1a\n"
FORMAT_VERSION = 3
"""Newest version. A container is written in the oldest version that can hold it: 1 without a table
of data, 2 with one, 3 under the prior of the model."""
_BLOCK, _INDEX, _END = b"\x93blk", b"\x93idx", b"\x93sdzend\n"
_LEADING, _LARGEST = 5, 48
_HEADER = struct.Struct("<8s5IQ32s32sI")
_PASSED = struct.Struct("<Q16s")


class Bytes(Protocol):
    """A source to read from: bytes, or a file mapped into memory."""

    def __getitem__(self, place: slice, /) -> bytes: ...
    def __len__(self) -> int: ...
    def find(self, what: bytes, start: int, /) -> int:
        """Return the place of the next occurrence, or -1."""


class Header(NamedTuple):
    """The part of a file before the blocks."""

    about: CodeFile
    """Description of the file."""
    block_rows: int
    """Rows of each block except the last."""
    codes_sha256: str
    """SHA-256 of all codes, the same as in a Parquet file of the same codes."""
    weights: NDArray[np.int64]
    """Rounded frequencies of the outcomes, "closed" last: ``(G, K/G + 1)``."""
    passed: bytes | None = b""
    """What is said of the table of data; ``None`` if it is damaged."""
    by_prior: bool = False
    """Whether the blocks are encoded under the model's prior, instead of the frequencies."""

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.about.n_codes // self.block_rows)

    def pack(self) -> tuple[bytes, bytes]:
        """Return the bytes and their digest, which is the key of the file."""
        rows, features, budget, groups, model = self.about
        table = b"" if self.by_prior else _pack_table(self.weights)
        passed = self.passed or b""
        version = 3 if self.by_prior else 2 if passed else 1
        numbers = (version, features, budget, groups, self.block_rows, rows)
        hashes = (bytes.fromhex(model), bytes.fromhex(self.codes_sha256))
        content = _HEADER.pack(MAGIC, *numbers, *hashes, len(table))
        content += _PASSED.pack(len(passed), _digest16(passed)) if version > 1 else b""
        content += table
        key = _digest16(content)
        return content + key + passed, key

    @classmethod
    def read(
        cls, file: Bytes, name: str, accept: Callable[[CodeFile], None] = lambda about: None
    ) -> tuple[Header, bytes, int]:
        """Return the header of a file, its key, and the place where the blocks begin.

        ``accept`` raises an error for a description that is not the wanted one, before the table
        is allocated, whose size the description determines.

        Raises
        ------
        CodeFileError
            If the header is damaged, invalid, of a newer format, or exceeds a limit of
            :mod:`sdlgm.limits`; the message has the name.
        """
        start = file[: _HEADER.size].ljust(_HEADER.size, b"\0")
        magic, version, features, budget, groups, block_rows, rows, *rest = _HEADER.unpack(start)
        if magic != MAGIC:
            raise CodeFileError(
                f"{name} is not a container of codes, or its first bytes are damaged."
            )
        model, codes, length = rest
        first = _HEADER.size + (_PASSED.size if version > 1 else 0)
        end = first + length
        content, key = file[:end], file[end : end + 16]
        if len(content) < end or _digest16(content) != key:
            raise CodeFileError(
                f"The header of {name} is damaged, so no block can be read. Encode the data again."
            )
        if version > FORMAT_VERSION:
            raise CodeFileError(f"{name} is of a newer format than this sdlgm reads. Update sdlgm.")
        if not (groups and block_rows and features % groups == 0 and budget % groups == 0 < budget):
            raise CodeFileError(f"The header of {name} is invalid.")
        about = CodeFile(rows, features, budget, groups, model.hex())
        accept(about)
        _check_size(about, block_rows, len(file), name)
        shape = (groups, features // groups + 1)
        by_prior = version > 2
        try:
            weights = np.ones(shape, np.int64) if by_prior else _read_table(content[first:], shape)
        except (ValueError, zlib.error) as error:
            raise CodeFileError(f"The table of {name} is invalid ({error}).") from None
        passed: bytes | None = b""
        blocks = end + 16
        if version > 1:
            passed, blocks = _read_passed(file, content, blocks)
        return cls(about, block_rows, codes.hex(), weights, passed, by_prior), key, blocks


def _read_passed(file: Bytes, header: bytes, start: int) -> tuple[bytes | None, int]:
    """Return what is passed through, ``None`` if it is damaged, and where the blocks begin."""
    size, digest = _PASSED.unpack_from(header, _HEADER.size)
    if size > len(file) - start:
        return None, start  # cut short; blocks are looked for
    passed = file[start : start + size]
    return (passed if _digest16(passed) == digest else None), start + size


def _check_size(about: CodeFile, block_rows: int, size: int, name: str) -> None:
    """Compare what a header claims with the limits and with the size of the file."""
    check("features", about.features, f"K of {name}", CodeFileError)
    if about.budget > MAX_BUDGET:
        raise CodeFileError(f"L0 of {name} may be up to {MAX_BUDGET:,}, got {about.budget:,}.")
    width = max(about.features, about.budget)
    check_cells(about.n_codes * width, size, name, CodeFileError, coded=True)
    block = min(block_rows, about.n_codes) * width
    check("block_cells", block, f"The size of a block of {name}", CodeFileError)


def rows_of_block(wanted: int, features: int, budget: int) -> int:
    """Return the rows of a block, ``wanted`` or fewer, that readers take within their limits."""
    return max(1, min(wanted, limit("block_cells") // max(1, features, budget)))


def rounded(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Round counts to five leading bits, never to 0.

    The relative error is at most 1/32 and its mean square 1/6,000, which costs 1/12,000 nat per
    slot. Storing all bits would cost more: a fifth of a bit per code for 240 counts and 10,000
    codes.
    """
    shift = np.maximum(np.frexp(counts.astype(np.float64))[1] - _LEADING, 0).astype(np.int64)
    return ((counts + (1 << shift >> 1)) >> shift) << shift


def _pack_table(weights: NDArray[np.int64]) -> bytes:
    """Pack rounded counts as exponents (zlib) and four more bits each."""
    shift = np.maximum(np.frexp(weights.astype(np.float64))[1] - _LEADING, 0)
    lead = (weights >> shift).ravel()
    exponent = np.where(lead >= 16, shift.ravel() + 1, 0).astype(np.uint8)
    nibbles = np.append(lead & 15, 0)[: -(-lead.size // 2) * 2].astype(np.uint8)
    return zlib.compress(exponent.tobytes() + (nibbles[::2] << 4 | nibbles[1::2]).tobytes(), 9)


def _read_table(packed: bytes, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Undo :func:`_pack_table`."""
    size = shape[0] * shape[1]
    wanted = size + -(-size // 2)
    unpacked = np.frombuffer(zlib.decompressobj().decompress(packed, wanted + 1), np.uint8)
    if len(unpacked) != wanted or unpacked[:size].max() > _LARGEST:
        raise ValueError(f"{len(unpacked)} bytes for {size} outcomes")
    exponent, pairs = unpacked[:size].astype(np.int64), unpacked[size:]
    lead = np.stack([pairs >> 4, pairs & 15], 1).ravel()[:size].astype(np.int64)
    return np.where(exponent, (lead + 16) << np.maximum(exponent - 1, 0), lead).reshape(shape)


def pack_block(key: bytes, number: int, payload: bytes) -> bytes:
    """Return the bytes of a block."""
    content = _BLOCK + struct.pack("<II", number, len(payload) // 4) + payload
    return content + _digest(key, content)


def read_payload(file: Bytes, key: bytes, number: int, place: int) -> bytes | None:
    """Return the payload of the block at this place, or None if there is no intact block."""
    head = file[place : place + 12]
    if len(head) < 12:
        return None
    end = place + 12 + 4 * int.from_bytes(head[8:], "little")
    payload = file[place + 12 : end]
    intact = file[place : end + 8] == pack_block(key, number, payload)
    return payload if intact else None


def pack_index(key: bytes, places: list[int], place: int) -> bytes:
    """Return the bytes after the blocks; ``place`` is where they will start."""
    content = _INDEX + struct.pack(f"<I{len(places)}Q", len(places), *places)
    return content + _digest(key, content) + struct.pack("<Q", place) + _END


def read_index(file: Bytes, key: bytes, start: int, n_blocks: int) -> dict[int, int] | None:
    """Return the places of all blocks by number, or None if the index is damaged.

    The index is intact if :func:`pack_index` would make the same bytes of its places.
    """
    place = len(file) - (4 + 4 + 8 * n_blocks + 8) - 16
    if place < start:
        return None
    listed = file[place + 8 : place + 8 + 8 * n_blocks]
    places = list(struct.unpack(f"<{n_blocks}Q", listed))
    intact = file[place : len(file)] == pack_index(key, places, place)
    return dict(enumerate(places)) if intact else None


def scan_blocks(file: Bytes, key: bytes, start: int, n_blocks: int) -> dict[int, int]:
    """Return the places of all intact blocks by number, wherever they are."""
    found: dict[int, int] = {}
    # A file full of marks in front of long payloads would be read once for each of them.
    left = 64 * len(file) + 2**20
    place = file.find(_BLOCK, start)
    while place >= 0:
        number = int.from_bytes(file[place + 4 : place + 8], "little")
        payload = None
        if number < n_blocks:
            payload = read_payload(file, key, number, place)
            left -= min(
                len(file) - place, 4 * int.from_bytes(file[place + 8 : place + 12], "little")
            )
            if left < 0:
                raise CodeFileError(
                    "Too many places look like blocks; the file cannot be salvaged."
                )
        if payload is not None:
            found[number] = place
        place = file.find(_BLOCK, place + (1 if payload is None else 20 + len(payload)))
    return found


def _digest16(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8, key=key).digest()
