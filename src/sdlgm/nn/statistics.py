"""Statistics of the training data, and the one way in which values are centred and scaled.

Values stay in double precision until they are in standard units: a column of Unix seconds or of
wavelengths in metres would lose its differences in single precision. Whether a column varies is
decided by its smallest and largest value, never by a fixed threshold, so that the unit of a column
does not matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sdlgm.errors import DataError, warn

__all__ = [
    "DataStatistics",
    "Table",
    "data_statistics",
    "double_kept",
    "from_standard",
    "list_columns",
    "needs_double",
    "rows_at_once",
    "standardise",
    "warn_of_constant_columns",
    "with_common_scale",
]

NUMBERS_AT_ONCE = 2**21
"""Numbers of a table that are summarised at a time: 16 MB in float64."""

KEPT_BITS = 32
"""Binary digits of centres and deviations, relative to a deviation. See :func:`data_statistics`."""

NAMES = 10
"""Most columns that a warning names."""


class DataStatistics(NamedTuple):
    """Means, standard deviations, number of levels and ranges of the training data."""

    mean: Tensor
    """Mean of each dimension, shape ``(D,)``."""
    scale: Tensor
    """Standard deviation of each dimension (1 where it is constant), shape ``(D,)``."""
    levels: int
    """One more than the largest value, for categorical data (at least 2)."""
    centre: Tensor | None = None
    """The mean, rounded relative to the deviation, shape ``(D,)``; ``None`` stands for the mean."""
    low: Tensor | None = None
    """Smallest value of each dimension, shape ``(D,)``, where it is known."""
    high: Tensor | None = None
    """Largest value of each dimension, shape ``(D,)``, where it is known."""

    @property
    def shift(self) -> Tensor:
        """What to subtract in order to centre values, shape ``(D,)``."""
        return self.mean if self.centre is None else self.centre

    @property
    def constant(self) -> Tensor:
        """Whether all values of a dimension are equal, shape ``(D,)``; unknown is ``False``."""
        if self.low is None or self.high is None:
            return torch.zeros(len(self.mean), dtype=torch.bool)
        return self.low == self.high


class Table(Protocol):
    """Anything that yields its rows in dense blocks, like a tensor ``(n, D)``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, D)``."""
        ...

    def split(self, size: int, /) -> Iterator[Tensor] | tuple[Tensor, ...]:
        """Return all rows in order, ``size`` at a time."""
        ...


def rows_at_once(width: int) -> int:
    """Return how many rows of ``width`` numbers are summarised at a time, at least 1."""
    return max(1, NUMBERS_AT_ONCE // max(1, width))


def data_statistics(
    x: Table, block: int | None = None, *, weights: Tensor | None = None
) -> DataStatistics:
    """Summarise rows ``x`` of shape ``(n, D)`` in two passes, block by block in float64.

    The first pass finds means and ranges, the second deviations from the means. Centres and
    deviations are rounded to :data:`KEPT_BITS` binary digits in units of the range. The rounding is
    far below that of single precision, and makes the scaled values independent of the order of the
    rows and of their unit.

    Parameters
    ----------
    x
        A tensor, or sparse rows, which are made dense a block at a time.
    block
        Rows at a time. Default: :func:`rows_at_once`.
    weights
        Weight of each row, shape ``(n,)``. Rows of weight 0 are ignored.

    Raises
    ------
    DataError
        If values are so large that their sum or range overflows.

    Examples
    --------
    >>> metres = torch.tensor([[4e-7], [7e-7]], dtype=torch.float64)
    >>> found = data_statistics(metres)
    >>> standardise(metres, found.shift, found.scale).flatten().round(decimals=9)
    tensor([-1.,  1.], dtype=torch.float64)
    """
    number, width = x.shape
    block = rows_at_once(width) if block is None else block
    weights = torch.ones(number, dtype=torch.float64) if weights is None else weights.double()
    parts = [weight.unsqueeze(-1) for weight in weights.split(block)]
    total = torch.zeros(width, dtype=torch.float64)
    low, high = torch.full_like(total, torch.inf), torch.full_like(total, -torch.inf)
    for rows, weight in zip(x.split(block), parts, strict=True):
        total += (weight * rows.double()).sum(0)
        seen = rows[weight[:, 0] > 0].double()
        if len(seen):
            low, high = torch.minimum(low, seen.amin(0)), torch.maximum(high, seen.amax(0))
    mean, span = total / weights.sum(), high - low
    _refuse_overflow(mean + span, high)
    unit = torch.where(span > 0, span, 1.0)
    first, second = torch.zeros_like(total), torch.zeros_like(total)
    for rows, weight in zip(x.split(block), parts, strict=True):
        apart = (rows.double() - mean) / unit
        first += (weight * apart).sum(0)
        second += (weight * apart.square()).sum(0)
    first, second = first / weights.sum(), second / weights.sum()  # the mean is itself rounded
    deviation = (second - first.square()).clamp_min(0).sqrt()
    deviation, offset = _rounded(deviation, (mean - low) / unit + first)
    scale = deviation * unit
    scale = torch.where(scale > 0, scale, 1.0)
    centre = torch.where(low == high, low, low + offset * unit)
    levels = int(min(max(1.0, float(high.max())), 65_535)) + 1
    return DataStatistics(mean, scale, levels, centre, low, high)


def with_common_scale(statistics: DataStatistics) -> DataStatistics:
    """Return statistics with one scale for all columns: the root of their mean variance."""
    scales = torch.where(statistics.constant, 0.0, statistics.scale)
    largest = scales.max()
    unit = torch.exp2(torch.where(largest > 0, largest, 1.0).log2().floor())
    scale = unit * (scales / unit).square().mean().sqrt()  # squares of tiny ones would vanish
    scale = torch.where(scale > 0, scale, 1.0)
    return statistics._replace(scale=scale.expand_as(statistics.scale).clone())


def standardise(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return ``(x - shift) / scale``, computed in double precision.

    The result is in double precision too; the caller rounds it to the precision of its networks.
    """
    kind = _widest(x.device)
    return (x.to(kind) - shift.to(kind)).div_(scale.to(kind))


def from_standard(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Undo :func:`standardise` in double precision.

    The result is rounded to the precision of ``x`` unless the columns need double precision
    (:func:`needs_double`).
    """
    kind = _widest(x.device)
    values = torch.addcmul(shift.to(kind), scale.to(kind), x.to(kind))
    return values if needs_double(shift, scale) else values.to(x.dtype)


def needs_double(shift: Tensor, scale: Tensor) -> bool:
    """Whether single precision would blur values of such columns.

    This is so if its rounding exceeds 1/1000 of the deviation of a column, or if values lie outside
    of its range of exponents.
    """
    blurred = shift.abs() > 2.0**14 * scale
    outside = (scale < 2.0**-60) | (scale > 2.0**60)
    return bool((blurred | outside).any())


def warn_of_constant_columns(
    statistics: DataStatistics,
    what: str,
    columns: Sequence[str] | None = None,
) -> None:
    """Warn once of all columns whose values are all equal.

    Parameters
    ----------
    statistics
        Statistics of the training rows.
    what
        What to call the rows.
    columns
        Names of the columns. Default: their numbers.
    """
    places = statistics.constant.nonzero().flatten().tolist()
    if places:
        warn(
            f"{what}: {len(places)} of {len(statistics.mean)} columns are constant, "
            f"{list_columns(places, columns)}. They cannot tell rows apart, and are "
            "centred but not scaled. Drop them, or check how they were read."
        )


def list_columns(places: Sequence[int], columns: Sequence[str] | None) -> str:
    """Name columns in a message: by their names, or by numbers counted from 0."""
    names = [repr(str(columns[place])) if columns is not None else str(place) for place in places]
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    counted = "" if columns is not None else " (counted from 0)"
    return f"column{'s'[: len(names) > 1]} {', '.join(names[:NAMES])}{more}{counted}"


@contextlib.contextmanager
def double_kept(module: nn.Module, move: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Keep the double-precision buffers of a module while it is moved, or its type is changed.

    They hold statistics of the data. Apple's GPUs (``mps``) have no double precision: there they
    are rounded.
    """
    buffers = {k: v for k, v in module.named_buffers(recurse=False) if v.dtype == torch.float64}
    device = move(torch.empty(0)).device
    if _widest(device) != torch.float64:
        for name, buffer in buffers.items():
            setattr(module, name, buffer.float())
        buffers = {}
    yield
    for name, buffer in buffers.items():
        if getattr(module, name).dtype != torch.float64:
            setattr(module, name, buffer.to(device))


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def _rounded(deviation: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Round deviations to ``KEPT_BITS`` digits, and offsets to the last digit of a deviation."""
    _, exponent = np.frexp(deviation.numpy())
    places = KEPT_BITS - exponent
    kept = (np.ldexp(np.rint(np.ldexp(part.numpy(), places)), -places) for part in
            (deviation, offset))  # fmt: skip
    rounded_deviation, rounded_offset = (torch.from_numpy(part) for part in kept)
    return rounded_deviation, rounded_offset


def _refuse_overflow(values: Tensor, high: Tensor) -> None:
    bad = (~torch.isfinite(values)).nonzero().flatten().tolist()
    if bad:
        raise DataError(
            f"Column {bad[0]} (counted from 0) holds values up to {float(high[bad[0]]):g}, too "
            "large to compute with. Rescale it first."
        )
