"""ReinMax for counts: second-order accurate, in O(K) whatever the budget."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdlgm.distributions._chunks import in_chunks
from sdlgm.gradients._surrogate import evaluate, split, ungrouped
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
    """The identity on the counts whose backward pass is the formula above.

    The chain rule from the outcomes' log-probabilities to the two sets of logits is folded in:
    with ``u`` the gradient of the K open outcomes and ``s`` their sum (the closed one gets -s),
    the gate's logit gets ``s`` and the features' ``u - pi * s``.
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
        half = (0.5 * ctx.total_count * open_prob).unsqueeze(-1)
        outcome, gate = torch.empty_like(counts), torch.empty_like(half)
        work = partial(_pull, ctx.total_count)
        in_chunks(work, grads[0], counts, features, half, outcome, gate)
        return gate.squeeze(-1), outcome, *(None,) * 4


def _pull(
    total_count: int,
    grad: Tensor,
    counts: Tensor,
    features: Tensor,
    half: Tensor,
    outcome: Tensor,
    gate: Tensor,
) -> None:
    """Write the gradients of the logits of features and gates into the last two tables.

    ``half`` is ``L0 / 2`` times the probability of an open gate.
    """
    probs = half * features  # L0 / 2 times p
    p_dot_g = (probs * grad).sum(-1, keepdim=True)
    n_dot_g = (counts * grad).sum(-1, keepdim=True)
    torch.sub(grad, n_dot_g, alpha=1 / total_count, out=outcome).mul_(probs)
    outcome.addcmul_(counts, torch.sub(grad, p_dot_g, alpha=2 / total_count), value=0.5)
    torch.sum(outcome, -1, keepdim=True, out=gate)
    outcome.addcmul_(features, gate, value=-1)
