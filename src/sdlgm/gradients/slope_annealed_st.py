"""Slope-annealed straight-through: the gradient of the mean of sharpened logits."""

from __future__ import annotations

import torch
from torch import Tensor

from sdlgm.distributions import GatedMultinomial
from sdlgm.errors import ConfigError
from sdlgm.gradients._surrogate import carrying, evaluate, join, ungrouped
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["slope_annealed_st"]


@register
def slope_annealed_st(
    posterior: Code,
    loss: Loss,
    *,
    slope: Tensor | float = 1.0,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Straight-through with a slope that rises in training (Chung et al. 2017).

    .. math::

        z &= n + \bar n_a - \mathrm{stop}(\bar n_a) \\
        \bar n_a &= L_0\, \mathrm{sigmoid}(a\, \mathrm{logit}\, \lambda)\,
            \mathrm{softmax}(a \log \pi)

    with the draw :math:`n` from the posterior itself, whatever the slope :math:`a`: only the
    backward pass is sharpened, towards the derivative of the most probable outcome's step. At
    ``a = 1`` this is ``straight_through``; the caller raises ``a`` (Chung et al.: linearly).

    - Bias: that of straight-through at ``a = 1``; at larger slopes the gradient of outcomes far
      from a tie vanishes, and that of near ties is blown up. - Variance: that of a pathwise
      estimate. - Cost: one decoder call, and O(K) for the latent.

    Raises ``ConfigError`` if the slope is not positive.

    Reference: Chung, Ahn, Bengio, "Hierarchical Multiscale Recurrent Neural Networks", ICLR 2017.
    """
    if not bool(torch.as_tensor(slope > 0).all()):
        raise ConfigError(f"slope must be positive (it starts at 1 and rises), got {slope}.")
    base = ungrouped(posterior)
    sharp = GatedMultinomial(
        base.total_count, base.gate_logits * slope, base.feature_logits * slope, validate_args=False
    )
    drawn, mean = posterior.sample(generator=generator), join(posterior, sharp.mean)
    value = evaluate(loss, carrying(drawn, mean))
    return Estimate(value, value.detach(), drawn)
