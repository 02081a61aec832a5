"""Codes as slots: for each slot the index of a feature in its group, or K / G if it is closed."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["counts_of", "slots_of"]


def slots_of(codes: Tensor, groups: int, budget: int) -> Tensor:
    """Return counts ``(n, K)`` as slots ``(n, L0)``; closed slots come last in a group."""
    counts = codes.long().unflatten(-1, (groups, -1))  # (n, G, K/G)
    ends = counts.cumsum(-1).unsqueeze(-2)
    place = torch.arange(budget // groups, device=codes.device).unsqueeze(-1)
    return (ends <= place).sum(-1).flatten(-2)  # features whose counts end before this slot


def counts_of(slots: Tensor, groups: int, size: int) -> Tensor:
    """Count the features in slots ``(*, L0)`` of ``groups`` of ``size``: shape ``(*, K)``."""
    inside = slots.unflatten(-1, (groups, -1))
    counts = torch.zeros(*inside.shape[:-1], size + 1, device=slots.device)
    counts.scatter_add_(-1, inside, torch.ones(inside.shape, device=slots.device))
    return counts[..., :-1].flatten(-2)
