"""Changes that files of older versions need before this version reads them.

A description without a field means the value that its own version had, not today's default. Each
function takes what a file holds and returns what this version would have written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "migrate_encoding",
    "migrate_estimator",
    "migrate_model",
    "migrate_onnx",
    "migrate_run",
    "migrate_statistics",
    "without_later",
]

_MODEL_0_1: dict[str, Any] = {
    "features": 200,
    "budget": 40,
    "groups": None,
    "gates": "learned",
    "joint_gates": False,
    "likelihood": "bernoulli",
    "encoder_hidden": [512, 384, 256],
    "sparsity_hidden": [256, 64],
    "shared_trunk": False,
    "residual": False,
    "activation": "gelu",
    "normalisation": "layer",
    "prior": "learned",
    "prior_gate": 0.5,
    "gate_temperature": 1.0,
    "feature_temperature": 1.0,
}
"""Defaults of ``ModelConfig`` in 0.1."""

_TRAINING_0_1: dict[str, Any] = {
    "iterations": 10_000,
    "batch_size": 100,
    "objective": "elbo",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "slot_cost": 0.0,
    "temperature_decay": 1e-4,
    "schedule": "cosine",
    "gradient_clip": None,
    "validation_fraction": 0.0,
    "patience": None,
}
"""Defaults of ``TrainingConfig`` in 0.1 that shape the result."""

_ESTIMATORS_0_1: dict[str, dict[str, dict[str, str | None]]] = {
    "SDLGMClassifier": {
        "params": {
            "slots": "budget",
            "latent_slots": "latent_budget",
            "normalise": "normalisation",
        },
        "config": {"slots": "budget", "latents": "latent_features", "normalise": "normalisation"},
    },
    "SDLGMCounter": {
        "params": {
            "max_count": "budget",
            "slots": "tied",
            "columns": "image_columns",
            "orders": "test_orders",
        },
        "fitted": {"max_count_": "budget_"},
        "network": {"head": "distribution"},
    },
    # Iterations are not a whole number of epochs: a second fit takes the default length.
    "SDLGMTransformer": {"params": {"features": "n_components", "iterations": None}},
}
"""For each estimator and table of its file, the new name of a key of 0.1; ``None`` drops it."""

_VALUES_0_1: dict[tuple[str, str], dict[Any, Any]] = {
    ("SDLGMClassifier", "normalisation"): {True: "layer", False: "none"},
    ("SDLGMCounter", "tied"): {None: None, "tied": True, "untied": False},
}
"""For each estimator and new name of a parameter, the new value of a value of 0.1."""


_LATER = ("max_rows", "draws")
"""Settings of a run that were added later, and that digests hold only if they are given."""


def migrate_model(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``config.json`` of a model in format 2.

    Format 1 (version 0.1) may lack fields of the configuration.
    """
    about = dict(about)
    if about["format_version"] == 1:
        about["config"] = _MODEL_0_1 | about["config"]
        about["format_version"] = 2
    about["config"] = _with_decoder(about["config"])
    return about


def _with_decoder(config: Any) -> Any:
    """Add the hidden layers of the decoder, which used to mirror those of the encoder."""
    if not isinstance(config, Mapping) or "decoder_hidden" in config:
        return config
    hidden = config.get("encoder_hidden")
    return {**config, "decoder_hidden": hidden[::-1]} if isinstance(hidden, list) else config


def migrate_statistics(found: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Widen in place the means and scales of the data, which 0.1 stored in single precision.

    They are the tensors that the model has in double precision. A rate weight of 1 is added where
    there is none.
    """
    for name in expected:
        if name.rpartition(".")[-1] == "rate_weight":
            found.setdefault(name, torch.ones((), dtype=torch.float64))
    for name, tensor in expected.items():
        there = found.get(name)
        if tensor.dtype == torch.float64 and there is not None and there.dtype == torch.float32:
            found[name] = there.double()


def migrate_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``config.yaml`` of a run in format 2.

    Format 1 (version 0.1) has no ``format_version`` and may lack fields.
    """
    settings = dict(settings)
    if settings.get("format_version", 1) == 1:
        settings = _MODEL_0_1 | _TRAINING_0_1 | settings
        settings["format_version"] = 2
    found: dict[str, Any] = _with_decoder(settings)
    return found


def migrate_estimator(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``estimator.json`` of an estimator in format 2.

    Format 1 (version 0.1) has old names of parameters, fitted attributes and the network's
    settings.
    """
    about = dict(about)
    if about["format_version"] != 1:
        return about
    name = str(about.get("class"))
    tables = _ESTIMATORS_0_1.get(name, {})

    def renamed(values: Any, table: str) -> Any:
        if not isinstance(values, Mapping):
            return values
        names: dict[str, str | None] = {key: key for key in values} | tables.get(table, {})
        kept = ((names[key], value) for key, value in values.items())
        return {key: _new_value(name, key, value) for key, value in kept if key is not None}

    for table in ("params", "fitted"):
        if table in about:
            about[table] = renamed(about[table], table)
    network = about.get("network")
    if isinstance(network, Mapping) and isinstance(network.get("dict"), Mapping):
        values = renamed(network["dict"], "network")
        config = values.get("config")
        if isinstance(config, Mapping):
            values["config"] = {**config, "dict": renamed(config.get("dict"), "config")}
        about["network"] = {**network, "dict": values}
    about["format_version"] = 2
    return about


def _new_value(estimator: str, parameter: str, value: Any) -> Any:
    values = _VALUES_0_1.get((estimator, parameter), {})
    return values.get(value, value) if isinstance(value, str | bool | None) else value


def migrate_encoding(note: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a Parquet file of codes notes about its encoding, with today's keys.

    Version 0.1 called ``code`` ``choice``.
    """
    return {{"choice": "code"}.get(name, name): value for name, value in note.items()}


def migrate_onnx(about: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata of an ONNX encoder, with today's keys.

    Version 0.1 called ``maximum_grey_value`` ``white``.
    """
    return {{"white": "maximum_grey_value"}.get(name, name): value for name, value in about.items()}


def without_later(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings for a digest: without those added later that have their default of ``None``.

    Digests that were taken before they existed then stay valid.

    Examples
    --------
    >>> without_later({"seed": 1, "draws": None}), without_later({"draws": 2})
    ({'seed': 1}, {'draws': 2})
    """
    return {k: v for k, v in settings.items() if not (k in _LATER and v is None)}
