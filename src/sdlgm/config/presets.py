"""Named settings."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from sdlgm.config.model import PLAIN_NETWORKS, ModelConfig
from sdlgm.config.training import TrainingConfig, resolve_training
from sdlgm.config.values import from_dict
from sdlgm.errors import ConfigError

__all__ = ["PRESETS", "preset", "preset_values"]

_PLAIN: dict[str, Any] = {
    **PLAIN_NETWORKS,
    "prior": "learned",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
}


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "best": {"weight_decay": 0.06, "iterations": 50_000, "draws": 2},
    "plain": _PLAIN,
    "paper": {
        **_PLAIN,
        "groups": 1,
        "activation": "relu",
        "normalisation": "none",
        "objective": "paper",
    },
    "quick": {
        "features": 64,
        "budget": 8,
        "likelihood": "gaussian",
        **_PLAIN,
        "encoder_hidden": (128, 64),
        "sparsity_hidden": (64,),
        "iterations": 500,
        "learning_rate": 3e-3,
    },
    "vectors": {
        "features": 2040,
        "budget": 8,
        "likelihood": "gaussian",
        "scaling": "common",
        **_PLAIN,
        "encoder_hidden": (256,),
        "sparsity_hidden": (64,),
        "iterations": 500,
        "learning_rate": 3e-3,
    },
}
"""The settings of each preset that differ from ``ModelConfig()`` and ``TrainingConfig()``.

- ``default``: the recommended settings.
- ``best``: the lowest discrete bound for bits, with a longer training.
- ``plain``: networks without residual layers and without a shared trunk.
- ``paper``: the objective and the networks of Xu et al. 2021.
- ``quick``: small networks that train on small tables of real numbers in seconds; the defaults of
  :class:`~sdlgm.estimators.SDLGMTransformer`.
- ``vectors``: embeddings and other vectors in one unit; 8 groups of 255 features, or closed, so
  that a code takes 8 bytes.
"""


def preset(name: str = "default", **changes: Any) -> tuple[ModelConfig, TrainingConfig]:
    """Return the settings of a preset, with optional changes.

    ``sdlgm.fit("mnist", *preset("best", seed=1), out="runs/best")`` equals
    ``sdlgm fit mnist --preset best --seed 1 --out runs/best``.

    Parameters
    ----------
    name
        A key of ``PRESETS``.
    **changes
        Fields of :class:`ModelConfig` or :class:`TrainingConfig`.

    Raises
    ------
    ConfigError
        If the preset or a field is unknown, or a value is invalid.

    Examples
    --------
    >>> model, training = preset("best", seed=1)
    >>> model == ModelConfig(), training.iterations, training.seed
    (True, 50000, 1)
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else f" Presets: {', '.join(PRESETS)}."
        raise ConfigError(f"There is no preset {name!r}.{hint}")
    values = {**preset_values(name, changes), **changes}
    of_model = {field.name for field in dataclasses.fields(ModelConfig)}
    model = {key: value for key, value in values.items() if key in of_model}
    training = {key: value for key, value in values.items() if key not in of_model}
    config = from_dict(ModelConfig, model)
    return config, resolve_training(from_dict(TrainingConfig, training), config)


def preset_values(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a preset that go with given ones.

    A preset's prior is for one level, and its number of draws for bits, one device, and the default
    objective and estimator.

    Examples
    --------
    >>> preset_values("plain", {})["prior"], "prior" in preset_values("plain", {"levels": 2})
    ('learned', False)
    """
    dropped = set()
    if str(given.get("levels", 1)) != "1":
        dropped.add("prior")
    usual = {"likelihood": "bernoulli", "devices": "1", "objective": "elbo", "estimator": "reinmax"}
    own = {name: str(given[name]) for name in usual if given.get(name) is not None}
    if any(value != usual[name] for name, value in own.items()):
        dropped.add("draws")
    return {key: value for key, value in PRESETS[name].items() if key not in dropped}
