"""Rows that the first layer of an ensemble multiplies by its weights in a way of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["OwnProduct", "SparseRows"]


@dataclass(frozen=True)
class OwnProduct:
    """Dense rows ``(members, b, inputs)`` with a function that multiplies them by the weights.

    What trains these weights may then keep the product and its gradient, which are smaller than the
    gradient of the weights.
    """

    values: Tensor
    """The rows."""
    multiply: Callable[[Tensor, Tensor], Tensor]
    """Maps rows and the weights to the product ``(members, b, outputs)``."""

    def with_values(self, values: Tensor) -> Self:
        """Return other rows with the same function."""
        return replace(self, values=values)

    def times(self, weight: Tensor) -> Tensor:
        """Return the product ``(members, b, outputs)``."""
        return self.multiply(self.values, weight)


@dataclass(frozen=True)
class SparseRows:
    """Sparse rows ``(members, b, inputs)`` for the first layer of an ensemble.

    The weights ``(members, inputs, outputs)`` of that layer are read as a table of ``members *
    inputs`` lines. A non-zero of member m and column j belongs to line ``m * inputs + j``.
    """

    shape: tuple[int, int]
    """Number of members, and number b of rows of each."""
    lines: Tensor
    """Lines of the table of the non-zeros, row by row and member by member, int64."""
    values: Tensor
    """Their values."""
    starts: Tensor
    """Place of the first non-zero of each of the ``members * b`` rows."""
    table: Tensor | None = None
    """What ``lines`` count instead of the layer's weights, such as the lines that occur."""
    multiply: Callable[[SparseRows, Tensor], Tensor] | None = None
    """What multiplies such rows by the weights as a table, see :class:`OwnProduct`."""

    def with_values(self, values: Tensor) -> Self:
        """Return rows with other values in the same places."""
        return replace(self, values=values)

    def times(self, weight: Tensor) -> Tensor:
        """Return the product ``(members, b, outputs)`` with weights of each member."""
        table = weight.flatten(0, 1) if self.table is None else self.table
        if self.multiply is not None:
            return self.multiply(self, table)
        return self.times_table(table)

    def times_table(self, table: Tensor) -> Tensor:
        """Return the product ``(members, b, outputs)`` with a table of lines."""
        found = F.embedding_bag(
            self.lines, table, self.starts, mode="sum", per_sample_weights=self.values
        )
        return found.view(*self.shape, -1)

    def transposed_times(self, other: Tensor, lines: int) -> Tensor:
        """Return the product ``(lines, outputs)`` of the transposed rows, on the CPU.

        ``other`` is ``(members, b, outputs)``, and ``lines`` the number of lines of the table.
        """
        from scipy.sparse import csr_array  # which a model of dense rows does not need

        ends = np.append(self.starts.numpy(), len(self.lines))
        parts = (self.values.numpy(), self.lines.numpy(), ends)
        rows = csr_array(parts, (math.prod(self.shape), lines))
        return torch.from_numpy(rows.tocsc().T @ other.flatten(0, 1).numpy())
