"""Errors that a user can act on. The command line prints their message without a traceback."""

from __future__ import annotations

import sys
import warnings

__all__ = [
    "CodeFileError",
    "ConfigError",
    "DataError",
    "DataWarning",
    "HubError",
    "ModelFileError",
    "SDLGMError",
    "TrainingError",
    "warn_of_data",
]


class SDLGMError(Exception):
    """Base of all errors of this library."""


class ConfigError(SDLGMError, ValueError):
    """A setting is unknown, has the wrong type, or contradicts another."""


class DataError(SDLGMError, ValueError):
    """Data cannot be found, read or used."""


class DataWarning(UserWarning):
    """Data can be used, but probably not with the result that was intended."""


class ModelFileError(SDLGMError, ValueError):
    """A saved model or checkpoint is missing, damaged or of another version."""


class CodeFileError(SDLGMError, ValueError):
    """A file of codes is damaged or belongs to another model."""


class HubError(SDLGMError, RuntimeError):
    """The Hugging Face Hub cannot be reached or used, or its client is not installed."""


class TrainingError(SDLGMError, RuntimeError):
    """Training cannot continue."""


def warn_of_data(what: str) -> None:
    """Issue a :class:`DataWarning` at the line that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__package__", "").startswith("sdlgm"):
        level, frame = level + 1, frame.f_back
    warnings.warn(what, DataWarning, stacklevel=level)
