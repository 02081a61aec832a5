"""Columns of CSV files that are passed through: as values only if these give back the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdlgm.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["exact_columns"]

DIGITS = 15
"""Every decimal number of so many digits has a double of its own."""


def exact_columns(table: pa.Table, path: Path | str, names: Sequence[str]) -> pa.Table:
    """Return a table of a CSV file with columns as text where values would change it.

    Postal codes lose their leading zeros as integers (``01234``), long identifiers their last
    digits as floating-point numbers, and times their zone (``10:00:00+01:00``).

    Parameters
    ----------
    table
        The table as it was read.
    path
        Its file.
    names
        The columns to look at.

    Raises
    ------
    DataError
        If the file has changed.
    """
    import pyarrow as pa
    import pyarrow.csv

    kinds = {name: table.schema.field(name).type for name in names}
    risky = [n for n, kind in kinds.items() if _may_change(kind)]
    if not risky:
        return table
    options = pa.csv.ConvertOptions(
        include_columns=risky,
        column_types={name: pa.string() for name in risky},
        strings_can_be_null=True,
    )
    try:
        texts = pa.csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as csv: {error}") from None
    if len(texts) != len(table):
        raise DataError(f"{path} changed while it was read. Try again.")
    for name in risky:
        text = texts[name]
        if not _gives_back(table[name], text):
            table = table.set_column(table.column_names.index(name), name, text)
    return table


def _may_change(kind: pa.DataType) -> bool:
    import pyarrow as pa

    number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return bool(number or (pa.types.is_timestamp(kind) and kind.tz))


def _gives_back(values: pa.ChunkedArray, text: pa.ChunkedArray) -> bool:
    """Whether values say the same as the text that they were read from."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(text)
    if pa.types.is_integer(values.type):
        return bool(values.cast(pa.string()).equals(trimmed))
    if pa.types.is_timestamp(values.type):  # which are in UTC
        return bool(pc.all(pc.ends_with(trimmed, "Z")).as_py() is not False)
    digits = _digits(trimmed)
    long = pc.greater(pc.utf8_length(digits), DIGITS).fill_null(False)
    if not pc.any(long).as_py():
        return True
    # Doubles as programs write them have up to 17 digits, and are read as the same doubles.
    found = _digits(values.filter(long).cast(pa.string()))
    return bool(found.equals(digits.filter(long)))


def _digits(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the digits of numbers without exponents, and without zeros at the ends."""
    import pyarrow.compute as pc

    mantissa = pc.replace_substring_regex(text, r"[eE].*$|[^0-9eE]", "")
    return pc.replace_substring_regex(mantissa, r"^0+|0+$", "")
