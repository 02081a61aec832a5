"""The set of codes: membership, enumeration, and the most probable member."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional as F


def broadcast_logits(
    total_count: int, gate_logits: Tensor, feature_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Check a budget, and give gates and features of a code a common batch shape."""
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


SHORT = 16
"""Rows below this length are normalised by :func:`log_softmax` in whole-tensor passes."""


def log_softmax(logits: Tensor) -> Tensor:
    """Normalise log-probabilities along the last dimension.

    torch's own kernel goes row by row, which for many rows of a few features (the groups of a code)
    takes three times as long as passes over all of them.
    """
    if logits.shape[-1] >= SHORT:
        return F.log_softmax(logits, dim=-1)
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()


MAX_ENUMERATION = 1_000_000
"""Largest number of codes that :func:`enumerate_counts` lists."""


class CountVector(constraints.Constraint):
    """Vectors of non-negative integers with a sum of at most ``total_count``."""

    is_discrete = True
    event_dim = 1

    def __init__(self, total_count: int) -> None:
        self.total_count = total_count
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Tell which vectors along the last dimension are codes."""
        whole = ((value >= 0) & (value % 1 == 0)).all(-1)
        return whole & (value.sum(-1) <= self.total_count)

    def __repr__(self) -> str:
        return f"CountVector(total_count={self.total_count})"


def enumerate_counts(features: int, total_count: int) -> Tensor:
    """All codes of ``features`` counts with a sum of at most ``total_count``, one a row (int64)."""
    number = math.comb(features + total_count, total_count)
    if number > MAX_ENUMERATION:
        raise ValueError(
            f"{features} features under a budget of {total_count} have {number:,} codes, more than "
            f"the {MAX_ENUMERATION:,} that enumeration allows; sample instead."
        )
    # Stars and bars: the gaps between K bars among L0 + K places are the K counts and the rest.
    bars = torch.tensor(list(itertools.combinations(range(features + total_count), features)))
    return torch.diff(bars, dim=-1, prepend=torch.full((number, 1), -1)) - 1


def over_batch(values: Tensor, batch_shape: torch.Size, expand: bool) -> Tensor:
    """View listed codes ``(n, K)`` as ``(n, *ones, K)``, or expand them to ``(n, *batch, K)``."""
    values = values.view(-1, *(1,) * len(batch_shape), values.shape[-1])
    return values.expand(-1, *batch_shape, -1) if expand else values


@torch.no_grad()
def draw_outcomes(probs: Tensor, draws: int, generator: torch.Generator | None) -> Tensor:
    """Draw ``draws`` outcomes (int64) of each row of ``probs`` of shape ``(rows, outcomes)``.

    By inversion of the cumulative probabilities, which are kept in float64, so that 100,000
    outcomes keep theirs.
    """
    cdf = probs.cumsum(-1, dtype=torch.float64)
    cdf /= cdf[:, -1:].clone()
    noise = torch.rand((len(cdf), draws), dtype=cdf.dtype, device=cdf.device, generator=generator)
    # Only NaN finds no place. It gets the last outcome, and shows up where it is looked for.
    return torch.searchsorted(cdf, noise, right=True).clamp_(max=probs.shape[-1] - 1)


@torch.no_grad()
def most_probable_counts(total_count: int, probs: Tensor) -> Tensor:
    """Mode of Multinomial(``total_count``; ``probs``), ties to the lower index.

    Starts at ``max(ceil(n p_k) - 1, 0)``, which no mode falls below, and gives the slots that
    remain one by one to the largest ``p_k / (n_k + 1)``.
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

    By largest remainders (Hamilton's method of apportionment), ties to the lower index.
    """
    shares = probs.double()
    shares = total_count * shares / shares.sum(-1, keepdim=True)
    counts = shares.floor()
    rest = total_count - counts.sum(-1, keepdim=True)
    order = (shares - counts).argsort(dim=-1, descending=True, stable=True)
    place = torch.arange(probs.shape[-1], device=probs.device)
    return counts.scatter_add_(-1, order, (place < rest).to(counts)).to(probs)
