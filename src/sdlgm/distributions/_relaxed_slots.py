"""Draw relaxed slots and combine them, chunk by chunk.

A relaxed code combines ``L0`` slots of ``K`` numbers each. Neither pass holds more than a chunk of
them beyond what is saved for backward.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdlgm.distributions._gumbel import MinusGumbel
from sdlgm.memory import numbers_at_once

__all__ = ["mix_slots", "slots_absence"]

CHUNK_SIZE = 400_000
"""Numbers drawn and mixed at a time on a CPU: two such arrays take 3 MB in float32."""

MAX_SAVED = 2**26
"""Largest number of slot entries saved for backward on a CPU: 256 MB in float32.

On a GPU it is :data:`SAVED_CHUNKS` chunks. Larger draws are recomputed in backward from the saved
RNG state: little memory, but about 50 % slower.
"""

SAVED_CHUNKS = 8
"""Chunks saved for backward on a GPU: an eighth of its memory."""


def mix_slots(
    gates: Tensor, logits: Tensor, temperature: Tensor, generator: torch.Generator | None
) -> Tensor:
    r"""Draw relaxed slots (eq. 10) and sum them, weighted by their gates (eq. 12).

    Parameters
    ----------
    gates
        Weights :math:`\omega`, shape ``(n, L0)``.
    logits
        :math:`\log \pi` up to a constant, shape ``(n, K)``.
    temperature
        :math:`\tau`, shape ``(n, 1)``.
    generator
        Source of randomness; ``None`` uses torch's global generator.

    Returns
    -------
    Tensor
        Shape ``(n, K)``; differentiable once.
    """
    with torch.autocast(logits.device.type, enabled=False):  # it would use half precision
        code: Tensor = _MixedSlots.apply(gates, logits, temperature, generator)
    return code


def slots_absence(
    gates: Tensor, logits: Tensor, temperature: Tensor, generator: torch.Generator | None
) -> Tensor:
    r"""Draw relaxed slots and sum :math:`\log(1 - \omega_\ell s_{\ell,k})` over the slots.

    Parameters and result are those of :func:`mix_slots`. Each factor is clamped from below at the
    dtype's machine epsilon.
    """
    with torch.autocast(logits.device.type, enabled=False):
        absent: Tensor = _AbsentSlots.apply(gates, logits, temperature, generator)
    return absent


class _MixedSlots(torch.autograd.Function):
    r"""Eqs. 10 and 12: a softmax per slot, and the sum of the slots weighted by their gates.

    With :math:`u = (\log\pi + \xi) / \tau`, slots :math:`s_\ell = \mathrm{softmax}(u_\ell)`, the
    code :math:`z = \sum_\ell \omega_\ell s_\ell` and the gradient :math:`g` with respect to it,

    .. math::

        \partial\omega_\ell &= g^\top s_\ell \\
        \partial\log\pi &= \tfrac1\tau \big[ g z
            - \textstyle\sum_\ell \omega_\ell (g^\top s_\ell)\, s_\ell \big] \\
        \partial\tau &= -\tfrac1\tau\, g^\top \textstyle\sum_\ell \omega_\ell
            \big[ s_\ell u_\ell - (s_\ell^\top u_\ell)\, s_\ell \big]

    The backward pass is therefore two products with the slots; it never builds the gradient of
    their ``L0 x K`` numbers. Both passes process chunks of rows and slots that fit the processor's
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
        draws = _Draws(gates, logits, temperature, generator, save=any(ctx.needs_input_grad))
        code = torch.zeros_like(logits)
        slope = torch.zeros_like(logits) if ctx.needs_input_grad[2] else None
        for rows, place, scaled, chosen in draws.draw():
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
        ctx.save_for_backward(*draws.store(ctx), gates, code, slope)
        return code

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        draws, (gates, code, slope) = _Draws.restore(ctx)
        (grad,) = grads
        gate_grad, feature_grad = torch.empty_like(gates), grad * code
        for rows, place, chosen in draws.recall():
            # Rows times transposed slots are much faster than slots times columns.
            slot_grad = torch.bmm(grad[rows].unsqueeze(-2), chosen.mT)
            gate_grad[rows, place] = slot_grad.squeeze(-2)
            weights = slot_grad.mul_(gates[rows, None, place])
            feature_grad[rows] -= torch.bmm(weights, chosen).squeeze(-2)
        temperature_grad = None if slope is None else (grad * slope).sum(-1, keepdim=True)
        return gate_grad, feature_grad.mul_(draws.rate), temperature_grad, None


class _AbsentSlots(torch.autograd.Function):
    r"""Log-probabilities of absence under relaxed slots, and their gradients.

    With :math:`d_{\ell,k} = -g_k / (1 - \omega_\ell s_{\ell,k})`, set to 0 where the factor was
    clamped,

    .. math::

        \partial\omega_\ell &= d_\ell^\top s_\ell \\
        \partial u_\ell &= \omega_\ell\, s_\ell \odot (d_\ell - d_\ell^\top s_\ell) \\
        \partial\log\pi &= \tfrac1\tau \textstyle\sum_\ell \partial u_\ell, \qquad
        \partial\tau = -\tfrac1\tau \sum_\ell \partial u_\ell^\top \log s_\ell

    The last line holds because :math:`u_\ell` and :math:`\log s_\ell` differ by a constant per
    slot, and the entries of :math:`\partial u_\ell` sum to 0.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gates: Tensor,
        logits: Tensor,
        temperature: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        draws = _Draws(gates, logits, temperature, generator, save=any(ctx.needs_input_grad))
        absent = torch.zeros_like(logits)
        for rows, place, scaled, chosen in draws.draw():
            present = torch.mul(gates[rows, place, None], chosen, out=scaled)
            present.clamp_(max=1 - torch.finfo(present.dtype).eps)
            absent[rows] += present.neg_().log1p_().sum(-2)
        ctx.save_for_backward(*draws.store(ctx), gates)
        return absent

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        draws, (gates,) = _Draws.restore(ctx)
        (grad,) = grads
        gate_grad, feature_grad = torch.empty_like(gates), torch.zeros_like(grad)
        temperature_grad = torch.zeros_like(draws.rate) if ctx.needs_input_grad[2] else None
        most = 1 - torch.finfo(grad.dtype).eps
        for rows, place, chosen in draws.recall():
            weights = gates[rows, place, None]
            present = weights * chosen
            clamped = present > most
            # First d, then the gradient of u, in one buffer.
            slope = torch.div(grad[rows, None], present.sub_(1), out=present)
            slope.masked_fill_(clamped, 0.0)
            slot_grad = torch.linalg.vecdot(slope, chosen).unsqueeze(-1)
            gate_grad[rows, place] = slot_grad.squeeze(-1)
            slope.sub_(slot_grad).mul_(chosen).mul_(weights)
            feature_grad[rows] += slope.sum(-2)
            if temperature_grad is not None:  # entries of 0 have a slope of 0: avoid 0 * -inf
                logs = chosen.clamp_min(torch.finfo(chosen.dtype).tiny).log_()
                temperature_grad[rows] -= (slope.mul_(logs)).sum((-2, -1)).unsqueeze(-1)
        feature_grad *= draws.rate
        if temperature_grad is not None:
            temperature_grad.mul_(draws.rate)
        return gate_grad, feature_grad, temperature_grad, None


class _Draws:
    """The slots of some rows: drawn chunk by chunk, then recalled (or recomputed) in backward."""

    def __init__(
        self,
        gates: Tensor,
        logits: Tensor,
        temperature: Tensor,
        generator: torch.Generator | None,
        *,
        save: bool,
    ) -> None:
        self.rate = 1 / temperature
        self.location = (logits * self.rate).unsqueeze(-2)
        self.shape = (*gates.shape, logits.shape[-1])
        self.slots: Tensor | None = None
        self.state: Tensor | None = None
        most = SAVED_CHUNKS * numbers_at_once(logits.device, MAX_SAVED // SAVED_CHUNKS)
        if save and math.prod(self.shape) <= most:
            self.slots = logits.new_empty(self.shape)
        elif save:
            generator = _or_new(generator, logits.device)
            self.state = generator.get_state()
        self.generator = generator

    def store(self, ctx: Any) -> tuple[Tensor | None, ...]:
        """Store the shape and the RNG state in a context; return the tensors to save."""
        ctx.shape, ctx.state = self.shape, self.state
        return self.rate, self.location, self.slots

    @classmethod
    def restore(cls, ctx: Any) -> tuple[_Draws, tuple[Tensor, ...]]:
        """Return the draws of a context, and the other tensors it saved."""
        draws = cls.__new__(cls)
        draws.rate, draws.location, draws.slots, *others = ctx.saved_tensors
        draws.shape, draws.state = ctx.shape, ctx.state
        return draws, tuple(others)

    def draw(self) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Draw chunks: rows, slots, ``u`` of these slots in a buffer, and its softmax."""
        yield from self._draw(self.generator, self.slots)

    def recall(self) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield the same rows, slots and softmax: saved, or drawn from the saved RNG state."""
        if self.slots is not None:
            for rows, place in _places(self.shape, _chunk_size(self.location.device)):
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
        for rows, place in _places(self.shape, _chunk_size(self.location.device)):
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


def _chunk_size(device: torch.device) -> int:
    return numbers_at_once(device, CHUNK_SIZE)


def _places(shape: tuple[int, ...], numbers: int) -> Iterator[tuple[slice, slice]]:
    """Split rows and slots into chunks of similar size: parts of one row, or whole rows."""
    number, slots, features = shape
    rows = _step(number, numbers // (slots * features))
    place = _step(slots, numbers // features)
    for start in range(0, number, rows):
        for first in range(0, slots, place):
            yield slice(start, min(start + rows, number)), slice(first, min(first + place, slots))


def _step(length: int, most: int) -> int:
    """Return the size of nearly equal parts of ``length``, none larger than ``max(most, 1)``."""
    parts = -(-length // max(1, most))
    return -(-length // max(1, parts))


def _or_new(generator: torch.Generator | None, device: torch.device) -> torch.Generator:
    """Return ``generator``, or for ``None`` a new one seeded by torch's global generator."""
    if generator is not None:
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
