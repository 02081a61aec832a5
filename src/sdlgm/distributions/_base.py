"""Base classes: what all distributions over slots, and all distributions over codes, share."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from sdlgm.distributions._counts import CountVector, enumerate_counts, over_batch

__all__ = ["CountDistribution", "SlotDistribution", "broadcast_logits"]


def broadcast_logits(
    total_count: int, gate_logits: Tensor, feature_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Check the budget and the shapes, and expand both logits to a common batch shape."""
    if isinstance(total_count, bool) or not isinstance(total_count, int) or total_count < 1:
        raise ValueError(f"total_count must be a positive integer, got {total_count!r}.")
    if feature_logits.dim() < 1 or feature_logits.shape[-1] < 1:
        raise ValueError(
            "feature_logits needs a last dimension of K >= 1 features, "
            f"got shape {tuple(feature_logits.shape)}."
        )
    if gate_logits.shape == feature_logits.shape[:-1]:
        return gate_logits, feature_logits
    batch_shape = torch.broadcast_shapes(gate_logits.shape, feature_logits.shape[:-1])
    features = feature_logits.expand(*batch_shape, feature_logits.shape[-1])
    return gate_logits.expand(batch_shape), features


class SlotDistribution(Distribution):
    """A distribution of ``total_count`` slots whose parameters are tensors."""

    total_count: int

    def expand(self, batch_shape: Any, _instance: Distribution | None = None) -> Self:
        """Return the same distribution with its batch expanded to ``batch_shape``."""
        new = self._get_checked_instance(type(self), _instance)
        batch_shape = Size(batch_shape)
        new.total_count = self.total_count
        for name, constraint in self.arg_constraints.items():
            parameter = getattr(self, name)
            event_shape = parameter.shape[parameter.dim() - constraint.event_dim :]
            setattr(new, name, parameter.expand(batch_shape + event_shape))
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


class CountDistribution(SlotDistribution):
    """A distribution over codes of ``K`` counts with a sum of at most ``total_count``.

    A subclass defines ``slot_log_probs``, the log-probabilities of the ``K + 1`` outcomes of a
    slot, with "closed" last.
    """

    has_enumerate_support = True
    slot_log_probs: Tensor

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Vectors of K non-negative integers whose sum is at most ``total_count``."""
        return CountVector(self.total_count)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        r"""All :math:`\binom{K + L_0}{L_0}` codes, stacked along a new first dimension.

        Raises
        ------
        ValueError
            If there are more than a million of them.
        """
        values = enumerate_counts(self.event_shape[0], self.total_count)
        return over_batch(values.to(self.slot_log_probs), self.batch_shape, expand)

    def _with_closed(self, value: Tensor) -> Tensor:
        """Validate codes ``(*, K)`` and append their number of closed slots: ``(*, K + 1)``."""
        if self._validate_args:
            self._validate_sample(value)
        value = value.to(self.slot_log_probs.dtype)
        closed = self.total_count - value.sum(-1, keepdim=True)
        return torch.cat([value, closed], dim=-1)
