"""Score function: needs nothing of the loss but its value."""

from __future__ import annotations

import torch

from sdlgm.gradients._surrogate import carrying, evaluate
from sdlgm.gradients.control_variates import Baseline, centre
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["score_function"]


@register
def score_function(
    posterior: Code,
    loss: Loss,
    *,
    baseline: Baseline | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Score function (REINFORCE; Williams 1992), with the exact law of the counts.

    .. math:: \big(f(z) - b\big)\, \nabla \log q(z)

    where :math:`b` is the ``baseline``, 0 without one. :math:`\log q` is that of the counts, not
    of an order of the slots: the orderings of a code are averaged over at no cost.

    - Bias: none, with or without a baseline (with one that normalises, see there, the estimate is
      proportional to an unbiased one). - Variance: the largest of all, and it grows with the
      number of slots; a baseline is all but needed. - Cost: one decoder call without a backward
      pass to the codes, and O(K) for the latent. The loss need not be differentiable.

    References: Williams, "Simple statistical gradient-following algorithms for connectionist
    reinforcement learning", Machine Learning 8, 1992; Mnih, Gregor, ICML 2014 (NVIL).
    """
    drawn = posterior.sample(generator=generator)
    value = evaluate(loss, drawn)
    centred = centre(baseline, posterior, value)
    score = centred.weight * centred.signal * posterior.log_prob(drawn)
    return Estimate(carrying(value, score + centred.error), value.detach(), drawn)
