"""Statistics of the training data, on which networks are centred."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["DataStatistics", "Table", "data_statistics", "rows_at_once"]

NUMBERS_AT_ONCE = 2**21
"""Numbers of a table that are summarised at a time: 16 MB in float64."""


class DataStatistics(NamedTuple):
    """Means, standard deviations and number of levels of the training data."""

    mean: Tensor
    """Mean of each dimension, shape ``(D,)``."""
    scale: Tensor
    """Standard deviation of each dimension (1 where it is constant), shape ``(D,)``."""
    levels: int
    """One more than the largest value, for categorical data (at least 2)."""


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
    """Summarise rows ``x`` of shape ``(n, D)``, block by block in float64.

    Parameters
    ----------
    x
        A tensor, or sparse rows, which are made dense a block at a time.
    block
        Rows at a time. Default: :func:`rows_at_once`.
    weights
        Weight of each row, shape ``(n,)``. Rows of weight 0 are ignored.
    """
    number, width = x.shape
    block = rows_at_once(width) if block is None else block
    weights = torch.ones(number, dtype=torch.float64) if weights is None else weights.double()
    parts = [weight.unsqueeze(-1) for weight in weights.split(block)]
    total = torch.zeros(width, dtype=torch.float64)
    square = torch.zeros_like(total)
    largest = 1.0
    for rows, weight in zip(x.split(block), parts, strict=True):
        total += (weight * rows.double()).sum(0)
        seen = rows[weight[:, 0] > 0]
        largest = max(largest, float(seen.max())) if len(seen) else largest
    mean = total / weights.sum()
    for rows, weight in zip(x.split(block), parts, strict=True):
        square += (weight * (rows.double() - mean).square()).sum(0)
    scale = (square / weights.sum()).sqrt()
    scale = torch.where(scale > 1e-8 * (1 + mean.abs()), scale, 1.0)
    levels = int(min(largest, 65_535)) + 1
    return DataStatistics(mean.float(), scale.float(), levels)
