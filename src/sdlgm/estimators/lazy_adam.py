r"""AdamW for a table of which each step touches a few lines.

A line without gradient moves in a way that is known in advance: its mean gradient m and mean square
v decay by :math:`\beta_1` and :math:`\beta_2` a step, and so does the step that they cause. After
step t, a line that was last touched at step s has moved by

.. math::

    -\frac{m_s}{\sqrt{v_s}} \sum_{i=s+1}^{t} \frac{\eta_i \sqrt{1 - \beta_2^i}}{1 - \beta_1^i}
    \Big(\frac{\beta_1}{\sqrt{\beta_2}}\Big)^{i-s} \prod_{j=i+1}^{t} (1 - \eta_j w)

with the rates :math:`\eta_i` and the weight decay w. The sum is one number for all lines of the
same s, so that a line is brought up to date when it is needed. The weights are those of AdamW on
all lines, up to rounding and the constant that keeps it from dividing by 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["LazyAdamW"]

FIRST, SECOND = 0.9, 0.999
"""Decay of the mean gradient and of the mean square in a step."""
TINY = 1e-8
"""Added to roots of mean squares."""
LONGEST = 400
"""Steps after which a line does not move any more: the ratio of the decays is then 1e-18."""


BLOCK = 512
"""Lines that are changed at a time, so that what is computed stays in the cache."""


class LazyAdamW:
    """AdamW for a parameter ``(..., width)``, read as a table of lines, of which steps touch some.

    :meth:`start` must come first, and :meth:`finish` last.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self._parameter = parameter

    def start(self, optimiser: torch.optim.Optimizer) -> None:
        """Take the part of an AdamW of the parameter, with the state it has of an earlier training.

        The parameter itself must get no gradients from then on.
        """
        weights = self._parameter.detach()
        state = optimiser.state.setdefault(self._parameter, {})
        if not state:
            state.update(
                step=torch.tensor(0.0),
                exp_avg=torch.zeros_like(weights),
                exp_avg_sq=torch.zeros_like(weights),
            )
        self._state = state
        self.table = weights.flatten(0, -2)
        self.mean, self.square = (state[k].flatten(0, -2) for k in ("exp_avg", "exp_avg_sq"))
        self.weight_decay = optimiser.param_groups[0]["weight_decay"]
        self._before = int(state["step"])
        self.steps = 0
        self._last = torch.zeros(len(self.table), dtype=torch.int64)
        # For each step s: what a line that was last touched then is multiplied by, and its move.
        self._kept, self._moves = torch.ones(1, dtype=torch.float64), torch.zeros(1).double()
        ages = torch.arange(LONGEST, 0, -1, dtype=torch.float64)
        self._fading = (FIRST / math.sqrt(SECOND)) ** ages
        self._lines, self._taken = torch.empty(0, dtype=torch.int64), torch.empty(0)

    def take(self, lines: Tensor) -> Tensor:
        """Return some lines, brought up to date, for a step; their gradient is for :meth:`step`."""
        self._lines, self._taken = lines, self._current(lines).requires_grad_()
        return self._taken

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the lines that were taken, by their gradients."""
        lines, taken, gradient = self._lines, self._taken, self._taken.grad
        if gradient is None:
            raise RuntimeError("The lines that were taken have no gradient.")
        self._advance(rate)
        for part, new, slope in zip(
            lines.split(BLOCK), taken.detach().split(BLOCK), gradient.split(BLOCK), strict=True
        ):
            self._change(part, new, slope, rate)
        self._last[lines] = self.steps
        self._lines, self._taken = lines[:0], taken[:0]

    def _change(self, lines: Tensor, weights: Tensor, gradient: Tensor, rate: float) -> None:
        """Take an AdamW step for lines with weights that are up to date."""
        fewer = self._decays(lines)
        mean = self.mean.index_select(0, lines).mul_(fewer[0]).add_(gradient, alpha=1 - FIRST)
        square = self.square.index_select(0, lines).mul_(fewer[1])
        square.addcmul_(gradient, gradient, value=1 - SECOND)
        self.mean.index_copy_(0, lines, mean)
        self.square.index_copy_(0, lines, square)
        number = self._before + self.steps
        root = square.mul_(1 / (1 - SECOND**number)).sqrt_().add_(TINY)
        weights.mul_(1 - rate * self.weight_decay)
        weights.addcdiv_(mean, root, value=-rate / (1 - FIRST**number))
        self.table.index_copy_(0, lines, weights)

    def _decays(self, lines: Tensor) -> tuple[Tensor, Tensor]:
        """Return what mean and square are multiplied by since lines were touched, ``(n, 1)``."""
        gap = (self.steps - self._last[lines]).unsqueeze(1).double()
        return (FIRST**gap).float(), (SECOND**gap).float()

    def finish(self) -> None:
        """Bring the parameter, and the state of its AdamW, up to date."""
        self.catch_up()
        self._state["step"] += self.steps

    @torch.no_grad()
    def catch_up(self) -> None:
        """Bring all lines of the table up to date."""
        lines = torch.nonzero(self._last < self.steps).squeeze(1)
        for part in lines.split(BLOCK):
            self.table.index_copy_(0, part, self._current(part))
            for table, fewer in zip((self.mean, self.square), self._decays(part), strict=True):
                table[part] *= fewer
        self._last[lines] = self.steps

    def _current(self, lines: Tensor) -> Tensor:
        """Return lines as they are after the steps until now."""
        found = self.table.new_empty(len(lines), self.table.shape[1])
        for part, weights in zip(lines.split(BLOCK), found.split(BLOCK), strict=True):
            last = self._last[part]
            kept, moves = (each[last].float().unsqueeze(1) for each in (self._kept, self._moves))
            root = self.square.index_select(0, part).sqrt_().add_(TINY)
            mean = self.mean.index_select(0, part).mul_(moves)
            torch.index_select(self.table, 0, part, out=weights)
            weights.mul_(kept).addcdiv_(mean, root, value=-1)
        return found

    def _advance(self, rate: float) -> None:
        """Count a step, and what it does to lines that it does not touch."""
        self.steps += 1
        decay = 1 - rate * self.weight_decay
        number = self._before + self.steps
        size = rate * math.sqrt(1 - SECOND**number) / (1 - FIRST**number)
        moves = self._moves.mul_(decay)
        moves[-LONGEST:] += size * self._fading[-len(moves) :]
        self._moves = torch.cat([moves, moves.new_zeros(1)])
        self._kept = torch.cat([self._kept.mul_(decay), moves.new_ones(1)])
