"""Load a saved estimator of any class."""

from __future__ import annotations

from pathlib import Path

from sdlgm.errors import ModelFileError
from sdlgm.estimators.classifier import SDLGMClassifier
from sdlgm.estimators.counter import SDLGMCounter
from sdlgm.estimators.saving import describe_folder
from sdlgm.estimators.transformer import SDLGMTransformer

__all__ = ["load"]

_CLASSES = {kind.__name__: kind for kind in (SDLGMClassifier, SDLGMCounter, SDLGMTransformer)}


def load(folder: Path | str) -> SDLGMClassifier | SDLGMCounter | SDLGMTransformer:
    """Load a saved estimator; its file says of which of the known classes it is.

    Raises
    ------
    ModelFileError
        As the classes' own ``load``.
    """
    found = describe_folder(Path(folder)).get("class")
    if not isinstance(found, str) or found not in _CLASSES:
        raise ModelFileError(
            f"{folder} holds a {found!r}, which this version of sdlgm does not know. Known are "
            f"{', '.join(_CLASSES)}."
        )
    return _CLASSES[found].load(folder)
