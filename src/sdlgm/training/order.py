"""The order in which rows are visited, as a function of the step."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sdlgm.random import generator

__all__ = ["Batches", "Order", "WeightedOrder"]


class Batches(Protocol):
    """Says which rows a step visits."""

    def batch(self, step: int) -> Tensor:
        """Return the indices of step ``0, 1, ...``, shape ``(batch_size,)``."""
        ...


class Order:
    """Batches of a new permutation each epoch; every batch is full (a remainder waits its turn).

    Nothing is carried from step to step, so that a resumed training visits the same rows.
    """

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self.rows, self.seed = rows, seed
        self.batch_size = min(batch_size, rows)
        self.batches_per_epoch = rows // self.batch_size
        self._epoch, self._permutation = -1, torch.empty(0)

    def batch(self, step: int) -> Tensor:
        """Return the indices of step ``0, 1, ...``, shape ``(batch_size,)``."""
        epoch, place = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            source = generator(self.seed, "order", epoch)
            self._epoch, self._permutation = epoch, torch.randperm(self.rows, generator=source)
        return self._permutation[place * self.batch_size : (place + 1) * self.batch_size]


class WeightedOrder:
    r"""Batches drawn by the weights of rows, so that a weight of 2 is the same as two rows.

    The rows are laid end to end on a line, each as long as its weight. A step cuts the line into
    ``batch_size`` equal parts and takes the row at one point of each, uniform in its part: a
    stratified sample. It holds :math:`b\, w_i / \sum_j w_j` copies of row :math:`i` on average,
    and its number of copies is always less than two from that.

    Along the line rows go by ``keys``. If these are functions of the rows' content, the batches of
    a seed depend only on what rows there are and on the ratios of their weights, not on how the
    rows are arranged or whether a row of weight 2 is written twice.

    Parameters
    ----------
    weights
        Weight of each row, 0 or more, shape ``(n,)``, float64. Rows of weight 0 are never visited.
    keys
        Place of each row on the line, shape ``(n,)``.
    batch_size, seed
        Number of rows a step, which may be more than ``n``, and source of the points.
    """

    def __init__(self, weights: Tensor, keys: Tensor, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed = batch_size, seed
        kept = weights.nonzero().squeeze(-1)
        self._rows = kept[keys[kept].argsort(stable=True)]
        self._ends = weights[self._rows].cumsum(0)

    def batch(self, step: int) -> Tensor:
        """Return the indices of step ``0, 1, ...``, shape ``(batch_size,)``."""
        source = generator(self.seed, "order", step)
        place = torch.rand(self.batch_size, dtype=torch.float64, generator=source)
        place.add_(torch.arange(self.batch_size)).mul_(self._ends[-1] / self.batch_size)
        found = torch.searchsorted(self._ends, place, right=True)
        return self._rows[found.clamp_(max=len(self._rows) - 1)]
