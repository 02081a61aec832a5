"""Groups: one integer from the paper's model to categorical and Bernoulli latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from sdlgm.distributions._counts import MAX_ENUMERATION, CountVector, enumerate_counts, over_batch
from sdlgm.distributions.gated_multinomial import GatedMultinomial, check_total
from sdlgm.distributions.relaxed import RelaxedGatedMultinomial

__all__ = ["Grouped", "grouped_gated_multinomial"]


def grouped_gated_multinomial(
    total_count: int,
    gate_logits: Tensor,
    feature_logits: Tensor,
    validate_args: bool | None = None,
) -> Grouped:
    """Split ``K`` features and ``L0`` slots over ``G`` groups, each with its own gate.

    ========================================  ======================================
    setting                                   latent
    ========================================  ======================================
    ``G = 1``                                 the paper's: all slots share a posterior
    ``G = L0``                                a slot a group, of ``K/L0`` features or none
    ``G = L0 = 20, K = 200``, gates ``inf``   20 categoricals of 10 (paper's Table I)
    ``G = L0 = K = 200``                      200 Bernoullis (paper's Table I)
    ========================================  ======================================

    Parameters
    ----------
    total_count
        The whole budget ``L0``; a group gets ``L0 / G`` slots.
    gate_logits
        Shape ``(*batch, G)``.
    feature_logits
        Shape ``(*batch, K)``; group ``g`` owns the ``g``-th run of ``K / G`` features.

    Raises
    ------
    ValueError
        If ``G`` divides not both ``K`` and ``L0``.
    """
    groups, features = gate_logits.shape[-1], feature_logits.shape[-1]
    if features % groups or total_count % groups:
        raise ValueError(
            f"groups must divide the features and the budget, got {groups} groups, "
            f"{features} features and a budget of {total_count}."
        )
    feature_logits = feature_logits.unflatten(-1, (groups, features // groups))
    base = GatedMultinomial(total_count // groups, gate_logits, feature_logits, validate_args)
    return Grouped(base)


class Grouped(Distribution):
    """The concatenation of the independent codes along the last batch dimension of ``base``.

    Groups own disjoint features, so the code determines every group's part and all closed
    forms add up.

    Parameters
    ----------
    base
        A :class:`GatedMultinomial` or :class:`RelaxedGatedMultinomial` of batch shape
        ``(*batch, G)`` and event shape ``(K/G,)``. The wrapper has batch shape ``(*batch,)`` and
        event shape ``(K,)``.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's signature)

    def __init__(self, base: GatedMultinomial | RelaxedGatedMultinomial) -> None:
        if not base.batch_shape:
            raise ValueError("Grouped needs a base with a last batch dimension of groups.")
        self.base = base
        self.groups = base.batch_shape[-1]
        self.total_count = self.groups * base.total_count
        super().__init__(
            base.batch_shape[:-1],
            Size([self.groups * base.event_shape[0]]),
            validate_args=False,
        )
        self._validate_args = base._validate_args

    def expand(self, batch_shape: Any, _instance: Distribution | None = None) -> Grouped:
        """Return the same distribution with its batch expanded to ``batch_shape``."""
        return Grouped(self.base.expand((*batch_shape, self.groups)))

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws are differentiable: only relaxed ones are."""
        return self.base.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether the codes can be listed: only discrete ones can."""
        return self.base.has_enumerate_support

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        """The support of the base, group by group."""
        if isinstance(self.base, GatedMultinomial):
            return _GroupedCounts(self.base.total_count, self.groups)
        return self.base.support

    def split(self, value: Tensor) -> Tensor:
        """View values of shape ``(..., K)`` as ``(..., G, K/G)``."""
        return value.unflatten(-1, (self.groups, -1))

    # --- closed forms: they add up over the groups --------------------------------------------

    @property
    def mean(self) -> Tensor:
        """Expected counts, shape ``(*batch, K)``."""
        return self.base.mean.flatten(-2)

    @property
    def mean_total(self) -> Tensor:
        """Expected number of open slots, shape ``(*batch,)``."""
        return self._discrete.mean_total.sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of each count, shape ``(*batch, K)``."""
        return self.base.variance.flatten(-2)

    @property
    def mode(self) -> Tensor:
        """A most probable code, shape ``(*batch, K)``."""
        return self.base.mode.flatten(-2)

    @property
    def rounded_mean(self) -> Tensor:
        """The code that is nearest to the mean, shape ``(*batch, K)``."""
        return self._discrete.rounded_mean.flatten(-2)

    @property
    def presence_probs(self) -> Tensor:
        """Probability that each feature is present, shape ``(*batch, K)``."""
        return self._discrete.presence_probs.flatten(-2)

    @property
    def absence_log_probs(self) -> Tensor:
        """Log-probability (nats) that a feature is absent, shape ``(*batch, K)``."""
        return self._discrete.absence_log_probs.flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability (nats) of codes of shape ``(*sample, *batch, K)``."""
        return self.base.log_prob(self.split(value)).sum(-1)

    def total_log_prob(self, total: Tensor) -> Tensor:
        r"""Log-probability (nats) of the number of open slots in all groups.

        :math:`L` is a sum of ``G`` independent Binomials; their laws are convolved one by one
        (in float64, all terms positive) in ``O(L0^2)`` a batch row.
        """
        check_total(total, self.total_count, self._validate_args)
        slots = torch.arange(self._discrete.total_count + 1, device=total.device)
        parts = self._discrete.total_log_prob(
            slots.view(-1, *(1,) * len(self._discrete.batch_shape))
        )
        parts = parts.movedim(0, -1).double().exp()  # (*batch, G, L0/G + 1)
        law = parts[..., 0, :]
        for group in range(1, self.groups):
            part = parts[..., group, :]
            longer = law.new_zeros(*law.shape[:-1], law.shape[-1] + part.shape[-1] - 1)
            for shift in range(part.shape[-1]):
                end = shift + law.shape[-1]
                padded = torch.nn.functional.pad(
                    law * part[..., shift : shift + 1], (shift, longer.shape[-1] - end)
                )
                longer = longer + padded
            law = longer
        log_law = law.log().to(self.base.gate_logits.dtype)
        shape = torch.broadcast_shapes(total.shape, self.batch_shape)
        index = total.long().expand(shape).unsqueeze(-1)
        return log_law.expand(*shape, -1).gather(-1, index).squeeze(-1)

    # --- draws --------------------------------------------------------------------------------

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw codes of shape ``(*sample, *batch, K)``."""
        return self.base.sample(sample_shape, generator).flatten(-2)

    def rsample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw relaxed codes differentiably (of a relaxed base only)."""
        if not isinstance(self.base, RelaxedGatedMultinomial):
            raise NotImplementedError(
                "Counts are discrete and have no reparameterised sample: use relax() for the "
                "paper's relaxation, or an estimator of sdlgm.gradients."
            )
        return self.base.rsample(sample_shape, generator).flatten(-2)

    def relax(
        self, gate_temperature: Tensor | float, feature_temperature: Tensor | float
    ) -> Grouped:
        """Return the relaxed counterpart (paper, eqs. 8, 10, 12) at two temperatures."""
        return Grouped(self._discrete.relax(gate_temperature, feature_temperature))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All codes, stacked along a new first dimension; at most a million."""
        part = enumerate_counts(self.base.event_shape[0], self._discrete.total_count)
        part = part.to(self.base.feature_logits)
        if len(part) ** self.groups > MAX_ENUMERATION:
            raise ValueError(
                f"{self.groups} groups of {len(part)} codes each are more than the "
                f"{MAX_ENUMERATION:,} codes that enumeration allows; sample instead."
            )
        index = torch.cartesian_prod(*[torch.arange(len(part))] * self.groups)
        values = part[index.view(-1, self.groups)].flatten(-2)
        return over_batch(values, self.batch_shape, expand)

    @property
    def slot_log_probs(self) -> Tensor:
        """Log-probabilities of the outcomes of a slot in each group, "closed" last.

        Shape ``(*batch, G, K/G + 1)``.
        """
        return self._discrete.slot_log_probs

    @property
    def _discrete(self) -> GatedMultinomial:
        if isinstance(self.base, RelaxedGatedMultinomial):
            raise NotImplementedError(
                "This holds for discrete codes; a relaxed draw has no such closed form."
            )
        return self.base


class _GroupedCounts(constraints.Constraint):
    """Codes in which every group keeps its own budget."""

    is_discrete = True
    event_dim = 1

    def __init__(self, total_count: int, groups: int) -> None:
        self.part, self.groups = CountVector(total_count), groups
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return self.part.check(value.unflatten(-1, (self.groups, -1))).all(-1)
