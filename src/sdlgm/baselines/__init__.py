"""Baselines: methods that the estimators of sdlgm are compared with, with the same interface."""

from sdlgm.baselines.counters import ConstantCounter, PoissonCounter, SoftmaxCounter
from sdlgm.baselines.forests import ForestCounter, ForestLabels
from sdlgm.baselines.labels import ConstantLabels, MLPLabels
from sdlgm.baselines.linear_labels import LinearLabels

__all__ = [
    "ConstantCounter",
    "ConstantLabels",
    "ForestCounter",
    "ForestLabels",
    "LinearLabels",
    "MLPLabels",
    "PoissonCounter",
    "SoftmaxCounter",
]
