"""Models: modules whose parts return distributions; saving and loading them."""

from sdlgm.models.saving import (
    check_tensors,
    load_model,
    load_weights,
    model_sha256,
    save_model,
)
from sdlgm.models.sdlgm import SDLGM
from sdlgm.models.supervised import LabelModelConfig, SupervisedSDLGM

__all__ = [
    "SDLGM",
    "LabelModelConfig",
    "SupervisedSDLGM",
    "check_tensors",
    "load_model",
    "load_weights",
    "model_sha256",
    "save_model",
]
