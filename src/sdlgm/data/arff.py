"""ARFF files of your own with many labels: numbers, nominal and text columns."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from sdlgm.data.label_sets import label_names, plain_name
from sdlgm.errors import DataError
from sdlgm.limits import check, reading, reason

__all__ = ["ArffTable", "read_arff"]

Column: TypeAlias = dict[int, Any]
"""The values of a column by row; rows that a sparse file omits are missing."""

_TRUE, _FALSE = {"1", "true", "t", "yes", "y"}, {"0", "false", "f", "no", "n"}
_WORD = re.compile(r"\w\w+")


class ArffTable(NamedTuple):
    """Inputs and labels of an ARFF file."""

    X: Any
    """Inputs ``(n, D)``, float64: dense, or CSR if the file is sparse or has text."""
    Y: Any
    """0 or 1, ``(n, K)``, NaN where the file has ``?``: as X."""
    label_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    """Names of the columns of X: ``colour=red`` for a level, ``title:word`` for a word."""


def read_arff(
    path: Path | str, labels: Path | str | int | Sequence[str], like: ArffTable | None = None
) -> ArffTable:
    """Read an ARFF file with many labels.

    - A nominal column whose levels are numbers becomes these numbers; one with other levels becomes
      a column of 0 and 1 for each level, or for the second of two.
    - A text column becomes the number of times that each of its words occurs.
    - Labels are 0 and 1, or words such as ``TRUE`` and ``no``; ``?`` is an unknown label.
    - What a sparse row leaves out is 0, or the first level of a nominal column.

    Parameters
    ----------
    path
        The ARFF file, dense or sparse.
    labels
        Which columns are labels: the XML file that names them (Mulan; all of a hierarchy), their
        names, or the number of columns at the end (negative: at the start, as in MEKA).
    like
        The table of the training file: the columns of X and Y are then its columns, in their order,
        and words and levels that it lacks are left out.

    Raises
    ------
    DataError
        If a file cannot be read, a label is missing or neither true nor false, an input is
        missing, two columns have one name, or a limit of :mod:`sdlgm.limits` is exceeded; the
        message names row and column.
        If the file lacks a column or label of ``like``.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read: {error}. Save it as UTF-8.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    with reading(path.name, DataError):
        return _parse(text, labels, like, path.name)


def _parse(text: str, labels: Any, like: ArffTable | None, file: str) -> ArffTable:
    try:
        import arff as liac
    except ImportError:
        raise DataError("ARFF files need liac-arff: pip install 'sdlgm[data]'.") from None
    check("data_bytes", len(text), f"The size of {file}", DataError)
    sparse = re.search(r"(?im)^\s*@data\b[^\n]*\s*\{", text) is not None
    try:
        found = liac.load(io.StringIO(text), return_type=liac.LOD if sparse else liac.DENSE)
    except liac.ArffException as error:
        raise DataError(f"{file} cannot be read: {reason(error)}") from None
    attributes = [(plain_name(name), kind) for name, kind in found["attributes"]]
    check("columns", len(attributes), f"The number of columns of {file}", DataError)
    if not found["data"]:
        raise DataError(f"{file} has no rows.")
    columns: list[Column] = [{} for _ in attributes]
    for row, values in enumerate(found["data"]):
        for place, value in values.items() if sparse else enumerate(values):
            columns[place][row] = value
    names = [name for name, _ in attributes]
    _refuse_repeated(names, f"{file} has several columns named")
    size = len(found["data"])
    if sparse:
        columns = [
            _completed(column, kind, size)
            for column, (_, kind) in zip(columns, attributes, strict=True)
        ]
    targets = _targets(labels, names, file)
    if like is not None:
        targets = _targets_like(targets, names, like, file)
    y = [_label(columns[place], names[place], size, file) for place in targets]
    inputs: list[tuple[str, Column]] = []
    for place, (name, kind) in enumerate(attributes):
        if place not in set(targets):
            inputs += _input(name, kind, columns[place], file, like is not None)
    _refuse_repeated([name for name, _ in inputs], f"Several columns of {file} become")
    feature_names = tuple(name for name, _ in inputs) if like is None else like.feature_names
    by_name = dict(inputs)
    if like is not None:
        _refuse_missing(like.feature_names, by_name, attributes, file)
    x = _table([by_name.get(name, {}) for name in feature_names], size)
    dense = not sparse and "STRING" not in {kind for _, kind in attributes if isinstance(kind, str)}
    y_table = _table(y, size)
    if dense:
        x, y_table = x.toarray(), y_table.toarray()
    return ArffTable(x, y_table, tuple(names[place] for place in targets), feature_names)


def _refuse_repeated(names: list[str], what: str, cure: str = "Rename all but one.") -> None:
    repeated = [name for name, number in Counter(names).items() if number > 1]
    if repeated:
        raise DataError(f"{what} {repeated[0]!r}. {cure}")


def _completed(column: Column, kind: Any, size: int) -> Column:
    """Return a column of a sparse file with the first level of a nominal one where it has none."""
    if not isinstance(kind, list) or (set(kind) <= {"0", "1"} and kind[0] == "0"):
        return column
    return {row: column.get(row, kind[0]) for row in range(size)}


def _targets(labels: Any, names: list[str], file: str) -> list[int]:
    """Return the places of the labels."""
    if isinstance(labels, int) and not isinstance(labels, bool):
        if not 0 < abs(labels) < len(names):
            raise DataError(f"{file} has {len(names)} columns, so that {labels} cannot be labels.")
        return list(range(len(names)))[-labels:] if labels > 0 else list(range(-labels))
    labels = _names_of(labels)
    place = {name: index for index, name in enumerate(names)}
    missing = [label for label in labels if label not in place]
    if missing:
        raise DataError(f"{file} has no column for the label {missing[0]!r}.")
    return [place[label] for label in labels]


def _names_of(labels: Any) -> list[str]:
    """Return the names of the labels, from a file or as they are given."""
    cure = "labels are the XML file that names them, a list of names, or a number of columns."
    if isinstance(labels, str | Path):
        try:
            labels = label_names(Path(labels).read_text(encoding="utf-8-sig"), str(labels))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{labels} cannot be read: {error}. Here {cure}") from None
    elif not isinstance(labels, Iterable):
        raise DataError(f"labels are {labels!r:.40}, but {cure}")
    found = list(labels)
    _refuse_repeated(found, "labels hold several times", "Name it once.")
    return found


def _targets_like(targets: list[int], names: list[str], like: ArffTable, file: str) -> list[int]:
    """Return the places of the labels in the order of the training file."""
    place = {names[index]: index for index in targets}
    if place.keys() != set(like.label_names):
        raise DataError(
            f"{file} has the labels {', '.join(map(repr, place))}, but the training file has "
            f"{', '.join(map(repr, like.label_names))}."
        )
    return [place[name] for name in like.label_names]


def _refuse_missing(
    wanted: tuple[str, ...], found: dict[str, Column], attributes: list[tuple[str, Any]], file: str
) -> None:
    """Raise :class:`DataError` for a column of the training file that the file does not have.

    Levels and words may be missing, but not the column that they belong to.
    """
    starts = tuple(
        f"{name}{':' if kind == 'STRING' else '='}"
        for name, kind in attributes
        if kind == "STRING" or (isinstance(kind, list) and name not in found)
    )
    for name in wanted:
        if name not in found and not name.startswith(starts):
            raise DataError(
                f"{file} has no column for {name!r} of the training file, or one of another type."
            )


def _label(column: Column, name: str, size: int, file: str) -> Column:
    """Return the rows that have a label as 1, and those where it is unknown as NaN."""
    found: Column = {}
    for row, value in column.items():
        word = None if value is None else str(value).lower()
        if word in _TRUE or word == "1.0":
            found[row] = 1.0
        elif word is None:
            found[row] = np.nan
        elif word not in _FALSE and word != "0.0":
            raise DataError(
                f"{file}: label {name!r} is {value!r:.40} in row {row}, not 0 or 1, nor a word "
                "such as TRUE or no. Change the file, or name other columns as labels."
            )
    return found


def _input(
    name: str, kind: Any, column: Column, file: str, every: bool
) -> Iterable[tuple[str, Column]]:
    """Return the columns of numbers that a column becomes."""
    gaps = [row for row, value in column.items() if value is None]
    if gaps:
        raise DataError(
            f"{file} has a missing value in column {name!r}, row {gaps[0]} ({len(gaps)} in the "
            "column). Fill it in, drop the row, or give SDLGMClassifier the rows as a pandas "
            "frame, which may have gaps."
        )
    if isinstance(kind, list):
        return _nominal(name, kind, column, every)
    if kind == "STRING":
        return _words(name, column)
    return [(name, {row: float(value) for row, value in column.items()})]


def _nominal(name: str, levels: list[str], column: Column, every: bool) -> list[tuple[str, Column]]:
    try:
        values = {level: float(level) for level in levels}
    except ValueError:
        # Which of two levels is the second may differ from file to file.
        shown = levels[1:] if len(levels) == 2 and not every else levels
        return [
            (f"{name}={level}", {row: 1.0 for row, value in column.items() if value == level})
            for level in shown
        ]
    return [(name, {row: values[value] for row, value in column.items() if values[value]})]


def _words(name: str, column: Column) -> list[tuple[str, Column]]:
    words: dict[str, Column] = {}
    for row, text in column.items():
        for word, number in Counter(_WORD.findall(str(text).lower())).items():
            words.setdefault(word, {})[row] = float(number)
    return [(f"{name}:{word}", words[word]) for word in sorted(words)]


def _table(columns: list[Column], size: int) -> Any:
    """Return columns of values by row as CSR, float64."""
    from scipy.sparse import csc_array

    starts = np.cumsum([0, *map(len, columns)])
    # Trees of scikit-learn take no indices of 64 bits.
    kind = np.int32 if starts[-1] <= np.iinfo(np.int32).max else np.int64
    starts = starts.astype(kind)
    rows = np.array([row for column in columns for row in column], kind)
    values = np.array([value for column in columns for value in column.values()], np.float64)
    table = csc_array((values, rows, starts), shape=(size, len(columns))).tocsr()
    table.eliminate_zeros()
    return table
