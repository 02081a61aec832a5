"""The paper's relaxation: two Gumbel-Softmax steps a slot."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all

from sdlgm.distributions._counts import broadcast_logits
from sdlgm.distributions._gumbel import gumbel
from sdlgm.distributions._slots import mix_slots, slots_absence

__all__ = ["RelaxedGatedMultinomial"]


class RelaxedGatedMultinomial(Distribution):
    r"""Two-step Gumbel-Softmax relaxation of ``GatedMultinomial`` (Xu et al. 2021).

    .. math::

        \omega_\ell &= \mathrm{sigmoid}\big((\mathrm{logit}\,\lambda + \xi_{\ell,1} - \xi_{\ell,2})
            / \tau\big) & \text{(eq. 8)} \\
        z_\ell &= \mathrm{softmax}\big((\log \pi + \xi_\ell) / \tau_z\big) & \text{(eq. 10)} \\
        z &= \textstyle\sum_{\ell=1}^{L_0} \omega_\ell z_\ell & \text{(eq. 12)}

    with i.i.d. standard Gumbel :math:`\xi`. **A draw is not a code**: its entries are real numbers
    that can carry far more information than counts, the more so the higher the temperature. An
    objective of such draws with the discrete KL is not a lower bound of the likelihood. One draw
    needs ``L0 x K`` numbers; its density is an ``L0``-fold convolution without a closed form, so
    there is no ``log_prob``.

    Parameters
    ----------
    total_count, gate_logits, feature_logits
        As for ``GatedMultinomial``.
    gate_temperature, feature_temperature
        Positive scalars :math:`\tau` and :math:`\tau_z`, or tensors of a shape that broadcasts
        with the batch. They may be learned.
    """

    arg_constraints = {  # noqa: RUF012 (the signature torch expects)
        "gate_logits": constraints.real,
        "feature_logits": constraints.real_vector,
        "gate_temperature": constraints.positive,
        "feature_temperature": constraints.positive,
    }
    has_rsample = True

    def __init__(
        self,
        total_count: int,
        gate_logits: Tensor,
        feature_logits: Tensor,
        gate_temperature: Tensor | float = 1.0,
        feature_temperature: Tensor | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.total_count = total_count
        gate_logits, self.feature_logits = broadcast_logits(
            total_count, gate_logits, feature_logits
        )
        self.gate_logits, self.gate_temperature, self.feature_temperature = broadcast_all(
            gate_logits, gate_temperature, feature_temperature
        )
        batch_shape, event_shape = gate_logits.shape, self.feature_logits.shape[-1:]
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def expand(
        self, batch_shape: Any, _instance: Distribution | None = None
    ) -> RelaxedGatedMultinomial:
        """Return the same distribution with its batch expanded to ``batch_shape``."""
        new = self._get_checked_instance(RelaxedGatedMultinomial, _instance)
        batch_shape = Size(batch_shape)
        new.total_count = self.total_count
        new.gate_logits = self.gate_logits.expand(batch_shape)
        new.feature_logits = self.feature_logits.expand(batch_shape + self.event_shape)
        new.gate_temperature = self.gate_temperature.expand(batch_shape)
        new.feature_temperature = self.feature_temperature.expand(batch_shape)
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Vectors of K non-negative real numbers (whose sum is at most ``total_count``)."""
        return constraints.independent(constraints.nonnegative, 1)

    def rsample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw differentiably; shape ``(*sample, *batch, K)``, sums at most ``total_count``.

        First derivatives only.
        """
        rows = mix_slots(*self._rows(sample_shape, generator), generator)
        return rows.view(self._extended_shape(sample_shape))

    def rsample_slots(
        self, sample_shape: Any = (), generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Draw what a code is the sum of: gates (eq. 8) and contents (eq. 10) of the slots.

        Shapes ``(*sample, *batch, L0)`` and ``(*sample, *batch, L0, K)``. A gate exceeds 1/2 with
        probability :math:`\lambda`, and a slot's largest entry is ``k`` with probability
        :math:`\pi_k`, at any temperature.
        """
        shape = Size(sample_shape) + self.batch_shape + (self.total_count,)
        gates = self._gates(shape, generator)
        noise = gumbel(shape + self.event_shape, self.gate_logits, generator)
        temperature = self.feature_temperature[..., None, None]
        slots = torch.softmax((self.feature_logits.unsqueeze(-2) + noise) / temperature, dim=-1)
        return gates, slots

    def rsample_absence(
        self, sample_shape: Any = (), generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Draw the log of relaxed absence differentiably, shape ``(*sample, *batch, K)``.

        .. math:: \textstyle\sum_{\ell=1}^{L_0} \log(1 - \omega_\ell z_{\ell,k})

        For hard gates and slots this is 0 for an absent feature and minus infinity for one that is
        present; here each factor is at least the floating type's epsilon. First derivatives only.
        """
        rows = slots_absence(*self._rows(sample_shape, generator), generator)
        return rows.view(self._extended_shape(sample_shape))

    def _rows(
        self, sample_shape: Any, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw gates; return them, features and temperatures of all codes, one a row."""
        shape = self._extended_shape(sample_shape)
        batch = shape[:-1]
        gates = self._gates(Size((*batch, self.total_count)), generator)
        return (
            gates.reshape(-1, self.total_count),
            self.feature_logits.expand(shape).reshape(-1, shape[-1]),
            self.feature_temperature.expand(batch).reshape(-1, 1),
        )

    def _gates(self, shape: Size, generator: torch.Generator | None) -> Tensor:
        """Draw relaxed gates (eq. 8)."""
        # A gate that is always open has an infinite logit; one that is merely huge is as open, and
        # keeps the gradient of the temperature finite.
        limit = torch.finfo(self.gate_logits.dtype).max ** 0.5
        logits = self.gate_logits.clamp(-limit, limit).unsqueeze(-1)
        noise = gumbel(shape, logits, generator) - gumbel(shape, logits, generator)
        return torch.sigmoid((logits + noise) / self.gate_temperature.unsqueeze(-1))

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw without gradients; see :meth:`rsample`."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)
