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
    "OutputError",
    "SDLGMError",
    "SDLGMWarning",
    "TrainingError",
    "printable",
    "warn",
]


def printable(text: str, kept: str = "") -> str:
    r"""Escape what a terminal would obey rather than show: control characters and text direction.

    Names and notes from files of others may hold them. ``kept`` lists exceptions.

    Examples
    --------
    >>> print(printable("load\x1b[2Jed"))
    load\x1b[2Jed
    """
    if text.isascii() and text.isprintable():
        return text
    hidden = "\u200e\u200f\u061c"
    return "".join(
        letter
        if letter in kept or (letter.isprintable() and letter not in hidden) or letter == " "
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


class SDLGMError(Exception):
    """Base of all errors of this library."""


class ConfigError(SDLGMError, ValueError):
    """A setting is unknown, has the wrong type, or contradicts another."""


class DataError(SDLGMError, ValueError):
    """Data cannot be found, read or used."""


class ModelFileError(SDLGMError, ValueError):
    """A saved model or checkpoint is missing, damaged or of another version."""


class OutputError(SDLGMError, OSError):
    """A file or folder cannot be written. What was there before is intact."""


class CodeFileError(SDLGMError, ValueError):
    """A file of codes is damaged or belongs to another model."""


class HubError(SDLGMError, RuntimeError):
    """The Hugging Face Hub cannot be reached or used, or its client is not installed."""


class TrainingError(SDLGMError, RuntimeError):
    """Training cannot continue."""


class SDLGMWarning(UserWarning):
    """Something works, but probably not as intended; the message names the cure."""


def warn(message: str, category: type[Warning] = SDLGMWarning) -> None:
    """Give a warning at the line of the caller's program that led here."""
    level, frame = 1, sys._getframe()
    while frame and _package(frame) in ("sdlgm", "contextlib", "sklearn", "torch"):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)


def _package(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
