"""CSV files whose columns are not separated by commas."""

from __future__ import annotations

import re
from pathlib import Path

from sdlgm.errors import DataError

__all__ = ["refuse_other_separator", "separator_of", "wrong_separator"]

SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
LONGEST_LINE = 2**24
_QUOTED_OR_DECIMAL = re.compile(r'"[^"]*"|(?<=\d),(?=\d)')


def separator_of(line: str) -> str | None:
    """Return what separates the columns of a line instead of commas, if anything does.

    It occurs at least as often as commas, those in quotes and in numbers aside.

    Examples
    --------
    >>> separator_of("age;height"), separator_of("1,5;2"), separator_of('"a;b",c')
    (';', ';', None)
    """
    bare = _QUOTED_OR_DECIMAL.sub("", line)
    mark = max(SEPARATORS, key=bare.count)
    return mark if bare.count(mark) >= max(1, bare.count(",")) else None


def refuse_other_separator(path: Path) -> None:
    """Raise :class:`DataError` if the first line of a file has another separator than commas."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        mark = separator_of(file.readline(LONGEST_LINE))
    if mark is not None:
        raise wrong_separator(path, mark) from None


def wrong_separator(path: Path, mark: str) -> DataError:
    """Return the error of a file with another separator, with the cure."""
    return DataError(
        f"{path} has {SEPARATORS[mark]} between its columns. Write it with commas, and with points "
        f"in numbers, first: pandas.read_csv(FILE, sep={mark!r}, decimal=',')"
        ".to_csv(NEW, index=False), or leave out decimal if its numbers have points."
    )
