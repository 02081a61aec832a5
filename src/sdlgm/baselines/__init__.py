"""Methods to compare with, in the grammar of our estimators."""

from sdlgm.baselines.counters import ConstantCounter, ForestCounter, PoissonCounter, SoftmaxCounter
from sdlgm.baselines.labels import ConstantLabels, ForestLabels, MLPLabels
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
