"""Lossless files of data (``.sdl``), about as large as the model's negative ELBO.

::

    magic 8 | version 4 | columns 4 | rows 8 | top count 4 | bytes a value 1
      | SHA-256 of the model 32 | bytes of the note 2 | number of checks 4
      | note | checks, 8 bytes each | table | bits | digest 16
    table (version 2): layout and kept columns, see :mod:`sdlgm.codec.passed`

The note says what the outputs of the networks, and so the bits, depend on: the version of torch,
the machine, the threads or the GPU, and the precision (float64). On another kind of device a file
is refused. What else differs mostly changes nothing; a check, a BLAKE2b digest of 1,600 rows of
data, reveals where it does.
"""

from __future__ import annotations

import hashlib
import platform
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sdlgm.codec.ans import Stack
from sdlgm.codec.bitsback import BATCH_ROWS, BitsBack, batch_sizes
from sdlgm.codec.passed import pack_passed, unpack_passed
from sdlgm.data import Columns, Rows
from sdlgm.environment import describe_device, device_of, neutral, placed
from sdlgm.errors import CodeFileError, ConfigError
from sdlgm.limits import check_cells, open_regular, reading
from sdlgm.models import SDLGM, model_sha256
from sdlgm.outputs import atomic_path
from sdlgm.random import generator

__all__ = [
    "Compressed",
    "Decompressed",
    "compress_file",
    "decompress_file",
    "decompress_table",
    "drawn_rows",
    "read_source",
]

FORMAT_VERSION = 2
"""Newest version. A file without a table is written in version 1."""
MAGIC = b"\x93sdl\r\n\x1a\n"
CHECK_ROWS = 16 * BATCH_ROWS
_HEADER = struct.Struct("<8sIIQIB32sHI")
_TOP = 255
_SEED = 0


class Compressed(NamedTuple):
    """Size of a file of compressed data."""

    rows: int
    """Number of rows."""
    file_bits: int
    """Size of the whole file."""
    payload_bits: int
    """Bits that the data took beyond the initial bits: an estimate of the negative ELBO."""
    initial_bits: int
    """Random bits that the first code was drawn from; also in the file."""


class Decompressed(NamedTuple):
    """A decompressed table."""

    values: Tensor
    """The values, shape ``(n, D)``."""
    columns: Columns | None
    """Names, types and layout of the table, if the file has them."""
    kept: pa.Table | None
    """Columns that were stored with the data."""


def drawn_rows(rows: Rows, seed: int = 0) -> Tensor:
    """Return the values to compress: ``(n, D)``, uint8 or float32.

    The bits of dynamic rows are drawn once, from ``seed``, as in
    :func:`~sdlgm.inference.evaluate`.
    """
    if not rows.dynamic:
        values = rows.values  # counts and levels, which float32 represents
        return values.to(torch.float32) if values.dtype == torch.float64 else values
    return torch.cat([*rows.batches(100, generator(seed, "evaluation bits"))]).byte()


@neutral()
def compress_file(
    model: SDLGM,
    rows: Rows | None,
    path: Path | str,
    *,
    seed: int = 0,
    columns: Columns | None = None,
    kept: pa.Table | None = None,
    source: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Compressed:
    """Compress rows into a file, written atomically.

    Parameters
    ----------
    model
        A model with a Bernoulli, Poisson or categorical likelihood. What is compressed on a GPU can
        be restored on a GPU of that type alone, and what is compressed on a CPU on any like it.
    rows
        The data; ``None`` for a table without rows. For dynamic rows, the bits of
        :func:`drawn_rows` are compressed.
    path
        File to write.
    seed
        Source of the bits of dynamic rows.
    columns
        Names, types and layout of the table, to be stored in the file.
    kept
        Columns to store with the data, as they are.
    source
        What the data were made from, to be stored with ``columns``; plain values for JSON.
    progress
        Called with the number of rows done after each batch.

    Raises
    ------
    CodeFileError
        If the likelihood is gaussian, a count is 2^24 or more, or constriction is not installed.
    DataError
        If the rows do not suit the model.
    """
    stack = Stack()
    if model.device.type == "mps":  # it has no double precision
        model = placed(model, torch.device("cpu"))
    if rows is None:
        values = torch.empty(0, model.n_inputs, dtype=torch.uint8)
    else:
        model.check_rows(rows)
        values = drawn_rows(rows, seed)
    largest = int(values.max()) if len(values) else 0
    if largest >= 1 << 24:
        raise CodeFileError(f"Counts must be below 2^24, the largest is {largest:,}.")
    table = pack_passed(columns, kept, len(values), source)  # fail before anything is coded
    top = min(largest, _TOP)
    coder = BitsBack(model, top)
    words = np.random.default_rng(_SEED).integers(
        1, 1 << 32, 64 + model.config.budget * BATCH_ROWS, np.uint32
    )
    stack, least, done = Stack(words.astype("<u4").tobytes()), len(words), 0
    for batch in reversed(values.split(batch_sizes(len(values)))):
        least = min(least, coder.encode(stack, batch.float()))
        if least < 4:
            raise CodeFileError("The model needs more initial bits than were prepared.")
        done += len(batch)
        if progress:
            progress(done)
    # The lowest words were never read. Keep three: two for the coder's state, one to spare.
    bits = stack.content()[4 * (least - 3) :]
    checks = [_check(part) for part in values.split(CHECK_ROWS) if len(part)]
    note = _machine(model.device).encode()
    header = _HEADER.pack(
        *(MAGIC, 2 if table else 1, values.shape[1], len(values), top, values.element_size()),
        *(bytes.fromhex(model_sha256(model)), len(note), len(checks)),
    )
    content = header + note + b"".join(checks) + table + bits
    content += hashlib.blake2b(content, digest_size=16).digest()
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    initial = 32 * (len(words) - least + 3)
    return Compressed(len(values), 8 * len(content), 8 * len(bits) - initial, initial)


@neutral()
def decompress_file(
    model: SDLGM, path: Path | str, progress: Callable[[int], None] | None = None
) -> Tensor:
    """Return the values of a file that :func:`compress_file` wrote, bit by bit.

    Raises
    ------
    CodeFileError
        As for :func:`decompress_table`.
    """
    return decompress_table(model, path, progress).values


@neutral()
def decompress_table(
    model: SDLGM, path: Path | str, progress: Callable[[int], None] | None = None
) -> Decompressed:
    """Return the table of a file that :func:`compress_file` wrote.

    The model computes on the kind of device that the file was compressed on, wherever it is.

    Raises
    ------
    CodeFileError
        If the file is missing, damaged, of a newer format or made by another model, if it claims
        more rows than its size allows, if it was compressed on a GPU and this machine has none, or
        if the networks' outputs differ on this machine.
    """
    path = Path(path)
    with reading(path, CodeFileError):
        return _decompress(model, path, progress)


def _decompress(model: SDLGM, path: Path, progress: Callable[[int], None] | None) -> Decompressed:
    about, checks, bits = _read(path, model_sha256(model))
    if about.columns != model.n_inputs:
        raise CodeFileError(
            f"{path} was tampered with: it has {about.columns} columns, the model {model.n_inputs}."
        )
    device = _needed_device(path, about.note)
    coder, stack = BitsBack(placed(model, device), about.top), Stack(bits)
    kind = torch.uint8 if about.value_bytes == 1 else torch.float32
    values = torch.empty(about.rows, about.columns, dtype=kind)
    done = checked = 0
    for size in batch_sizes(about.rows):
        values[done : done + size] = coder.decode(stack, size).to(kind)
        done += size
        while checked < done // CHECK_ROWS or (done == about.rows and checked < len(checks)):
            rows = slice(checked * CHECK_ROWS, (checked + 1) * CHECK_ROWS)
            if _check(values[rows]) != checks[checked]:
                raise CodeFileError(
                    f"{path} cannot be decompressed here: after row {rows.start:,} the model's "
                    f"outputs differ from those where it was compressed ({about.note}; here: "
                    f"{_machine(device)}). Decompress it there."
                )
            checked += 1
        if progress:
            progress(done)
    return Decompressed(values, about.columns_of, about.kept)


class _About(NamedTuple):
    columns: int
    rows: int
    top: int
    value_bytes: int
    note: str
    columns_of: Columns | None = None
    kept: pa.Table | None = None
    source: Any = None


def read_source(model: SDLGM, path: Path | str) -> Any:
    """Return what the data in a file were made from, or ``None`` if the file does not say so.

    Raises
    ------
    CodeFileError
        If the file is missing, damaged, of a newer format or made by another model.
    """
    path = Path(path)
    with reading(path, CodeFileError):
        return _read(path, model_sha256(model))[0].source


def _read(path: Path, sha256: str) -> tuple[_About, list[bytes], bytes]:
    """Read and check a file; return its description, its checks and its bits."""
    with open_regular(path, CodeFileError) as file:
        content = file.read()
    if content[:8] != MAGIC or len(content) < _HEADER.size + 16:
        raise CodeFileError(f"{path} is not a file of compressed data, or is damaged.")
    if hashlib.blake2b(content[:-16], digest_size=16).digest() != content[-16:]:
        raise CodeFileError(f"{path} is damaged: its content does not match its digest.")
    _, version, columns, rows, top, size, found, noted, number = _HEADER.unpack_from(content)
    if version > FORMAT_VERSION:
        raise CodeFileError(f"{path} is of a newer format than this sdlgm reads. Update sdlgm.")
    if found.hex() != sha256:
        raise CodeFileError(
            f"{path} was compressed by another model (hash {found.hex()[:12]}..., this one is "
            f"{sha256[:12]}...). Decompress it with the model that made it."
        )
    start = _HEADER.size + noted
    end = start + 8 * number
    fits = number == -(-rows // CHECK_ROWS) and end <= len(content) - 16
    if not (fits and top <= _TOP and size in (1, 4)):
        raise CodeFileError(f"{path} was tampered with: its rows and checks do not fit its size.")
    check_cells(rows * columns, len(content), str(path), CodeFileError, coded=True)
    about = _About(columns, rows, top, size, content[_HEADER.size : start].decode(errors="replace"))
    checks = [content[i : i + 8] for i in range(start, end, 8)]
    bits = content[end:-16]
    if version > 1:
        passed, size = unpack_passed(bits, str(path), rows, columns)
        bits = bits[size:]
        about = about._replace(columns_of=passed.columns, kept=passed.kept, source=passed.source)
    return about, checks, bits


def _check(values: Tensor) -> bytes:
    return hashlib.blake2b(values.numpy().astype("<f4").tobytes(), digest_size=8).digest()


_ON_GPU = ", GPU "
"""Begins the name of the GPU in a note."""


def _machine(device: torch.device) -> str:
    """Describe what the outputs of the networks depend on, all of them in float64."""
    base = f"torch {torch.__version__}, {platform.machine()}"
    if device.type == "cpu":
        return f"{base}, {torch.get_num_threads()} threads, float64"
    return f"{base}, float64{_ON_GPU}{describe_device(device)}"


def _needed_device(path: Path, note: str) -> torch.device:
    """Return the device that restores what a file's note says; refuse if there is none here."""
    if _ON_GPU not in note:
        return torch.device("cpu")
    try:
        return device_of("gpu")
    except ConfigError:
        raise CodeFileError(
            f"{path} was compressed on a GPU ({note}), and the outputs of a CPU differ in their "
            "last bits. Decompress it on such a GPU. To exchange files between machines, compress "
            "them with accelerator = 'cpu' (--accelerator cpu, the default)."
        ) from None
