"""The preset that the options of ``sdlgm fit`` start from, and limits on files of settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdlgm.config import PRESETS, preset_values
from sdlgm.errors import ConfigError
from sdlgm.limits import parse_yaml, read_bytes

__all__ = ["starting_values"]


def starting_values(tokens: Sequence[str]) -> dict[str, Any]:
    """Return the settings of the preset that a command line or its ``--config`` files name.

    The last file that names a preset counts. The command's own parser reports settings that are
    wrong, and files that do not exist.

    Raises
    ------
    ConfigError
        If a file of settings is not YAML, or exceeds a limit of :mod:`sdlgm.limits`.
    """
    given: dict[str, Any] = {}
    in_files: dict[str, Any] = {}
    for token, after in zip(tokens, [*tokens, ""][1:], strict=True):
        option, equals, value = token.partition("=")
        value = value if equals else after
        if option == "--config":
            in_files |= _settings_of(value)
        elif option.startswith("--"):
            given[option[2:]] = value
    name = str(given.get("preset") or in_files.get("preset") or "default")
    return {"preset": name, **preset_values(name, in_files | given)} if name in PRESETS else {}


def _settings_of(path: str) -> dict[str, Any]:
    """Read a file of settings within the limits; one that is missing has none."""
    try:
        there = bool(path) and Path(path).exists()
    except (OSError, ValueError):
        there = False
    values = parse_yaml(read_bytes(path, "yaml_bytes", ConfigError), path) if there else None
    return values if isinstance(values, dict) else {}
