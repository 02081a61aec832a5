"""Estimators with the interface of scikit-learn: ``fit``, ``transform`` and ``predict``."""

from sdlgm.estimators.budgeted import BudgetedClassifier
from sdlgm.estimators.classifier import SDLGMClassifier
from sdlgm.estimators.counter import SDLGMCounter
from sdlgm.estimators.guarantees import (
    FalsePositivesAtMost,
    PrecisionAtLeast,
    RecallAtLeast,
    UnreachableError,
)
from sdlgm.estimators.saving import load
from sdlgm.estimators.transformer import SDLGMTransformer
from sdlgm.estimators.validation import EstimatorNotFittedError

__all__ = [
    "BudgetedClassifier",
    "EstimatorNotFittedError",
    "FalsePositivesAtMost",
    "PrecisionAtLeast",
    "RecallAtLeast",
    "SDLGMClassifier",
    "SDLGMCounter",
    "SDLGMTransformer",
    "UnreachableError",
    "load",
]
