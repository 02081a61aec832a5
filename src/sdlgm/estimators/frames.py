"""Frames of pandas, polars and pyarrow: the names of their columns, and columns of no numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.errors import DataError, warn

__all__ = [
    "by_name",
    "check_column",
    "check_columns",
    "check_in_memory",
    "column_name",
    "column_names",
    "columns_of",
    "in_order",
    "is_frame",
    "is_missing",
    "is_time",
    "name_array",
    "shown",
    "warn_of_other_order",
]

SHOWN = 10
"""Number of names that a message lists."""


def is_frame(table: Any) -> bool:
    """Return whether a table has columns with names."""
    return hasattr(table, "columns")


def column_names(table: Any, what: str) -> NDArray[Any] | None:
    """Return the names of a frame's columns, all text or all integers; ``None`` without names.

    Parameters
    ----------
    table
        Anything.
    what
        What to call it in messages.

    Raises
    ------
    DataError
        If two columns have the same name, or the rows are not in memory.
    """
    if not is_frame(table):
        return None
    check_in_memory(table, what)
    # The columns of a pyarrow table are arrays.
    names = list(getattr(table, "column_names", table.columns))
    if not all(isinstance(name, int | np.integer) and not isinstance(name, bool) for name in names):
        names = [str(name) for name in names]
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        raise DataError(f"{what} has several columns named {repeated[0]!r}. Rename all but one.")
    return name_array(names, what)


def name_array(names: list[Any], what: str) -> NDArray[Any]:
    """Return names, all text or all integers, as an array.

    Raises
    ------
    DataError
        If numpy would change one.
    """
    array = np.array(names)
    if array.dtype == object or array.tolist() != names:
        changed = next((a for a, b in zip(names, array.tolist(), strict=True) if a != b), names[-1])
        raise DataError(
            f"{what} has the name {changed!r:.40}. Names may not be beyond 64 bits as numbers, nor "
            "end in a null character as text. Rename it."
        )
    return array


def check_in_memory(table: Any, what: str) -> None:
    """Raise :class:`DataError` for a frame whose rows are not computed yet, as of polars."""
    if hasattr(table, "collect") and not hasattr(table, "shape"):
        raise DataError(
            f"{what} is a {type(table).__name__}, which has no rows before it is computed: pass "
            f"{what}.collect()."
        )


def column_name(names: NDArray[Any] | None, place: int) -> str:
    """Describe a column by its number and, if it has one, its name."""
    return f"column {place}" if names is None else f"column {names.tolist()[place]!r}"


def shown(names: Any) -> str:
    """List names, at most ``SHOWN`` of them."""
    items = [repr(name) for name in (names.tolist() if hasattr(names, "tolist") else names)]
    rest = len(items) - SHOWN
    return ", ".join(items[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def in_order(given: NDArray[Any], fitted: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Return the places of the fitted columns among the given ones.

    Raises
    ------
    DataError
        If a column is missing or unknown; the message lists them.
    """
    places = {name: place for place, name in enumerate(given.tolist())}
    missing = [name for name in fitted.tolist() if name not in places]
    unknown = sorted(places.keys() - fitted.tolist(), key=str)
    if missing or unknown:
        parts = [f"lacks {shown(missing)}"] if missing else []
        parts += [f"has the unknown {shown(unknown)}"] if unknown else []
        raise DataError(
            f"{what} {' and '.join(parts)}. The estimator was fitted on the columns "
            f"{shown(fitted)}; their order does not matter."
        )
    return np.array([places[name] for name in fitted.tolist()], np.int64)


def by_name(labels: Any, other: Any, what: str) -> Any:
    """Return a table ``other`` with its columns in the order of labels, if both are frames.

    Rows stay as they are; an index in another order gives a warning.
    """
    if not (is_frame(labels) and is_frame(other)):
        return other
    warn_of_other_order(labels, "Y", **{what: other})
    names: Any = column_names(labels, "Y")
    order = in_order(column_names(other, what), names, what)  # type: ignore[arg-type]
    return np.asarray(other)[:, order]


def warn_of_other_order(X: Any, first: str = "X", **others: Any) -> None:  # noqa: N803
    """Warn of tables of pandas that have the index of X in another order; ``first`` names X.

    Rows are matched by their position, as in scikit-learn, so that such tables are most likely
    paired wrongly.
    """
    if not hasattr(X, "iloc"):
        return
    for what, other in others.items():
        index = other.index if hasattr(other, "iloc") else X.index
        if X.index.equals(index) or Counter(X.index.tolist()) != Counter(index.tolist()):
            continue
        warn(
            f"{first} and {what} have the same index in another order, but their rows are matched "
            f"by position. If rows belong together by index, pass {what}.loc[{first}.index]; if by "
            f"position, {what}.set_axis({first}.index)."
        )


def check_columns(table: Any, what: str) -> None:
    """Raise :class:`DataError` for the first column of a frame that does not hold numbers.

    Text, dates and times have no meaning as numbers until somebody chooses one, and a list in a
    cell is a row by itself: the message says what to do.
    """
    if not is_frame(table):
        return
    names = column_names(table, what)
    for place, kind in enumerate(_kinds(table)):
        if getattr(kind, "kind", "O") in "biufc":  # a type of numpy, or one of pandas like it
            continue
        where = column_name(names, place)
        check_column(_values(table, place, what, where, kind), what, where, str(kind))


def columns_of(table: Any, what: str = "X") -> Iterator[tuple[NDArray[Any], Any]]:
    """Yield the values of each column of a frame, and the type that the frame gives it.

    Raises
    ------
    DataError
        If the values of a column are of a type that numpy does not have.
    """
    names = column_names(table, what)
    for place, kind in enumerate(_kinds(table)):
        yield _values(table, place, what, column_name(names, place), kind), kind


def _kinds(table: Any) -> list[Any]:
    """Return the types of the columns of a frame."""
    types = getattr(table, "dtypes", None)
    return list(getattr(table, "schema").types if types is None else types)  # noqa: B009


def check_column(values: NDArray[Any], what: str, where: str, kind: str) -> None:
    """Raise :class:`DataError` unless values are numbers, or objects that hold numbers."""
    if values.dtype.kind in "biufc" and values.ndim == 1:
        return
    items = [] if values.dtype.kind in "mM" else values.ravel().tolist()
    nested = values.dtype.kind in "biufc"  # an array in each cell
    if nested or any(isinstance(item, list | tuple | np.ndarray) for item in items):
        raise DataError(
            f"{what} has lists in {where} ({kind}). Give their numbers as columns of their own: "
            "numpy.stack(...) of the lists is an array with a row for each."
        )
    if values.dtype.kind in "mM" or any(map(is_time, items)):
        raise DataError(
            f"{what} has dates or times ({kind}) in {where}. Convert them to numbers with a unit "
            "and an origin of your choice, such as (t - t.min()).dt.total_seconds(), or drop them."
        )
    text = next(
        (item for item in items if isinstance(item, str | bytes) and not _is_number(item)), None
    )
    if text is not None:
        raise DataError(
            f"{what} has text in {where}, the first {text!r:.40}. Turn it into numbers first, for "
            "example with OneHotEncoder or OrdinalEncoder (TfidfVectorizer for sentences), or drop "
            "it."
        )


def _values(table: Any, place: int, what: str, where: str, kind: Any) -> NDArray[Any]:
    """Return the values of a column, or say which one numpy cannot hold."""
    try:
        values = _column(table, place)
    except Exception as error:  # those of polars and pyarrow have no common base
        raise DataError(
            f"{what} has values of type {kind} in {where}, which numpy cannot hold ({error}). Cast "
            "the column to floating-point numbers, to text or to categories."
        ) from error
    was_whole = str(kind).lower().startswith(("int", "uint"))
    if was_whole and values.dtype.kind == "f" and (np.abs(values) >= 2**53).any():
        raise DataError(
            f"{what} has missing values and integers beyond 2^53 in {where}, which double "
            "precision would change. Subtract an offset; if they are names, turn them into text."
        )
    return values


def _column(table: Any, place: int) -> NDArray[Any]:
    if hasattr(table, "iloc"):  # pandas
        return np.asarray(table.iloc[:, place])
    if hasattr(table, "get_column"):  # polars
        return np.asarray(table.get_columns()[place])
    column = table.column(place)
    if hasattr(column.type, "index_type"):  # numpy does not see what is missing from a dictionary
        column = column.cast(column.type.value_type)
    return np.asarray(column)


def is_missing(item: Any) -> bool:
    """Return whether a value is None, NaN, or pandas' NA or NaT."""
    return item is None or type(item).__name__ in ("NAType", "NaTType") or bool(item != item)


def is_time(value: Any) -> bool:
    """Return whether a value is a date, a time, a duration or a period."""
    methods = ("isoformat", "total_seconds", "strftime")  # a period of pandas has the last
    return any(hasattr(value, method) for method in methods)


def _is_number(text: str | bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
