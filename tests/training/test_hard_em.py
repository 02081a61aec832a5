"""Search and refitting in turns: what it reaches, its targets, and what it does not depend on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from sdlgm.config import ModelConfig, TrainingConfig, resolve_training
from sdlgm.data import Rows
from sdlgm.errors import ConfigError, SDLGMWarning
from sdlgm.inference import choose_codes, refitting
from sdlgm.models import SDLGM
from sdlgm.nn import data_statistics
from sdlgm.training.hard_em import fit_codes

DIGITS = torch.from_numpy(load_digits().data[:900])
CONFIG = ModelConfig(
    features=64, budget=8, likelihood="gaussian", encoder_hidden=(8,), sparsity_hidden=(8,)
)


def fitted(x=DIGITS, weights=None, index=None, **settings):
    """A model after search and refitting, and what its turns reached."""
    shape = {f.name for f in dataclasses.fields(ModelConfig)}
    config = dataclasses.replace(CONFIG, **{k: v for k, v in settings.items() if k in shape})
    training = TrainingConfig(**{k: v for k, v in settings.items() if k not in shape})
    statistics = data_statistics(x, weights=weights)
    model = SDLGM(config, statistics, torch.Generator().manual_seed(0))
    index = torch.arange(len(x)) if index is None else index
    weights = torch.ones(len(index)) if weights is None else weights[index]
    turns = fit_codes(model, Rows(x), training, index=index, weights=weights)
    return model, turns


def error(model, x=DIGITS):
    """Mean squared error of searched codes in standard units, as a share of the variance."""
    units = model.standard_units(x)
    decoded = model.standard_units(model.decode(choose_codes(model, x)))
    return float((units - decoded).square().mean() / (units - units.mean(0)).square().mean())


def bits(model, x=DIGITS):
    """Mean length of searched codes under the prior."""
    with torch.no_grad():
        return float(-model.prior().log_prob(choose_codes(model, x)).mean()) / np.log(2)


def test_turns_lower_the_error_below_that_of_residual_clustering() -> None:
    model, turns = fitted(scaling="common", gates="open")
    assert turns[-1].distortion < turns[0].distortion
    assert error(model) == pytest.approx(turns[-1].distortion, rel=0.1)
    residual = DIGITS.numpy() - DIGITS.numpy().mean(0)
    whole = (residual**2).sum()
    for group in range(8):
        means = KMeans(8, n_init=1, random_state=group).fit(residual)
        residual = residual - means.cluster_centers_[means.labels_]
    assert error(model) < (residual**2).sum() / whole


def test_all_features_are_used() -> None:
    model, _ = fitted()
    assert (choose_codes(model, DIGITS).sum(0) > 0).all()


@pytest.mark.parametrize("rate", [0.5, 1.0, 6.0, 14.0])
def test_a_target_rate_is_met(rate) -> None:
    model, _ = fitted(rate=rate, turns=20)
    assert bits(model) == pytest.approx(rate, rel=0.02)
    assert float(model.rate_weight) > 0


def test_prefixes_that_are_trained_lose_less_than_those_that_are_not() -> None:
    def cut(model, groups):
        codes = choose_codes(model, DIGITS) * (torch.arange(64) < 8 * groups)
        units = model.standard_units(DIGITS)
        left = units - model.standard_units(model.decode(codes))
        return float(left.square().mean() / (units - units.mean(0)).square().mean())

    trained, turns = fitted(prefixes=(2, 4), turns=15)
    plain, _ = fitted(turns=15)
    assert all(cut(trained, groups) < 0.8 * cut(plain, groups) for groups in (2, 4))
    assert cut(trained, 2) > cut(trained, 4) > cut(trained, 8)
    for groups in (2, 4):
        reached = turns[-1].line()[f"distortion_{groups}"]
        assert reached == pytest.approx(cut(trained, groups), rel=0.1)


@pytest.mark.parametrize("distortion", [0.25, 0.4, 0.8])
def test_a_target_distortion_is_met(distortion) -> None:
    model, _ = fitted(distortion=distortion, turns=15)
    assert error(model) == pytest.approx(distortion, rel=0.03)


def test_rows_use_as_many_features_as_they_need_under_a_target() -> None:
    model, _ = fitted(rate=10.0)
    active = (choose_codes(model, DIGITS) > 0).sum(1)
    assert active.min() < active.max() <= 8


def test_open_gates_fill_every_slot() -> None:
    model, _ = fitted(gates="open", turns=4)
    assert (choose_codes(model, DIGITS).sum(1) == 8).all()


def test_a_seed_gives_the_same_model_and_another_seed_another() -> None:
    first, second, other = (fitted(turns=4, seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["output_head.weight"], other["output_head.weight"])


def test_a_weight_of_two_is_two_rows() -> None:
    weights = torch.ones(300, dtype=torch.float64)
    weights[:50] = 2
    x = DIGITS[:300]
    weighted = fitted(x, weights, turns=3)[0]
    double = torch.cat([x, x[:50]])
    order = torch.argsort(torch.cat([torch.arange(300), torch.arange(50)]), stable=True)
    repeated = fitted(double, index=order, turns=3)[0]
    assert error(weighted, x) == pytest.approx(error(repeated, x), rel=0.02)


@pytest.mark.parametrize("unit", [2.0**-40, 2.0**30])
def test_the_unit_of_the_columns_does_not_matter(unit) -> None:
    plain, scaled = fitted(turns=3)[0], fitted(unit * DIGITS, turns=3)[0]
    assert torch.equal(plain.output_head.weight, scaled.output_head.weight)
    assert torch.equal(choose_codes(plain, DIGITS), choose_codes(scaled, unit * DIGITS))


@pytest.mark.filterwarnings("ignore:.*of the variance")
def test_a_common_scale_keeps_the_proportions_of_columns() -> None:
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)).double()
    x[:, 0] *= 20
    shares = []
    for scaling in ("columns", "common"):
        model, _ = fitted(x, scaling=scaling)
        decoded = model.decode(choose_codes(model, x))
        shares.append(float((x - decoded)[:, 0].square().mean() / x[:, 0].square().mean()))
    assert shares[1] < 0.5 * shares[0]


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_are_learned(rows) -> None:
    model, turns = fitted(DIGITS[:rows], turns=3)
    assert all(np.isfinite([turn.distortion, turn.bits]).all() for turn in turns)
    assert torch.isfinite(model.decode(choose_codes(model, DIGITS[:rows]))).all()


def test_constant_rows_are_learned() -> None:
    x = torch.full((20, 3), 7.0, dtype=torch.float64)
    model, _ = fitted(x, turns=3, rate=2.0)
    assert torch.allclose(model.decode(choose_codes(model, x)), x.float(), atol=1e-3)


def test_a_column_that_holds_all_of_the_variance_is_named() -> None:
    x = torch.cat([DIGITS[:, 20:24], torch.arange(900.0).unsqueeze(1)], 1)
    with pytest.warns(SDLGMWarning, match=r"column 4 .* holds 9.\..% of the variance.* an id"):
        fitted(x, scaling="common", turns=1)
    fitted(x, scaling="columns", turns=1)


def test_few_rows_that_hold_all_of_the_variance_are_counted() -> None:
    x = torch.cat([DIGITS, 1000 * DIGITS[:1]])
    with pytest.warns(SDLGMWarning, match=r"9 of 901 rows hold 9.*largest norm"):
        fitted(x, scaling="common", turns=1)


def test_a_rate_beyond_the_budget_is_refused_with_the_cure() -> None:
    resolve_training(TrainingConfig(rate=25.0), CONFIG)
    with pytest.raises(ConfigError, match=r"less than 25\.4: 8 slots with 9 states.*Raise"):
        resolve_training(TrainingConfig(rate=25.4), CONFIG)


def test_a_distortion_that_the_budget_does_not_allow_is_said() -> None:
    with pytest.warns(SDLGMWarning, match=r"distortion = 0\.01 was aimed at.*Raise the budget"):
        fitted(distortion=0.01, turns=4)


def test_a_rate_below_the_shortest_code_is_said_with_the_lowest() -> None:
    with pytest.warns(SDLGMWarning, match=r"900 different rows take at least 0\.102 bits.*more"):
        fitted(rate=0.01, turns=8)


def test_a_rate_above_what_codes_need_is_said() -> None:
    with pytest.warns(SDLGMWarning, match=r"take 2.* bits, since longer ones are not more exact"):
        fitted(rate=25.0, turns=8)


def test_targets_need_a_linear_decoder_and_come_alone() -> None:
    with pytest.raises(ConfigError, match="decoder_hidden"):
        resolve_training(TrainingConfig(rate=9.0), dataclasses.replace(CONFIG, decoder_hidden=(4,)))
    with pytest.raises(ConfigError, match="give one of them"):
        TrainingConfig(rate=9.0, distortion=0.2)
    with pytest.raises(ConfigError, match="objective = 'elbo'"):
        TrainingConfig(rate=9.0, objective="elbo")


def test_very_many_features_are_trained_by_gradient_steps() -> None:
    wide = dataclasses.replace(CONFIG, features=20_000)
    assert resolve_training(TrainingConfig(), wide).objective == "elbo"
    with pytest.raises(ConfigError, match=r"up to 16,384, got 20,000"):
        resolve_training(TrainingConfig(objective="rate_distortion"), wide)


def test_blocks_of_rows_give_the_same_fit(monkeypatch) -> None:
    whole = fitted(DIGITS[:200], turns=2)[0]
    monkeypatch.setattr(refitting, "ROWS_AT_ONCE", 7)
    parts = fitted(DIGITS[:200], turns=2)[0]
    assert torch.allclose(whole.output_head.weight, parts.output_head.weight, atol=1e-4)
