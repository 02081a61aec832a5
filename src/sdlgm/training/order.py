"""The order in which rows are visited, as a function of the step."""

from __future__ import annotations

import torch
from torch import Tensor

from sdlgm.random import generator

__all__ = ["Order"]


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
