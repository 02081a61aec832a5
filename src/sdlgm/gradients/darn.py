"""DARN: a score function whose control variate is the tangent of the loss at the draw."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from sdlgm.distributions._counts import weighted
from sdlgm.gradients._surrogate import carrying, evaluate, slope_at, split, ungrouped
from sdlgm.gradients.control_variates import ControlVariate, centre
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["darn"]


@register
def darn(
    posterior: Code,
    loss: Loss,
    *,
    control_variate: ControlVariate | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Estimate the gradient as deep autoregressive networks do, slot by slot.

    For a slot with outcome :math:`e` (one-hot; 0 if closed), the control variate is the tangent at
    the draw, evaluated with the slot at a fixed :math:`\bar e`: :math:`f(z) + f'(z)^\top (\bar e -
    e)`. It depends on the draw, and its mean is *not* added back. Summed over the slots of a code,
    with the counts :math:`n` and probabilities :math:`p` of the K + 1 outcomes, and
    :math:`f'_k = 0` for closed, the estimate within each group is

    .. math:: \sum_k n_k \big(f'_k(z) - f'(z)^\top \bar e - b\big)\, \nabla \log p_k

    :math:`\bar e` is the mean of a slot with equally probable outcomes: 1/2 for a Bernoulli, 1/K
    for a categorical of K, 1/(K + 1) with a gate. The control variate :math:`b` predicts the mean
    of the remaining signal, one number for all groups of a sample; it may not reduce the variance.

    - Bias: none for losses that are linear in each slot. For Bernoulli slots the estimate equals
      that of ``reinmax``, so quadratic losses add no bias either; with more outcomes, curvature
      within a slot does.
    - Variance: between those of a pathwise estimate and of a score function.
    - Cost: one decoder call with a backward pass to the codes; O(K) for the latent.

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
    Gregor, Danihelka, Mnih, Blundell, Wierstra, "Deep AutoRegressive Networks", ICML 2014; derived
    from a Taylor expansion in Gu et al., "MuProp", ICLR 2016.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> logits = torch.zeros(8, 3, requires_grad=True)
    >>> q = GatedMultinomial(2, torch.zeros(8), logits)
    >>> estimate = darn(q, lambda z: z[..., 0])
    >>> estimate.surrogate.mean().backward()
    >>> estimate.codes.shape, logits.grad.shape
    (torch.Size([8, 3]), torch.Size([8, 3]))
    """
    base = ungrouped(posterior)
    drawn = posterior.sample(generator=generator)
    with torch.enable_grad():
        point = drawn.clone().requires_grad_()
        value = evaluate(loss, point)
        slope = split(posterior, slope_at(value, point, "darn"))
    counts = split(posterior, drawn)
    counts = torch.cat([counts, base.total_count - counts.sum(-1, keepdim=True)], dim=-1)
    # "Closed" counts as an outcome, unless the gate is always open.
    outcomes = slope.shape[-1] + (~base.gate_logits.isposinf()).to(slope)
    signal = pad(slope, (0, 1)) - (slope.sum(-1) / outcomes).unsqueeze(-1)
    mean_of_slots = (counts * signal).sum(-1) / base.total_count
    centred = centre(control_variate, posterior, mean_of_slots)
    signal = signal - (mean_of_slots - centred.signal).unsqueeze(-1)
    score = centred.weight * weighted(counts * signal, base.slot_log_probs).sum(-1)
    if score.dim() > len(posterior.batch_shape):
        score = score.sum(-1)
    return Estimate(carrying(value, score + centred.error), value.detach(), drawn)
