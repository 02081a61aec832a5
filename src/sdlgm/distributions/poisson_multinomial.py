"""Counts over slots that each have their own probabilities."""

from __future__ import annotations

import functools
import itertools
from functools import cached_property
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn import functional as F

from sdlgm.distributions._base import CountDistribution
from sdlgm.distributions._counts import check_total, draw_outcomes

__all__ = ["MAX_SLOTS", "PoissonMultinomial", "log_permanent"]

MAX_SLOTS = 16
"""Largest number of slots for which :meth:`PoissonMultinomial.log_prob` computes a permanent."""


class PoissonMultinomial(CountDistribution):
    r"""Counts of ``K`` features over ``L0`` slots that are independent but **not** identical.

    Slot :math:`\ell` holds feature :math:`k` with probability :math:`p_{\ell k}` and is closed with
    probability :math:`p_{\ell, K+1}`; the code :math:`z` counts the features. With the rows of
    :math:`p` equal, this is :class:`GatedMultinomial`. Write the counts, closed slots included, as
    a list of :math:`L_0` outcomes :math:`o_1, \dots, o_{L_0}`. The assignment of outcomes to slots
    is not observed, so that exactly

    .. math::

        P(z) = \frac{1}{\prod_{k=1}^{K+1} z_k!} \sum_{\sigma} \prod_{\ell=1}^{L_0}
               p_{\ell, o_{\sigma(\ell)}}
             = \frac{\mathrm{perm}\,(p_{\ell, o_j})_{\ell j}}{\prod_{k=1}^{K+1} z_k!}

    with the sum over all permutations :math:`\sigma`. The permanent is computed in log space over
    subsets of slots, with ``O(L0 2^L0)`` terms instead of ``L0!``: 80 for 5 slots, 24,576 for 12.

    Parameters
    ----------
    slot_logits
        Unnormalised log-probabilities of the ``K + 1`` outcomes of each slot, "closed" last, shape
        ``(*batch, L0, K + 1)``; ``-inf`` excludes an outcome.
    validate_args
        As in :class:`torch.distributions.Distribution`.

    Raises
    ------
    ValueError
        If ``slot_logits`` has no slot or no feature, or contains NaN.

    References
    ----------
    Daskalakis, Kamath, Tzamos, "On the Structure, Covering, and Learning of Poisson Multinomial
    Distributions", FOCS 2015.

    Examples
    --------
    Two slots that hold one known feature each; no counts vary:

    >>> q = PoissonMultinomial(torch.tensor([[0.0, -9e9, -9e9], [-9e9, 0.0, -9e9]]))
    >>> q.log_prob(torch.tensor([[1.0, 1.0], [2.0, 0.0]])).exp()
    tensor([1., 0.])
    >>> q.variance
    tensor([0., 0.])
    """

    arg_constraints = {  # noqa: RUF012 (the signature torch expects)
        "slot_logits": constraints.independent(constraints.real, 2),
    }

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

    @cached_property
    def slot_log_probs(self) -> Tensor:  # type: ignore[override]
        r"""Log-probabilities :math:`\log p` of each slot's outcomes: ``(*batch, L0, K + 1)``."""
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
        """Counts of the most probable outcome of each slot, shape ``(*batch, K)``.

        This is the code of the most probable *sequence* of slots. It is not always the most
        probable code, which only a search over all codes would find; the two agree if the slots
        are nearly certain.
        """
        outcomes = self.slot_logits.shape[-1]
        best = F.one_hot(self.slot_logits.argmax(-1), outcomes)
        return best[..., :-1].sum(-2).to(self.slot_logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability (nats) of codes of shape ``(*sample, *batch, K)``.

        Raises
        ------
        ValueError
            If there are more than 16 slots, or ``validate_args`` is set and a value is not a code.
        """
        if self.total_count > MAX_SLOTS:
            raise ValueError(
                f"log_prob sums over all 2^{self.total_count} subsets of the slots and accepts at "
                f"most {MAX_SLOTS} slots. Moments, presence_probs, total_log_prob and samples have "
                "no such limit, and neither has GatedMultinomial."
            )
        counts = self._with_closed(value)
        outcomes = _outcome_list(counts, self.total_count)
        shape = outcomes.shape[:-1]
        table = self.slot_log_probs.expand(*shape, *self.slot_logits.shape[-2:])
        index = outcomes.unsqueeze(-2).expand(*shape, self.total_count, self.total_count)
        return log_permanent(table.gather(-1, index)) - torch.lgamma(counts + 1).sum(-1)

    def total_log_prob(self, total: Tensor) -> Tensor:
        r"""Log-probability (nats) of the number of open slots :math:`L = \sum_k z_k`.

        A Poisson-binomial distribution, computed slot by slot in ``O(L0^2)``.

        Parameters
        ----------
        total
            Integers in ``0..total_count``, of a shape that broadcasts with the batch. For a batch
            of one dimension, ``torch.arange(total_count + 1).unsqueeze(-1)`` gives the whole
            distribution.
        """
        check_total(total, self.total_count, self._validate_args)
        closed = self.slot_log_probs[..., -1]
        opened = _logsumexp(self.slot_log_probs[..., :-1])
        log_probs = torch.stack([closed[..., 0], opened[..., 0]], dim=-1)
        for slot in range(1, self.total_count):
            stay = log_probs + closed[..., slot, None]
            step = log_probs + opened[..., slot, None]
            middle = _logsumexp(torch.stack([stay[..., 1:], step[..., :-1]], dim=-1))
            log_probs = torch.cat([stay[..., :1], middle, step[..., -1:]], dim=-1)
        shape = torch.broadcast_shapes(total.shape, self.batch_shape)
        index = total.long().expand(shape).unsqueeze(-1)
        return log_probs.expand(*shape, -1).gather(-1, index).squeeze(-1)

    # --- draws --------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, sample_shape: Any = (), generator: torch.Generator | None = None) -> Tensor:
        """Draw codes of shape ``(*sample, *batch, K)``, in the dtype of the logits.

        Parameters
        ----------
        sample_shape
            Leading shape of the draws.
        generator
            Source of randomness; ``None`` uses torch's global generator.
        """
        sample_shape = Size(sample_shape)
        draws, outcomes = sample_shape.numel(), self.event_shape[0] + 1
        probs = self.slot_log_probs.exp().reshape(-1, outcomes)
        drawn = draw_outcomes(probs, draws, generator)
        drawn = drawn.view(-1, self.total_count, draws)
        counts = self.slot_logits.new_zeros(len(drawn), outcomes, draws)
        counts.scatter_add_(1, drawn, counts.new_ones(()).expand_as(drawn))
        return counts[:, :-1].permute(2, 0, 1).reshape(self._extended_shape(sample_shape))


def log_permanent(log_matrix: Tensor) -> Tensor:
    r"""Compute the log of the permanent of matrices ``exp(log_matrix)`` of shape ``(*, n, n)``.

    Works column by column: :math:`f(S) = \sum_{i \in S} f(S \setminus i)\, m_{i, |S|}` for all
    subsets :math:`S` of rows of one size at a time, with ``O(n 2^n)`` log-sum-exp terms in total.

    Examples
    --------
    >>> log_permanent(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).log()).exp()  # 1 * 4 + 2 * 3
    tensor(10.)
    """
    size = log_matrix.shape[-1]
    partial = log_matrix.new_zeros(*log_matrix.shape[:-2], 1)
    for number in range(1, size + 1):
        before, row = (table.to(log_matrix.device) for table in _subsets(size, number))
        partial = _logsumexp(partial[..., before] + log_matrix[..., number - 1][..., row])
    return partial.squeeze(-1)


@functools.lru_cache(maxsize=256)
def _subsets(size: int, number: int) -> tuple[Tensor, Tensor]:
    """Return for each ``number``-subset its index without one row, and that row."""
    place = {rows: i for i, rows in enumerate(itertools.combinations(range(size), number - 1))}
    subsets = list(itertools.combinations(range(size), number))
    before = [[place[rows[:i] + rows[i + 1 :]] for i in range(number)] for rows in subsets]
    return torch.tensor(before), torch.tensor(subsets)


def _outcome_list(counts: Tensor, total_count: int) -> Tensor:
    """Write counts ``(*, K + 1)`` with a sum of ``L0`` as a sorted list of outcomes ``(*, L0)``."""
    ends = counts.cumsum(-1)
    slots = torch.arange(total_count, dtype=ends.dtype, device=ends.device)
    slots = slots.expand(*ends.shape[:-1], total_count).contiguous()
    # Values that are not codes can run past the end if they are not validated.
    return torch.searchsorted(ends, slots, right=True).clamp_(max=counts.shape[-1] - 1)


def _logsumexp(values: Tensor) -> Tensor:
    """Log-sum-exp over the last dimension; its gradient is 0, not NaN, if all terms are -inf."""
    impossible = values.isneginf().all(-1, keepdim=True)
    sums = torch.logsumexp(values.masked_fill(impossible, 0.0), dim=-1)
    return sums.masked_fill(impossible.squeeze(-1), -torch.inf)
