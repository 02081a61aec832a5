"""Search for the code with the shortest description, slot by slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sdlgm.environment import neutral
from sdlgm.inference.linear import is_quadratic, quadratic_search, standard_residual
from sdlgm.inference.slots import counts_of, slots_of

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["search_codes"]

CODES_AT_ONCE = 20_000
"""Number of codes to decode at a time."""


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
    block = max(1, CODES_AT_ONCE // (size + 1))
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
    """Search the codes of one block of samples; ``slots`` has shape ``(n, L0)``."""
    size = model.config.features // model.groups
    prior = model.prior()
    options = torch.arange(size + closes, device=slots.device)
    slots = slots.clone()
    for _ in range(sweeps):
        before = slots.clone()
        for slot in range(slots.shape[1]):
            proposed = slots.expand(len(options), -1, -1).clone()
            proposed[:, :, slot] = options[:, None]
            codes = counts_of(proposed, model.groups, size)
            cost = -weight * model.data_distribution(codes).log_prob(x) - prior.log_prob(codes)
            now = cost.gather(0, slots[:, slot].clamp_max(len(options) - 1)[None])[0]
            least, best = cost.min(0)
            slots[:, slot] = torch.where(least < now, best, slots[:, slot])
        if torch.equal(before, slots):
            break
    return slots
