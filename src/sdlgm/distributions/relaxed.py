"""The continuous relaxation of the paper: two Gumbel-Softmax steps per slot."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all

from sdlgm.distributions._base import SlotDistribution, broadcast_logits
from sdlgm.distributions._gumbel import gumbel
from sdlgm.distributions._relaxed_slots import mix_slots, slots_absence
from sdlgm.kernels import codes as kernels
from sdlgm.kernels import launch

__all__ = ["RelaxedGatedMultinomial"]


class RelaxedGatedMultinomial(SlotDistribution):
    r"""Two-step Gumbel-Softmax relaxation of :class:`GatedMultinomial`.

    .. math::

        \omega_\ell &= \mathrm{sigmoid}\big((\mathrm{logit}\,\lambda + \xi_{\ell,1} - \xi_{\ell,2})
            / \tau\big) & \text{(eq. 8)} \\
        z_\ell &= \mathrm{softmax}\big((\log \pi + \xi_\ell) / \tau_z\big) & \text{(eq. 10)} \\
        z &= \textstyle\sum_{\ell=1}^{L_0} \omega_\ell z_\ell & \text{(eq. 12)}

    with i.i.d. standard Gumbel noise :math:`\xi`. **A draw is not a code**: its entries are real
    numbers, which can carry far more information than counts, especially at high temperatures. An
    objective that combines such draws with the discrete KL is therefore not a bound of the
    likelihood. A draw needs ``L0 x K`` random numbers. Its density is an ``L0``-fold convolution
    without a closed form, so there is no ``log_prob``.

    Parameters
    ----------
    total_count, gate_logits, feature_logits
        As for :class:`GatedMultinomial`.
    gate_temperature, feature_temperature
        Positive scalars :math:`\tau` and :math:`\tau_z`, or tensors of a shape that broadcasts
        with the batch. They may require gradients.

    Raises
    ------
    ValueError
        As for :class:`GatedMultinomial`, or if a temperature is not positive.

    References
    ----------
    Xu, Onoro Rubio, Serra, Niepert, "Learning Sparsity of Representations with Discrete Latent
    Variables", IJCNN 2021, eqs. 8, 10 and 12.

    Examples
    --------
    >>> q = RelaxedGatedMultinomial(3, torch.zeros(2), torch.zeros(2, 5), 0.5, 0.5)
    >>> z = q.rsample(generator=torch.Generator().manual_seed(0))
    >>> z.shape, bool((z.sum(-1) <= 3).all()), bool((z == z.round()).any())
    (torch.Size([2, 5]), True, False)
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

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Vectors of K non-negative real numbers; draws also sum to at most ``total_count``."""
        return constraints.independent(constraints.nonnegative, 1)

    def rsample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw differentiable relaxed codes of shape ``(*sample, *batch, K)``.

        Their sums are at most ``total_count``. Gradients reach the logits and the temperatures;
        second derivatives are not available.
        """
        shape = self._extended_shape(sample_shape)
        if launch.usable(self.feature_logits):
            batch = shape[:-1]
            seed = torch.randint(2**62, (), device=self.gate_logits.device, generator=generator)
            rows: Tensor = _KernelCodes.apply(
                self.gate_logits.expand(batch).reshape(-1),
                self.feature_logits.expand(shape).reshape(-1, shape[-1]),
                self.gate_temperature.expand(batch).reshape(-1),
                self.feature_temperature.expand(batch).reshape(-1),
                seed,
                self.total_count,
            )
        else:
            rows = mix_slots(*self._rows(sample_shape, generator), generator)
        return rows.view(shape)

    def rsample_slots(
        self, sample_shape: Any = (), generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Draw the gates (eq. 8) and contents (eq. 10) of the slots that a code sums (eq. 12).

        Shapes ``(*sample, *batch, L0)`` and ``(*sample, *batch, L0, K)``. At any temperature, a
        gate exceeds 1/2 with probability :math:`\lambda`, and the largest entry of a slot is ``k``
        with probability :math:`\pi_k`.
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
        r"""Draw differentiable relaxed log-absences of shape ``(*sample, *batch, K)``.

        .. math:: \textstyle\sum_{\ell=1}^{L_0} \log(1 - \omega_\ell z_{\ell,k})

        For hard gates and slots this would be 0 for an absent feature and minus infinity for a
        present one. Each factor is clamped from below at the dtype's machine epsilon. Second
        derivatives are not available.
        """
        rows = slots_absence(*self._rows(sample_shape, generator), generator)
        return rows.view(self._extended_shape(sample_shape))

    def _rows(
        self, sample_shape: Any, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw gates; return gates, feature logits and feature temperatures, one code per row."""
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
        # A gate that is always open has an infinite logit. A huge finite one has the same effect
        # and keeps the gradient of the temperature finite.
        limit = torch.finfo(self.gate_logits.dtype).max ** 0.5
        logits = self.gate_logits.clamp(-limit, limit).unsqueeze(-1)
        noise = gumbel(shape, logits, generator) - gumbel(shape, logits, generator)
        return torch.sigmoid((logits + noise) / self.gate_temperature.unsqueeze(-1))

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw relaxed codes without gradients; see :meth:`rsample`."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)


class _KernelCodes(torch.autograd.Function):
    """Relaxed codes on a GPU, one a row. They are drawn again in backward; no slot is stored."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, ctx.total_count = arguments
        ctx.save_for_backward(*tensors)
        return kernels.relaxed_codes(*arguments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gates, features, gate_temperature, feature_temperature, seed = ctx.saved_tensors
        found = kernels.relaxed_gradients(
            gates, features, gate_temperature, feature_temperature, seed, ctx.total_count, grads[0]
        )
        return *found, None, None
