"""Models on the Hugging Face Hub: up, down, and the page that tells what they are."""

from sdlgm.hub.card import Card
from sdlgm.hub.transfer import download, upload

__all__ = ["Card", "download", "upload"]
