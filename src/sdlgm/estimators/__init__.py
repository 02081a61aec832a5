"""The scikit-learn face: estimators with ``fit`` and ``predict``."""

from sdlgm.estimators._base import Counter
from sdlgm.estimators.counter import SDLGMCounter

__all__ = ["Counter", "SDLGMCounter"]
