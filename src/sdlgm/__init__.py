"""Sparse discrete codes under a hard budget.

A code is a vector of counts drawn from one distribution,
:class:`~sdlgm.distributions.GatedMultinomial`; a model is a module whose parts return
distributions; a gradient estimator is an interchangeable function. Sub-packages are imported when
they are first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sdlgm.version import __version__

if TYPE_CHECKING:
    from sdlgm.config import DataConfig, ModelConfig, TrainingConfig, preset
    from sdlgm.distributions import GatedMultinomial, PoissonMultinomial, RelaxedGatedMultinomial
    from sdlgm.estimators import (
        BudgetedClassifier,
        SDLGMClassifier,
        SDLGMCounter,
        SDLGMTransformer,
    )
    from sdlgm.hub import load, push_to_hub
    from sdlgm.inference import Evaluation, evaluate
    from sdlgm.models import SDLGM, save_model
    from sdlgm.training import Run, fit, resume


_HOME = {
    "BudgetedClassifier": "estimators",
    "DataConfig": "config",
    "Evaluation": "inference",
    "GatedMultinomial": "distributions",
    "ModelConfig": "config",
    "PoissonMultinomial": "distributions",
    "RelaxedGatedMultinomial": "distributions",
    "Run": "training",
    "SDLGM": "models",
    "SDLGMClassifier": "estimators",
    "SDLGMCounter": "estimators",
    "SDLGMTransformer": "estimators",
    "TrainingConfig": "config",
    "evaluate": "inference",
    "fit": "training",
    "load": "hub",
    "push_to_hub": "hub",
    "preset": "config",
    "resume": "training",
    "save_model": "models",
}

__all__ = [
    "SDLGM",
    "BudgetedClassifier",
    "DataConfig",
    "Evaluation",
    "GatedMultinomial",
    "ModelConfig",
    "PoissonMultinomial",
    "RelaxedGatedMultinomial",
    "Run",
    "SDLGMClassifier",
    "SDLGMCounter",
    "SDLGMTransformer",
    "TrainingConfig",
    "__version__",
    "evaluate",
    "fit",
    "load",
    "preset",
    "push_to_hub",
    "resume",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"sdlgm.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sdlgm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
