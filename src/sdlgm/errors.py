"""Errors that a user can act on. The command line prints their message alone."""

from __future__ import annotations

__all__ = [
    "CodeFileError",
    "ConfigError",
    "DataError",
    "HubError",
    "ModelFileError",
    "SDLGMError",
    "TrainingError",
]


class SDLGMError(Exception):
    """Base of all errors of this library."""


class ConfigError(SDLGMError, ValueError):
    """A setting is unknown, of a wrong type, or does not fit another."""


class DataError(SDLGMError, ValueError):
    """Data cannot be found, read, or used as they are."""


class ModelFileError(SDLGMError, ValueError):
    """A saved model or checkpoint is missing, damaged, or of another version."""


class CodeFileError(SDLGMError, ValueError):
    """A file of codes is damaged, or belongs to another model."""


class HubError(SDLGMError, RuntimeError):
    """The Hugging Face Hub, or what it needs, cannot be used."""


class TrainingError(SDLGMError, RuntimeError):
    """Training cannot go on."""
