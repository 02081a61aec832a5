"""A fast search for the codes of models with a linear decoder and a Gaussian likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.nn.likelihoods import Gaussian

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["is_quadratic", "search_quadratic"]


def is_quadratic(model: SDLGM) -> bool:
    """Whether ``-log p(x | z)`` is quadratic in ``z``, with at most one feature in each group.

    This holds for a Gaussian likelihood, a decoder without hidden layers, and one slot per group.
    """
    one_slot = model.groups == model.config.budget
    return one_slot and isinstance(model.likelihood, Gaussian) and not len(model.decoder)


@torch.no_grad()
def search_quadratic(model: SDLGM, x: Tensor, slots: Tensor, weight: Tensor, sweeps: int) -> Tensor:
    r"""Search as :func:`~sdlgm.inference.search_codes` does, without decoding.

    Let :math:`r = x - \hat x(z)` be the residual in units of the likelihood's scale, and :math:`a`
    the column of the decoder that belongs to a feature. Putting the feature into an empty slot
    changes :math:`\|r\|^2` by :math:`\|a\|^2 - 2 a^\top r`. One matrix product gives this for all
    samples and all features of a group.

    Parameters
    ----------
    model
        A model for which :func:`is_quadratic` is true.
    x
        Samples, shape ``(n, D)``.
    slots
        Start, shape ``(n, L0)``: the index of a feature within the slot's group, or ``K / L0`` if
        the slot is closed.
    weight
        Weight of the reconstruction, shape ``(n,)``.
    sweeps
        Largest number of sweeps.

    Returns
    -------
    Tensor
        Slots, shape ``(n, L0)``.
    """
    size = model.config.features // model.groups
    nothing = torch.zeros(1, model.config.features)
    base = model.data_distribution(nothing).base_dist  # type: ignore[attr-defined]
    normal = base.standard
    columns = model.output_head.weight / normal.scale[0].unsqueeze(-1)
    columns = columns.T.unflatten(0, (-1, size))
    columns = F.pad(columns, (0, 0, 0, 1))  # (G, K/G + 1, D); the last of each group is "closed"
    length = _lengths(model)
    if model.config.gates != "learned":
        length[:, -1] = torch.inf
    residual = (base.standard_units(x) - normal.loc) / normal.scale
    for group, held in enumerate(slots.T):
        residual -= columns[group][held]
    slots, half = slots.clone(), 0.5 * columns.square().sum(-1)
    for _ in range(sweeps):
        before = slots.clone()
        for group, own in enumerate(columns):
            held = slots[:, group]
            target = residual + own[held]
            cost = weight.unsqueeze(-1) * (half[group] - target @ own.T) + length[group]
            least, best = cost.min(-1)
            now = cost.gather(-1, held.unsqueeze(-1)).squeeze(-1)
            slots[:, group] = torch.where(least < now, best, held)
            residual = target - own[slots[:, group]]
        if torch.equal(before, slots):
            break
    return slots


def _lengths(model: SDLGM) -> Tensor:
    """Return ``-log p`` of each outcome of a slot under the prior, shape ``(G, K/G + 1)``."""
    gate = model.prior_gate_logits.unsqueeze(-1)
    feature = model.prior_feature_logits.unflatten(0, (model.groups, -1)).log_softmax(-1)
    return -torch.cat([F.logsigmoid(gate) + feature, F.logsigmoid(-gate)], -1)
