"""Which rows each step visits, as a function of the step."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sdlgm.random import generator

__all__ = ["Batches", "Order", "WeightedOrder"]


class Batches(Protocol):
    """The rows of each step."""

    def batch(self, step: int) -> Tensor:
        """Return the row indices of step ``0, 1, ...``, shape ``(batch_size,)``."""
        ...

    def at_most(self, number: int) -> tuple[Tensor, Tensor]:
        """Return indices and weights of all rows, or those of ``number`` rows drawn by weight."""
        ...


class Order:
    """Full batches of a new permutation each epoch; the remainder of an epoch is left out.

    A batch depends only on the seed and the step, so a resumed training visits the same rows.
    """

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self.batch_size = min(batch_size, rows)
        self.batches_per_epoch = rows // self.batch_size
        self._epoch, self._permutation = -1, torch.empty(0)

    def batch(self, step: int) -> Tensor:
        """Return the row indices of step ``0, 1, ...``, shape ``(batch_size,)``."""
        epoch, place = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            source = generator(self.seed, "order", epoch)
            self._epoch, self._permutation = epoch, torch.randperm(self.rows, generator=source)
        return self._permutation[place * self.batch_size : (place + 1) * self.batch_size]

    def at_most(self, number: int) -> tuple[Tensor, Tensor]:
        """Return indices and weights of all rows, or those of ``number`` rows drawn at random."""
        index = torch.arange(self.rows)
        if self.rows > number:
            source = generator(self.seed, "rows of turns")
            index = torch.randperm(self.rows, generator=source)[:number].sort().values
        return index, torch.ones(len(index))


class WeightedOrder:
    r"""Batches drawn by weight, so that a weight of 2 equals duplicating the row.

    This is stratified sampling. The rows lie end to end on a line, each as long as its weight. A
    step cuts the line into ``batch_size`` equal parts, draws a uniform point in each and takes the
    row at that point. A batch of size :math:`b` holds :math:`b\, w_i / \sum_j w_j` copies of row
    :math:`i` on average, and differs from that by less than two.

    The rows are sorted by ``keys``. If the keys are functions of the rows' content, the batches of
    a seed depend only on the content and on the ratios of the weights, not on the order of the rows
    or on whether a row of weight 2 is written twice.

    Parameters
    ----------
    weights
        Weight of each row, 0 or more, shape ``(n,)``, float64. Rows of weight 0 are never visited.
    keys
        Sort key of each row, shape ``(n,)``.
    batch_size
        Number of rows in a step; may exceed ``n``.
    seed
        Seed of the random points.
    """

    def __init__(self, weights: Tensor, keys: Tensor, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed = batch_size, seed
        kept = weights.nonzero().squeeze(-1)
        self._rows = kept[keys[kept].argsort(stable=True)]
        self._ends = weights[self._rows].cumsum(0)

    def batch(self, step: int) -> Tensor:
        """Return the row indices of step ``0, 1, ...``, shape ``(batch_size,)``."""
        return self._draw(self.batch_size, generator(self.seed, "order", step))

    def at_most(self, number: int) -> tuple[Tensor, Tensor]:
        """Return all rows in the order of their keys with their weights, or a draw by weight."""
        if len(self._rows) <= number:
            return self._rows, self._ends.diff(prepend=torch.zeros(1, dtype=torch.float64))
        return self._draw(number, generator(self.seed, "rows of turns")), torch.ones(number)

    def _draw(self, number: int, source: torch.Generator) -> Tensor:
        """Draw rows, one in each of ``number`` parts of equal weight."""
        place = torch.rand(number, dtype=torch.float64, generator=source)
        place.add_(torch.arange(number)).mul_(self._ends[-1] / number)
        found = torch.searchsorted(self._ends, place, right=True)
        return self._rows[found.clamp_(max=len(self._rows) - 1)]
