"""Linear decoders: the quick search against the plain one, and the fit against least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers import tiny_model
from sdlgm.errors import ConfigError
from sdlgm.inference import linear_codes, refine_codes, refining, refit_decoder


def linear_model(**settings):
    settings = {"features": 12, "budget": 4, "groups": 4} | settings
    return tiny_model(likelihood="gaussian", encoder_hidden=(), **settings)


@pytest.mark.parametrize("gates", ["learned", "open"])
def test_the_quick_search_does_what_the_plain_one_does(gates, generator, monkeypatch) -> None:
    model = linear_model(gates=gates)
    with torch.no_grad():
        model.output_head.weight.mul_(4)
        model.likelihood.rho.normal_(generator=generator)
        model.prior_feature_logits.normal_(generator=generator)
        if gates == "learned":
            model.prior_gate_logits.normal_(generator=generator)
    x = 2 * torch.randn(200, 5, generator=generator)
    weight = torch.rand(200, generator=generator) + 0.2
    start = model.posterior(x).sample(generator=generator)
    assert linear_codes.is_quadratic(model)
    quick = refine_codes(model, x, start, weight=weight, sweeps=3)
    monkeypatch.setattr(refining, "is_quadratic", lambda model: False)
    plain = refine_codes(model, x, start, weight=weight, sweeps=3)
    assert (quick != start).any()
    assert torch.equal(quick, plain)


@pytest.mark.parametrize(
    "settings", [{"groups": 2}, {"encoder_hidden": (4,)}, {"likelihood": "bernoulli"}]
)
def test_other_models_are_searched_plainly(settings) -> None:
    known = {"features": 12, "budget": 4, "groups": 4, "encoder_hidden": ()}
    settings = known | {"likelihood": "gaussian"} | settings
    assert not linear_codes.is_quadratic(tiny_model(**settings))


def test_the_fit_is_that_of_weighted_least_squares(generator) -> None:
    model = linear_model()
    model.likelihood.shift.normal_(generator=generator)
    model.likelihood.unit.uniform_(0.5, 2, generator=generator)
    codes = model.prior().sample((60,), generator=generator)
    x = torch.randn(60, 5, generator=generator)
    weight = torch.rand(60, generator=generator) + 0.1
    refit_decoder(model, x, codes, weight=weight, ridge=1e-6)
    design = np.concatenate([codes.numpy(), np.ones((60, 1))], 1)
    root = np.sqrt(weight.numpy())[:, None]
    found = np.linalg.lstsq(root * design, root * x.numpy(), rcond=None)[0]
    with torch.no_grad():
        decoded = model.data_distribution(codes).base_dist.loc.numpy()
    np.testing.assert_allclose(decoded, design @ found, atol=2e-3)


def test_the_ridge_counts_as_that_many_samples(generator) -> None:
    model = linear_model(features=4)
    codes = torch.zeros(8, 4)
    codes[:4, 0] = 1
    x = torch.randn(8, 5, generator=generator)
    extra = torch.eye(4).repeat(3, 1)  # each feature held three times by a sample of nothing else
    refit_decoder(model, x, codes, ridge=3.0)
    shift, unit = model.likelihood.shift, model.likelihood.unit
    target = ((x - shift) / unit).double()
    design = torch.cat([codes, torch.ones(8, 1)], 1).double()
    design = torch.cat([design, torch.cat([extra, torch.zeros(12, 1)], 1).double()])
    target = torch.cat([target, torch.zeros(12, 5, dtype=torch.float64)])
    found = torch.linalg.lstsq(design, target).solution
    torch.testing.assert_close(model.output_head.weight.double(), found[:-1].T, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.output_head.bias.double(), found[-1], atol=1e-5, rtol=0)


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(ConfigError, match=r"encoder_hidden=\(\)"):
        refit_decoder(tiny_model(likelihood="gaussian"), torch.zeros(2, 5), torch.zeros(2, 6))
    with pytest.raises(ConfigError, match=r"ridge must be positive, got 0"):
        refit_decoder(linear_model(), torch.zeros(2, 5), torch.zeros(2, 12), ridge=0)
