"""Vectors of counts: which ones are codes, how to list, draw and weigh them, the most probable."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F

__all__ = [
    "MAX_ENUMERATION",
    "CountVector",
    "check_total",
    "draw_outcomes",
    "enumerate_counts",
    "log_orderings",
    "log_softmax",
    "most_probable_counts",
    "nearest_counts",
    "over_batch",
    "weighted",
]

SHORT = 16
"""Rows shorter than this are normalised by operations on the whole tensor."""


def log_softmax(logits: Tensor) -> Tensor:
    """Normalise log-probabilities along the last dimension.

    torch's kernel works row by row, which takes three times as long as operations on the whole
    tensor if there are many rows of a few features, as in the groups of a code.
    """
    if logits.shape[-1] >= SHORT:
        return F.log_softmax(logits, dim=-1)
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


MAX_ENUMERATION = 1_000_000
"""Largest number of codes that :func:`enumerate_counts` lists."""


class CountVector(constraints.Constraint):
    """Vectors of non-negative integers with a sum of at most ``total_count``.

    Examples
    --------
    >>> CountVector(2).check(torch.tensor([[1.0, 1.0], [2.0, 1.0], [0.5, 0.0]]))
    tensor([ True, False, False])
    """

    is_discrete = True
    event_dim = 1

    def __init__(self, total_count: int) -> None:
        self.total_count = total_count
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Return whether each vector along the last dimension is a code."""
        whole = ((value >= 0) & (value % 1 == 0)).all(-1)
        return whole & (value.sum(-1) <= self.total_count)

    def __repr__(self) -> str:
        return f"CountVector(total_count={self.total_count})"


def enumerate_counts(features: int, total_count: int) -> Tensor:
    """List all vectors of ``features`` counts with a sum of at most ``total_count`` (int64).

    Raises
    ------
    ValueError
        If there are more than :data:`MAX_ENUMERATION` of them.

    Examples
    --------
    >>> enumerate_counts(2, 1)
    tensor([[0, 0],
            [0, 1],
            [1, 0]])
    """
    number = math.comb(features + total_count, total_count)
    if number > MAX_ENUMERATION:
        raise ValueError(
            f"{features} features under a budget of {total_count} have {number:,} codes, more than "
            f"the {MAX_ENUMERATION:,} that enumeration allows; sample instead."
        )
    # Stars and bars: K bars among L0 + K places leave K + 1 gaps, the counts and the closed slots.
    bars = torch.tensor(list(itertools.combinations(range(features + total_count), features)))
    return torch.diff(bars, dim=-1, prepend=torch.full((number, 1), -1)) - 1


def over_batch(values: Tensor, batch_shape: torch.Size, expand: bool) -> Tensor:
    """View listed codes ``(n, K)`` as ``(n, *ones, K)``, or expand them to ``(n, *batch, K)``."""
    values = values.view(-1, *(1,) * len(batch_shape), values.shape[-1])
    return values.expand(-1, *batch_shape, -1) if expand else values


@torch.no_grad()
def draw_outcomes(probs: Tensor, draws: int, generator: torch.Generator | None) -> Tensor:
    """Draw ``draws`` outcomes (int64) for each row of ``probs`` of shape ``(rows, outcomes)``.

    The draws invert the cumulative probabilities, which are computed in float64 so that they stay
    accurate with 100,000 outcomes.
    """
    cdf = probs.cumsum(-1, dtype=torch.float64)
    cdf /= cdf[:, -1:].clone()
    noise = torch.rand((len(cdf), draws), dtype=cdf.dtype, device=cdf.device, generator=generator)
    # NaN yields an out-of-range index: clamp it here, the NaN surfaces downstream.
    return torch.searchsorted(cdf, noise, right=True).clamp_(max=probs.shape[-1] - 1)


@torch.no_grad()
def most_probable_counts(total_count: int, probs: Tensor) -> Tensor:
    """Mode of Multinomial(``total_count``; ``probs``); ties go to the lower index.

    Every count of the mode is at least ``max(ceil(n p_k) - 1, 0)``. Start there, and give the
    remaining slots one by one to the largest ``p_k / (n_k + 1)``.

    Examples
    --------
    >>> most_probable_counts(4, torch.tensor([0.6, 0.3, 0.1]))
    tensor([3., 1., 0.])
    """
    counts = (torch.ceil(total_count * probs.double()) - 1).clamp_min(0)
    rest = total_count - counts.sum(-1, keepdim=True)
    for step in range(int(rest.max().item()) if rest.numel() else 0):
        best = (probs / (counts + 1)).argmax(-1, keepdim=True)
        counts.scatter_add_(-1, best, (rest > step).to(counts))
    return counts.to(probs)


@torch.no_grad()
def nearest_counts(total_count: int, probs: Tensor) -> Tensor:
    """Round the mean of Multinomial(``total_count``; ``probs``) to counts of the same sum.

    Uses the largest remainders (Hamilton's method of apportionment); ties go to the lower index.

    Examples
    --------
    >>> nearest_counts(4, torch.tensor([0.6, 0.3, 0.1]))
    tensor([3., 1., 0.])
    """
    shares = probs.double()
    shares = total_count * shares / shares.sum(-1, keepdim=True)
    counts = shares.floor()
    rest = total_count - counts.sum(-1, keepdim=True)
    order = (shares - counts).argsort(dim=-1, descending=True, stable=True)
    place = torch.arange(probs.shape[-1], device=probs.device)
    return counts.scatter_add_(-1, order, (place < rest).to(counts)).to(probs)


def log_orderings(total_count: int, counts: Tensor) -> Tensor:
    r"""Log of the multinomial coefficient of counts along the last dimension, in float64.

    .. math:: \log \frac{L_0!}{\prod_i n_i!}

    This term nearly cancels against the log-probability of one ordering: with 1,000 slots both are
    thousands of nats, and their difference is a few nats. Hence float64.
    """
    return math.lgamma(total_count + 1) - torch.lgamma(counts.double() + 1).sum(-1)


def weighted(counts: Tensor, log_probs: Tensor) -> Tensor:
    """Multiply counts by log-probabilities, with ``0 * -inf = 0``.

    Examples
    --------
    >>> weighted(torch.tensor([0.0, 2.0]), torch.tensor([-torch.inf, -1.0]))
    tensor([ 0., -2.])
    """
    impossible = (counts == 0) & log_probs.isneginf()
    return counts * log_probs.masked_fill(impossible, 0.0)


def check_total(total: Tensor, total_count: int, validate: bool) -> None:
    """Raise ``ValueError`` unless all totals are integers in ``0..total_count``."""
    if validate and not bool(((total >= 0) & (total <= total_count) & (total % 1 == 0)).all()):
        raise ValueError(f"total must hold integers from 0 to total_count = {total_count}.")
