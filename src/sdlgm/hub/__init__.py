"""Load and share models and estimators: folders and the Hugging Face Hub."""

from sdlgm.hub.card import Card
from sdlgm.hub.sharing import load, push_to_hub
from sdlgm.hub.transfer import download, upload

__all__ = ["Card", "download", "load", "push_to_hub", "upload"]
