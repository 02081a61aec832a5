"""What the options of ``sdlgm fit`` start from: a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sdlgm.recipes import RECIPES, usual_recipe

__all__ = ["starting_values"]


def starting_values(tokens: Sequence[str]) -> dict[str, Any]:
    """Return the defaults that a command line asks for: a recipe's name and its settings.

    It is the one that the command line, or else its ``--config`` file, names; else the usual one
    for the likelihood and the objective that they name. What is wrong in either is left to the
    command's own parser.
    """
    given: dict[str, Any] = {}
    for token, after in zip(tokens, [*tokens, ""][1:], strict=True):
        option, equals, value = token.partition("=")
        if option.startswith("--"):
            given[option[2:]] = value if equals else after
    given = _settings_of(given.get("config")) | given
    kinds = {name: given[name] for name in ("likelihood", "objective") if name in given}
    name = str(given.get("recipe") or usual_recipe(**kinds))
    return {"recipe": name, **RECIPES[name]} if name in RECIPES else {}


def _settings_of(path: str | None) -> dict[str, Any]:
    """Read a file of settings, as far as it can be read."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
