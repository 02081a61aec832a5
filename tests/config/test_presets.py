"""Presets: named settings in Python and on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from sdlgm.config import PRESETS, ModelConfig, TrainingConfig, preset, resolve_training, to_dict
from sdlgm.errors import ConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_its_own_settings_and_the_defaults_for_the_rest(name: str) -> None:
    model, training = preset(name)
    values = to_dict(model, training)
    defaults = to_dict(ModelConfig(), resolve_training(TrainingConfig(), ModelConfig()))
    own = {k: list(v) if isinstance(v, tuple) else v for k, v in PRESETS[name].items()}
    assert {key: values[key] for key in own} == own
    # From the budget, the objective, the likelihood and the encoder.
    derived = {"groups", "estimator", "kl", "kl_warmup", "decoder_hidden", "objective"}
    assert {key for key in values if values[key] != defaults[key]} <= set(own) | derived


def test_the_default_preset_is_the_default_configuration() -> None:
    assert preset() == (ModelConfig(), resolve_training(TrainingConfig(), ModelConfig()))


def test_changes_override_the_preset() -> None:
    model, training = preset("best", seed=3, budget=20, iterations=5)
    assert (model.budget, model.groups, training.seed, training.iterations) == (20, 20, 3, 5)


def test_an_unknown_name_is_reported_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError, match="no preset 'bets'. Did you mean 'best'"):
        preset("bets")
    with pytest.raises(ConfigError, match="no key 'sed'. Did you mean 'seed'"):
        preset("best", sed=3)


def test_recommended_settings_depend_on_the_likelihood() -> None:
    bits, real = ModelConfig(), ModelConfig(likelihood="gaussian")
    assert bits.residual
    assert not real.residual
    assert (bits.prior, real.prior) == ("masked", "learned")
    training = TrainingConfig()
    assert resolve_training(training, ModelConfig()).learning_rate == 2e-3
    assert resolve_training(training, ModelConfig(likelihood="gaussian")).learning_rate == 1e-3


def test_explicit_settings_are_kept() -> None:
    config = ModelConfig(residual=False, encoder_hidden=(8,), prior="fixed")
    assert (config.residual, config.encoder_hidden, config.prior) == (False, (8,), "fixed")
    training = resolve_training(TrainingConfig(learning_rate=0.5, weight_decay=0.0), ModelConfig())
    assert (training.learning_rate, training.weight_decay) == (0.5, 0.0)


@pytest.mark.parametrize(
    "given",
    [
        {"likelihood": "gaussian"},
        {"likelihood": "poisson", "estimator": "muprop"},
        {"devices": 2},
        {"estimator": "vimco"},
        {"objective": "paper"},
    ],
)
def test_several_codes_of_a_preset_give_way_to_other_settings(given: dict[str, Any]) -> None:
    assert preset("best")[1].draws == 2
    assert preset("best", **given)[1].draws is None
    assert preset("best", likelihood="bernoulli", estimator=None, devices=1)[1].draws == 2
