"""Relaxed slots, drawn and added up a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdlgm.distributions._gumbel import MinusGumbel

__all__ = ["mix_slots"]

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
        rate = 1 / temperature
        location = (logits * rate).unsqueeze(-2)
        shape = (*gates.shape, logits.shape[-1])
        wanted = any(ctx.needs_input_grad)
        keep = wanted and gates.numel() * logits.shape[-1] <= KEPT
        slots = logits.new_empty(shape) if keep else None
        if wanted and not keep:
            generator = _own(generator, logits.device)
            ctx.state = generator.get_state()
        code = torch.zeros_like(logits)
        slope = torch.zeros_like(logits) if ctx.needs_input_grad[2] else None
        for rows, place, scaled, chosen in _draw(shape, location, rate, generator, slots):
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
            slope *= rate
        ctx.save_for_backward(gates, slots, code, slope, location, rate)
        return code

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates, slots, code, slope, location, rate = ctx.saved_tensors
        (grad,) = grads
        pulled, features = torch.empty_like(gates), grad * code
        shape = (*gates.shape, code.shape[-1])
        if slots is None:
            generator = torch.Generator(code.device)
            generator.set_state(ctx.state)
            parts = _draw(shape, location, rate, generator, None)
        else:
            parts = (_Part(*place, slots[place], slots[place]) for place in _places(shape))
        for rows, place, _, chosen in parts:
            # Rows times the transposed slots: a good deal faster than slots times columns.
            pull = torch.bmm(grad[rows].unsqueeze(-2), chosen.mT)
            pulled[rows, place] = pull.squeeze(-2)
            weights = pull.mul_(gates[rows, None, place])
            features[rows] -= torch.bmm(weights, chosen).squeeze(-2)
        heat = None if slope is None else (grad * slope).sum(-1, keepdim=True)
        return pulled, features.mul_(rate), heat, None


class _Part(NamedTuple):
    """Some slots of some rows."""

    rows: slice
    place: slice
    """Which of the slots of these rows."""
    scaled: Tensor
    """Their ``u``, shape ``(rows, slots, K)``, in a buffer."""
    chosen: Tensor
    """The softmax of that."""


def _draw(
    shape: tuple[int, ...],
    location: Tensor,
    rate: Tensor,
    generator: torch.Generator | None,
    slots: Tensor | None,
) -> Iterator[_Part]:
    """Draw slots part by part, into ``slots`` if there is such a tensor."""
    noise = MinusGumbel(location, generator)
    buffer: Tensor | None = None
    for rows, place in _places(shape):
        size = (rows.stop - rows.start, place.stop - place.start, shape[2])
        minus = noise.draw(size)
        scaled = torch.addcmul(location[rows], minus, rate[rows, :, None], value=-1, out=minus)
        if slots is not None:
            out = slots[rows, place]
        else:  # the first part is the largest
            buffer = torch.empty_like(scaled) if buffer is None else buffer
            out = buffer.flatten()[: scaled.numel()].view(size)
        yield _Part(rows, place, scaled, torch.softmax(scaled, dim=-1, out=out))


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
