"""Gumbel-Softmax: the estimator of the paper, which decodes relaxed codes."""

from __future__ import annotations

import torch
from torch import Tensor

from sdlgm.distributions import GatedMultinomial
from sdlgm.gradients._surrogate import draw, evaluate
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["gumbel_softmax"]


@register
def gumbel_softmax(
    posterior: Code,
    loss: Loss,
    *,
    gate_temperature: Tensor | float = 1.0,
    feature_temperature: Tensor | float = 1.0,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Estimate the gradient by the two-step Gumbel-Softmax of the paper (eqs. 8, 10, 12).

    The loss is evaluated at a **relaxed** code: its value is not a discrete loss, and an objective
    built on it is not a bound.

    - Bias: grows with the temperature.
    - Variance: falls as the temperature grows.
    - Cost: one decoder call; O(L0 K) time and memory for the latent.

    Parameters
    ----------
    posterior
        Distribution of the codes.
    loss
        Maps codes to losses (nats); see :data:`~sdlgm.gradients.Loss`.
    gate_temperature, feature_temperature
        Temperatures of the relaxation; tensors receive a gradient.
    generator
        Source of randomness; ``None`` uses torch's global generator.

    References
    ----------
    Xu, Onoro Rubio, Serra, Niepert, "Learning Sparsity of Representations with Discrete Latent
    Variables", IJCNN 2021; Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax",
    ICLR 2017; Maddison, Mnih, Teh, "The Concrete Distribution", ICLR 2017.

    Examples
    --------
    >>> from sdlgm.distributions import GatedMultinomial
    >>> logits = torch.zeros(8, 3, requires_grad=True)
    >>> q = GatedMultinomial(2, torch.zeros(8), logits)
    >>> estimate = gumbel_softmax(q, lambda z: z[..., 0])
    >>> estimate.surrogate.mean().backward()
    >>> estimate.codes.shape, logits.grad.shape
    (torch.Size([8, 3]), torch.Size([8, 3]))
    """

    def path(base: GatedMultinomial) -> Tensor:
        return base.relax(gate_temperature, feature_temperature).rsample(generator=generator)

    relaxed = draw(posterior, path)
    value = evaluate(loss, relaxed)
    return Estimate(value, value.detach(), relaxed.detach())
