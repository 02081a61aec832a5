"""Samples in memory: rows of numbers that are checked once, when they are made.

Making :class:`Rows` or :class:`SparseRows` reads all values once, refuses those that are not finite
and keeps a :class:`Summary`. Whatever is made from checked rows inherits the summary, so that later
questions ("do these rows suit a Poisson likelihood?") take no pass over the data.
"""

from __future__ import annotations

import abc
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.config import Binarisation
from sdlgm.errors import DataError
from sdlgm.random import generator as make_generator

if TYPE_CHECKING:
    from sdlgm.data.columns import Columns

__all__ = [
    "Dataset",
    "Rows",
    "Samples",
    "SparseRows",
    "Summary",
    "as_numbers",
    "split_indices",
]

SCANNED_AT_ONCE = 2**16
"""Values that are scanned at a time; a block of them stays in the processor's cache."""


class Summary(NamedTuple):
    """Range and kind of a table's values."""

    low: float
    """Smallest value, or a lower bound."""
    high: float
    """Largest value, or an upper bound."""
    whole: bool
    """Whether all values are whole numbers. ``False`` may be a guess if this is not ``exact``."""
    exact: bool = True
    """Whether this was found by a scan of just these values. Otherwise the values were selected or
    computed from others, and ``low`` and ``high`` are bounds."""

    def inherited(self) -> Summary:
        """Return the summary of values that are selected from these."""
        return self._replace(exact=False)

    def union(self, other: Summary) -> Summary:
        """Return the summary of the values of both. NaN stays NaN."""
        return Summary(
            float(np.minimum(self.low, other.low)),
            float(np.maximum(self.high, other.high)),
            self.whole and other.whole,
            self.exact and other.exact,
        )


_BITS = Summary(0.0, 1.0, whole=True, exact=False)


def scan(values: NDArray[Any]) -> Summary:
    """Summarise values of any shape in one pass, without a temporary array of their size.

    ``low`` and ``high`` are finite if and only if all values are.
    """
    if values.dtype.kind in "bui":
        return Summary(float(values.min()), float(values.max()), whole=True)
    found = Summary(math.inf, -math.inf, whole=True)
    block = max(1, SCANNED_AT_ONCE // math.prod(values.shape[1:]))
    for start in range(0, len(values), block):
        part = values[start : start + block]
        whole = found.whole and bool((np.trunc(part) == part).all())
        found = found.union(Summary(float(part.min()), float(part.max()), whole))
    return found


def as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers in the smallest of uint8, float32 and float64 that leaves them unchanged.

    Bytes and float32 are returned as they are and bits as bytes. Other numbers become float32, or
    float64 if float32 would change one of them: integers beyond 2^24, or most numbers of 64 bits.
    Numbers beyond the range of float32 (3.4e38) become infinite, which rows refuse.

    Raises
    ------
    DataError
        If values are not numbers, or are integers that float64 would change.

    Examples
    --------
    >>> as_numbers(np.array([1, 2])).dtype, as_numbers(np.array([1, 2**24 + 1])).dtype
    (dtype('float32'), dtype('float64'))
    """
    if values.dtype.kind not in "biuf":
        raise DataError(f"The values must be numbers, got {values.dtype}.")
    if values.dtype == bool:
        return values.astype(np.uint8)
    if values.dtype in (np.uint8, np.float32):
        return values
    if np.can_cast(values.dtype, np.float32):
        return values.astype(np.float32)
    if _keeps(values, np.float32):
        return values.astype(np.float32)
    if not (values.dtype.kind == "f" or _keeps(values, np.float64)):
        raise DataError(
            f"There are integers from {values.min()} to {values.max()}, which double precision "
            "would change. Subtract an offset first, so that they lie within 2^53."
        )
    wide = values.astype(np.float64, copy=False)
    largest = np.finfo(np.float32).max
    if wide.size and (wide.max() > largest or wide.min() < -largest):
        with np.errstate(over="ignore"):
            return wide.astype(np.float32)
    return wide


def _keeps(values: NDArray[Any], kind: type[np.floating[Any]]) -> bool:
    """Whether a type of floating-point numbers represents all values."""
    block = max(1, SCANNED_AT_ONCE // max(1, math.prod(values.shape[1:])))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(values), block):
            part = values[start : start + block]
            there = part.astype(kind)
            if values.dtype.kind == "f":
                same = (there == part) | np.isnan(part)
            else:  # compared as floats, integers beyond 2^53 would equal their neighbours
                small = np.abs(there) < 2.0**62
                same = small & (np.where(small, there, 0).astype(np.int64) == part.astype(np.int64))
            if not same.all():
                return False
    return True


class _Checked(abc.ABC):
    """Checks that dense and sparse rows share."""

    name: str
    dynamic: bool
    summary: Summary

    @abc.abstractmethod
    def _scan(self) -> Summary:
        """Summarise all values."""

    @abc.abstractmethod
    def _raise_not_finite(self, first_row: int) -> NoReturn:
        """Raise :class:`DataError` that names the first value that is not finite."""

    def require(self, complain: Callable[[Summary], str | None], what: str | None = None) -> None:
        """Raise :class:`DataError` if ``complain`` finds something wrong with the values.

        Parameters
        ----------
        complain
            Takes the summary of the values and says what is wrong with them, or ``None``. An
            inherited summary may be too wide, so the values are scanned again before they are
            refused; sound values are not.
        what
            What to call the rows in the message. Default: their name.
        """
        summary = self.summary
        complaint = complain(summary)
        if complaint and not summary.exact:
            summary = self._scan()
            complaint = complain(summary)
        if complaint:
            raise DataError(
                f"{what or self.name} (values from {summary.low:g} to {summary.high:g}): "
                f"{complaint}."
            )

    def _check(
        self, known: Summary | None, shape: Sequence[int], maximum: float, first_row: int = 0
    ) -> None:
        """Check new rows and keep their summary."""
        if len(shape) != 2 or 0 in shape:
            raise DataError(
                f"{self.name} must have rows and columns, got an array of shape {tuple(shape)}."
            )
        summary = known or self._scan()
        if not (math.isfinite(summary.low) and math.isfinite(summary.high)):
            self._raise_not_finite(first_row)
        object.__setattr__(self, "summary", summary)
        if self.dynamic:
            self.require(
                lambda values: _not_grey(
                    values,
                    maximum,
                    "a Bernoulli likelihood needs bits, or probabilities of bits,",
                    "Rescale the data, for example with MinMaxScaler, or use the gaussian "
                    "likelihood",
                )
            )


@dataclass(frozen=True)
class Rows(_Checked):
    """Samples as rows of one tensor, handed out in batches of float32.

    Numbers that float32 would change are kept and handed out as float64; see :func:`as_numbers`.

    Raises
    ------
    DataError
        If the tensor is not a table of finite numbers, with the place of the first other value; or
        if rows are ``dynamic`` and values lie outside of 0 to ``maximum``.
    """

    values: Tensor
    """Shape ``(n, D)``: uint8, float32, or float64 where float32 would change a value."""
    maximum: float = 1.0
    """The largest grey value, where values are grey."""
    dynamic: bool = False
    """Whether each visit draws new bits, with probability ``value / maximum``."""
    labels: Tensor | None = None
    """Class of each row (int64), where there is one; never used in training."""
    name: str = "the data"
    """What messages call these rows."""
    columns: tuple[str, ...] | None = None
    """Names of the columns, where they are known."""
    known: InitVar[Summary | None] = None
    """Summary of the values, where it is known, so that they are not scanned."""
    first_row: InitVar[int] = 0
    """Number of the first row in messages on values that are not finite."""
    summary: Summary = field(init=False, repr=False)
    """Range and kind of the values."""

    def __post_init__(self, known: Summary | None, first_row: int) -> None:
        if known is None and self.values.dtype not in (torch.uint8, torch.float32):
            object.__setattr__(self, "values", _as_tensor(self.values))
        self._check(known, self.values.shape, self.maximum, first_row)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_inputs(self) -> int:
        """Number D of columns."""
        return self.values.shape[1]

    def batch(self, index: Tensor | slice, generator: torch.Generator) -> Tensor:
        """Return rows ``(b, D)``; ``generator`` draws the bits of dynamic ones.

        They are float32, or float64 if float32 would change a value of the table.
        """
        values = self.values[index]
        if self.dynamic:
            return _draw_bits(values, self.maximum, generator)
        return _floats(values)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield all rows in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), generator)

    def to(self, device: torch.device) -> Rows:
        """Return these rows on a device, without a scan of their values."""
        return replace(self, values=self.values.to(device), known=self.summary)

    def grey(self) -> Tensor:
        """Return all values on the scale of the model's input, bits as their probabilities."""
        values = self.values.to(torch.float32) if self.dynamic else _floats(self.values)
        return values / self.maximum if self.dynamic and self.maximum != 1 else values

    def subset(self, index: Tensor) -> Rows:
        """Return the rows at ``index``."""
        labels = None if self.labels is None else self.labels[index]
        values = self.values[index]
        return replace(self, values=values, labels=labels, known=self.summary.inherited())

    def split(self, fraction: float, seed: int) -> tuple[Rows, Rows]:
        """Return (the rest, a random share of the rows), each in the original order."""
        rest, held = split_indices(len(self), fraction, seed, self.name)
        return self.subset(rest), self.subset(held)

    def binarise(self, kind: Binarisation, seed: int) -> Rows:
        """Turn grey values into bits; see :class:`~sdlgm.config.DataConfig`."""
        if kind == "none":
            return self
        self.require(
            lambda values: _not_grey(
                values,
                self.maximum,
                f"binarisation = {kind!r} needs grey values",
                "Rescale them, or use binarisation = 'none'",
            )
        )
        dynamic = replace(self, dynamic=True, known=self.summary)
        if kind == "dynamic":
            return dynamic
        if kind == "threshold":
            bits = self.values * 2.0 >= self.maximum
        else:
            bits = dynamic.batch(slice(None), make_generator(seed, "fixed"))
        return replace(self, values=bits.byte(), maximum=1.0, known=_BITS)

    def named(self, name: str) -> Rows:
        """Return these rows under another name."""
        return replace(self, name=name, known=self.summary)

    def sha256(self) -> str:
        """Digest of the values, to tell whether two runs saw the same data."""
        sha = hashlib.sha256(f"{self.values.dtype} {tuple(self.values.shape)}".encode())
        sha.update(self.values.contiguous().view(-1).numpy().data)
        return sha.hexdigest()

    def _scan(self) -> Summary:
        return scan(self.values.detach().cpu().numpy())

    def _raise_not_finite(self, first_row: int) -> NoReturn:
        bad = ~torch.isfinite(self.values)
        row, column = (int(i) for i in bad.nonzero()[0])
        value = float(self.values[row, column])
        number = int(bad.sum())
        raise _not_finite(self.name, number, value, first_row + row, column, self.columns)


@dataclass(frozen=True)
class SparseRows(_Checked):
    """Samples as rows of a sparse table, handed out as dense batches like those of :class:`Rows`.

    Raises
    ------
    DataError
        As for :class:`Rows`.
    """

    table: Any
    """A ``scipy.sparse.csr_array`` of float32, shape ``(n, D)``."""
    dynamic: bool = False
    """Whether each visit draws new bits, with the values as probabilities."""
    name: str = "the data"
    """What messages call these rows."""
    columns: tuple[str, ...] | None = None
    """Names of the columns, where they are known."""
    known: InitVar[Summary | None] = None
    """Summary of the values, where it is known, so that they are not scanned."""
    summary: Summary = field(init=False, repr=False)
    """Range and kind of the values, with 0 among them."""

    def __post_init__(self, known: Summary | None) -> None:
        self._check(known, self.table.shape, 1.0)

    def __len__(self) -> int:
        return self.table.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, D)``."""
        return self.table.shape

    @property
    def n_inputs(self) -> int:
        """Number D of columns."""
        return self.table.shape[1]

    def batch(self, index: Tensor | slice, generator: torch.Generator) -> Tensor:
        """Return rows ``(b, D)`` as :meth:`Rows.batch` does."""
        values = self._dense(index)
        return _draw_bits(values, 1.0, generator) if self.dynamic else _floats(values)

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield all rows in order, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), generator)

    def split(self, size: int, /) -> Iterator[Tensor]:
        """Yield the values of all rows in order, as ``Tensor.split`` does; no bits are drawn."""
        for start in range(0, len(self), size):
            yield self._dense(slice(start, start + size))

    def grey(self) -> SparseRows:
        """Return these rows: their values are on the scale of the model's input."""
        return self

    def sha256(self) -> str:
        """Digest of the values, to tell whether two runs saw the same data."""
        sha = hashlib.sha256(f"csr {self.shape}".encode())
        for part in (self.table.indptr, self.table.indices, self.table.data):
            sha.update(np.ascontiguousarray(part).data)
        return sha.hexdigest()

    def _scan(self) -> Summary:
        return scan(self.table.data).union(Summary(0.0, 0.0, whole=True))

    def _raise_not_finite(self, first_row: int) -> NoReturn:
        bad = np.flatnonzero(~np.isfinite(self.table.data))
        row = int(np.searchsorted(self.table.indptr, bad[0], side="right")) - 1
        column, value = int(self.table.indices[bad[0]]), float(self.table.data[bad[0]])
        raise _not_finite(self.name, len(bad), value, first_row + row, column, self.columns)

    def _dense(self, index: Tensor | slice) -> Tensor:
        place = index.numpy() if isinstance(index, Tensor) else index
        return torch.from_numpy(self.table[place].toarray())


Samples = Rows | SparseRows
"""Checked rows that a model can be trained on."""


@dataclass(frozen=True)
class Dataset:
    """A named data set with its splits."""

    name: str
    train: Rows
    test: Rows
    image_shape: tuple[int, int] | None = None
    """Height and width, where a row is an image."""
    columns: Columns | None = None
    """Names, types and layout of the columns of a file."""
    places: Tensor | None = None
    """Number in the file of each row, the training rows first, where a file was split."""
    validation: Rows | None = None
    """Rows for the choice of settings, where the set has some of its own."""
    source: str | None = None
    """What the rows were made from, where there is more than one possibility."""

    def rows(self, split: str) -> Rows:
        """Return the rows of ``"train"``, ``"test"`` or ``"all"``.

        ``"all"`` are the rows of a file in its order; of a built-in set they are the training rows
        followed by the test rows, without validation rows.
        """
        if split == "all":
            values = self._in_order(self.train.values, self.test.values)
            labels = (
                self._in_order(self.train.labels, self.test.labels)
                if self.train.labels is not None and self.test.labels is not None
                else None
            )
            known = self.train.summary.union(self.test.summary)
            return replace(self.train, values=values, labels=labels, name=self.name, known=known)
        if split not in ("train", "test"):
            raise DataError(f"The split is 'train', 'test' or 'all', got {split!r}.")
        return self.train if split == "train" else self.test

    def _in_order(self, train: Tensor, test: Tensor) -> Tensor:
        joined = torch.cat([train, test])
        return joined if self.places is None else joined[self.places.argsort()]


def split_indices(number: int, fraction: float, seed: int, name: str) -> tuple[Tensor, Tensor]:
    """Return the numbers of (the rest, a random share) of ``number`` rows, each in order.

    Raises
    ------
    DataError
        If there are too few rows.
    """
    held = max(1, round(fraction * number))
    if held >= number:
        raise DataError(f"{name}: {number} rows are too few to hold out {fraction:g} of them.")
    order = torch.randperm(number, generator=make_generator(seed, "split"))
    return order[held:].sort().values, order[:held].sort().values


def _as_tensor(values: Tensor) -> Tensor:
    """Return a tensor in the type of :func:`as_numbers`."""
    values = values.detach().cpu()
    if values.dtype == torch.bfloat16:  # numpy has no such type
        return values.float()
    return torch.from_numpy(as_numbers(values.numpy()))


def _floats(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.to(torch.float32)


def _draw_bits(grey: Tensor, maximum: float, generator: torch.Generator) -> Tensor:
    grey = grey.to(torch.float32) if grey.dtype == torch.float64 else grey
    noise = torch.rand(grey.shape, generator=generator, device=generator.device)
    # Strict, so that a probability of 0 never gives a 1 and one of 1 always does.
    return (noise * maximum < grey).to(torch.float32)


def _not_grey(values: Summary, maximum: float, need: str, advice: str) -> str | None:
    if values.low >= 0 and values.high <= maximum:
        return None
    return f"{need} from 0 to {maximum:g}. {advice}"


def not_finite(value: float) -> str:
    """Name a value that is not finite, as it was read in single precision."""
    return f"{value}, or a number beyond 3.4e38" if math.isinf(value) else f"{value}"


def cure_of(value: float) -> str:
    """Return a sentence on what to do with a number that single precision does not hold."""
    return " Give columns of larger numbers another unit." if math.isinf(value) else ""


def _not_finite(
    name: str,
    number: int,
    value: float,
    row: int,
    column: int,
    columns: tuple[str, ...] | None,
) -> DataError:
    values = "value that is" if number == 1 else "values that are"
    return DataError(
        f"{name} has {number} {values} not finite, the first ({not_finite(value)}) in row {row}, "
        f"column {repr(columns[column]) if columns else column} (counted from 0). Drop or fill "
        f"such rows first.{cure_of(value)}"
    )
