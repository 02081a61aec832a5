"""How a gradient passes a discrete draw: one file an estimator, one registry, one signature."""

from sdlgm.gradients.gumbel_softmax import gumbel_softmax
from sdlgm.gradients.registry import (
    Code,
    Estimate,
    Estimator,
    Loss,
    estimators,
    get_estimator,
    register,
)
from sdlgm.gradients.reinmax import reinmax
from sdlgm.gradients.straight_through import straight_through

__all__ = [
    "Code",
    "Estimate",
    "Estimator",
    "Loss",
    "estimators",
    "get_estimator",
    "gumbel_softmax",
    "register",
    "reinmax",
    "straight_through",
]
