"""The scikit-learn face: estimators with ``fit`` and ``predict``."""

from sdlgm.estimators._base import Counter
from sdlgm.estimators._checks import CounterNotFittedError
from sdlgm.estimators.baselines import (
    ConstantCounter,
    ForestCounter,
    PoissonCounter,
    SoftmaxCounter,
)
from sdlgm.estimators.classifier import SDLGMClassifier
from sdlgm.estimators.counter import SDLGMCounter

__all__ = [
    "ConstantCounter",
    "Counter",
    "CounterNotFittedError",
    "ForestCounter",
    "PoissonCounter",
    "SDLGMClassifier",
    "SDLGMCounter",
    "SoftmaxCounter",
]
