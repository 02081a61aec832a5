"""DARN: a score function whose baseline is the loss's tangent at the draw."""

from __future__ import annotations

import torch
from torch.nn.functional import pad

from sdlgm.distributions._counts import weighted
from sdlgm.gradients._surrogate import carrying, evaluate, slope_at, split, ungrouped
from sdlgm.gradients.control_variates import Baseline, centre
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["darn"]


@register
def darn(
    posterior: Code,
    loss: Loss,
    *,
    baseline: Baseline | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Estimator of the deep autoregressive networks (Gregor et al. 2014), slot by slot.

    For a slot with outcome :math:`e` (one-hot; 0 if closed) the baseline is the tangent at the
    draw, evaluated where the slot is a fixed :math:`\bar e`: :math:`f(z) + f'(z)^\top (\bar e -
    e)`. It depends on the draw, and its mean is *not* put back. Summed over the slots of a code,
    with the K + 1 outcomes' counts :math:`n` and probabilities :math:`p`, and :math:`f'_k = 0` for
    closed, that is

    .. math:: \sum_k n_k \big(f'_k(z) - f'(z)^\top \bar e - b\big)\, \nabla \log p_k

    within each group. :math:`\bar e` is the mean of a slot whose outcomes are all equally
    probable: 1/2 for a Bernoulli, 1/K for a categorical of K, 1/(K + 1) with a gate. ``baseline``
    predicts the mean of what is left, one number for all groups of a sample; it need not help.

    - Bias: none for losses that are linear in each slot. For Bernoulli slots this is ``reinmax``,
      and quadratic ones do no harm either; with more outcomes curvature within a slot biases it.
    - Variance: between that of a pathwise estimate and of a score function.
    - Cost: one decoder call with a backward pass to the codes, and O(K) for the latent.

    References: Gregor, Danihelka, Mnih, Blundell, Wierstra, "Deep AutoRegressive Networks", ICML
    2014; as a baseline by a Taylor expansion in Gu et al., "MuProp", ICLR 2016.
    """
    base = ungrouped(posterior)
    drawn = posterior.sample(generator=generator)
    with torch.enable_grad():
        point = drawn.clone().requires_grad_()
        value = evaluate(loss, point)
        slope = split(posterior, slope_at(value, point, "darn"))
    counts = split(posterior, drawn)
    counts = torch.cat([counts, base.total_count - counts.sum(-1, keepdim=True)], dim=-1)
    # "Closed" is one of the equally probable outcomes, unless the gate is always open.
    outcomes = slope.shape[-1] + (~base.gate_logits.isposinf()).to(slope)
    signal = pad(slope, (0, 1)) - (slope.sum(-1) / outcomes).unsqueeze(-1)
    mean_of_slots = (counts * signal).sum(-1) / base.total_count
    centred = centre(baseline, posterior, mean_of_slots)
    signal = signal - (mean_of_slots - centred.signal).unsqueeze(-1)
    score = centred.weight * weighted(counts * signal, base.slot_log_probs).sum(-1)
    if score.dim() > len(posterior.batch_shape):
        score = score.sum(-1)
    return Estimate(carrying(value, score + centred.error), value.detach(), drawn)
