"""MuProp: a score function whose control variate is the tangent of the loss at the mean."""

from __future__ import annotations

import torch

from sdlgm.gradients._surrogate import carrying, evaluate, slope_at, ungrouped
from sdlgm.gradients.control_variates import ControlVariate, centre
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["muprop"]


@register
def muprop(
    posterior: Code,
    loss: Loss,
    *,
    control_variate: ControlVariate | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Estimate the gradient by MuProp: the control variate is the tangent at the mean counts.

    .. math::

        \big(f(z) - f(\bar z) - f'(\bar z)^\top (z - \bar z) - b\big)\, \nabla \log q(z)
        + f'(\bar z)^\top \nabla \bar z, \qquad \bar z = L_0 \lambda \pi

    The second term is the expectation of what the tangent subtracts from the first. The control
    variate :math:`b` predicts the remaining signal. Variance normalisation divides *both* terms:
    dividing only the first would change their relative weight.

    - Bias: none.
    - Variance: none for losses that are linear in the counts; otherwise that of the score function
      of the nonlinear remainder.
    - Cost: two decoder calls, one with a backward pass to the codes; O(K) for the latent.

    Parameters
    ----------
    posterior
        Distribution of the codes.
    loss
        Maps codes to losses (nats); see :data:`~sdlgm.gradients.Loss`.
    control_variate
        Learned prediction of the loss; ``None`` subtracts nothing.
    generator
        Source of randomness; ``None`` uses torch's global generator.

    References
    ----------
    Gu, Levine, Sutskever, Mnih, "MuProp: Unbiased Backpropagation for Stochastic Neural Networks",
    ICLR 2016.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> logits = torch.zeros(8, 3, requires_grad=True)
    >>> q = GatedMultinomial(2, torch.zeros(8), logits)
    >>> estimate = muprop(q, lambda z: z[..., 0])
    >>> estimate.surrogate.mean().backward()
    >>> estimate.codes.shape, logits.grad.shape
    (torch.Size([8, 3]), torch.Size([8, 3]))
    """
    ungrouped(posterior)  # refuses levels, which have no mean
    drawn = posterior.sample(generator=generator)
    value = evaluate(loss, drawn)
    mean = posterior.mean
    with torch.enable_grad():
        point = mean.detach().requires_grad_()
        middle = evaluate(loss, point)
        slope = slope_at(middle, point, "muprop")
    tangent = middle.detach() + (slope * (drawn - mean.detach())).sum(-1)
    centred = centre(control_variate, posterior, value - tangent)
    score = centred.signal * posterior.log_prob(drawn) + (slope * mean).sum(-1)
    surrogate = carrying(value, centred.weight * score + centred.error)
    return Estimate(surrogate, value.detach(), drawn)
