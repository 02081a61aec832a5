"""Checks of a file of data before it is read: what it claims is compared with its size."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from sdlgm.errors import DataError
from sdlgm.limits import check, check_cells, open_regular, reading

__all__ = ["check_table_file"]


def check_table_file(path: Path | str) -> None:
    """Check a ``.npy``, ``.csv`` or ``.parquet`` file without reading its values.

    Raises
    ------
    DataError
        If it is missing or not a regular file, if it claims more values than its size allows, or
        if it has too many columns.
    """
    path = Path(path)
    with open_regular(path, DataError) as file, reading(path, DataError):
        size = os.fstat(file.fileno()).st_size
        if path.suffix == ".npy":
            _check_array(path, size)
        elif path.suffix == ".csv":
            check("columns", _commas(file.read(2**24)) + 1, f"The columns of {path}", DataError)
        elif path.suffix == ".parquet":
            _check_parquet(path, size)


def _check_array(path: Path, size: int) -> None:
    """Raise an error if an array is larger than its file. Only the header is read."""
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, _, dtype = headers[version](file)
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} cannot be read as npy: {error}") from None
        if dtype.kind not in "buif" or not 1 <= len(shape) <= 3:
            raise DataError(f"{path} holds {dtype} of shape {shape}, not a table of numbers.")
        if math.prod(shape) * dtype.itemsize > size - file.tell():
            raise DataError(f"{path} is cut short: it should hold an array of shape {shape}.")


def _commas(start: bytes) -> int:
    return start.partition(b"\n")[0].count(b",")


def _check_parquet(path: Path, size: int) -> None:
    import pyarrow.parquet as pq

    about = pq.read_metadata(path)
    check("columns", about.num_columns, f"The columns of {path}", DataError)
    rows, columns = about.num_rows, max(1, about.num_columns)
    check_cells(max(rows, 0) * columns, size, str(path), DataError)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    values = sum(
        max(0, group.column(place).num_values)  # lists have more values than rows
        for group in groups
        for place in range(group.num_columns)
    )
    check_cells(values, size, str(path), DataError)
    claimed = sum(max(0, group.total_byte_size) for group in groups)
    check_cells(claimed // 8, size, str(path), DataError)
