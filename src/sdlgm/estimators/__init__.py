"""The scikit-learn face: estimators with ``fit``, ``predict`` and ``transform``."""

from sdlgm.estimators._base import Counter
from sdlgm.estimators._validation import EstimatorNotFittedError
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
from sdlgm.estimators.transformer import SDLGMTransformer

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
    "SDLGMTransformer",
    "SoftmaxCounter",
    "load",
]
