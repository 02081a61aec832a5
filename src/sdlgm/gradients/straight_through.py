"""Straight-through: the gradient of the mean at the sampled code."""

from __future__ import annotations

import torch

from sdlgm.gradients._surrogate import carrying, evaluate
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["straight_through"]


@register
def straight_through(
    posterior: Code, loss: Loss, *, generator: torch.Generator | None = None
) -> Estimate:
    r"""Straight-through (Bengio et al. 2013): forward the draw, backward the mean.

    .. math:: z = n + \bar n - \mathrm{stop}(\bar n), \qquad \bar n = L_0 \lambda \pi

    - Bias: none for losses that are linear in the counts; second order in general.
    - Variance: that of a pathwise estimate.
    - Cost: one decoder call, and O(K) for the latent.

    Reference: Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through Stochastic
    Neurons for Conditional Computation", arXiv 1308.3432.
    """
    drawn = posterior.sample(generator=generator)
    value = evaluate(loss, carrying(drawn, posterior.mean))
    return Estimate(value, value.detach(), drawn)
