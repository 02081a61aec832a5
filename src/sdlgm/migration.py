"""Changes that files of older versions need before this version reads them.

A description without a field means the value that its own version had, not today's default. Each
function takes what a file holds and returns what this version would have written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "migrate_encoding",
    "migrate_estimator",
    "migrate_model",
    "migrate_onnx",
    "migrate_run",
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

ESTIMATOR_PARAMETERS: dict[str, dict[str, str]] = {}
"""For each estimator the parameters of 0.1 that were renamed: old name to new name."""


def migrate_model(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``config.json`` of a model in format 2.

    Format 1 (version 0.1) may lack fields of the configuration.
    """
    about = dict(about)
    if about["format_version"] == 1:
        about["config"] = _MODEL_0_1 | about["config"]
        about["format_version"] = 2
    return about


def migrate_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``config.yaml`` of a run in format 2.

    Format 1 (version 0.1) has no ``format_version`` and may lack fields.
    """
    settings = dict(settings)
    if settings.get("format_version", 1) == 1:
        settings = _MODEL_0_1 | _TRAINING_0_1 | settings
        settings["format_version"] = 2
    return settings


def migrate_estimator(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``estimator.json`` of an estimator in format 2.

    Format 1 (version 0.1) has the parameters' old names.
    """
    about = dict(about)
    if about["format_version"] == 1:
        renamed = ESTIMATOR_PARAMETERS.get(str(about.get("class")), {})
        params = about.get("params", {})
        about["params"] = {renamed.get(name, name): value for name, value in params.items()}
        about["format_version"] = 2
    return about


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
