"""Search for the code with the shortest description, slot by slot."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.distributions import Chain, GroupChain, Grouped, LevelChain
from sdlgm.environment import neutral
from sdlgm.inference.linear import is_quadratic, quadratic_search, standard_residual
from sdlgm.inference.slots import counts_of, slots_of
from sdlgm.memory import numbers_at_once

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["search_codes"]

NUMBERS_AT_ONCE = 2**20
"""Numbers in the widest layer of the decoder, of the codes that are decoded at a time."""


@neutral()
@torch.no_grad()
def search_codes(
    model: SDLGM,
    x: Tensor,
    codes: Tensor,
    *,
    weight: Tensor | float = 1.0,
    sweeps: int = 3,
) -> Tensor:
    r"""Improve codes by coordinate descent on the description length of sample and code.

    .. math:: J(z) = -w \log p(x \mid z) - \log p(z)

    A sweep visits all slots in turn. It closes a slot, or gives it a feature of its group, so that
    ``J`` is least with the other slots fixed; ``J`` never rises. A weight other than 1 trades
    rate against distortion. A sweep decodes ``L0 (K / G + 1)`` codes per sample. With a linear
    decoder, a Gaussian likelihood and one slot per group it decodes none and is much faster. In a
    model with ``prefixes``, the first term is its mean over the prefixes and the whole code.

    Parameters
    ----------
    model
        Gives prior, likelihood and groups.
    x
        Samples, shape ``(n, D)``.
    codes
        Where the search starts, shape ``(n, K)``; within the budget.
    weight
        Weight ``w`` of the reconstruction, positive: a number or shape ``(n,)``.
    sweeps
        Largest number of sweeps. The search stops after a sweep without a change.

    Returns
    -------
    Tensor
        Codes of shape ``(n, K)``, at most ``L0 / G`` in each group, on the device of ``codes``.
    """
    home, device = codes.device, model.device
    x, codes = x.to(device), codes.to(device)
    slots = slots_of(codes, model.groups, model.config.budget)
    weights = torch.as_tensor(weight, dtype=model.output_head.weight.dtype, device=device)
    weights = weights.expand(len(x))
    size = model.config.features // model.groups
    widest = max(*model.config.decoder_hidden or (), model.config.features, x.shape[-1])
    block = max(1, numbers_at_once(device, NUMBERS_AT_ONCE) // (widest * (size + 1)))
    closes = model.config.gates == "learned"
    if is_quadratic(model):
        search, residual = quadratic_search(model), standard_residual(model, x)
        best = search(residual, rate=2 / weights, start=slots, sweeps=sweeps)
        return counts_of(best, model.groups, size).to(home)
    found = [
        _search(model, rows, start, weighted, sweeps, closes)
        for rows, start, weighted in zip(
            x.split(block), slots.split(block), weights.split(block), strict=True
        )
    ]
    return counts_of(torch.cat(found), model.groups, size).to(home)


def _search(
    model: SDLGM, x: Tensor, slots: Tensor, weight: Tensor, sweeps: int, closes: bool
) -> Tensor:
    """Search the codes of one block of samples; ``slots`` has shape ``(n, L0)``.

    A sample is left alone after as many visits without a change as it has slots: with the other
    slots unchanged, each visit would find what it found before.
    """
    size, number = model.config.features // model.groups, slots.shape[1]
    prior = model.prior()
    options = torch.arange(size + closes, device=slots.device)
    slots, rows = slots.clone(), torch.arange(len(slots), device=slots.device)
    quiet = torch.zeros_like(rows)
    for slot in itertools.chain.from_iterable(itertools.repeat(range(number), sweeps)):
        current = slots[rows]
        proposed = current.expand(len(options), -1, -1).clone()
        proposed[:, :, slot] = options[:, None]
        codes = counts_of(proposed, model.groups, size)
        group = slot * model.groups // number
        cost = -weight * model.data_distribution(codes).log_prob(x) + _length(prior, codes, group)
        now = cost.gather(0, current[:, slot].clamp_max(len(options) - 1)[None])[0]
        least, best = cost.min(0)
        changed = least < now
        slots[rows, slot] = torch.where(changed, best, current[:, slot])
        quiet = torch.where(changed, 1, quiet + 1)
        going = quiet < number
        if not going.all():
            rows, x, weight, quiet = rows[going], x[going], weight[going], quiet[going]
        if not len(rows):
            break
    return slots


def _length(prior: Grouped | Chain, codes: Tensor, group: int) -> Tensor:
    """Return ``-log p(z)`` of codes ``(m, n, K)`` that differ in one group along ``m``.

    The term of the parts before that group is left out: it is the same for all.
    """
    if isinstance(prior, LevelChain):
        width = codes.shape[-1] // prior.parts
        level = group * prior.parts // prior.groups
        ends = range(level * width, codes.shape[-1], width)
        first = prior.part(level, codes[0, :, : level * width])  # the levels before are the same
        found = first.log_prob(codes[..., ends[0] : ends[0] + width])
        for number, end in enumerate(ends[1:], level + 1):
            later = prior.part(number, codes[..., :end])
            found = found + later.log_prob(codes[..., end : end + width])
        return -found
    start = group * codes.shape[-1] // prior.groups
    if isinstance(prior, GroupChain):
        rest = prior.conditional(codes, slice(group, prior.groups))
        return -rest.log_prob(codes[..., start:])
    if isinstance(prior, Grouped):
        end = start + codes.shape[-1] // prior.groups
        return -prior.of_groups(slice(group, group + 1)).log_prob(codes[..., start:end])
    return -prior.log_prob(codes)
