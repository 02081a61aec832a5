"""Gumbel-Softmax: the paper's estimator, which decodes relaxed codes."""

from __future__ import annotations

import torch
from torch import Tensor

from sdlgm.gradients._surrogate import evaluate
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
    r"""Two-step Gumbel-Softmax (Xu et al. 2021, eqs. 8, 10, 12).

    The loss is taken at a **relaxed** code: its value is no discrete loss, and an objective built
    on it no bound. Temperatures that are tensors receive a gradient.

    - Bias: grows with the temperature. - Variance: falls with it. - Cost: one decoder call, and
      O(L0 K) time and memory for the latent.

    References: Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017;
    Maddison, Mnih, Teh, "The Concrete Distribution", ICLR 2017.
    """
    relaxed = posterior.relax(gate_temperature, feature_temperature).rsample(generator=generator)
    value = evaluate(loss, relaxed)
    return Estimate(value, value.detach(), relaxed.detach())
