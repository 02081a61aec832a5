"""The search for better codes, compared with the list of all codes."""

from __future__ import annotations

import pytest
import torch

from helpers import tiny_model
from sdlgm.inference import search, search_codes
from sdlgm.inference.slots import counts_of, slots_of


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


AUTOREGRESSIVE = {"prior": "autoregressive", "prior_hidden": (6,)}


def plain_search(model, x, slots, sweeps):
    """The search as it is defined: whole lengths of all options of all samples in each visit."""
    size = model.config.features // model.groups
    options = torch.arange(size + 1)
    for _ in range(sweeps):
        for slot in range(slots.shape[1]):
            proposed = slots.expand(len(options), -1, -1).clone()
            proposed[:, :, slot] = options[:, None]
            cost = length(model, x, counts_of(proposed, model.groups, size))
            least, best = cost.min(0)
            now = cost.gather(0, slots[:, slot][None])[0]
            slots[:, slot] = torch.where(least < now, best, slots[:, slot])
    return counts_of(slots, model.groups, size)


@pytest.mark.parametrize("sweeps", [1, 4])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"budget": 8},
        {"prior": "mixture", "mixture_components": 3},
        {"prior": "masked", "prior_hidden": (8,)},
        {"levels": 2, "level_hidden": (6,), **AUTOREGRESSIVE},
        {"levels": 4, "level_hidden": (6,), **AUTOREGRESSIVE},
        {"levels": 2, "level_hidden": (6,), "prior": "masked", "prior_hidden": (6,)},
        {"levels": 2, "level_hidden": (6,), "prior": "learned"},
    ],
)
def test_leaving_out_what_cannot_change_finds_the_same_codes(
    settings, sweeps, generator, monkeypatch
) -> None:
    model = tiny_model(**{"features": 12, "budget": 4, "groups": 4, **settings}).double()
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    x = (torch.rand(60, 5, generator=generator) < 0.5).double()
    with torch.no_grad():
        start = model.posterior(x).sample(generator=generator).double()
    monkeypatch.setattr(search, "NUMBERS_AT_ONCE", 12 * 4 * 17)  # blocks of 17 samples
    found = search_codes(model, x, start, sweeps=sweeps)
    slots = slots_of(start, model.groups, model.config.budget)
    assert torch.equal(found, plain_search(model, x, slots, sweeps))
    assert not torch.equal(found, start.float())


def test_samples_whose_codes_stay_the_same_are_not_decoded_again(generator, monkeypatch) -> None:
    model = tiny_model(features=12, budget=4, groups=4)
    x = (torch.rand(30, 5, generator=generator) < 0.5).float()
    codes = search_codes(model, x, model.posterior(x).mode, sweeps=20)
    decoded, real = [], model.data_distribution

    def counted(codes):
        decoded.append(codes.shape[:-1].numel())
        return real(codes)

    monkeypatch.setattr(model, "data_distribution", counted)
    assert torch.equal(search_codes(model, x, codes, sweeps=20), codes)
    assert sum(decoded) == 4 * 4 * 30  # one sweep: four slots with four options each
