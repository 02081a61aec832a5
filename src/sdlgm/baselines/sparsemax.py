"""Sparsemax, and its loss for targets that are distributions."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sparsemax", "sparsemax_loss"]


def sparsemax(scores: Tensor) -> Tensor:
    r"""Project scores onto the simplex: :math:`\arg\min_{p \in \Delta} \|p - z\|^2`.

    :math:`p_j = \max(z_j - \tau(z), 0)` with the :math:`\tau` that makes the sum 1 (Martins &
    Astudillo 2016, algorithm 1): most entries are exactly 0 where scores differ enough.

    Parameters
    ----------
    scores
        Shape ``(*batch, K)``.

    Returns
    -------
    Tensor
        Shape ``(*batch, K)``; differentiable where the support does not change.

    Examples
    --------
    >>> sparsemax(torch.tensor([1.0, 0.5, -1.0]))
    tensor([0.7500, 0.2500, 0.0000])
    """
    return (scores - _threshold(scores)[0]).clamp_min(0)


def sparsemax_loss(scores: Tensor, target: Tensor) -> Tensor:
    r"""Return the convex loss whose gradient is ``sparsemax(z) - q``.

    .. math:: -q^\top z + \tfrac12 \sum_{j \in S(z)} (z_j^2 - \tau(z)^2) + \tfrac12 \|q\|^2

    with the support :math:`S` of the projection (Martins & Astudillo 2016); 0 if and only if
    ``sparsemax(z) = q``.

    Parameters
    ----------
    scores
        Shape ``(*batch, K)``.
    target
        Distributions q over the labels, same shape: of a set of labels the uniform one over it.

    Returns
    -------
    Tensor
        Shape ``(*batch,)``.
    """
    tau, support = _threshold(scores)
    inside = torch.where(support, scores.square() - tau.square(), 0).sum(-1)
    return 0.5 * (inside + target.square().sum(-1)) - (target * scores).sum(-1)


def _threshold(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return tau ``(*batch, 1)`` and which scores are above it."""
    ordered = scores.sort(-1, descending=True).values
    sums = ordered.cumsum(-1)
    number = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    kept = (1 + number * ordered > sums).sum(-1, keepdim=True)
    tau = (sums.gather(-1, kept - 1) - 1) / kept
    return tau, scores > tau
