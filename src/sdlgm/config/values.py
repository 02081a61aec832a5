"""Settings as plain values, for files."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from sdlgm.config.data import DataConfig
from sdlgm.config.model import ModelConfig
from sdlgm.config.training import TrainingConfig
from sdlgm.errors import ConfigError

__all__ = ["Config", "from_dict", "to_dict"]

Config = TypeVar("Config", ModelConfig, TrainingConfig, DataConfig)


def to_dict(*configs: ModelConfig | TrainingConfig | DataConfig) -> dict[str, Any]:
    """Merge configurations into one flat dictionary of plain values; tuples become lists.

    Examples
    --------
    >>> to_dict(DataConfig("digits"))["test_fraction"]
    0.1
    """
    merged: dict[str, Any] = {}
    for config in configs:
        for name, value in dataclasses.asdict(config).items():
            if name in _STRUCTURE and value == _STRUCTURE[name]:
                continue
            merged[name] = list(value) if isinstance(value, tuple) else value
    return merged


_STRUCTURE = {
    "levels": 1,
    "level_hidden": None,
    "prior_hidden": None,
    "mixture_components": None,
    "prefixes": (),
}
"""Settings of structured codes and of prefixes where there are none. They are left out of files, so
that those of other models, and their hashes, are what they were before these settings existed."""


def from_dict(config: type[Config], values: Mapping[str, Any]) -> Config:
    """Create a configuration from a dictionary; unknown keys are errors.

    Raises
    ------
    ConfigError
        If a key is not a field (the message suggests the nearest one), or a value has a wrong type.

    Examples
    --------
    >>> from_dict(ModelConfig, {"encoder_hidden": [64]}).encoder_hidden
    (64,)
    >>> from_dict(ModelConfig, {"budgets": 3})
    Traceback (most recent call last):
    sdlgm.errors.ConfigError: ModelConfig has no key 'budgets'. Did you mean 'budget'?
    """
    hints = typing.get_type_hints(config)
    for name in values:
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" Keys: {', '.join(hints)}."
            raise ConfigError(f"{config.__name__} has no key {name!r}.{hint}")
    return config(**values)
