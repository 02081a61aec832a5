"""The one distribution of this library: a bounded vector of counts."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import torch
from torch import Size, Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution, constraints
from torch.distributions.utils import lazy_property
from torch.nn import functional as F

from sdlgm.distributions._chunks import in_parts
from sdlgm.distributions._counts import (
    CountVector,
    broadcast_logits,
    enumerate_counts,
    log_softmax,
    most_probable_counts,
    nearest_counts,
    over_batch,
)
from sdlgm.distributions.relaxed import RelaxedGatedMultinomial
from sdlgm.random import draw_rows

__all__ = ["GatedMultinomial"]


class GatedMultinomial(Distribution):
    r"""Counts of ``K`` features drawn through ``L0`` gates: a hard budget in one distribution.

    Slot :math:`\ell = 1, \dots, L_0` is closed with probability :math:`1 - \lambda`; else it
    holds feature :math:`k` with probability :math:`\pi_k` (Xu et al. 2021, eqs. 1, 2, 7, 9).
    The code :math:`z` counts the features, so that exactly

    .. math::

        (z_1, \dots, z_K, L_0 - \textstyle\sum_k z_k) \sim
        \mathrm{Multinomial}(L_0;\ \lambda\pi_1, \dots, \lambda\pi_K,\ 1 - \lambda)

    with :math:`\lambda` = sigmoid(``gate_logits``) and :math:`\pi` = softmax(``feature_logits``).
    Hence :math:`\|z\|_0 \le \sum_k z_k \le L_0` always, and
    :math:`L = \sum_k z_k \sim \mathrm{Binomial}(L_0, \lambda)`. No method makes an
    ``L0 x K`` tensor.

    Parameters
    ----------
    total_count
        The budget :math:`L_0 \ge 1`: the number of slots.
    gate_logits
        Log-odds of an open gate, shape ``(*batch,)``. ``inf`` keeps every gate open.
    feature_logits
        Unnormalised log-probabilities of the features, shape ``(*batch, K)``.
    validate_args
        As in :class:`torch.distributions.Distribution`.

    Raises
    ------
    ValueError
        If ``total_count`` is not a positive integer, or a parameter is NaN or has no
        feature dimension.

    Examples
    --------
    >>> code = GatedMultinomial(3, torch.tensor(0.0), torch.zeros(4))
    >>> code.mean
    tensor([0.3750, 0.3750, 0.3750, 0.3750])
    >>> code.log_prob(torch.tensor([1.0, 0.0, 2.0, 0.0])).exp()
    tensor(0.0059)
    """

    arg_constraints = {  # noqa: RUF012 (the signature torch expects)
        "gate_logits": constraints.real,
        "feature_logits": constraints.real_vector,
    }
    has_enumerate_support = True

    def __init__(
        self,
        total_count: int,
        gate_logits: Tensor,
        feature_logits: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.total_count = total_count
        self.gate_logits, self.feature_logits = broadcast_logits(
            total_count, gate_logits, feature_logits
        )
        batch_shape, event_shape = self.gate_logits.shape, self.feature_logits.shape[-1:]
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Distribution | None = None) -> GatedMultinomial:
        """Return the same distribution with its batch expanded to ``batch_shape``."""
        new = self._get_checked_instance(GatedMultinomial, _instance)
        batch_shape = Size(batch_shape)
        new.total_count = self.total_count
        new.gate_logits = self.gate_logits.expand(batch_shape)
        new.feature_logits = self.feature_logits.expand(batch_shape + self.event_shape)
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Vectors of K non-negative integers whose sum is at most ``total_count``."""
        return CountVector(self.total_count)

    # --- parameters on the scales that the closed forms need ---------------------------------

    @lazy_property
    def open_log_prob(self) -> Tensor:
        r"""Log-probability of an open gate, :math:`\log \lambda`, shape ``(*batch,)``."""
        return F.logsigmoid(self.gate_logits)

    @lazy_property
    def closed_log_prob(self) -> Tensor:
        r"""Log-probability of a closed gate, :math:`\log(1 - \lambda)`, shape ``(*batch,)``."""
        return F.logsigmoid(-self.gate_logits)

    @lazy_property
    def feature_log_probs(self) -> Tensor:
        r"""Log-probabilities of the features, :math:`\log \pi`, shape ``(*batch, K)``."""
        return log_softmax(self.feature_logits)

    @lazy_property
    def open_prob(self) -> Tensor:
        r"""Probability of an open gate, :math:`\lambda`, shape ``(*batch,)``."""
        return self.open_log_prob.exp()

    @lazy_property
    def feature_probs(self) -> Tensor:
        r"""Probabilities of the features, :math:`\pi`, shape ``(*batch, K)``."""
        return self.feature_log_probs.exp()

    @cached_property
    def slot_log_probs(self) -> Tensor:
        r"""Log-probabilities of one slot's K + 1 outcomes, "closed" last: ``(*batch, K + 1)``."""
        with torch.enable_grad():
            features = self.open_log_prob.unsqueeze(-1) + self.feature_log_probs
            return torch.cat([features, self.closed_log_prob.unsqueeze(-1)], dim=-1)

    # --- closed forms -------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        r"""Expected counts :math:`L_0 \lambda \pi`, shape ``(*batch, K)``."""
        return self.total_count * self.slot_log_probs[..., :-1].exp()

    @property
    def mean_total(self) -> Tensor:
        r"""Expected number of open slots :math:`L_0 \lambda`, shape ``(*batch,)``."""
        return self.total_count * self.open_prob

    @property
    def variance(self) -> Tensor:
        r"""Variance of each count, :math:`L_0 \lambda\pi_k (1 - \lambda\pi_k)`."""
        probs = self.slot_log_probs[..., :-1].exp()
        return self.total_count * probs * (1 - probs)

    @property
    def mode(self) -> Tensor:
        """A most probable code, shape ``(*batch, K)``.

        The log-probability is a sum of concave terms of the K + 1 counts, so that handing out
        the slots one by one to the largest gain is exact. With slots that share a flat
        posterior the mode is often the empty code, and a poor one to store.
        """
        counts = most_probable_counts(self.total_count, self.slot_log_probs.detach().exp())
        return counts[..., :-1]

    @property
    def rounded_mean(self) -> Tensor:
        r"""The code that is nearest to the mean, shape ``(*batch, K)``.

        The shares :math:`s = L_0 (\lambda\pi_1, \dots, \lambda\pi_K, 1 - \lambda)` of the
        features and of "closed" are rounded down, and the slots that remain go one each to the
        largest remainders (ties: the lower index). Of all codes this one minimises
        :math:`\sum_i |n_i - s_i|^p` over the K + 1 counts, for each :math:`p \ge 1`. With one
        slot it is the mode; where many slots share a flat posterior, and the mode is empty, it
        still opens as many as are expected to be open, up to rounding.
        """
        return nearest_counts(self.total_count, self.slot_log_probs.detach().exp())[..., :-1]

    @property
    def presence_probs(self) -> Tensor:
        r"""Probability that a feature is present, shape ``(*batch, K)``.

        .. math:: P(z_k \ge 1) = 1 - (1 - \lambda\pi_k)^{L_0}
        """
        return -torch.expm1(self.absence_log_probs)

    @property
    def absence_log_probs(self) -> Tensor:
        r"""Log-probability (nats) that a feature is absent, shape ``(*batch, K)``.

        .. math:: \log P(z_k = 0) = L_0 \log(1 - \lambda\pi_k)

        A feature that takes every slot is absent with a probability of the floating type's
        epsilon to the power of ``L0``, not 0, so that gradients stay finite.
        """
        return _Absence.apply(self.total_count, self.gate_logits, self.feature_logits)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability (nats) of codes of shape ``(*sample, *batch, K)``."""
        if self._validate_args:
            self._validate_sample(value)
        value = value.to(self.slot_log_probs.dtype)
        closed = self.total_count - value.sum(-1, keepdim=True)
        counts = torch.cat([value, closed], dim=-1)
        chosen = weighted(counts, self.slot_log_probs).sum(-1, dtype=torch.float64)
        return (log_orderings(self.total_count, counts) + chosen).to(self.slot_log_probs.dtype)

    def total_log_prob(self, total: Tensor) -> Tensor:
        r"""Log-probability (nats) of the number of open slots :math:`L = \sum_k z_k`.

        .. math:: L \sim \mathrm{Binomial}(L_0, \lambda)

        Parameters
        ----------
        total
            Integers in ``0..total_count``, of a shape that broadcasts with the batch.
            ``torch.arange(total_count + 1).unsqueeze(-1)`` gives the whole law of a batch.
        """
        check_total(total, self.total_count, self._validate_args)
        total = total.double()
        rest = self.total_count - total
        choose = log_orderings(self.total_count, torch.stack([total, rest], dim=-1))
        chosen = weighted(total, self.open_log_prob) + weighted(rest, self.closed_log_prob)
        return (choose + chosen).to(self.gate_logits.dtype)

    # --- draws --------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw codes of shape ``(*sample, *batch, K)``, in the dtype of the logits.

        One uniform number a slot decides both whether its gate is open and, by inversion of the
        cumulative probabilities, which feature it holds (in float64, so that 100,000 features keep
        their probabilities); that costs ``O(K + L0 log K)`` time a code. ``generator`` is the
        source of randomness; ``None`` is torch's global one, as for any torch distribution.
        """
        sample_shape = Size(sample_shape)
        draws, features = sample_shape.numel(), self.event_shape[0]
        probs = self.feature_probs.reshape(-1, features)
        open_prob = self.open_prob.reshape(-1, 1)
        width = draws * self.total_count
        about: dict[str, Any] = {"device": probs.device, "generator": generator}
        place = draw_rows(
            lambda rows: torch.rand((rows, width), dtype=torch.float64, **about),
            len(probs),
            generator,
        )
        counts = probs.new_zeros(len(probs), draws, features)
        in_parts(_count, probs, open_prob, place, counts)
        return counts.transpose(0, 1).reshape(self._extended_shape(sample_shape))

    def relax(
        self, gate_temperature: Tensor | float, feature_temperature: Tensor | float
    ) -> RelaxedGatedMultinomial:
        """Return the relaxed counterpart (paper, eqs. 8, 10, 12) at two temperatures."""
        return RelaxedGatedMultinomial(
            self.total_count,
            self.gate_logits,
            self.feature_logits,
            gate_temperature,
            feature_temperature,
            validate_args=self._validate_args,
        )

    def enumerate_support(self, expand: bool = True) -> Tensor:
        r"""All :math:`\binom{K + L_0}{L_0}` codes, stacked along a new first dimension.

        Raises
        ------
        ValueError
            If there are more than a million of them.
        """
        values = enumerate_counts(self.event_shape[0], self.total_count)
        return over_batch(values.to(self.feature_logits), self.batch_shape, expand)


def _count(probs: Tensor, open_prob: Tensor, place: Tensor, counts: Tensor) -> None:
    """Count the features of slots with uniform numbers ``place``, which are used up."""
    cdf = probs.cumsum(-1, dtype=torch.float64)
    opened = (place < open_prob).to(probs)
    # Given that it is open, the number is uniform below the gate's probability.
    place.mul_(cdf[:, -1:] / open_prob)
    slots = torch.searchsorted(cdf, place, right=True).clamp_(max=probs.shape[-1] - 1)
    draws = counts.shape[1]
    shape = (len(counts), draws, slots.shape[-1] // max(1, draws))
    counts.scatter_add_(-1, slots.view(shape), opened.view(shape))


class _Absence(torch.autograd.Function):
    r"""Log-probabilities of absence, with their gradients in closed form.

    With :math:`u_k` the gradient with respect to :math:`\log \lambda\pi_k`, that is the incoming
    one times :math:`-L_0 \lambda\pi_k / (1 - \lambda\pi_k)`, those of the logits are

    .. math:: (1 - \lambda) \sum_k u_k, \qquad u_k - \pi_k \sum_j u_j.

    Two tables of K features are kept for the way back, where autograd keeps five.
    """

    @staticmethod
    def forward(ctx: Any, total_count: int, gates: Tensor, logits: Tensor) -> Tensor:
        features = log_softmax(logits)
        taken = (features + F.logsigmoid(gates).unsqueeze(-1)).exp_()
        taken.clamp_(max=1 - torch.finfo(taken.dtype).eps)
        ctx.total_count = total_count
        ctx.save_for_backward(gates, features, taken)
        return taken.neg().log1p_().mul_(total_count)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        gates, features, taken = ctx.saved_tensors
        # Infinite slopes of what is never absent were cut off with it.
        certain = taken == 1 - torch.finfo(taken.dtype).eps
        pull = (taken / (taken - 1)).mul_(grad).mul_(ctx.total_count).masked_fill_(certain, 0.0)
        total = pull.sum(-1)
        gate = total * torch.sigmoid(-gates) if ctx.needs_input_grad[1] else None
        return None, gate, pull.addcmul_(features.exp(), total.unsqueeze(-1), value=-1)


def log_orderings(total_count: int, counts: Tensor) -> Tensor:
    r"""Log of the multinomial coefficient of counts along the last dimension, in float64.

    .. math:: \log \frac{L_0!}{\prod_i n_i!}

    It nearly cancels against the probability of one ordering: of 1,000 slots the terms are
    thousands of nats large, and their difference is a few.
    """
    return math.lgamma(total_count + 1) - torch.lgamma(counts.double() + 1).sum(-1)


def weighted(counts: Tensor, log_probs: Tensor) -> Tensor:
    """``counts * log_probs`` where "never" that never happened (0 * -inf) is worth 0."""
    impossible = (counts == 0) & log_probs.isneginf()
    return counts * log_probs.masked_fill(impossible, 0.0)


def check_total(total: Tensor, total_count: int, validate: bool) -> None:
    """Raise ``ValueError`` unless all totals are integers in ``0..total_count``."""
    if validate and not bool(((total >= 0) & (total <= total_count) & (total % 1 == 0)).all()):
        raise ValueError(f"total must hold integers from 0 to total_count = {total_count}.")
