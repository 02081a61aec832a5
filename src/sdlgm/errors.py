"""Errors that a user can act on. The command line prints their message without a traceback."""

from __future__ import annotations

import sys
import warnings
from typing import Any

__all__ = [
    "CodeFileError",
    "ConfigError",
    "DataError",
    "HubError",
    "ModelFileError",
    "SDLGMError",
    "SDLGMWarning",
    "TrainingError",
]


class SDLGMError(Exception):
    """Base of all errors of this library."""


class ConfigError(SDLGMError, ValueError):
    """A setting is unknown, has the wrong type, or contradicts another."""


class DataError(SDLGMError, ValueError):
    """Data cannot be found, read or used."""


class ModelFileError(SDLGMError, ValueError):
    """A saved model or checkpoint is missing, damaged or of another version."""


class CodeFileError(SDLGMError, ValueError):
    """A file of codes is damaged or belongs to another model."""


class HubError(SDLGMError, RuntimeError):
    """The Hugging Face Hub cannot be reached or used, or its client is not installed."""


class TrainingError(SDLGMError, RuntimeError):
    """Training cannot continue."""


class SDLGMWarning(UserWarning):
    """Something that works, but is probably not what was meant; the message names the cure."""


def warn_user(message: str) -> None:
    """Give an :class:`SDLGMWarning` at the line of the caller's program that led here."""
    level, frame = 1, sys._getframe()
    while frame and _package(frame) in ("sdlgm", "contextlib"):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(message, SDLGMWarning, stacklevel=level)


def _package(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
