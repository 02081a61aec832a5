"""Errors that a user can act on. The command line prints their message without a traceback."""

from __future__ import annotations

__all__ = [
    "CodeFileError",
    "ConfigError",
    "DataError",
    "DataWarning",
    "HubError",
    "ModelFileError",
    "SDLGMError",
    "TrainingError",
]


class SDLGMError(Exception):
    """Base of all errors of this library."""


class ConfigError(SDLGMError, ValueError):
    """A setting is unknown, has the wrong type, or contradicts another."""


class DataError(SDLGMError, ValueError):
    """Data cannot be found, read or used."""


class DataWarning(UserWarning):
    """Data can be used, but not all of them, or not as they were meant.

    The command line prints the message as a note.
    """


class ModelFileError(SDLGMError, ValueError):
    """A saved model or checkpoint is missing, damaged or of another version."""


class CodeFileError(SDLGMError, ValueError):
    """A file of codes is damaged or belongs to another model."""


class HubError(SDLGMError, RuntimeError):
    """The Hugging Face Hub cannot be reached or used, or its client is not installed."""


class TrainingError(SDLGMError, RuntimeError):
    """Training cannot continue."""
