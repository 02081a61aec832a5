"""Models with levels or a structured prior: settings, files and draws."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers import tiny_model
from sdlgm.config import ModelConfig, TrainingConfig, from_dict, preset, resolve_training, to_dict
from sdlgm.distributions import Chain, Grouped
from sdlgm.errors import ConfigError
from sdlgm.models import load_model, model_sha256, save_model
from sdlgm.objectives.bounds import negative_elbo

SHAPE = {"features": 6, "budget": 3, "groups": 3}
STRUCTURES = [
    {"levels": 3},
    {"levels": 3, "prior": "learned", "level_hidden": (4, 4)},
    {"levels": 3, "prior": "masked"},
    {"prior": "autoregressive", "prior_hidden": ()},
    {"prior": "autoregressive", "gates": "open"},
    {"prior": "mixture", "mixture_components": 3},
]


@pytest.mark.parametrize("settings", STRUCTURES)
def test_a_saved_model_comes_back(settings: dict[str, object], tmp_path: Path) -> None:
    model = tiny_model(**{**SHAPE, "prior": None, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3
    sha = save_model(tmp_path / "model", model)
    back = load_model(tmp_path / "model")
    assert model_sha256(back) == model_sha256(model) == sha
    assert back.config == model.config
    x = torch.rand(4, 5)
    assert torch.equal(back(x).mode, model(x).mode)
    z = model(x).sample(generator=torch.Generator().manual_seed(0))
    assert torch.equal(back.prior().log_prob(z), model.prior().log_prob(z))


@pytest.mark.parametrize("settings", STRUCTURES)
def test_samples_have_codes_within_the_budget(settings: dict[str, object]) -> None:
    model = tiny_model(**{**SHAPE, "prior": None, **settings})
    codes, x = model.sample(7, torch.Generator().manual_seed(0))
    assert codes.shape == (7, 6)
    assert x.shape == (7, 5)
    assert (codes.sum(-1) <= 3).all()


def test_models_without_structure_are_described_as_before() -> None:
    names = {"levels", "level_hidden", "prior_hidden", "mixture_components"}
    assert not names & to_dict(ModelConfig(prior="learned_gates")).keys()
    model = tiny_model(**SHAPE)
    assert isinstance(model.prior(), Grouped)
    assert isinstance(model(torch.rand(2, 5)), Grouped)
    assert not any("later" in name or "network" in name for name in model.state_dict())


def test_the_prior_of_a_preset_is_for_one_level() -> None:
    assert preset("plain")[0].prior == "learned"
    assert preset("plain", levels=2)[0].prior == "masked"
    assert preset("plain", levels=2, prior="fixed")[0].prior == "fixed"


def test_settings_of_structure_survive_a_file() -> None:
    config = ModelConfig(levels=4, level_hidden=(8,), prior_hidden=(16, 16))
    assert from_dict(ModelConfig, to_dict(config)) == config
    assert config.prior == "masked"


def test_bits_have_a_masked_prior_by_default_where_it_is_cheap() -> None:
    assert (ModelConfig().prior, ModelConfig().levels) == ("masked", 1)
    assert ModelConfig(features=2_000).prior == "learned_gates"
    assert ModelConfig(features=2_000, levels=2).prior == "autoregressive"
    assert ModelConfig(groups=1).prior == "learned_gates"
    assert ModelConfig(likelihood="poisson").prior == "learned"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": 3}, "levels = 3 does not divide groups = 40"),
        ({"level_hidden": (8,)}, "set levels"),
        ({"levels": 2, "level_hidden": ()}, "at least one width"),
        ({"levels": 2, "prior": "autoregressive", "prior_hidden": ()}, "at least one width"),
        ({"prior": "learned", "prior_hidden": (8,)}, "prior = 'autoregressive'"),
        ({"mixture_components": 8}, "prior = 'mixture'"),
        ({"prior": "mixture", "levels": 2}, "Use prior = 'autoregressive'"),
        ({"prior": "mixture", "groups": 20}, "one slot per group"),
        ({"prior": "autoregressive", "groups": 1}, "at least 2 groups"),
        ({"prior": "masked", "levels": 2, "features": 9000}, "up to 8,192 features"),
        ({"prior": "masked", "groups": 1}, "at least 2 groups"),
        ({"prior": "mixture", "mixture_components": 0}, "mixture_components must be positive"),
        ({"levels": 0}, "levels must be positive"),
        ({"levels": 100, "budget": 100, "features": 100}, "levels may be up to 64"),
    ],
)
def test_settings_that_do_not_fit_are_errors(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)


def test_trainings_that_need_a_product_refuse_structure() -> None:
    model = ModelConfig(likelihood="gaussian", prior="autoregressive")
    assert resolve_training(TrainingConfig(), model).objective == "elbo"
    with pytest.raises(ConfigError, match="factorised prior"):
        resolve_training(TrainingConfig(objective="rate_distortion"), model)
    with pytest.raises(ConfigError, match="single product"):
        resolve_training(TrainingConfig(estimator="darn"), ModelConfig(levels=2))


def test_the_context_of_levels_is_read_once_for_many_codes() -> None:
    model = tiny_model(**{**SHAPE, "levels": 3, "prior": None})
    x = torch.rand(2, 5)
    posterior = model(x)
    assert isinstance(posterior, Chain)
    codes = posterior.sample((50,), generator=torch.Generator().manual_seed(0))
    wide = model(x.expand(50, -1, -1))
    torch.testing.assert_close(posterior.log_prob(codes), wide.log_prob(codes))


def test_a_mixture_is_summed_in_single_precision() -> None:
    model = tiny_model(**{**SHAPE, "prior": "mixture", "mixture_components": 3})
    codes = model.sample(20, torch.Generator().manual_seed(0))[0]
    whole = model.prior().log_prob(codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.prior().log_prob(codes), whole)


@pytest.mark.parametrize("settings", STRUCTURES)
def test_half_precision_changes_bounds_little(settings: dict[str, object]) -> None:
    model = tiny_model(**{**SHAPE, "prior": None, **settings})
    x = (torch.rand(500, 5, generator=torch.Generator().manual_seed(0)) < 0.5).float()

    def bound() -> float:
        noise = torch.Generator().manual_seed(1)
        return float(negative_elbo(model, x, generator=noise).total.mean())

    exact = bound()
    with torch.autocast("cpu", torch.bfloat16):
        assert abs(bound() - exact) < 0.05
    half = model.to(torch.bfloat16)
    assert abs(float(negative_elbo(half, x).total.mean()) - exact) < 0.3
