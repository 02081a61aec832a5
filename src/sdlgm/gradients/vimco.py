"""VIMCO: the importance-weighted bound, each code compared with a bound of the others."""

from __future__ import annotations

import math

import torch

from sdlgm.gradients._surrogate import carrying, check_samples, evaluate
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["vimco"]


@register(bound="importance")
def vimco(
    posterior: Code,
    loss: Loss,
    *,
    samples: int = 5,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Gradient of the importance-weighted bound of ``M`` codes (Mnih and Rezende 2016).

    It estimates the gradient of another objective than the rest,

    .. math:: \mathbb{E}\, \hat L, \qquad
        \hat L = -\log \frac1M \sum_{m=1}^M e^{-f(z_m)}, \qquad M = \text{samples}

    whose loss must hold the **whole log-ratio**, :math:`f(z) = -\log p(x \mid z) + \log q(z)
    - \log p(z)`, differentiably in the parameters of :math:`q` and :math:`p`; no KL is added
    (``sdlgm.objectives.bounds.training_objective`` sees to both). The estimate is

    .. math:: \sum_m \big(\hat L - \hat L_{-m}\big) \nabla \log q(z_m)
        + \sum_m w_m \nabla f(z_m), \qquad w = \mathrm{softmax}(-f)

    where :math:`\hat L_{-m}` is :math:`\hat L` with :math:`f(z_m)` replaced by the mean of the
    others (of the weights: their geometric mean).

    - Bias: none, for that objective. - Variance: of the first term that of REINFORCE with
      leave-one-out baselines; that of the second does not vanish. - Cost: ``M`` decoder calls in
      one batch, and O(M K) for the latent.

    ``Estimate.loss`` is the bound :math:`\hat L`. Raises ``ConfigError`` for fewer than two
    samples.

    References: Mnih, Rezende, "Variational inference for Monte Carlo objectives", ICML 2016;
    Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.
    """
    check_samples(samples, "vimco")
    drawn = posterior.sample((samples,), generator=generator)
    values = evaluate(loss, drawn)
    bound = math.log(samples) - torch.logsumexp(-values, 0)
    held = values.detach()
    others = (held.sum(0) - held) / (samples - 1)
    # Row m of the table: the losses with that of code m replaced.
    own = torch.eye(samples, dtype=torch.bool, device=held.device)
    own = own.view(samples, samples, *(1,) * (held.dim() - 1))
    replaced = torch.where(own, others.unsqueeze(1), held)
    without = math.log(samples) - torch.logsumexp(-replaced, 1)
    score = ((bound.detach() - without) * posterior.log_prob(drawn)).sum(0)
    return Estimate(carrying(bound, score), bound.detach(), drawn[0])
