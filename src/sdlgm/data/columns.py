"""What a run knows of its columns: names, types and ranges; later data are matched by name."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdlgm.data.drift import Drift
from sdlgm.errors import DataError, ModelFileError
from sdlgm.storage import read_json, write_json

if TYPE_CHECKING:
    from sdlgm.data.rows import Rows

__all__ = ["FILE", "Columns", "match_names"]

FILE = "columns.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Columns:
    """Names, types and ranges of the columns that a model reads, and how its table was laid out."""

    names: tuple[str, ...] | None = None
    """Names of the model's columns, or of its one column of lists. ``None``: they have none."""
    types: tuple[str, ...] | None = None
    """Arrow's name of each column's type. ``None``: decoded values stay floats."""
    low: tuple[float, ...] | None = None
    """Smallest training value of each column."""
    high: tuple[float, ...] | None = None
    """Largest training value of each column."""
    lists: bool = False
    """Whether one column holds lists of all values."""
    order: tuple[str, ...] | None = None
    """All columns of the table in its order, kept ones included. ``None``: that of ``names``."""
    header: bool = True
    """Whether a CSV file of the table has a line of names."""
    image_shape: tuple[int, int] | None = None
    """Height and width, if the table was an array of images."""

    @property
    def width(self) -> int | None:
        """Number of the model's inputs, where it is known."""
        return next((len(part) for part in (self.types, self.low) if part is not None), None)

    def with_ranges(self, rows: Rows) -> Columns:
        """Return these columns with the ranges of the values of ``rows``."""
        low, high = rows.values.amin(0).double(), rows.values.amax(0).double()
        return replace(self, low=tuple(low.tolist()), high=tuple(high.tolist()))

    def layout(self) -> Columns:
        """Return these columns without ranges, as files of codes keep them."""
        return replace(self, low=None, high=None)

    def label(self, index: int) -> str:
        """Return the name of a column for messages."""
        if self.names is None:
            return f"{index}"
        return f"{self.names[0]}[{index}]" if self.lists else self.names[index]

    def warn_of_drift(self, rows: Rows) -> None:
        """Warn once if values lie far outside of the training range of their column."""
        drift = Drift(self)
        drift.add(rows.values.numpy())
        drift.warn(rows.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; equal types are written once."""
        about = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.types and len(set(self.types)) == 1:
            about["types"] = {"all": self.types[0], "columns": len(self.types)}
        return {
            "format_version": FORMAT_VERSION,
            **{
                name: list(value) if isinstance(value, tuple) else value
                for name, value in about.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Any, where: str) -> Columns:
        """Read what :meth:`to_dict` returned; ``where`` is its place in messages.

        Raises
        ------
        ModelFileError
            If it is anything else.
        """
        try:
            if values["format_version"] > FORMAT_VERSION:
                raise ModelFileError(f"{where} is of a newer format. Update sdlgm.")
            return cls(
                names=_texts(values["names"]),
                types=_types(values["types"]),
                low=_numbers(values["low"]),
                high=_numbers(values["high"]),
                lists=bool(values["lists"]),
                order=_texts(values["order"]),
                header=bool(values["header"]),
                image_shape=_sizes(values["image_shape"]),
            )._checked()
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"{where} does not describe columns: {error!r}.") from None

    def _checked(self) -> Columns:
        """Return these columns if their parts have one length."""
        named = None if self.lists or self.names is None else len(self.names)
        parts = (named, *(None if p is None else len(p) for p in (self.types, self.low, self.high)))
        if len({length for length in parts if length is not None}) > 1:
            raise ValueError(f"names, types and ranges of {parts} columns")
        if self.lists and (self.names is None or len(self.names) != 1):
            raise ValueError("a column of lists needs one name")
        return self

    def write(self, folder: Path | str) -> None:
        """Write ``columns.json`` into the folder of a run, atomically."""
        write_json(Path(folder) / FILE, self.to_dict())

    @classmethod
    def read(cls, folder: Path | str) -> Columns | None:
        """Read ``columns.json`` of a run, or return ``None`` if there is none, as of 0.1.

        Raises
        ------
        ModelFileError
            If the file is damaged.
        """
        path = Path(folder) / FILE
        return cls.from_dict(read_json(path), str(path)) if path.is_file() else None


def match_names(
    wanted: Sequence[str],
    given: Sequence[str],
    passed: Collection[str],
    where: str,
    first: str | None = None,
) -> None:
    """Check that a table has the columns of a model, and no others but those passed through.

    Parameters
    ----------
    wanted, given
        The names that the model reads, and those of the table.
    passed
        Names that are passed through or skipped.
    where
        What messages call the table.
    first
        The first of several files, if the columns are compared with its columns.

    Raises
    ------
    DataError
        With the columns that are missing, and those that the model does not know.
    """
    from sdlgm.data.arrow_columns import listed

    has, known = set(given), {*wanted, *passed}
    missing = [name for name in wanted if name not in has]
    unknown = [name for name in given if name not in known]
    if not missing and not unknown:
        return
    parts = []
    if missing:
        owner = f"of {first}" if first else "that the model was trained on"
        parts.append(f"lacks columns {owner}: {listed(missing)}")
    if unknown:
        owner = f"{first} does not have" if first else "the model was not trained on"
        parts.append(f"has columns that {owner}: {listed(unknown)}")
    if first:
        cure = (
            "All files must have the same columns. Name columns that all files have with "
            "--columns, or the files to use with a pattern"
        )
    elif missing:
        cure = "Name the columns to use, in the model's order, with --columns"
    else:
        cure = "Pass them through with --keep, or name the columns to use with --columns"
    raise DataError(f"{where} {', and it '.join(parts)}. {cure}.")


def _texts(values: Any) -> tuple[str, ...] | None:
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("names must be a list of texts")
    return tuple(values)


def _types(values: Any) -> tuple[str, ...] | None:
    if isinstance(values, Mapping):
        kind, number = values["all"], values["columns"]
        if not isinstance(kind, str) or type(number) is not int or not 0 < number <= 2**24:
            raise ValueError(f"types of {number!r} columns")
        return (kind,) * number
    return _texts(values)


def _numbers(values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    numbers = tuple(float(value) for value in values)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("ranges must be finite")
    return numbers


def _sizes(values: Any) -> tuple[int, int] | None:
    if values is None:
        return None
    height, width = values
    if not all(type(v) is int and v > 0 for v in (height, width)):
        raise ValueError(f"an image of {values!r}")
    return height, width
