"""Settings: defaults are filled in, keys and types are checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sdlgm.config import (
    DataConfig,
    ModelConfig,
    TrainingConfig,
    from_dict,
    resolve_training,
    to_dict,
)
from sdlgm.errors import ConfigError


def test_fields_left_none_are_filled_in() -> None:
    assert ModelConfig(features=60, budget=12).groups == 12
    elbo, paper = TrainingConfig(), TrainingConfig(objective="paper")
    assert (elbo.estimator, elbo.kl, elbo.kl_warmup) == ("reinmax", "exact", 0.4)
    assert (paper.estimator, paper.kl, paper.kl_warmup) == ("gumbel_softmax", "paper", 0)
    assert TrainingConfig(objective="paper", kl_warmup=0.5).kl_warmup == 0.5


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(groups=1),
        TrainingConfig(objective="paper", patience=3, validation_fraction=0.2),
        DataConfig("digits"),
    ],
)
def test_dictionaries_restore_the_configuration(
    config: ModelConfig | TrainingConfig | DataConfig,
) -> None:
    assert from_dict(type(config), to_dict(config)) == config


def test_an_unknown_key_raises_and_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no key 'budgets'. Did you mean 'budget'"):
        from_dict(ModelConfig, {"budgets": 3})
    with pytest.raises(ConfigError, match="Keys: iterations"):
        from_dict(TrainingConfig, {"zzz": 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": "40"}, "budget = '40' does not fit int"),
        ({"budget": True}, "does not fit int"),
        ({"budget": 2.5}, "does not fit int"),
        ({"activation": "gelo"}, "one of 'gelu'"),
        ({"encoder_hidden": 512}, "encoder_hidden = 512 does not fit tuple of int"),
        ({"sparsity_hidden": None}, "sparsity_hidden = None does not fit tuple of int"),
        ({"features": None}, "features = None does not fit int"),
        ({"prior_gate": "0.5"}, "prior_gate = '0.5' does not fit float"),
        ({"prior": "free"}, "'fixed', 'mixture', 'autoregressive', 'masked' or None"),
        ({"encoder_hidden": ["a"]}, "does not fit tuple"),
        ({"shared_trunk": 1}, "does not fit bool"),
        ({"budget": 0}, "budget must be positive and finite, got 0"),
        ({"encoder_hidden": [0]}, "positive widths"),
        ({"prior_gate": 1.0}, "between 0 and 1, got 1.0"),
        ({"groups": 7}, r"groups = 7 does not divide both .* that do: 1, 2, 4, 5, 8, 10, 20, 40"),
    ],
)
def test_invalid_model_values_raise(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "paper", "estimator": "reinmax"}, "fixes estimator = 'gumbel_softmax'"),
        ({"objective": "paper", "kl": "exact"}, "fixes kl = 'paper'"),
        ({"patience": 3}, "validation_fraction"),
        ({"iterations": 10.0}, "iterations = 10.0 does not fit int"),
        ({"kl_warmup": True}, "kl_warmup = True does not fit float or None"),
        ({"devices": 3}, "batch_size = 100 must be a multiple of devices = 3"),
        ({"iterations": 0}, "iterations must be positive"),
        ({"draws": 0}, "draws must be positive"),
        ({"draws": 2, "devices": 2}, "draws = 2 needs devices = 1, got 2"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite, got nan"),
        ({"kl_warmup": 1.5}, "share from 0 to 1"),
        ({"validation_fraction": 1.0}, "share from 0 to below 1"),
        ({"gradient_clip": -1.0}, "gradient_clip must be positive"),
        ({"seed": -1}, "seed must be finite and at least 0, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be finite and at least 0, got -0.1"),
        ({"slot_cost": float("inf")}, "slot_cost must be finite and at least 0, got inf"),
    ],
)
def test_invalid_training_values_raise(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**values)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        from_dict(TrainingConfig, values)


def test_codes_are_drawn_only_where_a_step_draws_them() -> None:
    linear = ModelConfig(likelihood="gaussian")
    with pytest.raises(ConfigError, match="searches for codes"):
        resolve_training(TrainingConfig(draws=2), linear)
    drawn = resolve_training(TrainingConfig(draws=2, objective="elbo"), linear)
    assert drawn.draws == 2


def test_invalid_data_values_raise() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1, got 1"):
        DataConfig("digits", test_fraction=1)
    with pytest.raises(ConfigError, match="data = 3 does not fit str"):
        DataConfig(3)  # type: ignore[arg-type]


def test_numpy_numbers_are_stored_as_python_numbers() -> None:
    model = ModelConfig(
        features=np.int64(60), budget=np.int32(12), encoder_hidden=[np.int64(8), 8],  # type: ignore[arg-type]
        prior_gate=np.float64(0.25), residual=np.bool_(True),  # type: ignore[arg-type]
    )  # fmt: skip
    assert model == ModelConfig(
        features=60, budget=12, encoder_hidden=(8, 8), prior_gate=0.25, residual=True
    )
    assert model == from_dict(ModelConfig, {**to_dict(model), "features": np.int64(60)})
    types = {type(value) for value in to_dict(model, TrainingConfig(seed=np.int64(3))).values()}  # type: ignore[arg-type]
    assert types == {int, float, bool, str, list, type(None)}
    assert type(model.encoder_hidden[0]) is int  # type: ignore[index]


def test_integers_become_floats_where_a_field_is_a_float() -> None:
    training = TrainingConfig(kl_warmup=1, gradient_clip=2)
    assert (repr(training.kl_warmup), repr(training.gradient_clip)) == ("1.0", "2.0")


def test_a_path_is_stored_as_a_string() -> None:
    assert DataConfig(Path("a") / "b.csv").data == str(Path("a") / "b.csv")  # type: ignore[arg-type]


def test_a_changed_copy_is_checked() -> None:
    with pytest.raises(ConfigError, match="budget = '3' does not fit int"):
        dataclasses.replace(ModelConfig(), budget="3")
