"""Counts of slots that each have a law of their own."""

from __future__ import annotations

import functools
import itertools
from functools import cached_property
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from sdlgm.distributions._counts import CountVector, draw_outcomes, enumerate_counts, over_batch
from sdlgm.distributions.gated_multinomial import check_total

__all__ = ["MAX_SLOTS", "PoissonMultinomial"]

MAX_SLOTS = 16
"""Largest number of slots whose permanent :meth:`PoissonMultinomial.log_prob` computes."""


class PoissonMultinomial(Distribution):
    r"""Counts of ``K`` features over ``L0`` slots that are independent but **not** identical.

    Slot :math:`\ell` holds feature :math:`k` with probability :math:`p_{\ell k}` and is closed with
    probability :math:`p_{\ell, K+1}`; the code :math:`z` counts the features. With the rows of
    :math:`p` alike this is :class:`GatedMultinomial`. Write the counts (closed slots included) as a
    list of :math:`L_0` outcomes :math:`o_1, \dots, o_{L_0}`. Which slot had which is not observed,
    so that exactly

    .. math::

        P(z) = \frac{1}{\prod_{k=1}^{K+1} z_k!} \sum_{\sigma} \prod_{\ell=1}^{L_0}
               p_{\ell, o_{\sigma(\ell)}}
             = \frac{\mathrm{perm}\,(p_{\ell, o_j})_{\ell j}}{\prod_{k=1}^{K+1} z_k!}

    over all permutations :math:`\sigma`. The permanent is summed over subsets of slots in log
    space, in ``O(L0 2^L0)`` instead of ``L0!`` terms: 80 for 5 slots, 24,576 for 12.

    Parameters
    ----------
    slot_logits
        Unnormalised log-probabilities of the ``K + 1`` outcomes of each slot, "closed" last, shape
        ``(*batch, L0, K + 1)``. ``-inf`` rules an outcome out.
    validate_args
        As in :class:`torch.distributions.Distribution`.

    Raises
    ------
    ValueError
        If ``slot_logits`` has no slot, no feature, or holds NaN.

    Examples
    --------
    Two slots that surely hold one feature each, and it is not said which holds which:

    >>> sure = torch.tensor([[0.0, -9e9, -9e9], [-9e9, 0.0, -9e9]])
    >>> code = PoissonMultinomial(sure)
    >>> code.log_prob(torch.tensor([[1.0, 1.0], [2.0, 0.0]])).exp()
    tensor([1., 0.])
    >>> code.variance
    tensor([0., 0.])
    """

    arg_constraints = {  # noqa: RUF012 (the signature torch expects)
        "slot_logits": constraints.independent(constraints.real, 2),
    }
    has_enumerate_support = True

    def __init__(self, slot_logits: Tensor, validate_args: bool | None = None) -> None:
        if slot_logits.dim() < 2 or slot_logits.shape[-2] < 1 or slot_logits.shape[-1] < 2:
            raise ValueError(
                "slot_logits needs the shape (*batch, L0, K + 1) with L0 >= 1 slots and K >= 1 "
                f"features (closed comes last), got {tuple(slot_logits.shape)}."
            )
        self.slot_logits = slot_logits
        self.total_count = slot_logits.shape[-2]
        event_shape = Size([slot_logits.shape[-1] - 1])
        super().__init__(slot_logits.shape[:-2], event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Distribution | None = None) -> PoissonMultinomial:
        """Return the same distribution with its batch expanded to ``batch_shape``."""
        new = self._get_checked_instance(PoissonMultinomial, _instance)
        batch_shape = Size(batch_shape)
        new.total_count = self.total_count
        new.slot_logits = self.slot_logits.expand(batch_shape + self.slot_logits.shape[-2:])
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Vectors of K non-negative integers whose sum is at most ``total_count``."""
        return CountVector(self.total_count)

    @cached_property
    def slot_log_probs(self) -> Tensor:
        r"""Log-probabilities :math:`\log p`, shape ``(*batch, L0, K + 1)``."""
        with torch.enable_grad():
            return F.log_softmax(self.slot_logits, dim=-1)

    # --- closed forms -------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        r"""Expected counts :math:`\sum_\ell p_{\ell k}`, shape ``(*batch, K)``."""
        return self.slot_log_probs[..., :-1].exp().sum(-2)

    @property
    def variance(self) -> Tensor:
        r"""Variance of each count, :math:`\sum_\ell p_{\ell k} (1 - p_{\ell k})`."""
        probs = self.slot_log_probs[..., :-1].exp()
        return (probs * (1 - probs)).sum(-2)

    @property
    def presence_probs(self) -> Tensor:
        r"""Probability that a feature is present, shape ``(*batch, K)``.

        .. math:: P(z_k \ge 1) = 1 - \textstyle\prod_\ell (1 - p_{\ell k})
        """
        probs = self.slot_log_probs[..., :-1].exp().clamp_max(1.0)
        return -torch.expm1(torch.log1p(-probs).sum(-2))

    @property
    def slot_mode(self) -> Tensor:
        """Counts of the slots' most probable outcomes, shape ``(*batch, K)``.

        This is the code of the most probable *sequence* of slots. Where slots are nearly sure, it
        is the most probable code as well, which would take a search over all codes to know.
        """
        outcomes = self.slot_logits.shape[-1]
        best = F.one_hot(self.slot_logits.argmax(-1), outcomes)
        return best[..., :-1].sum(-2).to(self.slot_logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability (nats) of codes of shape ``(*sample, *batch, K)``.

        Raises
        ------
        ValueError
            If a value is no code, or there are more than 16 slots.
        """
        if self.total_count > MAX_SLOTS:
            raise ValueError(
                f"log_prob sums over all subsets of the slots, 2^{self.total_count} of them; it "
                f"stops at {MAX_SLOTS} slots. Moments, presence_probs, total_log_prob and samples "
                "have no such limit; GatedMultinomial has none either."
            )
        if self._validate_args:
            self._validate_sample(value)
        value = value.to(self.slot_logits.dtype)
        closed = self.total_count - value.sum(-1, keepdim=True)
        counts = torch.cat([value, closed], dim=-1)
        outcomes = _listed(counts, self.total_count)
        shape = outcomes.shape[:-1]
        table = self.slot_log_probs.expand(*shape, *self.slot_logits.shape[-2:])
        index = outcomes.unsqueeze(-2).expand(*shape, self.total_count, self.total_count)
        return log_permanent(table.gather(-1, index)) - torch.lgamma(counts + 1).sum(-1)

    def total_log_prob(self, total: Tensor) -> Tensor:
        r"""Log-probability (nats) of the number of open slots :math:`L = \sum_k z_k`.

        The Poisson-binomial law, built slot by slot in ``O(L0^2)``.

        Parameters
        ----------
        total
            Integers in ``0..total_count``, of a shape that broadcasts with the batch.
            ``torch.arange(total_count + 1).unsqueeze(-1)`` gives the whole law of a batch.
        """
        check_total(total, self.total_count, self._validate_args)
        closed = self.slot_log_probs[..., -1]
        opened = _logsumexp(self.slot_log_probs[..., :-1])
        law = torch.stack([closed[..., 0], opened[..., 0]], dim=-1)
        for slot in range(1, self.total_count):
            stay, step = law + closed[..., slot, None], law + opened[..., slot, None]
            middle = _logsumexp(torch.stack([stay[..., 1:], step[..., :-1]], dim=-1))
            law = torch.cat([stay[..., :1], middle, step[..., -1:]], dim=-1)
        shape = torch.broadcast_shapes(total.shape, self.batch_shape)
        index = total.long().expand(shape).unsqueeze(-1)
        return law.expand(*shape, -1).gather(-1, index).squeeze(-1)

    # --- draws --------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw codes of shape ``(*sample, *batch, K)``, in the dtype of the logits.

        ``generator`` is the source of randomness; ``None`` is torch's global one.
        """
        sample_shape = Size(sample_shape)
        draws, outcomes = sample_shape.numel(), self.event_shape[0] + 1
        probs = self.slot_log_probs.exp().reshape(-1, outcomes)
        drawn = draw_outcomes(probs, draws, generator)
        drawn = drawn.view(-1, self.total_count, draws)
        counts = self.slot_logits.new_zeros(len(drawn), outcomes, draws)
        counts.scatter_add_(1, drawn, counts.new_ones(()).expand_as(drawn))
        return counts[:, :-1].permute(2, 0, 1).reshape(self._extended_shape(sample_shape))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        r"""All :math:`\binom{K + L_0}{L_0}` codes, stacked along a new first dimension.

        Raises
        ------
        ValueError
            If there are more than a million of them.
        """
        values = enumerate_counts(self.event_shape[0], self.total_count)
        return over_batch(values.to(self.slot_logits), self.batch_shape, expand)


def log_permanent(log_matrix: Tensor) -> Tensor:
    r"""Log of the permanent of matrices ``exp(log_matrix)`` of shape ``(*, n, n)``.

    Column by column: :math:`f(S) = \sum_{i \in S} f(S \setminus i)\, m_{i, |S|}` over the subsets
    :math:`S` of rows of each size, all sizes' subsets at once, in ``O(n 2^n)`` log-sum-exp terms.
    """
    size = log_matrix.shape[-1]
    partial = log_matrix.new_zeros(*log_matrix.shape[:-2], 1)
    for number in range(1, size + 1):
        before, row = (table.to(log_matrix.device) for table in _subsets(size, number))
        partial = _logsumexp(partial[..., before] + log_matrix[..., number - 1][..., row])
    return partial.squeeze(-1)


@functools.lru_cache(maxsize=256)
def _subsets(size: int, number: int) -> tuple[Tensor, Tensor]:
    """For each ``number``-subset its place without one row, and that row: ``(*, number)``."""
    place = {rows: i for i, rows in enumerate(itertools.combinations(range(size), number - 1))}
    subsets = list(itertools.combinations(range(size), number))
    before = [[place[rows[:i] + rows[i + 1 :]] for i in range(number)] for rows in subsets]
    return torch.tensor(before), torch.tensor(subsets)


def _listed(counts: Tensor, total_count: int) -> Tensor:
    """Write counts ``(*, K + 1)`` of sum ``L0`` as a list of outcomes in order, ``(*, L0)``."""
    ends = counts.cumsum(-1)
    slots = torch.arange(total_count, dtype=ends.dtype, device=ends.device)
    slots = slots.expand(*ends.shape[:-1], total_count).contiguous()
    # Values that are no codes may overrun, where they are not validated.
    return torch.searchsorted(ends, slots, right=True).clamp_(max=counts.shape[-1] - 1)


def _logsumexp(values: Tensor) -> Tensor:
    """Log-sum-exp over the last dimension whose gradient is 0, not NaN, where all is impossible."""
    dead = values.isneginf().all(-1, keepdim=True)
    sums = torch.logsumexp(values.masked_fill(dead, 0.0), dim=-1)
    return sums.masked_fill(dead.squeeze(-1), -torch.inf)
