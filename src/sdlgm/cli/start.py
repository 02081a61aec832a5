"""The preset that the options of ``sdlgm fit`` start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sdlgm.config import PRESETS

__all__ = ["starting_values"]


def starting_values(tokens: Sequence[str]) -> dict[str, Any]:
    """Return the settings of the preset that a command line or its ``--config`` file names.

    The command's own parser reports whatever is wrong in either.
    """
    given: dict[str, Any] = {}
    for token, after in zip(tokens, [*tokens, ""][1:], strict=True):
        option, equals, value = token.partition("=")
        if option.startswith("--"):
            given[option[2:]] = value if equals else after
    name = str(given.get("preset") or _settings_of(given.get("config")).get("preset") or "default")
    return {"preset": name, **PRESETS[name]} if name in PRESETS else {}


def _settings_of(path: str | None) -> dict[str, Any]:
    """Read a file of settings, as far as it can be read."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}
