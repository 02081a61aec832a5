"""ReinMax for counts: second-order accurate, in O(K) whatever the budget."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdlgm.distributions.parts import parts
from sdlgm.gradients._support import evaluate, split, ungrouped
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["reinmax"]


@register
def reinmax(posterior: Code, loss: Loss, *, generator: torch.Generator | None = None) -> Estimate:
    r"""ReinMax (Liu et al. 2023), summed over the slots of a code in closed form.

    With :math:`p` the K + 1 outcomes of a slot (the last: closed), :math:`n` the sampled K + 1
    counts and :math:`g` the gradient of the loss with respect to the counts (0 for closed), the
    gradient with respect to the logits of the outcomes is

    .. math:: \tfrac12 \big[ (L_0 p + n)\, g - n\, (p^\top g) - p\, (n^\top g) \big].

    - Bias: none for losses that are polynomials of degree at most two in each slot; third order
      in general. - Variance: that of a pathwise estimate. - Cost: one decoder call, and O(K) for
      the latent: no ``L0 x K`` tensor.

    Reference: Liu et al., "Bridging Discrete and Backpropagation: Straight-Through and Beyond",
    NeurIPS 2023 (at temperature 1).
    """
    base = ungrouped(posterior)
    drawn = posterior.sample(generator=generator)
    codes = _CountReinMax.apply(
        base.gate_logits,
        base.feature_logits,
        split(posterior, drawn),
        base.open_prob.detach(),
        base.feature_probs.detach(),
        base.total_count,
    ).view_as(drawn)
    value = evaluate(loss, codes)
    return Estimate(value, value.detach(), drawn)


class _CountReinMax(torch.autograd.Function):
    r"""The identity on the counts whose backward pass is the formula above.

    The chain rule from the outcomes' log-probabilities to the two sets of logits is folded in: with
    ``u`` the gradient of the K open outcomes and ``s`` their sum (the closed one gets -s), the
    gate's logit gets ``s`` and the features' ``u - pi * s``. As :math:`p = \lambda\pi`, that is

    .. math::

        s &= \tfrac12 \big[ n^\top g\, (1 - \lambda)
            + p^\top g\, (L_0 - \textstyle\sum_k n_k) \big] \\
        u - \pi s &= \pi \big[ \tfrac12 \lambda L_0\, g - \tfrac12 \lambda\, n^\top g - s \big]
            + n \big[ \tfrac12 g - \tfrac12 p^\top g \big]
    """

    @staticmethod
    def forward(
        ctx: Any,
        gate_logits: Tensor,
        feature_logits: Tensor,
        counts: Tensor,
        open_prob: Tensor,
        features: Tensor,
        total_count: int,
    ) -> Tensor:
        ctx.save_for_backward(counts, open_prob, features)
        ctx.total_count = total_count
        return counts.view_as(counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        counts, open_prob, features = ctx.saved_tensors
        width = counts.shape[-1]
        half = 0.5 * open_prob.reshape(-1, 1)
        tables = [t.reshape(-1, width) for t in (grads[0], counts, features)]
        gate, outcome = torch.empty_like(half), torch.empty_like(tables[0])
        for rows in parts(len(half), width):
            grad, count, feature = (t[rows] for t in tables)
            gate[rows] = _pull(ctx.total_count, half[rows], grad, count, feature, outcome[rows])
        return gate.view_as(open_prob), outcome.view_as(counts), *(None,) * 4


def _pull(
    total_count: int, half: Tensor, grad: Tensor, counts: Tensor, features: Tensor, out: Tensor
) -> Tensor:
    """Fill ``out`` with the gradient of the features' logits, and return that of the gates'.

    ``half`` is half the probability of an open gate.
    """
    p_dot_g = (features * grad).sum(-1, keepdim=True).mul_(half)  # half of it
    n_dot_g = (counts * grad).sum(-1, keepdim=True)
    rest = total_count - counts.sum(-1, keepdim=True)
    gate = torch.addcmul(p_dot_g * rest, n_dot_g, 0.5 - half)
    shift = torch.addcmul(gate, n_dot_g, half).neg_()
    torch.addcmul(shift, grad, total_count * half, out=out).mul_(features)
    out.addcmul_(counts, torch.add(-p_dot_g, grad, alpha=0.5))
    return gate
