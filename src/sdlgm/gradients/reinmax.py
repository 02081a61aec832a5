"""ReinMax for counts: second-order accurate, in O(K) for any budget."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sdlgm.distributions import GatedMultinomial
from sdlgm.distributions._chunks import in_chunks
from sdlgm.gradients._surrogate import draw, evaluate
from sdlgm.gradients.registry import Code, Estimate, Loss, register
from sdlgm.kernels import codes as kernels
from sdlgm.kernels import launch

__all__ = ["reinmax"]


@register
def reinmax(posterior: Code, loss: Loss, *, generator: torch.Generator | None = None) -> Estimate:
    r"""Estimate the gradient by ReinMax, summed over the slots of a code in closed form.

    With the probabilities :math:`p` of the K + 1 outcomes of a slot (the last is "closed"), the
    sampled counts :math:`n` of these outcomes, and the gradient :math:`g` of the loss with respect
    to the counts (0 for closed), the gradient with respect to the logits of the outcomes is

    .. math:: \tfrac12 \big[ (L_0 p + n)\, g - n\, (p^\top g) - p\, (n^\top g) \big].

    - Bias: none for losses that are polynomials of degree at most two in each slot; third order in
      general.
    - Variance: that of a pathwise estimate.
    - Cost: one decoder call; O(K) for the latent, with no ``L0 x K`` tensor.

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
    Liu, Dong, Liu, Yu, Gao, "Bridging Discrete and Backpropagation: Straight-Through and Beyond",
    NeurIPS 2023 (here at temperature 1).

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> logits = torch.zeros(8, 3, requires_grad=True)
    >>> q = GatedMultinomial(2, torch.zeros(8), logits)
    >>> estimate = reinmax(q, lambda z: z[..., 0])
    >>> estimate.surrogate.mean().backward()
    >>> estimate.codes.shape, logits.grad.shape
    (torch.Size([8, 3]), torch.Size([8, 3]))
    """

    def path(base: GatedMultinomial) -> Tensor:
        counts: Tensor = _CountReinMax.apply(
            base.gate_logits, base.feature_logits, base.sample(generator=generator), base
        )
        return counts

    codes = draw(posterior, path)
    value = evaluate(loss, codes)
    return Estimate(value, value.detach(), codes.detach())


class _CountReinMax(torch.autograd.Function):
    """Identity on the counts whose backward pass is the formula of :func:`reinmax`.

    It includes the chain rule from the log-probabilities of the outcomes to the two sets of logits:
    if the K open outcomes have gradient ``u`` with sum ``s`` (closed has ``-s``), the logit of the
    gate gets ``s`` and the logits of the features get ``u - pi * s``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        gate_logits: Tensor,
        feature_logits: Tensor,
        counts: Tensor,
        base: GatedMultinomial,
    ) -> Tensor:
        ctx.total_count, ctx.on_gpu = base.total_count, launch.usable(feature_logits)
        if ctx.on_gpu:
            ctx.save_for_backward(counts, gate_logits, feature_logits)
        else:
            ctx.save_for_backward(counts, base.open_prob, base.feature_probs)
        return counts.view_as(counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        counts, open_prob, features = ctx.saved_tensors
        if ctx.on_gpu:
            gate, outcome = kernels.reinmax_gradients(
                open_prob, features, counts, grads[0], ctx.total_count
            )
            return gate, outcome, None, None
        half = (0.5 * ctx.total_count * open_prob).unsqueeze(-1)
        outcome, gate = torch.empty_like(counts), torch.empty_like(half)
        write = partial(_write_gradients, ctx.total_count)
        in_chunks(write, grads[0], counts, features, half, outcome, gate)
        return gate.squeeze(-1), outcome, None, None


def _write_gradients(
    total_count: int,
    grad: Tensor,
    counts: Tensor,
    features: Tensor,
    half: Tensor,
    outcome: Tensor,
    gate: Tensor,
) -> None:
    """Write the gradients of the feature and gate logits into ``outcome`` and ``gate``.

    ``half`` holds ``L0 / 2`` times the probability of an open gate.
    """
    probs = half * features  # L0 / 2 times p
    p_dot_g = (probs * grad).sum(-1, keepdim=True)
    n_dot_g = (counts * grad).sum(-1, keepdim=True)
    torch.sub(grad, n_dot_g, alpha=1 / total_count, out=outcome).mul_(probs)
    outcome.addcmul_(counts, torch.sub(grad, p_dot_g, alpha=2 / total_count), value=0.5)
    torch.sum(outcome, -1, keepdim=True, out=gate)
    outcome.addcmul_(features, gate, value=-1)
