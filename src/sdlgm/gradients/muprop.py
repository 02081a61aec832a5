"""MuProp: a score function whose control variate is the loss's tangent at the mean."""

from __future__ import annotations

import torch

from sdlgm.gradients._surrogate import carrying, evaluate, slope_at
from sdlgm.gradients.control_variates import Baseline, centre
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["muprop"]


@register
def muprop(
    posterior: Code,
    loss: Loss,
    *,
    baseline: Baseline | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""MuProp (Gu et al. 2016), on the mean of the counts.

    .. math::

        \big(f(z) - f(\bar z) - f'(\bar z)^\top (z - \bar z) - b\big)\, \nabla \log q(z)
        + f'(\bar z)^\top \nabla \bar z, \qquad \bar z = L_0 \lambda \pi

    The second term is the mean of what the tangent takes away from the first. ``baseline``
    predicts what the tangent leaves; one that normalises divides *both* terms, so that the
    estimate stays proportional to an unbiased one (the first alone would be weighted against the
    second).

    - Bias: none. - Variance: none for losses that are linear in the counts; that of the score
      function of what is not linear. - Cost: two decoder calls, one with a backward pass to the
      codes, and O(K) for the latent.

    Reference: Gu, Levine, Sutskever, Mnih, "MuProp: Unbiased Backpropagation for Stochastic
    Neural Networks", ICLR 2016.
    """
    drawn = posterior.sample(generator=generator)
    value = evaluate(loss, drawn)
    mean = posterior.mean
    with torch.enable_grad():
        point = mean.detach().requires_grad_()
        middle = evaluate(loss, point)
        slope = slope_at(middle, point, "muprop")
    tangent = middle.detach() + (slope * (drawn - mean.detach())).sum(-1)
    centred = centre(baseline, posterior, value - tangent)
    score = centred.signal * posterior.log_prob(drawn) + (slope * mean).sum(-1)
    surrogate = carrying(value, centred.weight * score + centred.error)
    return Estimate(surrogate, value.detach(), drawn)
