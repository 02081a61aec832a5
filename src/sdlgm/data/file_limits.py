"""Checks of a file of data before it is read: what it claims is compared with its size."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from sdlgm.data.parquet_footer import column_chunks
from sdlgm.data.separators import separator_of, wrong_separator
from sdlgm.errors import DataError
from sdlgm.limits import check, check_cells, open_regular

__all__ = ["check_table_file"]


OTHER_FILES = (
    ((b"\x1f\x8b", b"BZh", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ"), "compressed", "Decompress it"),
    ((b"PK\x03\x04",), "a workbook or a zip archive", "Save it as CSV"),
    ((b"\xff\xfe", b"\xfe\xff"), "text in UTF-16", "Save it in UTF-8"),
)
"""How files start that people name ``.csv``."""


def check_table_file(path: Path | str) -> None:
    """Check a ``.npy``, ``.csv`` or ``.parquet`` file without reading its values.

    Raises
    ------
    DataError
        If it is missing or not a regular file, if it claims more values than its size allows, if
        it has too many columns, or if a CSV file is compressed, not in UTF-8, or has no commas.
    """
    path = Path(path)
    _check_name(path)
    with open_regular(path, DataError) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(2**24) if path.suffix == ".csv" else b""
    _check_text(path, start)
    check("columns", start.partition(b"\n")[0].count(b",") + 1, f"Columns of {path}", DataError)
    try:
        if path.suffix == ".npy":
            _check_array(path, size)
        elif path.suffix == ".parquet":
            _check_parquet(path, size)
    except DataError:
        raise
    except Exception as error:  # readers raise many types of error on damaged files
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from None


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"The name of {path} is not in UTF-8, which files of data need. Rename it (or, if it "
            "is, set the locale of this shell to UTF-8)."
        ) from None


def _check_text(path: Path, start: bytes) -> None:
    """Raise an error that says what the start of a CSV file is instead of lines with commas."""
    for marks, what, cure in OTHER_FILES:
        if start.startswith(marks):
            raise DataError(f"{path} is {what}, not lines with commas. {cure} first.")
    try:
        start[: start.rfind(b"\n") + 1].decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not in UTF-8 (byte {error.start:,} is 0x{start[error.start]:02x}). Save it "
            "in UTF-8 first."
        ) from None
    lines = [line.decode(errors="replace") for line in start.split(b"\n", 2)[:2]]
    mark, below = map(separator_of, (lines * 2)[:2])
    if mark is not None and mark == below and lines[0].count(mark) == lines[-1].count(mark):
        raise wrong_separator(path, mark)


def _check_array(path: Path, size: int) -> None:
    """Raise an error if an array is larger than its file. Only the header is read."""
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            raise DataError(
                f"{path} cannot be read as npy: it is an archive of several arrays. Save one array "
                "with np.save."
            )
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = headers[version](file)
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} cannot be read as npy: {error}") from None
        if dtype.hasobject:
            raise DataError(f"{path} cannot be read as npy: it holds Python objects.")
        if math.prod(shape) * dtype.itemsize > size - file.tell():
            raise DataError(f"{path} is cut short: it should hold an array of shape {shape}.")


def _check_parquet(path: Path, size: int) -> None:
    import pyarrow.parquet as pq

    about = pq.read_metadata(path)
    check("columns", about.num_columns, f"The columns of {path}", DataError)
    rows, columns = about.num_rows, max(1, about.num_columns)
    check_cells(max(rows, 0) * columns, size, str(path), DataError)
    chunks = column_chunks(path)  # lists have more values than rows
    check_cells(sum(max(0, chunk.values) for chunk in chunks), size, str(path), DataError)
    check_cells(sum(max(0, chunk.size) for chunk in chunks) // 8, size, str(path), DataError)
