"""Straight-through Gumbel-Softmax: real codes forward, their relaxation backward."""

from __future__ import annotations

import torch
from torch import Tensor

from sdlgm.gradients._surrogate import carrying, evaluate, join, ungrouped
from sdlgm.gradients.registry import Code, Estimate, Loss, register

__all__ = ["st_gumbel_softmax"]


@register
def st_gumbel_softmax(
    posterior: Code,
    loss: Loss,
    *,
    gate_temperature: Tensor | float = 1.0,
    feature_temperature: Tensor | float = 1.0,
    generator: torch.Generator | None = None,
) -> Estimate:
    r"""Straight-through Gumbel-Softmax (Jang et al. 2017), slot by slot.

    .. math::

        z = n + \tilde z - \mathrm{stop}(\tilde z), \qquad
        n = \sum_{\ell=1}^{L_0} [\omega_\ell > \tfrac12]\, \mathrm{onehot}(\arg\max z_\ell), \qquad
        \tilde z = \sum_{\ell=1}^{L_0} \omega_\ell z_\ell

    with the relaxed gates and slots of the paper's eqs. 8, 10 and 12. By the Gumbel-max trick
    :math:`n` is a draw from the posterior, at any temperature: the loss is one of real codes.
    Temperatures that are tensors receive a gradient.

    - Bias: of the loss's curvature between :math:`n` and :math:`\tilde z`, and of the relaxation:
      none vanishes with the temperature alone. - Variance: rises as the temperature falls.
    - Cost: one decoder call, and O(L0 K) time and memory for the latent.

    Reference: Jang, Gu, Poole, "Categorical Reparameterization with Gumbel-Softmax", ICLR 2017,
    section 2.2.
    """
    relaxed = ungrouped(posterior).relax(gate_temperature, feature_temperature)
    gates, slots = relaxed.rsample_slots(generator=generator)
    soft = join(posterior, torch.matmul(gates.unsqueeze(-2), slots).squeeze(-2))
    with torch.no_grad():
        counts = torch.zeros_like(slots[..., 0, :])
        counts.scatter_add_(-1, slots.argmax(-1), (gates > 0.5).to(slots))
        drawn = join(posterior, counts)
    value = evaluate(loss, carrying(drawn, soft))
    return Estimate(value, value.detach(), drawn)
