"""Keys in the names of folders, as Hive and Spark write them: ``year=2024/part-0.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sdlgm.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NamedKeys", "partition_keys"]

MISSING = "__HIVE_DEFAULT_PARTITION__"


def partition_keys(name: Path) -> dict[str, str | None]:
    """Return the keys in the folders of a file's name and their values.

    Examples
    --------
    >>> partition_keys(Path("lake/year=2024/city=Bad%20Ems/a.parquet"))
    {'year': '2024', 'city': 'Bad Ems'}
    """
    found: dict[str, str | None] = {}
    for part in name.parent.parts:
        key, equals, value = part.partition("=")
        if key and equals:
            found[unquote(key)] = None if value == MISSING else unquote(value)
    return found


@dataclass(frozen=True)
class NamedKeys:
    """Keys that count as columns, because they were named and the files do not have them."""

    read: Sequence[str] = ()
    """Names of columns that a model reads. A key among them must be a number."""
    kept: Sequence[str] = ()
    """Names of columns that are passed through. A key among them is text."""

    def add(self, table: pa.Table, name: Path) -> pa.Table:
        """Append the named keys of a file to its columns.

        Raises
        ------
        DataError
            If the value of a key that a model reads is not a number.
        """
        import pyarrow as pa

        for key, value in partition_keys(name).items():
            if key in table.column_names or key not in (*self.read, *self.kept):
                continue
            scalar = (
                _number(key, value, name) if key in self.read else pa.scalar(value, pa.string())
            )
            table = table.append_column(key, pa.repeat(scalar, len(table)))
        return table


def _number(key: str, value: str | None, name: Path) -> pa.Scalar:
    import pyarrow as pa

    if value is None:
        return pa.scalar(None, pa.float64())
    try:
        return pa.scalar(int(value), pa.int64())
    except (ValueError, OverflowError, pa.ArrowInvalid):
        pass
    try:
        return pa.scalar(float(value), pa.float64())
    except ValueError:
        raise DataError(
            f"{name}: the folder says {key} = {value!r}, which is not a number, so a model cannot "
            "read it. Leave it out of --columns."
        ) from None
