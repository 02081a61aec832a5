"""Estimators in scikit-learn's grammar: ``fit``, ``transform`` and ``predict``."""

from sdlgm.estimators.classifier import SDLGMClassifier
from sdlgm.estimators.counter import SDLGMCounter
from sdlgm.estimators.counter_base import Counter
from sdlgm.estimators.loading import load
from sdlgm.estimators.transformer import SDLGMTransformer
from sdlgm.estimators.validation import EstimatorNotFittedError

__all__ = [
    "Counter",
    "EstimatorNotFittedError",
    "SDLGMClassifier",
    "SDLGMCounter",
    "SDLGMTransformer",
    "load",
]
