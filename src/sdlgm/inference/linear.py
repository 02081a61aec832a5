"""Linear decoders of real numbers: a quick search for codes, and the decoder that fits them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.errors import ConfigError
from sdlgm.nn.likelihoods import Gaussian

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["is_quadratic", "refit_decoder", "search_quadratic"]


def is_quadratic(model: SDLGM) -> bool:
    """Whether ``-log p(x | z)`` is quadratic in ``z``, with at most one feature a group.

    That is a Gaussian likelihood, a decoder without hidden layers, and as many groups as slots.
    """
    return model.groups == model.config.budget and _is_linear(model)


def _is_linear(model: SDLGM) -> bool:
    return isinstance(model.likelihood, Gaussian) and not len(model.decoder)


@torch.no_grad()
def search_quadratic(model: SDLGM, x: Tensor, slots: Tensor, weight: Tensor, sweeps: int) -> Tensor:
    r"""Do what :func:`sdlgm.codec.refine_codes` does, without decoding.

    With the residual :math:`r = x - \hat x(z)` in units of the likelihood's scale, taking atom
    ``a`` into an empty slot changes :math:`\|r\|^2` by :math:`\|a\|^2 - 2 a^\top r`: a product of
    matrices finds it for all samples and all atoms of a group.

    Parameters
    ----------
    model
        One of which :func:`is_quadratic` is true.
    x
        Samples, shape ``(n, D)``.
    slots
        Start, shape ``(n, L0)``: a feature of the slot's group, or ``K / L0`` for none.
    weight
        Of the reconstruction, shape ``(n,)``.
    sweeps
        Largest number of sweeps.

    Returns
    -------
    Tensor
        Slots, of the shape of those given.
    """
    size = model.config.features // model.groups
    nothing = torch.zeros(1, model.config.features)
    base = model.data_distribution(nothing).base_dist  # type: ignore[attr-defined]
    unit = model.likelihood.unit / base.scale[0]
    atoms = (unit.unsqueeze(-1) * model.output_head.weight).T.unflatten(0, (-1, size))
    atoms = F.pad(atoms, (0, 0, 0, 1))  # (G, K/G + 1, D); the last of each group is nothing
    length = _lengths(model)
    if model.config.gates != "learned":
        length[:, -1] = torch.inf
    residual = (x - base.loc) / base.scale
    for group, held in enumerate(slots.T):
        residual -= atoms[group][held]
    slots, half = slots.clone(), 0.5 * atoms.square().sum(-1)
    for _ in range(sweeps):
        before = slots.clone()
        for group, own in enumerate(atoms):
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
    """Nats that each content of a slot takes under the prior, shape ``(G, K/G + 1)``."""
    gate = model.prior_gate_logits.unsqueeze(-1)
    feature = model.prior_feature_logits.unflatten(0, (model.groups, -1)).log_softmax(-1)
    return -torch.cat([F.logsigmoid(gate) + feature, F.logsigmoid(-gate)], -1)


@torch.no_grad()
def refit_decoder(
    model: SDLGM, x: Tensor, codes: Tensor, *, weight: Tensor | float = 1.0, ridge: float = 1.0
) -> None:
    r"""Set a linear decoder, in place, to the one that makes the most of codes.

    .. math:: \min_{W, b}\ \sum_n w_n \|t_n - W z_n - b\|^2 + \rho\, \bar w\, \|W\|^2

    with :math:`t` the samples in standard units and :math:`\bar w` the mean weight. The
    likelihood's scale is left as it is.

    Parameters
    ----------
    model
        A model with a Gaussian likelihood and no hidden layers.
    x, codes
        Samples ``(n, D)`` and their codes ``(n, K)``.
    weight
        Positive: a number or shape ``(n,)``.
    ridge
        The penalty ``rho``, positive: as strong as that many samples that hold a feature and are
        the mean.

    Raises
    ------
    ConfigError
        If the decoder has hidden layers, the likelihood is another, or ``ridge`` is not positive.
    """
    law = model.likelihood
    if not (isinstance(law, Gaussian) and _is_linear(model)):
        raise ConfigError(
            "only a linear decoder can be fitted to codes: train the model with "
            "likelihood='gaussian' and encoder_hidden=(), got "
            f"{model.config.likelihood!r} and {model.config.encoder_hidden!r}."
        )
    if not ridge > 0:
        raise ConfigError(f"ridge must be positive, got {ridge}.")
    weights = torch.as_tensor(weight, dtype=torch.float64).expand(len(x))
    weights = (weights / weights.mean()).unsqueeze(-1)
    target = ((x - law.shift) / law.unit).double()
    design = F.pad(codes.double(), (0, 1), value=1.0)
    penalty = torch.full((design.shape[1],), float(ridge), dtype=torch.float64)
    penalty[-1] = 0.0
    weighted = weights * design
    found = torch.linalg.solve(design.T @ weighted + penalty.diag(), weighted.T @ target)
    model.output_head.weight.copy_(found[:-1].T)
    model.output_head.bias.copy_(found[-1])
