"""Tables of numbers, categories and missing values, and what networks read instead of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from sdlgm.data import as_numbers
from sdlgm.errors import ConfigError, DataError, ModelFileError, warn
from sdlgm.estimators.frames import (
    SHOWN,
    check_column,
    column_name,
    column_names,
    columns_of,
    is_frame,
    is_missing,
    is_time,
    shown,
)
from sdlgm.estimators.validation import as_array, validate_columns

__all__ = ["Mixed", "MixedColumns", "MixedTable", "read_mixed"]

Mixed: TypeAlias = Literal["auto"] | bool
"""Whether a table may hold categories and missing values; ``"auto"``: if it is a frame."""

RARE = 5
"""A level of fewer rows shares a column with the other rare levels."""
MOST_LEVELS = 100
"""Most columns that a category becomes."""
FEW = 20
"""A category of so many levels is one in any case; else it may have one for every second row."""
MISSING, OTHERS = "missing", "rare"
"""The level of a missing value of a category, and the name of that of all rare levels. A text that
equals one of them is a level of its own, in quotes."""


_NESTED = (list, tuple, dict, set, np.ndarray)


class MixedTable(NamedTuple):
    """The columns of a table, each as numbers with NaN where missing, or as texts."""

    columns: tuple[NDArray[Any], ...]
    names: NDArray[Any] | None
    """Names of the columns, if they have some."""

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return len(self.columns[0]), len(self.columns)


@dataclass(frozen=True, eq=False)
class MixedColumns:
    """What the columns of a training table are, and how they become inputs of networks.

    - A column of numbers keeps its values; a missing one becomes the median. Columns with missing
      training values have a second column that marks these.
    - A column of categories becomes a column of 0 and 1 for each level, with one for all levels of
      fewer than ``RARE`` training rows and those beyond the ``MOST_LEVELS`` most frequent ones. A
      level that training did not have counts as a rare one, and is no level if there is no rare
      one. Missing values are a level. The texts ``missing`` and ``rare`` are levels as all others,
      ``'missing'`` and ``'rare'`` by name.

    This is scikit-learn's ``SimpleImputer(strategy="median", add_indicator=True)`` and
    ``OneHotEncoder(min_frequency=5, max_categories=100, handle_unknown="infrequent_if_exist")``,
    which learn it. The result is kept as plain arrays, so that it is stored without pickle.
    """

    medians: NDArray[np.float64]
    """What replaces missing numbers, ``(D,)``; NaN for a category."""
    gaps: NDArray[np.bool_]
    """Which columns of numbers had missing training values, ``(D,)``."""
    levels: tuple[NDArray[Any] | None, ...]
    """The frequent levels of each category; ``None`` for numbers."""
    rare: tuple[NDArray[Any] | None, ...]
    """The rare levels of each category; ``None`` for numbers."""
    names: NDArray[Any] | None = None
    """Names of the columns."""

    @classmethod
    def learn(cls, table: MixedTable, rows: NDArray[np.bool_]) -> Self:
        """Learn medians and levels from some rows of a table.

        Raises
        ------
        DataError
            If a column of texts has a different one in most rows.
        """
        medians = np.full(len(table.columns), np.nan)
        gaps = np.zeros(len(table.columns), bool)
        levels: list[NDArray[Any] | None] = [None] * len(medians)
        rare = levels.copy()
        for place, column in enumerate(table.columns):
            values = column[rows][:, None]
            if column.dtype.kind == "f":
                imputer = SimpleImputer(strategy="median", keep_empty_features=True)
                medians[place] = imputer.fit(values).statistics_[0]
                gaps[place] = np.isnan(values).any()
                continue
            encoder = OneHotEncoder(
                min_frequency=RARE, max_categories=MOST_LEVELS, handle_unknown="infrequent_if_exist"
            ).fit(values)
            every, seldom = encoder.categories_[0], encoder.infrequent_categories_[0]
            _refuse_identifiers(every, len(values), column_name(table.names, place))
            rare[place] = np.array([] if seldom is None else seldom, object)
            levels[place] = np.setdiff1d(every, rare[place])  # type: ignore[arg-type]
        return cls(medians, gaps, tuple(levels), tuple(rare), table.names)

    @classmethod
    def restore(cls, values: dict[str, Any]) -> Self:
        """Rebuild it from the attributes (``vars``) of another.

        Raises
        ------
        ModelFileError
            If they are not such attributes.
        """
        if values.keys() != cls.__dataclass_fields__.keys():
            raise ModelFileError("The mixed columns of the file are incomplete.")
        medians, gaps, names = values["medians"], values["gaps"], values["names"]
        good = (
            isinstance(medians, np.ndarray)
            and isinstance(gaps, np.ndarray)
            and medians.dtype == np.float64
            and medians.ndim == 1
            and len(medians) > 0
            and gaps.shape == medians.shape
            and gaps.dtype == np.bool_
            and (names is None or getattr(names, "shape", None) == medians.shape)
        )
        parts = [values["levels"], values["rare"]]
        good = good and all(isinstance(p, tuple) and len(p) == len(medians) for p in parts)
        good = good and all(map(_fits, medians, gaps, *parts))
        if not good:
            raise ModelFileError("The mixed columns of the file do not fit each other.")
        return cls(**values)

    @property
    def numbers(self) -> NDArray[np.bool_]:
        """Which of the encoded columns are numbers, not marks of 0 and 1, ``(width,)``."""
        count = sum(level is None for level in self.levels)
        return np.arange(len(self.encoded_names())) < count

    def encoded_names(self) -> tuple[str, ...]:
        """Return the names of the encoded columns: ``age``, ``age=missing``, ``colour=red``."""
        found, marks, categories = [], [], []
        for place, (levels, rare) in enumerate(zip(self.levels, self.rare, strict=True)):
            name = f"x{place}" if self.names is None else str(self.names[place])
            if levels is None:
                found.append(name)
                marks += [f"{name}={MISSING}"] * bool(self.gaps[place])
            else:
                categories += [f"{name}={level}" for level in levels]
                categories += [f"{name}={OTHERS}"] * bool(len(rare))  # type: ignore[arg-type]
        return tuple(found + marks + categories)

    def describe(self) -> str:
        """Return one sentence on what the columns become."""
        numbers = [place for place, levels in enumerate(self.levels) if levels is None]
        filled = [self._name(place) for place in numbers if self.gaps[place]]
        groups = [self._name(place) for place, level in enumerate(self.levels) if level is not None]
        width = sum(not number for number in self.numbers) - len(filled)
        parts = []
        if groups:
            parts.append(f"categories ({shown(groups)}) as {width} columns of 0 and 1")
        if filled:
            parts.append(f"missing numbers ({shown(filled)}) as the median and a mark")
        return f"{len(numbers)} of {len(self.levels)} columns hold numbers; " + (
            f"the classifier reads {' and '.join(parts)}." if parts else "nothing is missing."
        )

    def __call__(self, table: MixedTable, *, warns: bool = True) -> NDArray[Any]:
        """Return what networks read, ``(n, width)``: float32, or float64 if it is needed.

        Numbers come first, then the marks of missing ones, then the levels of categories. With
        ``warns``, levels that training did not have are named in one warning, and so are missing
        values in columns that had none.
        """
        found, marks, categories, news = [], [], [], []
        for place, column in enumerate(table.columns):
            levels, rare = self.levels[place], self.rare[place]
            if levels is None or rare is None:
                missing = np.isnan(column)
                found.append(np.where(missing, self.medians[place], column))
                if self.gaps[place]:
                    marks.append(missing.astype(np.float64))
                elif missing.any():
                    news.append(f"{int(missing.sum())} missing in {self._where(place)}")
                continue
            hot, unknown = _one_hot(column, levels, rare)
            categories.append(hot)
            if len(unknown):
                number = len(set(unknown.tolist()))
                news.append(
                    f"{number} new in {self._where(place)}, such as {unknown[0]!r:.40} "
                    f"({len(unknown)} rows)"
                )
        if news and warns:
            rest = f"; and so in {len(news) - SHOWN} more columns" if len(news) > SHOWN else ""
            warn(
                f"X has values that the training rows did not have: {'; '.join(news[:SHOWN])}"
                f"{rest}. New levels count as rare ones, or as none; missing numbers are replaced "
                "by the median."
            )
        return as_numbers(np.column_stack([*found, *marks, *categories]))

    def read(self, estimator: Any, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return what networks read of another table with the columns of the training table.

        Raises
        ------
        DataError
            If a column is missing or at another place, or holds texts where training had numbers.
        """
        kinds = [levels is not None for levels in self.levels]
        return self(_read(estimator, X, reset=False, kinds=kinds))

    def _name(self, place: int) -> Any:
        return f"column {place}" if self.names is None else self.names.tolist()[place]

    def _where(self, place: int) -> str:
        return column_name(self.names, place)


def read_mixed(estimator: Any, X: Any, mixed: Mixed) -> MixedTable | None:  # noqa: N803
    """Return the columns of a table with categories or missing values; ``None`` if it has none.

    Sets ``n_features_in_`` and ``feature_names_in_`` of the estimator, unless it returns ``None``.

    Parameters
    ----------
    estimator
        The estimator that is fitted.
    X
        Anything that ``fit`` takes.
    mixed
        ``"auto"``: only frames are looked at; ``True``: every table is read by columns, also if it
        holds nothing but numbers; ``False``: none is.

    Raises
    ------
    DataError
        If a column holds dates, times or complex numbers, or an infinite value.
    ConfigError
        If ``mixed`` is true and X is sparse.
    """
    if mixed is False or (mixed == "auto" and not (is_frame(X) and _has_mixed(X))):
        return None
    if sp.issparse(X):
        raise ConfigError("Sparse rows hold only numbers: use mixed='auto' or False for them.")
    return _read(estimator, X, reset=True)


def _has_mixed(frame: Any) -> bool:
    """Return whether a frame has a column of categories, or with a missing value."""
    for values, kind in columns_of(frame):
        if _is_category(kind):
            return True
        if values.dtype.kind == "f" and np.isnan(values).any():
            return True
        items = [] if values.dtype.kind in "biufcmM" else values.tolist()
        if any(is_missing(item) or not _is_number(item) for item in items):
            return True
    return False


def _read(
    estimator: Any,
    X: Any,  # noqa: N803
    *,
    reset: bool,
    kinds: Sequence[bool] | None = None,
) -> MixedTable:
    """Read a table column by column; ``kinds`` says which ones are categories."""
    values = X if is_frame(X) else as_array(X)
    names = column_names(X, "X")
    if len(values.shape) != 2 or 0 in values.shape:
        raise DataError(
            f"X must be rows (n, features), at least one of each, got shape {tuple(values.shape)}."
        )
    validate_columns(estimator, values, reset=reset)
    given = columns_of(X) if is_frame(X) else [(column, None) for column in values.T]
    read = tuple(
        _column(column, kind, column_name(names, place), None if kinds is None else kinds[place])
        for place, (column, kind) in enumerate(given)
    )
    return MixedTable(read, names)


def _column(values: NDArray[Any], kind: Any, where: str, category: bool | None) -> NDArray[Any]:
    """Return a column as numbers with NaN, or as texts; ``category`` says which, if it is known."""
    if values.dtype.kind in "mMc":
        check_column(values, "X", where, str(kind or values.dtype))
        raise DataError(f"X has complex numbers in {where}. Use their parts as columns.")
    known = values.dtype.kind in "biuf"
    items = values.tolist()
    nested = next((item for item in items if isinstance(item, _NESTED)), None)
    if nested is not None:
        raise DataError(f"X has a {type(nested).__name__} in {where}. Make columns of its parts.")
    if category is None:
        category = _is_category(kind) or not (known or all(map(_is_number, items)))
    if category:
        if any(map(is_time, items)):
            check_column(values, "X", where, str(kind or values.dtype))
        return np.array([_level(item) for item in items], object)
    if not known:
        for row, item in enumerate(items):
            if not _is_number(item):
                raise DataError(
                    f"X has {item!r:.40} in {where}, row {row}. The classifier was fitted on "
                    "numbers there."
                )
        values = np.array([math.nan if is_missing(item) else float(item) for item in items])
    values = values.astype(np.float64)
    _refuse_large(values, items, where)
    return values


def _refuse_large(values: NDArray[np.float64], items: list[Any], where: str) -> None:
    """Raise :class:`DataError` for integers that changed, and numbers beyond single precision."""
    for row in np.flatnonzero(np.abs(values) > 2**53):  # few columns have any
        if isinstance(items[row], int) and int(values[row]) != items[row]:
            raise DataError(
                f"X has the integer {items[row]} in {where}, row {row}, which double precision "
                "would change. Subtract an offset, so that all lie within 2^53; if it is a name, "
                "turn the column into text."
            )
    large = np.flatnonzero(np.abs(values) > np.finfo(np.float32).max)
    if len(large):
        found = values[large[0]]
        raise DataError(
            f"X has {'an infinite value' if np.isinf(found) else f'{found:g}'} in {where}, row "
            f"{large[0]}. Numbers may be up to 3.4e38: give the column another unit, or mark the "
            "value as missing."
        )


def _one_hot(
    column: NDArray[Any], levels: NDArray[Any], rare: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return columns of 0 and 1, and the values that are no known level."""
    places = dict.fromkeys(rare.tolist(), len(levels))
    places |= {level: place for place, level in enumerate(levels.tolist())}
    unseen = len(levels) if len(rare) else -1
    place = np.array([places.get(value, unseen) for value in column.tolist()])
    width = len(levels) + bool(len(rare))
    hot = (place[:, None] == np.arange(width)).astype(np.float64)
    return hot, column[[value not in places for value in column.tolist()]]


def _refuse_identifiers(levels: NDArray[Any], rows: int, where: str) -> None:
    if len(levels) > max(FEW, rows / 2):
        raise DataError(
            f"X has text in {where} with {len(levels)} different values in {rows} rows, the first "
            f"{levels[0]!r:.40}: that is no category. Turn sentences into numbers with "
            "TfidfVectorizer, and drop names of rows."
        )


def _level(item: Any) -> str:
    """Return the text of a level; whole numbers are the same as integers and floats."""
    if is_missing(item):
        return MISSING
    text = str(int(item)) if isinstance(item, float) and item.is_integer() else str(item)
    return f"'{text}'" if text.strip("'") in (MISSING, OTHERS) else text


def _is_number(item: Any) -> bool:
    """Return whether a value is a number, the text of one, or missing."""
    if is_missing(item):
        return True
    try:
        float(item)
    except (TypeError, ValueError):
        return False
    return True


def _is_category(kind: Any) -> bool:
    """Return whether a type of a frame is one of categories: of pandas, polars or pyarrow."""
    return str(kind).lower().startswith(("category", "categorical", "enum", "dictionary"))


def _fits(median: float, gap: bool, levels: Any, rare: Any) -> bool:
    """Return whether the parts of one column from a file are those of numbers or a category."""
    if levels is None or rare is None:
        return levels is rare and math.isfinite(median)
    texts = all(
        isinstance(part, np.ndarray)
        and part.ndim == 1
        and all(isinstance(level, str) for level in part.tolist())
        for part in (levels, rare)
    )
    return texts and math.isnan(median) and not gap and len(levels) + len(rare) > 0
