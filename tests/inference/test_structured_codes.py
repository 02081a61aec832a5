"""Choosing, limiting and refining codes of models with levels or a structured prior."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from helpers import tiny_model
from sdlgm.config import ModelConfig
from sdlgm.data import Rows
from sdlgm.errors import DataError
from sdlgm.inference import choose_codes, default_code, evaluate, refine_posterior
from sdlgm.models import SDLGM
from sdlgm.objectives.bounds import negative_elbo

STRUCTURES = [
    {"levels": 2},
    {"prior": "autoregressive", "prior_hidden": (8,)},
    {"prior": "mixture", "mixture_components": 3},
]


def structured(settings: dict[str, object], **more: object) -> SDLGM:
    shape = {"features": 12, "budget": 4, "groups": 4, "prior": None}
    model = tiny_model(**{**shape, **settings, **more}).eval()
    source = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.7 * torch.randn(parameter.shape, generator=source)
    return model


@pytest.fixture
def x(generator: torch.Generator) -> Tensor:
    return (torch.rand(30, 5, generator=generator) < 0.5).float()


@torch.no_grad()
def joint(model: SDLGM, x: Tensor, codes: Tensor) -> Tensor:
    return -model.data_distribution(codes).log_prob(x) - model.prior().log_prob(codes)


@pytest.mark.parametrize("settings", STRUCTURES)
def test_compared_codes_are_shorter_under_the_structured_prior(
    settings: dict[str, object], x: Tensor
) -> None:
    model = structured(settings)
    length = {
        code: joint(model, x, choose_codes(model, x, code, generator=torch.Generator()))
        for code in ("mode", "mean", "best", "search")
    }
    for code in ("mode", "mean"):
        assert (length["best"] <= length[code] + 1e-5).all()
    assert (length["search"] <= length["mode"] + 1e-5).all()
    every = model.prior().enumerate_support()
    with torch.no_grad():
        likelihood = model.data_distribution(every).base_dist.log_prob(x.unsqueeze(1)).sum(-1)
        least = (-likelihood - model.prior().log_prob(every)).min(-1).values
    assert (length["search"] >= least - 1e-4).all()


@pytest.mark.parametrize("settings", STRUCTURES)
@pytest.mark.parametrize("code", ["mode", "mean", "sample", "best", "search"])
def test_codes_keep_a_limit_of_features(settings: dict[str, object], code: str, x: Tensor) -> None:
    codes = choose_codes(structured(settings), x, code, max_active=2, candidates=4)
    assert ((codes > 0).sum(-1) <= 2).all()


def test_the_mode_is_that_of_each_level_given_the_modes_before(x: Tensor) -> None:
    model = structured({"levels": 2})
    codes, posterior = choose_codes(model, x, "mode"), model(x)
    assert torch.equal(codes[:, 6:], posterior.part(1, codes[:, :6]).mode)


def test_a_row_that_overflows_is_named(x: Tensor) -> None:
    model = structured({"levels": 2, "likelihood": "gaussian", "normalisation": "none"})
    rows = x.clone()
    rows[7] = torch.inf
    with pytest.raises(DataError, match="row 7"):
        choose_codes(model, rows)


def test_codes_of_real_numbers_are_not_searched_for_by_default() -> None:
    assert default_code(ModelConfig(likelihood="gaussian")) == "search"
    assert default_code(ModelConfig(likelihood="gaussian", levels=2)) == "mode"
    assert default_code(ModelConfig(likelihood="gaussian", prior="mixture")) == "mode"


@pytest.mark.parametrize("settings", [*STRUCTURES, {"levels": 2, "prior": "masked"}])
def test_refinement_lowers_the_bound_of_a_structured_code(
    settings: dict[str, object], x: Tensor, generator: torch.Generator
) -> None:
    model = structured(settings)
    refined = refine_posterior(model, x, 60, generator=generator)
    before = negative_elbo(model, x, samples=200, generator=generator).total
    after = negative_elbo(model, x, samples=200, posterior=refined, generator=generator).total
    assert after.mean() < before.mean() - 0.05


@torch.no_grad()
def test_a_refined_posterior_in_levels_is_a_distribution_and_its_bound_a_bound(
    x: Tensor, generator: torch.Generator
) -> None:
    model = structured({"levels": 2})
    codes = model.posterior(x).enumerate_support()[:, :1]
    evidence = -(
        model.data_distribution(codes).log_prob(x) + model.prior().log_prob(codes)
    ).logsumexp(0)
    refined = refine_posterior(model, x, 40, generator=generator)
    each = refined.log_prob(codes.expand(-1, len(x), -1))
    assert torch.allclose(each.exp().sum(0), torch.ones(len(x)), atol=1e-5)
    ratio = each - model.prior().log_prob(codes) - model.data_distribution(codes).log_prob(x)
    before = model.posterior(x).log_prob(codes.expand(-1, len(x), -1))
    unrefined = before - model.prior().log_prob(codes) - model.data_distribution(codes).log_prob(x)
    after = (each.exp() * ratio).sum(0)
    assert (after >= evidence - 1e-4).all()
    assert after.mean() < (before.exp() * unrefined).sum(0).mean()


def test_a_shift_of_a_level_adds_to_its_logits_given_the_levels_before(x: Tensor) -> None:
    model = structured({"levels": 2})
    own, codes = model.posterior(x), model.posterior(x).mode
    gates, features = torch.rand(len(x), 4), torch.rand(len(x), 12)
    moved = own.shifted(gates, features).given(codes).base
    assert torch.allclose(moved.gate_logits, own.given(codes).base.gate_logits + gates)
    expected = own.given(codes).base.feature_logits + features.unflatten(-1, (4, 3))
    assert torch.allclose(moved.feature_logits, expected)


@pytest.mark.parametrize("settings", STRUCTURES)
def test_evaluation_reports_all_bounds(settings: dict[str, object], x: Tensor) -> None:
    measured = evaluate(structured(settings), Rows(x.repeat(20, 1)), importance_samples=50)
    assert measured.nll_bound < measured.negative_elbo
    assert measured.active_features_max <= 4
