"""Models: modules whose parts return distributions, and their files."""

from sdlgm.models.saving import SavedModel, load_model, save_model
from sdlgm.models.sdlgm import SDLGM

__all__ = ["SDLGM", "SavedModel", "load_model", "save_model"]
