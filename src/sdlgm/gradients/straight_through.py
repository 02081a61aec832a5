"""Straight-through: the gradient of the mean, evaluated at the sampled code."""

from __future__ import annotations

import torch

from sdlgm.gradients._surrogate import carrying, draw, evaluate
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["straight_through"]


@register
def straight_through(
    posterior: Code, loss: Loss, *, generator: torch.Generator | None = None
) -> Estimate:
    r"""Estimate the gradient straight-through: the draw in forward, the mean in backward.

    .. math:: z = n + \bar n - \mathrm{stop}(\bar n), \qquad \bar n = L_0 \lambda \pi

    - Bias: none for losses that are linear in the counts; second order in general.
    - Variance: that of a pathwise estimate.
    - Cost: one decoder call; O(K) for the latent.

    Parameters
    ----------
    posterior
        Distribution of the codes.
    loss
        Maps codes to losses (nats); see :data:`~sdlgm.gradients.Loss`.
    generator
        Source of randomness; ``None`` uses torch's global generator.

    References
    ----------
    Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation", arXiv 1308.3432, 2013.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> logits = torch.zeros(8, 3, requires_grad=True)
    >>> q = GatedMultinomial(2, torch.zeros(8), logits)
    >>> estimate = straight_through(q, lambda z: z[..., 0])
    >>> estimate.surrogate.mean().backward()
    >>> estimate.codes.shape, logits.grad.shape
    (torch.Size([8, 3]), torch.Size([8, 3]))
    """
    codes = draw(posterior, lambda base: carrying(base.sample(generator=generator), base.mean))
    value = evaluate(loss, codes)
    return Estimate(value, value.detach(), codes.detach())
