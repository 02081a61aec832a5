"""Refitting: a decoder compared with least squares, a prior with frequencies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers import linear_model, tiny_model
from pretend_gpu import GPU, pretended
from sdlgm.errors import ConfigError
from sdlgm.inference import refit_decoder, refit_prior, refitting
from sdlgm.inference.refitting import weighted_counts


def test_a_refitted_decoder_is_that_of_weighted_least_squares(generator) -> None:
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


def test_a_decoder_refitted_for_prefixes_minimises_the_mean_of_their_errors(generator) -> None:
    model = linear_model(prefixes=(1, 3))
    codes = model.prior().sample((60,), generator=generator)
    x = torch.randn(60, 5, generator=generator)
    weight = torch.rand(60, generator=generator) + 0.1
    refit_decoder(model, x, codes, weight=weight, ridge=1e-6)
    cut = [codes * (torch.arange(12) < 3 * groups) for groups in (1, 3, 4)]
    design = np.concatenate([np.concatenate(cut), np.ones((180, 1))], 1)
    root = np.sqrt(weight.repeat(3).numpy())[:, None]
    target = model.standard_units(x).repeat(3, 1).numpy()
    found = np.linalg.lstsq(root * design, root * target, rcond=None)[0]
    fitted = torch.cat([model.output_head.weight.T, model.output_head.bias[None]]).detach()
    np.testing.assert_allclose(design @ fitted.numpy(), design @ found, atol=2e-3)


def test_the_ridge_acts_like_that_many_samples(generator) -> None:
    model = linear_model(features=4)
    codes = torch.zeros(8, 4)
    codes[:4, 0] = 1
    x = torch.randn(8, 5, generator=generator)
    extra = torch.eye(4).repeat(3, 1)  # three samples with each feature alone
    refit_decoder(model, x, codes, ridge=3.0)
    shift, unit = model.likelihood.shift, model.likelihood.unit
    target = ((x - shift) / unit).double()
    design = torch.cat([codes, torch.ones(8, 1)], 1).double()
    design = torch.cat([design, torch.cat([extra, torch.zeros(12, 1)], 1).double()])
    target = torch.cat([target, torch.zeros(12, 5, dtype=torch.float64)])
    found = torch.linalg.lstsq(design, target).solution
    torch.testing.assert_close(model.output_head.weight.double(), found[:-1].T, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.output_head.bias.double(), found[-1], atol=1e-5, rtol=0)


def test_models_that_cannot_be_refitted_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"decoder_hidden=\(\)"):
        refit_decoder(tiny_model(likelihood="gaussian"), torch.zeros(2, 5), torch.zeros(2, 6))
    with pytest.raises(ConfigError, match=r"ridge must be positive, got 0"):
        refit_decoder(linear_model(), torch.zeros(2, 5), torch.zeros(2, 12), ridge=0)


def test_a_refitted_prior_shortens_the_codes(generator) -> None:
    model = tiny_model(features=6, budget=4, groups=2)
    codes = torch.zeros(100, 6)
    codes[:, 0], codes[:30, 4] = 2, 1
    before = model.prior().log_prob(codes).mean()
    refit_prior(model, codes)
    prior = model.prior()
    assert prior.log_prob(codes).mean() > before + 1
    # 200 slots per group, plus one for "closed" and for each of three features.
    torch.testing.assert_close(
        prior.mean, 2 * torch.tensor([201.0, 1, 1, 1, 31, 1]) / 204, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("groups", "size", "slots"), [(3, 4, 1), (2, 3, 3), (1, 1, 1)])
def test_a_gpu_adds_up_the_same_equations(groups: int, size: int, slots: int, generator) -> None:
    """By products of matrices, whose sums have one order there."""
    held = torch.randint(size + 1, (50, groups * slots), generator=generator)
    x = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    weights = torch.rand(50, generator=generator, dtype=torch.float64)
    found = []
    for add in (refitting._add_equations, refitting._add_products):
        gram = torch.zeros(groups * size + 1, groups * size + 1, dtype=torch.float64)
        moments = torch.zeros(groups * size + 1, 6, dtype=torch.float64)
        add(gram, moments, x, held, weights, size, groups)
        found.append((gram, moments))
    torch.testing.assert_close(*found)


def test_weighted_counts_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    held = torch.randint(5, (50,), generator=generator)
    weights = torch.rand(50, generator=generator, dtype=torch.float64)
    expected = torch.bincount(held, weights, 5)
    torch.testing.assert_close(weighted_counts(held, weights, 5), expected)
    monkeypatch.setattr(refitting, "ROWS_AT_ONCE", 8)
    with pretended(monkeypatch):
        found = weighted_counts(held.to(GPU), weights.to(GPU), 5).cpu()
    torch.testing.assert_close(found, expected)
