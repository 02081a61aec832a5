"""The same settings in Python, YAML, on the command line and in the transformer are byte-equal."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from sdlgm.cli import main
from sdlgm.config import (
    PRESETS,
    ModelConfig,
    TrainingConfig,
    from_dict,
    preset,
    resolve_training,
    to_dict,
)
from sdlgm.errors import SDLGMError
from sdlgm.estimators import SDLGMTransformer

MODEL_FIELDS = {field.name for field in fields(ModelConfig)}
OTHER_SETTINGS: dict[str, Any] = {
    "features": 30,
    "budget": 6,
    "groups": 3,
    "gates": "learned",
    "joint_gates": True,
    "likelihood": "poisson",
    "encoder_hidden": [16, 16],
    "sparsity_hidden": [8],
    "shared_trunk": True,
    "residual": True,
    "activation": "silu",
    "normalisation": "none",
    "prior": "learned_gates",
    "prior_gate": 0.25,
    "gate_temperature": 0.5,
    "feature_temperature": 2.0,
    "iterations": 70,
    "batch_size": 50,
    "objective": "elbo",
    "estimator": "gumbel_softmax",
    "draws": 2,
    "kl": "paper",
    "kl_warmup": 0.2,
    "learning_rate": 0.004,
    "temperature": "annealed",
    "temperature_decay": 0.001,
    "weight_decay": 0.05,
    "slot_cost": 0.01,
    "schedule": "constant",
    "gradient_clip": 5.0,
    "seed": 3,
}
"""A value for every setting that the transformer has, each other than its default if it can be."""
SETTINGS = {**PRESETS, "other settings": OTHER_SETTINGS}
every_setting = pytest.mark.parametrize("name", SETTINGS)


def as_yaml(model: ModelConfig, training: TrainingConfig) -> str:
    return yaml.safe_dump(to_dict(model, resolve_training(training, model)))


def expected(name: str) -> str:
    return as_yaml(*(preset(name) if name in PRESETS else preset("default", **SETTINGS[name])))


def plain(name: str) -> dict[str, Any]:
    """Return the settings as YAML has them: lists instead of tuples."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in SETTINGS[name].items()}


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch):
    """Return what ``sdlgm fit`` would train with."""

    def parsed(*arguments: object) -> str:
        caught: list[Any] = []

        def stop(data: Any, model: ModelConfig, training: TrainingConfig, **_: Any) -> None:
            caught.extend([model, training])
            raise SDLGMError("stopped before training")

        monkeypatch.setattr("sdlgm.training.fit", stop)
        assert main(["fit", *map(str, arguments)]) == 1
        return as_yaml(*caught)

    return parsed


@every_setting
def test_configurations_in_python(name: str) -> None:
    values = SETTINGS[name]
    model = from_dict(ModelConfig, {k: v for k, v in values.items() if k in MODEL_FIELDS})
    rest = {k: v for k, v in values.items() if k not in MODEL_FIELDS}
    assert as_yaml(model, from_dict(TrainingConfig, rest)) == expected(name)
    if name != "default":
        assert expected(name) != expected("default")


@every_setting
def test_options_of_the_command_line(name: str, command_line: Any) -> None:
    options = [f"--{key.replace('_', '-')}={value}" for key, value in plain(name).items()]
    assert command_line("digits", "--out", "run", *options) == expected(name)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_of_the_command_line(name: str, command_line: Any) -> None:
    assert command_line("digits", "--out", "run", "--preset", name) == expected(name)


@every_setting
def test_files_of_settings(name: str, command_line: Any, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"data": "digits", "out": "run", **plain(name)}))
    assert command_line("--config", file) == expected(name)
    if name in PRESETS:
        file.write_text(yaml.safe_dump({"data": "digits", "out": "run", "preset": name}))
        assert command_line("--config", file) == expected(name)


@every_setting
def test_parameters_of_the_transformer(name: str) -> None:
    values = yaml.safe_load(expected(name))
    renamed = {"n_components": values["features"], "random_state": values["seed"]}
    known = SDLGMTransformer().get_params()
    params = {key: value for key, value in (values | renamed).items() if key in known}
    left_out = values.keys() - known.keys() - {"features", "seed", "iterations"}
    defaults = yaml.safe_load(expected("default"))
    assert {key: values[key] for key in left_out} == {key: defaults[key] for key in left_out}
    params |= {key: tuple(value) for key, value in params.items() if isinstance(value, list)}
    # With batches of all rows, an epoch is one step.
    model = SDLGMTransformer(**params, epochs=values["iterations"])
    assert as_yaml(*model._configs(values["batch_size"], model.random_state)) == expected(name)


def test_the_defaults_of_the_transformer_are_the_preset_quick() -> None:
    assert as_yaml(*SDLGMTransformer()._configs(rows=123)) == expected("quick")
    explicit = SDLGMTransformer(
        64, 8, likelihood="gaussian", encoder_hidden=(128, 64), sparsity_hidden=(64,),
        batch_size=100, learning_rate=3e-3,
    )  # fmt: skip
    assert explicit.get_params() == SDLGMTransformer().get_params()
