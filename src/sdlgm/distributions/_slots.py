"""Relaxed slots, drawn and added up a part at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdlgm.distributions._gumbel import MinusGumbel

__all__ = ["mix_slots", "slots_absence"]

AT_ONCE = 400_000
"""Numbers of slots that are drawn and mixed at a time: two arrays of them are 3 MB in float32."""

KEPT = 2**26
"""Most numbers of slots that are kept for the way back: 256 MB in float32.

Above it the slots are drawn once more, from the generator's state of before: in next to no memory,
but at the price of their noise, its two logarithms and the softmax, half as much time again.
"""


def mix_slots(
    gates: Tensor, logits: Tensor, temperature: Tensor, generator: torch.Generator | None
) -> Tensor:
    r"""Draw relaxed slots (eq. 10) and add them up, weighted by their gates (eq. 12).

    Parameters
    ----------
    gates
        Weights :math:`\omega`, shape ``(n, L0)``.
    logits
        :math:`\log \pi` up to a constant, shape ``(n, K)``.
    temperature
        :math:`\tau`, shape ``(n, 1)``.
    generator
        Source of the noise.

    Returns
    -------
    Tensor
        Shape ``(n, K)``, with first derivatives only.
    """
    with torch.autocast(logits.device.type, enabled=False):  # which would multiply in half of it
        code: Tensor = _MixedSlots.apply(gates, logits, temperature, generator)
    return code


def slots_absence(
    gates: Tensor, logits: Tensor, temperature: Tensor, generator: torch.Generator | None
) -> Tensor:
    r"""Draw relaxed slots and multiply the chances :math:`1 - \omega_\ell s_{\ell,k}` up, as logs.

    Parameters and result as of :func:`mix_slots`. Each chance is at least the type's epsilon.
    """
    with torch.autocast(logits.device.type, enabled=False):
        absent: Tensor = _AbsentSlots.apply(gates, logits, temperature, generator)
    return absent


class _MixedSlots(torch.autograd.Function):
    r"""Eqs. 10 and 12 in one: softmax each slot and add the slots up, weighted by their gates.

    With :math:`u = (\log\pi + \xi) / \tau`, slots :math:`s_\ell = \mathrm{softmax}(u_\ell)`, the
    code :math:`z = \sum_\ell \omega_\ell s_\ell` and the gradient :math:`g` with respect to it,

    .. math::

        \partial\omega_\ell &= g^\top s_\ell \\
        \partial\log\pi &= \tfrac1\tau \big[ g z
            - \textstyle\sum_\ell \omega_\ell (g^\top s_\ell)\, s_\ell \big] \\
        \partial\tau &= -\tfrac1\tau\, g^\top \textstyle\sum_\ell \omega_\ell
            \big[ s_\ell u_\ell - (s_\ell^\top u_\ell)\, s_\ell \big]

    so that the backward pass is two products with the slots and never makes a gradient of their
    ``L0 x K`` numbers. Both passes go through rows and slots in parts that stay in the processor's
    cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        logits: Tensor,
        temperature: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        draws = _Draws(gates, logits, temperature, generator, keep=any(ctx.needs_input_grad))
        code = torch.zeros_like(logits)
        slope = torch.zeros_like(logits) if ctx.needs_input_grad[2] else None
        for rows, place, scaled, chosen in draws.parts():
            weights = gates[rows, None, place]
            if slope is None:
                code[rows] += torch.bmm(weights, chosen).squeeze(-2)
                continue
            weighted = scaled.mul_(chosen)
            both = torch.cat([weights, weights * weighted.sum(-1).unsqueeze(-2)], dim=-2)
            mixed = torch.bmm(both, chosen)
            code[rows] += mixed[:, 0]
            slope[rows] += mixed[:, 1].sub_(torch.bmm(weights, weighted).squeeze(-2))
        if slope is not None:
            slope *= draws.rate
        ctx.save_for_backward(*draws.save(ctx), gates, code, slope)
        return code

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        draws, (gates, code, slope) = _Draws.restore(ctx)
        (grad,) = grads
        pulled, features = torch.empty_like(gates), grad * code
        for rows, place, chosen in draws.again():
            # Rows times the transposed slots: a good deal faster than slots times columns.
            pull = torch.bmm(grad[rows].unsqueeze(-2), chosen.mT)
            pulled[rows, place] = pull.squeeze(-2)
            weights = pull.mul_(gates[rows, None, place])
            features[rows] -= torch.bmm(weights, chosen).squeeze(-2)
        heat = None if slope is None else (grad * slope).sum(-1, keepdim=True)
        return pulled, features.mul_(draws.rate), heat, None


class _AbsentSlots(torch.autograd.Function):
    r"""Logs of absence and their gradients, from the slots alone.

    With :math:`d_{\ell,k} = -g_k / (1 - \omega_\ell s_{\ell,k})`, 0 where that was cut off,

    .. math::

        \partial\omega_\ell &= d_\ell^\top s_\ell \\
        \partial u_\ell &= \omega_\ell\, s_\ell \odot (d_\ell - d_\ell^\top s_\ell) \\
        \partial\log\pi &= \tfrac1\tau \textstyle\sum_\ell \partial u_\ell, \qquad
        \partial\tau = -\tfrac1\tau \sum_\ell \partial u_\ell^\top \log s_\ell

    the last because :math:`u_\ell` and :math:`\log s_\ell` differ by a constant a slot, and
    :math:`\partial u_\ell` adds up to 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        logits: Tensor,
        temperature: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        draws = _Draws(gates, logits, temperature, generator, keep=any(ctx.needs_input_grad))
        absent = torch.zeros_like(logits)
        for rows, place, scaled, chosen in draws.parts():
            present = torch.mul(gates[rows, place, None], chosen, out=scaled)
            present.clamp_(max=1 - torch.finfo(present.dtype).eps)
            absent[rows] += present.neg_().log1p_().sum(-2)
        ctx.save_for_backward(*draws.save(ctx), gates)
        return absent

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        draws, (gates,) = _Draws.restore(ctx)
        (grad,) = grads
        pulled, features = torch.empty_like(gates), torch.zeros_like(grad)
        heat = torch.zeros_like(draws.rate) if ctx.needs_input_grad[2] else None
        most = 1 - torch.finfo(grad.dtype).eps
        for rows, place, chosen in draws.again():
            weights = gates[rows, place, None]
            left = weights * chosen
            cut = left > most
            # d, then the gradient of u, each in the place of the last.
            slope = torch.div(grad[rows, None], left.sub_(1), out=left).masked_fill_(cut, 0.0)
            pull = torch.linalg.vecdot(slope, chosen).unsqueeze(-1)
            pulled[rows, place] = pull.squeeze(-1)
            slope.sub_(pull).mul_(chosen).mul_(weights)
            features[rows] += slope.sum(-2)
            if heat is not None:  # what is 0 has no slope
                logs = chosen.clamp_min(torch.finfo(chosen.dtype).tiny).log_()
                heat[rows] -= (slope.mul_(logs)).sum((-2, -1)).unsqueeze(-1)
        features *= draws.rate
        return pulled, features, None if heat is None else heat.mul_(draws.rate), None


class _Draws:
    """The slots of some rows: drawn part by part, and had again on the way back."""

    def __init__(
        self,
        gates: Tensor,
        logits: Tensor,
        temperature: Tensor,
        generator: torch.Generator | None,
        *,
        keep: bool,
    ) -> None:
        self.rate = 1 / temperature
        self.location = (logits * self.rate).unsqueeze(-2)
        self.shape = (*gates.shape, logits.shape[-1])
        self.slots: Tensor | None = None
        self.state: Tensor | None = None
        if keep and math.prod(self.shape) <= KEPT:
            self.slots = logits.new_empty(self.shape)
        elif keep:
            generator = _own(generator, logits.device)
            self.state = generator.get_state()
        self.generator = generator

    def save(self, ctx: Any) -> tuple[Tensor | None, ...]:
        """Leave what is no part of the graph with a context; return the tensors to be saved."""
        ctx.shape, ctx.state = self.shape, self.state
        return self.rate, self.location, self.slots

    @classmethod
    def restore(cls, ctx: Any) -> tuple[_Draws, tuple[Tensor, ...]]:
        """Return the draws of a context, and what else it saved."""
        draws = cls.__new__(cls)
        draws.rate, draws.location, draws.slots, *others = ctx.saved_tensors
        draws.shape, draws.state = ctx.shape, ctx.state
        return draws, tuple(others)

    def parts(self) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Draw: rows, which of their slots, ``u`` of these in a buffer, and its softmax."""
        yield from self._draw(self.generator, self.slots)

    def again(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Hand out rows, slots and the softmax that were drawn: kept, or drawn once more."""
        if self.slots is not None:
            for rows, place in _places(self.shape):
                yield rows, place, self.slots[rows, place]
            return
        generator = torch.Generator(self.location.device)
        generator.set_state(self.state)  # type: ignore[arg-type]
        for rows, place, _, chosen in self._draw(generator, None):
            yield rows, place, chosen

    def _draw(
        self, generator: torch.Generator | None, slots: Tensor | None
    ) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        noise = MinusGumbel(self.location, generator)
        buffer = self.location[:0]
        for rows, place in _places(self.shape):
            size = (rows.stop - rows.start, place.stop - place.start, self.shape[2])
            minus = noise.draw(size)
            rate = self.rate[rows, :, None]
            scaled = torch.addcmul(self.location[rows], minus, rate, value=-1, out=minus)
            if slots is None:
                if buffer.numel() < scaled.numel():
                    buffer = torch.empty_like(scaled)
                out = buffer.view(-1)[: scaled.numel()].view(size)
            else:
                out = slots[rows, place]
            yield rows, place, scaled, torch.softmax(scaled, dim=-1, out=out)


def _places(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Cut rows and slots into parts of much the same size, of one row or of whole ones."""
    number, slots, features = shape
    rows = _step(number, AT_ONCE // (slots * features))
    place = _step(slots, AT_ONCE // features)
    for start in range(0, number, rows):
        for first in range(0, slots, place):
            yield slice(start, min(start + rows, number)), slice(first, min(first + place, slots))


def _step(length: int, most: int) -> int:
    """Return the size of equal parts of a length, none of them larger than ``most`` or 1."""
    parts = -(-length // max(1, most))
    return -(-length // max(1, parts))


def _own(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """Return the generator, or for ``None`` one that is seeded from torch's global one."""
    if generator is not None:
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
