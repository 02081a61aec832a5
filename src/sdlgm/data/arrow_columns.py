"""Columns of Arrow tables as numbers, and numbers as columns of their first type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from sdlgm.errors import DataError

__all__ = [
    "check_numeric",
    "from_numbers",
    "index_columns",
    "is_list",
    "leaf_type",
    "listed",
    "to_numbers",
]

EXACT = 2**53
"""Integers beyond this do not all have a double of their own."""
LARGEST = float(np.finfo(np.float32).max)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, separated by commas, and the number of the others.

    Names with characters that a terminal would act on are quoted and escaped.
    """
    plain = [n if n and n.isprintable() and n == n.strip() else repr(n) for n in names[:most]]
    more = len(names) - most
    return ", ".join(plain) + (f" and {more} more" if more > 0 else "")


def is_list(kind: pa.DataType) -> bool:
    """Whether values of a type are lists."""
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def leaf_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the numbers in a column of numbers, of lists, or of a dictionary."""
    if is_list(kind) or pa.types.is_dictionary(kind):
        return leaf_type(kind.value_type)
    return kind


def index_columns(schema: pa.Schema, csv: bool = False) -> tuple[str, ...]:
    """Return the columns that hold the index of a pandas table.

    Parquet files of pandas name them in their metadata; in a CSV file the index is a first column
    without a name, which pandas reads as ``Unnamed: 0``.
    """
    if csv:
        first = schema.names[:1]
        return tuple(first) if first in ([""], ["Unnamed: 0"]) and len(schema.names) > 1 else ()
    try:
        about = (schema.pandas_metadata or {}).get("index_columns", [])
    except (ValueError, AttributeError):  # not the JSON of pandas
        about = []
    named = {each for each in about if isinstance(each, str)} if isinstance(about, list) else set()
    return tuple(n for n in schema.names if n in named or n.startswith("__index_level_"))


def check_numeric(names: Sequence[str], types: Sequence[pa.DataType], where: str) -> None:
    """Raise :class:`DataError` that names the columns that cannot be read as numbers."""
    leaves = [leaf_type(kind) for kind in types]
    times = [n for n, kind in zip(names, leaves, strict=True) if pa.types.is_temporal(kind)]
    if times:
        raise DataError(
            f"{where} has columns of times: {listed(times)}. A time is a number only after you "
            "choose an origin and a unit. Convert it first, for example to seconds: "
            "(column - column.min()).dt.total_seconds() in pandas; or pass it through with --keep."
        )
    wrong = [n for n, kind in zip(names, leaves, strict=True) if not _is_numeric(kind)]
    if wrong:
        raise DataError(
            f"{where} has columns that are not numbers: {listed(wrong)}. Drop or encode them "
            "first, or pass them through with --keep."
        )
    lists = [n for n, kind in zip(names, types, strict=True) if is_list(kind)]
    if lists and len(names) > 1:
        raise DataError(
            f"{where} has several columns, with lists among them: {listed(lists)}. Name either "
            "one column of lists or columns of numbers with --columns."
        )


def _is_numeric(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    )


def to_numbers(column: pa.Array | pa.ChunkedArray, name: str, where: str) -> NDArray[Any]:
    """Return a column of numbers as floats, missing values as NaN.

    Raises
    ------
    DataError
        If an integer is too large for a double.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_int64(kind) or pa.types.is_uint64(kind):
        low, high = pa.compute.min_max(column).as_py().values()
        if low is not None and (low < -EXACT or high > EXACT):
            raise too_large(name, where)
    if isinstance(column, pa.ChunkedArray):
        values = column.to_numpy()
    else:
        values = column.to_numpy(zero_copy_only=False)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def too_large(name: str, where: str) -> DataError:
    """Return the error for integers that are no doubles."""
    return DataError(
        f"{where} has integers beyond 2^53 in column {listed([name])}, which floating-point "
        "numbers cannot tell apart. Subtract an offset from the column first, or keep it out with "
        "--keep."
    )


def from_numbers(values: NDArray[Any], kind: str | None, whole: bool) -> pa.Array:
    """Return decoded values as a column of the type that the column had.

    Parameters
    ----------
    values
        Floats or bytes, shape ``(n,)``.
    kind
        Arrow's name of the type. Floats become floats of that width.
    whole
        Whether to round to integers, bools and decimals, and cut to their range, where the column
        had such; otherwise these stay floats, because decoded values are means.
    """
    target = _type(kind)
    if target is None or values.dtype.kind not in "fu":
        return pa.array(values)
    if pa.types.is_floating(target):
        return pa.array(values.astype(target.to_pandas_dtype()))
    if not whole:
        return pa.array(values)
    missing = np.isnan(values) if values.dtype.kind == "f" else None
    rounded = np.rint(np.nan_to_num(values.astype(np.float64)))
    if pa.types.is_boolean(target):
        return pa.array(rounded != 0, mask=missing)
    if pa.types.is_integer(target):
        dtype = np.dtype(target.to_pandas_dtype())
        limits = np.iinfo(dtype)
        clipped = np.clip(rounded, max(limits.min, -EXACT), min(limits.max, EXACT))
        return pa.array(clipped.astype(dtype), mask=missing)
    if pa.types.is_decimal(target):
        most = min(10.0 ** (target.precision - target.scale) - 1, EXACT)
        clipped = np.clip(rounded, -most, most).astype(np.int64)
        return pa.array(clipped, mask=missing).cast(pa.decimal256(38, 0)).cast(target)
    return pa.array(values)


def _type(kind: str | None) -> pa.DataType | None:
    decimal = re.fullmatch(r"(decimal(?:32|64|128|256))\((\d{1,2}), (\d{1,2})\)", kind or "")
    try:
        if decimal:
            return getattr(pa, decimal[1])(int(decimal[2]), int(decimal[3]))
        return None if kind is None else pa.type_for_alias(kind)
    except (ValueError, TypeError):
        return None
