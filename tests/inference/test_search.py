"""The search for better codes, compared with the list of all codes."""

from __future__ import annotations

import pytest
import torch

from helpers import tiny_model
from sdlgm.inference import search_codes


def length(model, x, codes, weight=1.0):
    with torch.no_grad():
        return -weight * model.data_distribution(codes).log_prob(x) - model.prior().log_prob(codes)


@pytest.mark.parametrize(
    "settings",
    [
        {"features": 5, "budget": 1},
        {"features": 6, "budget": 2, "groups": 2},
        {"features": 6, "budget": 4, "groups": 2},
    ],
)
def test_the_search_never_gets_worse_and_ends_at_a_local_optimum(settings, generator) -> None:
    model = tiny_model(likelihood="gaussian", **settings)
    for parameter in model.decoder.parameters():
        parameter.data.mul_(3)
    x = torch.randn(40, 5, generator=generator)
    start = model.posterior(x).sample(generator=generator)
    codes = search_codes(model, x, start, sweeps=20)
    found = length(model, x, codes)
    assert (found <= length(model, x, start) + 1e-5).all()
    assert (found < length(model, x, start) - 1e-3).any()
    every = model.prior().enumerate_support()
    assert (every.unsqueeze(0) == codes.unsqueeze(1)).all(-1).any(1).all()  # within the budget
    cost = torch.stack([length(model, x, code.expand(40, -1)) for code in every])
    # No code that differs in one slot is shorter. With one slot this is the best code of all.
    apart = (
        (every.unsqueeze(1) - codes).clamp_min(0).sum(-1),
        (codes - every.unsqueeze(1)).clamp_min(0).sum(-1),
    )
    size = settings["features"] // settings.get("groups", 1)
    touched = (every.unsqueeze(1) != codes).unflatten(-1, (-1, size)).any(-1).sum(-1)
    near = (apart[0] <= 1) & (apart[1] <= 1) & (touched <= 1)
    assert (cost.masked_fill(~near, torch.inf).min(0).values >= found - 1e-4).all()


def test_the_weight_trades_length_for_error(generator) -> None:
    model = tiny_model(likelihood="gaussian", features=6, budget=2, groups=2)
    x = torch.randn(50, 5, generator=generator)
    start = torch.zeros(50, 6)
    cheap = search_codes(model, x, start, weight=1e-6)
    close = search_codes(model, x, start, weight=torch.full((50,), 1e6), sweeps=20)
    prior = model.prior()
    assert torch.allclose(prior.log_prob(cheap), prior.log_prob(prior.mode).expand(50))
    with torch.no_grad():
        assert (
            model.data_distribution(close).log_prob(x).mean()
            > model.data_distribution(cheap).log_prob(x).mean()
        )


def test_open_gates_stay_open(generator) -> None:
    model = tiny_model(likelihood="gaussian", features=6, budget=2, groups=2, gates="open")
    x = torch.randn(20, 5, generator=generator)
    start = model.posterior(x).sample(generator=generator)
    assert (search_codes(model, x, start).sum(-1) == 2).all()
