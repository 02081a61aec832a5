"""Structured priors that are fitted to a trained model."""

from __future__ import annotations

import pytest
import torch

from helpers import tiny_model
from sdlgm.data import Rows
from sdlgm.distributions import Chain, conditionals, kl_terms
from sdlgm.errors import ConfigError
from sdlgm.inference import refit_prior
from sdlgm.models import SDLGM
from sdlgm.training import fit_prior

SHAPE = {"features": 12, "budget": 4, "groups": 4, "prior": None}


@pytest.fixture
def rows(generator: torch.Generator) -> Rows:
    """Two kinds of rows, so that groups depend on each other."""
    kind = torch.randint(2, (400, 1), generator=generator)
    bits = torch.rand(400, 5, generator=generator) < 0.05 + 0.9 * kind
    return Rows(bits.float())


def trained(generator: torch.Generator, **settings: object) -> SDLGM:
    """A model whose codes tell the two kinds of rows apart."""
    model = tiny_model(**{**SHAPE, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    return model


@torch.no_grad()
def divergence(model: SDLGM, rows: Rows) -> float:
    source = torch.Generator().manual_seed(0)
    x = rows.values.repeat(20, 1)
    posterior, prior = model(x), model.prior()
    codes = posterior.sample(generator=source)
    given = conditionals(posterior, codes), conditionals(prior, codes)
    return float(kl_terms(*given).total.mean())


@pytest.mark.parametrize(
    ("before", "prior"),
    [
        ({}, "mixture"),
        ({}, "autoregressive"),
        ({"prior": "mixture"}, "autoregressive"),
        ({"levels": 2, "prior": "learned"}, "autoregressive"),
    ],
)
def test_a_fitted_prior_shortens_codes_and_changes_nothing_else(
    before: dict[str, object], prior: str, rows: Rows, generator: torch.Generator
) -> None:
    model = trained(generator, **before)
    settings = {"mixture_components": 4} if prior == "mixture" else {"prior_hidden": (16,)}
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fitted = fit_prior(model, rows, prior, iterations=200, **settings)
    assert isinstance(fitted.prior(), Chain)
    assert fitted.config.prior == prior
    assert divergence(fitted, rows) < divergence(model, rows) - 0.1
    x = rows.values[:20]
    assert torch.equal(fitted(x).mode, model(x).mode)
    assert torch.equal(fitted.decode(model(x).mode), model.decode(model(x).mode))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


def test_priors_that_do_not_fit_are_errors(rows: Rows, generator: torch.Generator) -> None:
    model = trained(generator, levels=2)
    with pytest.raises(ConfigError, match="Use prior = 'autoregressive'"):
        fit_prior(model, rows, "mixture")
    with pytest.raises(ConfigError, match="positive iterations"):
        fit_prior(model, rows, iterations=0)
    with pytest.raises(ConfigError, match=r"sdlgm\.training\.fit_prior"):
        refit_prior(model, torch.zeros(3, 12))
