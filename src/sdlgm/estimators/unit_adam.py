r"""Adam with one mean square for each unit of a layer, for inputs that are mostly 0.

Adam divides the step of each weight by the root of a mean square of its own. The weights of a rare
input then move as far as those of a frequent one, however little its few rows say. Here all weights
that lead into a unit share one mean square: with the gradients :math:`g_{ju}` of inputs
:math:`j = 1, \dots, D` and unit u,

.. math::

    m_{ju} &\leftarrow \beta_1 m_{ju} + (1 - \beta_1) g_{ju}, \qquad
    v_u \leftarrow \beta_2 v_u + (1 - \beta_2) \frac{1}{D} \sum_j g_{ju}^2, \\
    w_{ju} &\leftarrow (1 - \eta_t \lambda) w_{ju}
        - \frac{\eta_t}{1 - \beta_1^t} \frac{m_{ju}}{\sqrt{v_u / (1 - \beta_2^t)} + \epsilon}

with the rate :math:`\eta_t` and the weight decay :math:`\lambda`.

An input that does not occur in a batch has no gradient, and its weights move in a way that all
such weights share. Those last touched at step s have moved after step t by

.. math::

    -m_{ju} \sum_{i=s+1}^{t} \frac{\eta_i}{1 - \beta_1^i}
    \frac{\beta_1^{i-s}}{\sqrt{v_u^{(i)} / (1 - \beta_2^i)} + \epsilon}
    \prod_{k=i+1}^{t} (1 - \eta_k \lambda).

The sum is one number for each s and u. So :class:`LazyUnitAdam` brings weights up to date when they
are needed, and a step takes time by the inputs that occur. The result is the same but for rounding.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from sdlgm.nn.sparse_rows import SparseRows

__all__ = ["LazyUnitAdam", "UnitAdam"]

FIRST, SECOND = 0.9, 0.999
"""Decay of the mean gradient and of the mean square in a step."""
TINY = 1e-8
"""Added to roots of mean squares."""
BLOCK = 512
"""Lines that are changed at a time, so that what is computed stays in the cache."""
SWEEP = 128
"""Steps after which all lines are brought up to date, which bounds the table of their moves."""


class UnitAdam:
    """Adam for weights ``(members, inputs, units)``, with one mean square a unit of each member.

    :meth:`start` must come first, and :meth:`finish` last. A step is :meth:`multiply`, and
    :meth:`step` once the product has a gradient.
    """

    _rows: Tensor | SparseRows

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self._forget()

    def start(self, optimiser: torch.optim.Optimizer, weight_decay: float) -> None:
        """Take over from an Adam of all parameters; the state of an earlier training is there."""
        weights = self.parameter.detach()
        self._inputs = weights.shape[1]
        state = optimiser.state.setdefault(self.parameter, {})
        if not state:
            state.update(
                step=torch.tensor(0.0),
                exp_avg=torch.zeros_like(weights),
                exp_avg_sq=torch.zeros_like(weights[:, :1]),
            )
        self._state: dict[str, Any] = state
        self.mean, self.square = state["exp_avg"], state["exp_avg_sq"]
        self.weight_decay = weight_decay
        self.number = int(state["step"])

    def multiply(self, rows: Tensor | SparseRows, weight: Tensor) -> Tensor:
        """Return the product of rows and the weights, for a step.

        A step takes the gradient of the product, and the weights get none.
        """
        known = weight.detach()
        product = torch.bmm(rows, known) if isinstance(rows, Tensor) else rows.times_table(known)
        self._rows = rows
        self._product = product.requires_grad_()
        return product

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the weights by the gradient of the product."""
        rows, gradient = self._rows, self._product.grad
        if gradient is None:
            raise RuntimeError("The product has no gradient.")
        self.number += 1
        if isinstance(rows, Tensor):
            # The gradient of the weights is G = rows' gradient. Of G'G only the diagonal is needed.
            squares = torch.bmm(torch.bmm(rows, rows.mT), gradient).mul_(gradient)
            size = self._size(self.square, squares.sum(1, keepdim=True).clamp_min_(0), rate)
            self.mean.baddbmm_(rows.mT, gradient, beta=FIRST, alpha=1 - FIRST)
            self._move(self.parameter, self.mean, size, rate)
        else:
            for member, each in enumerate(rows.transposed_times(gradient, self._inputs)):
                mean = self.mean[member].lerp_(each, 1 - FIRST)
                squares = each.square_().sum(0, keepdim=True)  # in place: what is in the cache
                size = self._size(self.square[member], squares, rate)
                self._move(self.parameter[member], mean, size, rate)
        self._forget()

    def _size(self, square: Tensor, latest: Tensor, rate: float) -> Tensor:
        """Return what mean gradients are multiplied by in a step, ``(..., 1, units)``.

        ``latest`` are sums of squared gradients, which the mean squares are brought up to date by.
        """
        square.mul_(SECOND).add_(latest, alpha=(1 - SECOND) / self._inputs)
        root = (square / (1 - SECOND**self.number)).sqrt_().add_(TINY)
        return root.reciprocal_().mul_(rate / (1 - FIRST**self.number))

    def _move(self, weights: Tensor, mean: Tensor, size: Tensor, rate: float) -> None:
        weights.mul_(1 - rate * self.weight_decay).addcmul_(mean, size, value=-1)

    def _forget(self) -> None:
        self._rows = torch.empty(0)
        self._product = torch.empty(0)

    def catch_up(self) -> None:
        """Bring all weights up to date."""

    def finish(self) -> None:
        """Bring the weights, and the state that a later training continues from, up to date."""
        self.catch_up()
        self._state["step"] = torch.tensor(float(self.number))


class LazyUnitAdam(UnitAdam):
    """The same, of which a step touches some lines of a table ``(members * inputs, units)``.

    A step is :meth:`take`, and :meth:`step` once these lines have a gradient.
    """

    def start(self, optimiser: torch.optim.Optimizer, weight_decay: float) -> None:
        """Take over from an Adam of all parameters; the state of an earlier training is there."""
        super().start(optimiser, weight_decay)
        members, _, units = self.parameter.shape
        self.table, self._means = self.parameter.detach().flatten(0, 1), self.mean.flatten(0, 1)
        self._last = torch.zeros(len(self.table), dtype=torch.int64)
        # For each step s since all lines were brought up to date: what the weights of a line that
        # was last touched then are multiplied by, and what its mean gradient is.
        self._kept = torch.ones(SWEEP + 1)
        self._moves = torch.zeros(SWEEP + 1, members, units)
        self._fading = (FIRST ** torch.arange(SWEEP + 1, dtype=torch.float64)).float()
        self._since = 0

    def take(self, lines: Tensor) -> Tensor:
        """Return lines, in ascending order, up to date for a step, which takes their gradient."""
        self._lines = lines
        self._taken, self._taken_means = self._current(lines)
        return self._taken.requires_grad_()

    def _forget(self) -> None:
        self._lines = torch.empty(0, dtype=torch.int64)
        self._taken = self._taken_means = torch.empty(0)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the lines that were taken, by their gradients."""
        lines, taken, gradient = self._lines, self._taken, self._taken.grad
        if gradient is None:
            raise RuntimeError("The lines that were taken have no gradient.")
        parts = self._members_of(lines)
        squares = torch.zeros_like(self.square)
        for member, part in parts:
            for few in gradient[part].split(BLOCK):
                squares[member, 0] += few.square().sum(0)
        self.number += 1
        size = self._size(self.square, squares, rate)
        decay = 1 - rate * self.weight_decay
        self._advance(size, decay)
        weights = taken.detach()
        for member, part in parts:
            for start in range(part.start, part.stop, BLOCK):
                few = slice(start, min(start + BLOCK, part.stop))
                mean = self._taken_means[few].lerp_(gradient[few], 1 - FIRST)
                changed = weights[few].mul_(decay).addcmul_(mean, size[member], value=-1)
                self._means.index_copy_(0, lines[few], mean)
                self.table.index_copy_(0, lines[few], changed)
        self._last[lines] = self._since
        self._forget()
        if self._since == SWEEP:
            self.catch_up()

    def _members_of(self, lines: Tensor) -> list[tuple[int, slice]]:
        """Return the part of each member of lines in ascending order."""
        members = len(self.square)
        ends = torch.searchsorted(lines, torch.arange(1, members + 1) * self._inputs).tolist()
        return [(m, slice(*part)) for m, part in enumerate(itertools.pairwise([0, *ends]))]

    @torch.no_grad()
    def catch_up(self) -> None:
        """Bring all lines up to date."""
        for lines in torch.nonzero(self._last < self._since).squeeze(1).split(BLOCK):
            weights, means = self._current(lines)
            self.table.index_copy_(0, lines, weights)
            self._means.index_copy_(0, lines, means)
        self._last.zero_()
        self._kept.fill_(1)
        self._moves.zero_()
        self._since = 0

    def _current(self, lines: Tensor) -> tuple[Tensor, Tensor]:
        """Return lines and their mean gradients as they are after the steps until now."""
        shape = (len(lines), self.table.shape[1])
        found, means = self.table.new_empty(shape), self.table.new_empty(shape)
        members, moves = self._moves.shape[1], self._moves.flatten(0, 1)
        parts = (each.split(BLOCK) for each in (lines, found, means))
        for line, weights, mean in zip(*parts, strict=True):
            last = self._last[line]
            move = moves.index_select(0, last * members + line // self._inputs)
            torch.index_select(self.table, 0, line, out=weights)
            torch.index_select(self._means, 0, line, out=mean)
            weights.mul_(self._kept[last].unsqueeze(1)).addcmul_(move, mean, value=-1)
            mean.mul_(self._fading[self._since - last].unsqueeze(1))
        return found, means

    def _advance(self, size: Tensor, decay: float) -> None:
        """Note what a step does to lines that it does not touch."""
        self._since += 1
        self._kept[: self._since] *= decay
        fading = self._fading[1 : self._since + 1].flip(0).view(-1, 1, 1)
        self._moves[: self._since].mul_(decay).add_(fading * size[:, 0])
