"""Groups: one integer leads from the paper's model to categorical and Bernoulli latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from sdlgm.distributions._counts import (
    MAX_ENUMERATION,
    CountVector,
    check_total,
    enumerate_counts,
    over_batch,
)
from sdlgm.distributions.gated_multinomial import GatedMultinomial
from sdlgm.distributions.relaxed import RelaxedGatedMultinomial

__all__ = ["Grouped", "grouped_gated_multinomial"]


def grouped_gated_multinomial(
    total_count: int,
    gate_logits: Tensor,
    feature_logits: Tensor,
    validate_args: bool | None = None,
) -> Grouped:
    """Split ``K`` features and ``L0`` slots into ``G`` groups, each with its own gate.

    =======================================  ==========================================
    setting                                  latent variable
    =======================================  ==========================================
    ``G = 1``                                the paper's: all slots share one posterior
    ``G = L0``                               one slot per group: one of ``K/L0`` features or none
    ``G = L0 = 20, K = 200``, gates ``inf``  20 categoricals of 10 (Table I of the paper)
    ``G = L0 = K = 200``                     200 Bernoullis (Table I of the paper)
    =======================================  ==========================================

    Parameters
    ----------
    total_count
        Total budget ``L0``; each group gets ``L0 / G`` slots.
    gate_logits
        Log-odds of open gates, shape ``(*batch, G)``.
    feature_logits
        Unnormalised log-probabilities, shape ``(*batch, K)``; group ``g`` owns features
        ``g * K / G`` up to ``(g + 1) * K / G - 1``.
    validate_args
        As in :class:`torch.distributions.Distribution`.

    Raises
    ------
    ValueError
        If ``G`` does not divide both ``K`` and ``L0``.

    Examples
    --------
    Two groups of two features, each with one slot:

    >>> q = grouped_gated_multinomial(2, torch.zeros(2), torch.zeros(4))
    >>> q.mean
    tensor([0.2500, 0.2500, 0.2500, 0.2500])
    >>> len(q.enumerate_support())
    9
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
    r"""Concatenation of independent codes: the last batch dimension of ``base`` holds the groups.

    Groups own disjoint features, so a code determines the part of every group, and all closed
    forms are sums or concatenations over the groups:

    .. math:: \log q(z) = \sum_{g=1}^G \log q_g(z_g)

    Parameters
    ----------
    base
        A :class:`GatedMultinomial` or :class:`RelaxedGatedMultinomial` of batch shape
        ``(*batch, G)`` and event shape ``(K/G,)``. The result has batch shape ``(*batch,)`` and
        event shape ``(K,)``.

    Raises
    ------
    ValueError
        If ``base`` has no batch dimension.

    Examples
    --------
    >>> base = GatedMultinomial(1, torch.zeros(3), torch.zeros(3, 2))
    >>> q = Grouped(base)
    >>> q.total_count, q.event_shape, q.slot_log_probs.shape
    (3, torch.Size([6]), torch.Size([3, 3]))
    >>> q.log_prob(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 1.0])).exp()  # 1/4 * 1/2 * 1/4
    tensor(0.0312)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's signature)

    def __init__(self, base: GatedMultinomial | RelaxedGatedMultinomial) -> None:
        if not base.batch_shape:
            raise ValueError(
                "Grouped needs a base whose last batch dimension holds the groups; "
                "this one has no batch dimension."
            )
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

    def shifted(self, gates: Tensor, features: Tensor) -> Grouped:
        """Return the distribution with offsets added to its logits.

        Parameters
        ----------
        gates
            Added to the log-odds of open gates, shape ``(*batch, G)``.
        features
            Added to the unnormalised log-probabilities of features, shape ``(*batch, K)``.

        Examples
        --------
        >>> q = Grouped(GatedMultinomial(1, torch.zeros(2), torch.zeros(2, 3)))
        >>> q.shifted(torch.tensor([0.0, 20.0]), torch.zeros(6)).mean_total.round(decimals=3)
        tensor(1.5000)
        """
        base = self.base
        gates = base.gate_logits + gates
        features = base.feature_logits + self.split(features)
        return Grouped(GatedMultinomial(base.total_count, gates, features, validate_args=False))

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws are differentiable: only those of a relaxed base are."""
        return self.base.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Whether the codes can be listed: not with a relaxed base."""
        return self.base.has_enumerate_support

    @constraints.dependent_property(event_dim=1)
    def support(self) -> constraints.Constraint:
        """Values whose part in every group lies in the support of the base."""
        if isinstance(self.base, GatedMultinomial):
            return _GroupedCounts(self.base.total_count, self.groups)
        return self.base.support

    def split(self, value: Tensor) -> Tensor:
        """View values of shape ``(..., K)`` as ``(..., G, K/G)``."""
        return value.unflatten(-1, (self.groups, -1))

    @property
    def slot_log_probs(self) -> Tensor:
        r"""Log-probabilities of the outcomes of one slot of each group: ``(*batch, G, K/G + 1)``.

        The last outcome is "closed". All ``L0 / G`` slots of a group share these probabilities.
        """
        return self._discrete_base.slot_log_probs

    def of_groups(self, groups: slice) -> Grouped:
        """Return the distribution of some of the groups.

        Examples
        --------
        >>> q = Grouped(GatedMultinomial(1, torch.zeros(3), torch.zeros(3, 2)))
        >>> q.of_groups(slice(1, 3)).event_shape
        torch.Size([4])
        """
        base = self._discrete_base
        gates, features = base.gate_logits[..., groups], base.feature_logits[..., groups, :]
        return Grouped(GatedMultinomial(base.total_count, gates, features, False))

    def slot_sum(self, value: Tensor, weights: Tensor) -> Tensor:
        """Sum weights of outcomes, shape ``(*batch, G, K/G + 1)``, over the slots of codes.

        An outcome that no slot has contributes 0, also if its weight is not finite.

        Examples
        --------
        >>> q = Grouped(GatedMultinomial(1, torch.zeros(2), torch.zeros(2, 2)))
        >>> q.slot_sum(torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.arange(6.0).view(2, 3))
        tensor(6.)
        """
        counts = self.split(value)
        closed = self.base.total_count - counts.sum(-1, keepdim=True)
        counts = torch.cat([counts, closed], dim=-1)
        return torch.where(counts == 0, 0.0, counts * weights).sum((-2, -1))

    # --- closed forms: sums and concatenations over the groups --------------------------------

    @property
    def mean(self) -> Tensor:
        """Expected counts, shape ``(*batch, K)``."""
        return self.base.mean.flatten(-2)

    @property
    def mean_total(self) -> Tensor:
        """Expected number of open slots, shape ``(*batch,)``."""
        return self._discrete_base.mean_total.sum(-1)

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
        """The code nearest to the mean in each group, shape ``(*batch, K)``."""
        return self._discrete_base.rounded_mean.flatten(-2)

    @property
    def presence_probs(self) -> Tensor:
        """Probability that each feature is present, shape ``(*batch, K)``."""
        return self._discrete_base.presence_probs.flatten(-2)

    @property
    def absence_log_probs(self) -> Tensor:
        """Log-probability (nats) that a feature is absent, shape ``(*batch, K)``."""
        return self._discrete_base.absence_log_probs.flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability (nats) of codes of shape ``(*sample, *batch, K)``."""
        return self.base.log_prob(self.split(value)).sum(-1)

    def total_log_prob(self, total: Tensor) -> Tensor:
        r"""Log-probability (nats) of the number of open slots in all groups.

        :math:`L` is the sum of ``G`` independent binomial variables. Their distributions are
        convolved one by one in float64, where all terms are positive; ``O(L0^2)`` per batch row.

        Parameters
        ----------
        total
            Integers in ``0..total_count``, of a shape that broadcasts with the batch.
        """
        check_total(total, self.total_count, self._validate_args)
        slots = torch.arange(self._discrete_base.total_count + 1, device=total.device)
        parts = self._discrete_base.total_log_prob(
            slots.view(-1, *(1,) * len(self._discrete_base.batch_shape))
        )
        parts = parts.movedim(0, -1).double().exp()  # (*batch, G, L0/G + 1)
        probs = parts[..., 0, :]
        for group in range(1, self.groups):
            part = parts[..., group, :]
            longer = probs.new_zeros(*probs.shape[:-1], probs.shape[-1] + part.shape[-1] - 1)
            for shift in range(part.shape[-1]):
                end = shift + probs.shape[-1]
                padded = torch.nn.functional.pad(
                    probs * part[..., shift : shift + 1], (shift, longer.shape[-1] - end)
                )
                longer = longer + padded
            probs = longer
        log_probs = probs.log().to(self.base.gate_logits.dtype)
        shape = torch.broadcast_shapes(total.shape, self.batch_shape)
        index = total.long().expand(shape).unsqueeze(-1)
        return log_probs.expand(*shape, -1).gather(-1, index).squeeze(-1)

    # --- draws --------------------------------------------------------------------------------

    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw codes (or relaxed codes) of shape ``(*sample, *batch, K)``."""
        return self.base.sample(sample_shape, generator).flatten(-2)

    def rsample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw differentiable relaxed codes; needs a relaxed base."""
        if not isinstance(self.base, RelaxedGatedMultinomial):
            raise NotImplementedError(
                "Counts are discrete and have no reparameterised samples. Use relax() for the "
                "relaxation of the paper, or an estimator of sdlgm.gradients."
            )
        return self.base.rsample(sample_shape, generator).flatten(-2)

    def relax(
        self, gate_temperature: Tensor | float, feature_temperature: Tensor | float
    ) -> Grouped:
        """Return the continuous relaxation (eqs. 8, 10, 12 of the paper) at two temperatures."""
        return Grouped(self._discrete_base.relax(gate_temperature, feature_temperature))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All codes, stacked along a new first dimension.

        Raises
        ------
        ValueError
            If there are more than a million of them.
        """
        part = enumerate_counts(self.base.event_shape[0], self._discrete_base.total_count)
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
    def _discrete_base(self) -> GatedMultinomial:
        if isinstance(self.base, RelaxedGatedMultinomial):
            raise NotImplementedError(
                "Only discrete codes have this closed form; this distribution is relaxed."
            )
        return self.base


class _GroupedCounts(constraints.Constraint):
    """Codes in which every group keeps within its own budget."""

    is_discrete = True
    event_dim = 1

    def __init__(self, total_count: int, groups: int) -> None:
        self.of_group, self.groups = CountVector(total_count), groups
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return self.of_group.check(value.unflatten(-1, (self.groups, -1))).all(-1)
