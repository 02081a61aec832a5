"""The user's tables: CSV, Parquet and NumPy files with one sample a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sdlgm.data.file_limits import check_table_file
from sdlgm.data.rows import Rows
from sdlgm.errors import DataError
from sdlgm.storage import atomic_path

__all__ = ["SUFFIXES", "read_rows", "write_rows"]

SUFFIXES = (".csv", ".parquet", ".npy")


def read_rows(path: Path) -> tuple[Rows, tuple[int, int] | None]:
    """Read a file of numbers, with the height and width if it is an array of images.

    Raises
    ------
    DataError
        If the file is missing, unreadable or empty, or holds anything but finite numbers.
    """
    check_table_file(path)
    columns: list[str] | None = None
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values, columns = _table(path)
    except DataError:
        raise
    except Exception as error:  # readers raise many types of error on damaged files
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from None
    if values.dtype.kind not in "buif":
        raise DataError(f"{path} holds {values.dtype}, not numbers.")
    shape = (values.shape[1], values.shape[2]) if values.ndim == 3 else None
    if shape:
        values = values.reshape(len(values), -1)
    with np.errstate(over="ignore"):  # too large for float32: infinite, which is refused below
        kept = values if values.dtype == np.uint8 else values.astype(np.float32)
    rows = Rows(
        torch.from_numpy(np.ascontiguousarray(kept)),
        name=str(path),
        columns=tuple(columns) if columns else None,
    )
    return rows, shape


def _table(path: Path) -> tuple[np.ndarray, list[str]]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table = pa.csv.read_csv(path) if path.suffix == ".csv" else pa.parquet.read_table(path)
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    wrong = [f.name for f in table.schema if not any(test(f.type) for test in numeric)]
    if wrong:
        raise DataError(
            f"{path} has columns that are not numbers: {', '.join(wrong[:5])}"
            f"{' ...' if len(wrong) > 5 else ''}. Drop or encode them first."
        )
    columns = [column.cast(pa.float32()).to_numpy() for column in table.columns]
    values = np.stack(columns, axis=1) if columns else np.empty((0, 0), dtype=np.float32)
    return values, table.column_names


def write_rows(path: Path | str, values: torch.Tensor) -> None:
    """Write a table ``(n, D)`` of numbers atomically, in the format given by the suffix."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path} must end in {', '.join(SUFFIXES)}.")
    array = values.numpy()
    with atomic_path(path) as temporary:
        if path.suffix == ".npy":
            with temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
            return
        table = pa.table({f"x{column}": array[:, column] for column in range(array.shape[1])})
        if path.suffix == ".csv":
            pa.csv.write_csv(table, temporary)
        else:
            pa.parquet.write_table(table, temporary)
