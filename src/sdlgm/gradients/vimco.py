"""VIMCO: the importance-weighted bound, with each code compared with a bound of the others."""

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
    r"""Estimate the gradient of the importance-weighted bound of ``M`` codes.

    The objective differs from that of the other estimators:

    .. math:: \mathbb{E}\, \hat L, \qquad
        \hat L = -\log \frac1M \sum_{m=1}^M e^{-f(z_m)}, \qquad M = \text{samples}

    Its loss must hold the **whole log-ratio**, :math:`f(z) = -\log p(x \mid z) + \log q(z)
    - \log p(z)`, differentiable in the parameters of :math:`q` and :math:`p`, and no KL is added;
    ``sdlgm.objectives.training_objective`` does both. The estimate is

    .. math:: \sum_m \big(\hat L - \hat L_{-m}\big) \nabla \log q(z_m)
        + \sum_m w_m \nabla f(z_m), \qquad w = \mathrm{softmax}(-f)

    where :math:`\hat L_{-m}` is :math:`\hat L` with :math:`f(z_m)` replaced by the mean of the
    others, i.e. with its weight replaced by their geometric mean.

    - Bias: none, for this objective.
    - Variance: the first term has that of REINFORCE with leave-one-out control variates; the
      variance of the second term does not vanish.
    - Cost: ``M`` decoder calls in one batch; O(M K) for the latent.

    ``Estimate.loss`` is the bound :math:`\hat L`.

    Parameters
    ----------
    posterior
        Distribution of the codes.
    loss
        Maps codes to losses (nats); see :data:`~sdlgm.gradients.Loss`.
    samples
        Number of codes ``M`` per sample, at least 2.
    generator
        Source of randomness; ``None`` uses torch's global generator.

    Raises
    ------
    ConfigError
        If ``samples`` is not an integer of at least 2.

    References
    ----------
    Mnih, Rezende, "Variational inference for Monte Carlo objectives", ICML 2016; Burda, Grosse,
    Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> q, p = (GatedMultinomial(2, torch.zeros(8), torch.zeros(8, 3)) for _ in range(2))
    >>> estimate = vimco(q, lambda z: z[..., 0] + q.log_prob(z) - p.log_prob(z), samples=3)
    >>> estimate.loss.shape, estimate.codes.shape
    (torch.Size([8]), torch.Size([8, 3]))
    """
    check_samples(samples, "vimco")
    drawn = posterior.sample((samples,), generator=generator)
    values = evaluate(loss, drawn)
    bound = math.log(samples) - torch.logsumexp(-values, 0)
    held = values.detach()
    others = (held.sum(0) - held) / (samples - 1)
    # Row m holds all losses, with that of code m replaced.
    own = torch.eye(samples, dtype=torch.bool, device=held.device)
    own = own.view(samples, samples, *(1,) * (held.dim() - 1))
    replaced = torch.where(own, others.unsqueeze(1), held)
    without = math.log(samples) - torch.logsumexp(-replaced, 1)
    score = ((bound.detach() - without) * posterior.log_prob(drawn)).sum(0)
    return Estimate(carrying(bound, score), bound.detach(), drawn[0])
