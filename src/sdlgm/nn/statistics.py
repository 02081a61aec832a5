"""Summary of the training data that networks are centred on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DataStatistics", "data_statistics"]


class DataStatistics(NamedTuple):
    """Means, deviations and number of levels of the training data."""

    mean: Tensor
    """Mean of each dimension, shape ``(D,)``."""
    scale: Tensor
    """Standard deviation of each dimension (1 where it is constant), shape ``(D,)``."""
    levels: int
    """One more than the largest value, for categorical data (at least 2)."""


def data_statistics(x: Tensor, block: int = 8192) -> DataStatistics:
    """Summarise rows ``x`` of shape ``(n, D)``, block by block in float64."""
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    square = torch.zeros_like(total)
    for rows in x.split(block):
        total += rows.double().sum(0)
    mean = total / len(x)
    for rows in x.split(block):
        square += (rows.double() - mean).square().sum(0)
    scale = (square / len(x)).sqrt()
    scale = torch.where(scale > 1e-8 * (1 + mean.abs()), scale, 1.0)
    levels = int(min(max(float(x.max()), 1), 65_535)) + 1
    return DataStatistics(mean.float(), scale.float(), levels)
