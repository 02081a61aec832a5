"""Sparse discrete codes under a hard budget.

A code is a vector of counts drawn from one distribution,
:class:`~sdlgm.distributions.GatedMultinomial`; a model is a module whose parts return
distributions; a gradient estimator is an interchangeable function. Sub-packages are imported when
they are first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdlgm.config import DataConfig, ModelConfig, TrainingConfig
    from sdlgm.distributions import GatedMultinomial, PoissonMultinomial, RelaxedGatedMultinomial
    from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer
    from sdlgm.evaluation import Evaluation, evaluate
    from sdlgm.models import SDLGM, from_pretrained, load_model, push_to_hub, save_model
    from sdlgm.recipes import recipe
    from sdlgm.training import Run, fit, resume

__version__ = "0.1.0"

_HOME = {
    "DataConfig": "config",
    "Evaluation": "evaluation",
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
    "evaluate": "evaluation",
    "fit": "training",
    "from_pretrained": "models",
    "load_model": "models",
    "push_to_hub": "models",
    "recipe": "recipes",
    "resume": "training",
    "save_model": "models",
}

__all__ = [
    "SDLGM",
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
    "from_pretrained",
    "load_model",
    "push_to_hub",
    "recipe",
    "resume",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"sdlgm.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sdlgm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
