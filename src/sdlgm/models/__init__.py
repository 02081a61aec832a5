"""Models: modules whose parts return distributions, and their files."""

from sdlgm.models.saving import SavedModel, check_tensors, load_model, save_model
from sdlgm.models.sdlgm import SDLGM
from sdlgm.models.supervised import LabelModelConfig, SupervisedSDLGM

__all__ = [
    "SDLGM",
    "LabelModelConfig",
    "SavedModel",
    "SupervisedSDLGM",
    "check_tensors",
    "load_model",
    "save_model",
]
