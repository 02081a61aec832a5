"""The scikit-learn face: estimators with ``fit`` and ``predict``."""

from sdlgm.estimators._base import Counter
from sdlgm.estimators._checks import EstimatorNotFittedError
from sdlgm.estimators.baselines import (
    ConstantCounter,
    ForestCounter,
    PoissonCounter,
    SoftmaxCounter,
)
from sdlgm.estimators.classifier import SDLGMClassifier
from sdlgm.estimators.counter import SDLGMCounter
from sdlgm.estimators.linear import LinearLabels
from sdlgm.estimators.loading import load
from sdlgm.estimators.multilabel_baselines import ConstantLabels, ForestLabels, MLPLabels

__all__ = [
    "ConstantCounter",
    "ConstantLabels",
    "Counter",
    "EstimatorNotFittedError",
    "ForestCounter",
    "ForestLabels",
    "LinearLabels",
    "MLPLabels",
    "PoissonCounter",
    "SDLGMClassifier",
    "SDLGMCounter",
    "SoftmaxCounter",
    "load",
]
