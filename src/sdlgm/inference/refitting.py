"""Refit the decoder and the prior of a model to given codes, in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.nn.likelihoods import Gaussian
from sdlgm.nn.statistics import standardise

if TYPE_CHECKING:
    from sdlgm.models import SDLGM

__all__ = ["refit_decoder", "refit_prior"]


@neutral()
@torch.no_grad()
def refit_decoder(
    model: SDLGM, x: Tensor, codes: Tensor, *, weight: Tensor | float = 1.0, ridge: float = 1.0
) -> None:
    r"""Fit a linear decoder to codes by weighted ridge regression, in place.

    .. math:: \min_{W, b}\ \sum_n w_n \|t_n - W z_n - b\|^2 + \rho\, \bar w\, \|W\|^2

    where :math:`t` are the samples in standard units and :math:`\bar w` is the mean weight. The
    likelihood's scale does not change.

    Parameters
    ----------
    model
        A model with a Gaussian likelihood and no hidden layers.
    x, codes
        Samples ``(n, D)`` and their codes ``(n, K)``.
    weight
        Positive weights of the samples: a number or shape ``(n,)``.
    ridge
        The penalty ``rho``, positive. It acts like this many mean samples in which a feature is
        present.

    Raises
    ------
    ConfigError
        If the decoder has hidden layers, the likelihood is not Gaussian, or ``ridge`` is not
        positive.
    """
    likelihood = model.likelihood
    if not isinstance(likelihood, Gaussian) or len(model.decoder):
        raise ConfigError(
            "Only a linear decoder can be refitted: train the model with "
            "likelihood='gaussian' and encoder_hidden=(), got "
            f"{model.config.likelihood!r} and {model.config.encoder_hidden!r}."
        )
    if not ridge > 0:
        raise ConfigError(f"ridge must be positive, got {ridge}.")
    weights = torch.as_tensor(weight, dtype=torch.float64).expand(len(x))
    weights = (weights / weights.mean()).unsqueeze(-1)
    target = standardise(x, likelihood.shift, likelihood.unit)
    design = F.pad(codes.double(), (0, 1), value=1.0)
    penalty = torch.full((design.shape[1],), float(ridge), dtype=torch.float64)
    penalty[-1] = 0.0
    weighted = weights * design
    found = torch.linalg.solve(design.T @ weighted + penalty.diag(), weighted.T @ target)
    model.output_head.weight.copy_(found[:-1].T)
    model.output_head.bias.copy_(found[-1])


@neutral()
@torch.no_grad()
def refit_prior(model: SDLGM, codes: Tensor) -> None:
    """Set the prior of a model to the frequencies in codes of shape ``(n, K)``, in place.

    Each outcome of a slot (closed, or one of the features) is counted once more than it occurs, so
    that nothing becomes impossible. Gates that are always open stay open.
    """
    counts = codes.double().sum(0).unflatten(-1, (model.groups, -1)) + 1
    slots = len(codes) * model.config.budget // model.groups
    opened = counts.sum(-1)
    closed = slots - (opened - counts.shape[-1]) + 1
    if model.config.gates == "learned":
        model.prior_gate_logits.copy_((opened / closed).log())
    model.prior_feature_logits.copy_((counts / opened.unsqueeze(-1)).log().flatten())
