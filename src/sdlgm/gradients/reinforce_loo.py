"""REINFORCE with leave-one-out baselines: several codes, each compared with the others."""

from __future__ import annotations

import torch

from sdlgm.gradients._surrogate import carrying, check_samples, evaluate
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["reinforce_loo"]


@register
def reinforce_loo(
    posterior: Code,
    loss: Loss,
    *,
    samples: int = 4,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Score function of ``M`` codes, the mean loss of the others as baseline (Kool et al. 2019).

    .. math:: \frac1M \sum_{m=1}^M \Big(f(z_m) - \frac1{M-1} \sum_{j \ne m} f(z_j)\Big)
        \nabla \log q(z_m), \qquad M = \text{samples}

    - Bias: none. - Variance: the score function's with a nearly ideal constant baseline, over
      ``M``; nothing has to be learned. - Cost: ``M`` decoder calls in one batch, and O(M K) for
      the latent. The loss need not be differentiable.

    Raises ``ConfigError`` for fewer than two samples.

    References: Salimans, Knowles, "On Using Control Variates with Stochastic Approximation for
    Variational Bayes and its Connection to Stochastic Linear Regression", 2014; Kool, van Hoof,
    Welling, "Buy 4 REINFORCE Samples, Get a Baseline for Free!", 2019.
    """
    check_samples(samples, "reinforce_loo")
    drawn = posterior.sample((samples,), generator=generator)
    values = evaluate(loss, drawn)
    held = values.detach()
    # f_m minus the mean of the others is f_m minus the mean of all, times M / (M - 1).
    signal = (held - held.mean(0)) * (samples / (samples - 1))
    score = (signal * posterior.log_prob(drawn)).mean(0)
    return Estimate(carrying(values.mean(0), score), held.mean(0), drawn[0])
