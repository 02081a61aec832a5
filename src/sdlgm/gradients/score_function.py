"""Score function: needs only the value of the loss."""

from __future__ import annotations

import torch

from sdlgm.gradients._surrogate import carrying, evaluate
from sdlgm.gradients.control_variates import ControlVariate, centre
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["score_function"]


@register
def score_function(
    posterior: Code,
    loss: Loss,
    *,
    control_variate: ControlVariate | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Estimate the gradient by the score function (REINFORCE), for losses without derivatives.

    .. math:: \big(f(z) - b\big)\, \nabla \log q(z)

    where :math:`b` is the control variate (0 if there is none). :math:`\log q` is the
    log-probability of the counts, so the estimate averages over the orderings of the slots at no
    cost.

    - Bias: none, with or without a control variate. With variance normalisation the estimate is
      proportional to an unbiased one; see :class:`~sdlgm.gradients.ControlVariate`.
    - Variance: the largest of all, and growing with the number of slots. Use a control variate.
    - Cost: one decoder call without a backward pass to the codes; O(K) for the latent.

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
    Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement
    learning", Machine Learning 8, 1992; Mnih, Gregor, "Neural Variational Inference and Learning in
    Belief Networks", ICML 2014.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> logits = torch.zeros(8, 3, requires_grad=True)
    >>> q = GatedMultinomial(2, torch.zeros(8), logits)
    >>> estimate = score_function(q, lambda z: z[..., 0])
    >>> estimate.surrogate.mean().backward()
    >>> estimate.codes.shape, logits.grad.shape
    (torch.Size([8, 3]), torch.Size([8, 3]))
    """
    drawn = posterior.sample(generator=generator)
    value = evaluate(loss, drawn)
    centred = centre(control_variate, posterior, value)
    score = centred.weight * centred.signal * posterior.log_prob(drawn)
    return Estimate(carrying(value, score + centred.error), value.detach(), drawn)
