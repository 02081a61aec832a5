"""Settings: resolved when made, strict about keys and values."""

from __future__ import annotations

import pytest

from sdlgm.config import DataConfig, ModelConfig, TrainingConfig, from_dict, to_dict
from sdlgm.errors import ConfigError


def test_what_is_left_open_is_resolved() -> None:
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
def test_round_trip(config: ModelConfig | TrainingConfig | DataConfig) -> None:
    assert from_dict(type(config), to_dict(config)) == config


def test_an_unknown_key_is_an_error_that_names_the_nearest() -> None:
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
        ({"encoder_hidden": 512}, "does not fit tuple"),
        ({"encoder_hidden": ["a"]}, "does not fit tuple"),
        ({"shared_trunk": 1}, "does not fit bool"),
        ({"budget": 0}, "budget must be positive, got 0"),
        ({"encoder_hidden": [0]}, "positive widths"),
        ({"prior_gate": 1.0}, "between 0 and 1, got 1.0"),
        ({"groups": 7}, r"groups = 7 does not divide both .* that do: 1, 2, 4, 5, 8, 10, 20, 40"),
    ],
)
def test_wrong_model_values(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(ModelConfig, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "paper", "estimator": "reinmax"}, "fixes estimator = 'gumbel_softmax'"),
        ({"objective": "paper", "kl": "exact"}, "fixes kl = 'paper'"),
        ({"patience": 3}, "validation_fraction"),
        ({"iterations": 0}, "iterations must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"kl_warmup": 1.5}, "share from 0 to 1"),
        ({"validation_fraction": 1.0}, "share from 0 to below 1"),
        ({"gradient_clip": -1.0}, "gradient_clip must be positive"),
        ({"seed": -1}, "seed must not be negative"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative, got -0.1"),
        ({"slot_cost": float("inf")}, "slot_cost must not be negative, got inf"),
    ],
)
def test_wrong_training_values(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(TrainingConfig, values)


def test_wrong_data_values() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1, got 1"):
        DataConfig("digits", test_fraction=1)
