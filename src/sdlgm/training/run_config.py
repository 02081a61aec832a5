"""The settings of a run: ``config.yaml``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sdlgm.config import DataConfig, ModelConfig, TrainingConfig, from_dict, to_dict
from sdlgm.errors import ConfigError
from sdlgm.limits import parse_yaml, read_bytes, reading
from sdlgm.migration import migrate_run, without_later
from sdlgm.outputs import atomic_path

__all__ = ["RunConfig"]

FORMAT_VERSION = 2
"""Version of ``config.yaml``. Older versions are migrated, newer ones refused."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All settings of a run."""

    data: DataConfig
    """What is learned from."""
    model: ModelConfig
    """The shape of the model."""
    training: TrainingConfig
    """How it is trained."""

    @classmethod
    def from_yaml(cls, path: Path | str) -> RunConfig:
        """Read the settings of a run from its ``config.yaml``.

        Raises
        ------
        ConfigError
            If the file is not YAML, has an unknown key or a wrong value, is of a newer format, or
            exceeds a limit of :mod:`sdlgm.limits`.
        """
        values = parse_yaml(read_bytes(path, "yaml_bytes", ConfigError), str(path))
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must map keys to values.")
        version = values.get("format_version", 1)
        if type(version) is not int or version > FORMAT_VERSION:
            raise ConfigError(
                f"{path} is of format version {version!r}; this version of sdlgm reads up to "
                f"{FORMAT_VERSION}. Update sdlgm."
            )
        with reading(path, ConfigError):
            values = migrate_run(values)
            del values["format_version"]
            return cls(*_split(values))

    def to_yaml(self, path: Path | str) -> None:
        """Write the settings atomically, one key a line."""
        values = to_dict(self.data, self.model, self.training)
        text = yaml.safe_dump({"format_version": FORMAT_VERSION, **values}, sort_keys=False)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def sha256(self) -> str:
        """Return a digest of all settings but the place of the data and the tracker."""
        values = without_later(to_dict(self.data, self.model, self.training))
        del values["data"], values["tracker"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _split(values: Mapping[str, Any]) -> tuple[DataConfig, ModelConfig, TrainingConfig]:
    """Split a flat mapping into the three configurations; an unknown key is an error."""
    parts: list[dict[str, Any]] = [{}, {}, {}]
    kinds = (DataConfig, ModelConfig, TrainingConfig)
    for name, value in values.items():
        for part, kind in zip(parts, kinds, strict=True):
            if name in {field.name for field in dataclasses.fields(kind)}:
                part[name] = value
                break
        else:
            raise ConfigError(f"config.yaml has an unknown key {name!r}.")
    if "data" not in parts[0]:
        raise ConfigError("config.yaml does not name its data.")
    return (
        from_dict(DataConfig, parts[0]),
        from_dict(ModelConfig, parts[1]),
        from_dict(TrainingConfig, parts[2]),
    )
