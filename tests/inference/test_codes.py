"""The chosen codes, compared with the list of all codes."""

from __future__ import annotations

import typing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers import random_code, tiny_model
from sdlgm.config import CodeMethod
from sdlgm.distributions import Grouped
from sdlgm.errors import ConfigError
from sdlgm.inference.codes import choose_codes, limit_active
from sdlgm.models import SDLGM

METHODS = typing.get_args(CodeMethod)
MODELS = [
    {"groups": 1},
    {"features": 4, "budget": 4, "groups": 2},
    {"features": 6, "budget": 3, "groups": 3},
    {"features": 3, "budget": 3, "groups": 3},
    {"gates": "open"},
]


def bits(rows: int = 6, columns: int = 5) -> Tensor:
    return (torch.rand(rows, columns, generator=torch.Generator().manual_seed(8)) < 0.5).float()


def length(model: SDLGM, x: Tensor, codes: Tensor) -> Tensor:
    return -model.data_distribution(codes).log_prob(x) - model.prior().log_prob(codes)


def all_codes(model: SDLGM, x: Tensor) -> Tensor:
    return model.posterior(x).enumerate_support()


def source(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("settings", MODELS)
def test_the_mode_is_a_most_probable_code(settings: dict[str, object]) -> None:
    model, x = tiny_model(**settings), bits()
    posterior = model.posterior(x)
    reached = posterior.log_prob(choose_codes(model, x, "mode"))
    torch.testing.assert_close(reached, posterior.log_prob(all_codes(model, x)).amax(0))


@pytest.mark.parametrize("settings", MODELS)
def test_the_rounded_mean_is_a_code_closest_to_the_mean(settings: dict[str, object]) -> None:
    model, x = tiny_model(**settings), bits()
    posterior = model.posterior(x)

    def distance(codes: Tensor) -> Tensor:
        """Squared distance over the counts of features and closed slots of each group."""
        off = posterior.split(codes - posterior.mean)
        return off.square().sum((-2, -1)) + off.sum(-1).square().sum(-1)

    reached = distance(choose_codes(model, x, "mean"))
    torch.testing.assert_close(reached, distance(all_codes(model, x)).amin(0))


@pytest.mark.parametrize("settings", MODELS)
def test_the_best_of_many_candidates_is_the_best_of_all_codes(settings: dict[str, object]) -> None:
    model, x = tiny_model(**settings), bits()
    found = length(model, x, choose_codes(model, x, "best", candidates=3000, generator=source()))
    lengths = length(model, x, all_codes(model, x))
    torch.testing.assert_close(found, lengths.amin(0))
    assert (found >= -torch.logsumexp(-lengths, 0)).all()  # the bound of -log p(x)


@pytest.mark.parametrize("settings", MODELS[:-1])
def test_the_best_code_under_a_limit_is_the_best_of_all_within_it(
    settings: dict[str, object],
) -> None:
    model, x = tiny_model(**settings), bits()
    chosen = choose_codes(model, x, "best", candidates=3000, generator=source(), max_active=1)
    codes = all_codes(model, x)
    lengths = length(model, x, codes).masked_fill((codes > 0).sum(-1) > 1, torch.inf)
    torch.testing.assert_close(length(model, x, chosen), lengths.amin(0))


@pytest.mark.parametrize("candidates", [2, 3, 17])
@pytest.mark.parametrize("max_active", [None, 1, 2])
def test_the_best_is_never_worse_than_its_candidates(
    candidates: int, max_active: int | None
) -> None:
    model, x = tiny_model(features=8, budget=4, groups=2), bits(40)
    posterior = model.posterior(x)
    found = length(
        model,
        x,
        choose_codes(
            model, x, "best", candidates=candidates, max_active=max_active, generator=source()
        ),
    )
    draws = posterior.sample((candidates - 2,), generator=source())
    proposed = torch.cat([torch.stack([posterior.mode, posterior.rounded_mean]), draws])
    lengths = length(model, x, limit_active(proposed, posterior, max_active))
    torch.testing.assert_close(found, lengths.amin(0))


@given(
    groups=st.sampled_from([1, 2, 4]),
    code=st.sampled_from(METHODS),
    max_active=st.none() | st.integers(1, 9),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_codes_of_every_method_keep_all_budgets(
    groups: int, code: CodeMethod, max_active: int | None, seed: int
) -> None:
    model, generator = tiny_model(features=8, budget=8, groups=groups), source(seed)
    with torch.no_grad():
        for head in (model.gate_head, model.feature_head):
            head.bias.normal_(0, 4, generator=generator)
    codes = choose_codes(
        model, bits(9), code, candidates=4, max_active=max_active, generator=generator
    )
    assert codes.shape == (9, 8)
    assert model.posterior(bits(9)).support.check(codes).all()
    assert ((codes > 0).sum(-1) <= (max_active or 8)).all()


@pytest.mark.parametrize("code", METHODS)
def test_one_seed_gives_the_same_codes(code: CodeMethod) -> None:
    model, x = tiny_model(features=8, budget=4, groups=2), bits(30)
    first, second = (choose_codes(model, x, code, generator=source()) for _ in range(2))
    assert torch.equal(first, second)
    state = torch.get_rng_state()
    choose_codes(model, x, code, generator=source())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("code", ["mode", "mean"])
@pytest.mark.parametrize("max_active", [None, 2])
def test_a_code_does_not_depend_on_the_other_rows(code: CodeMethod, max_active: int | None) -> None:
    model, x = tiny_model(features=8, budget=8, groups=2), bits(30)
    together = choose_codes(model, x, code, max_active=max_active)
    alone = [choose_codes(model, row[None], code, max_active=max_active) for row in x]
    assert torch.equal(together, torch.cat(alone))


def test_the_features_most_probably_present_stay() -> None:
    code = random_code(source(), features=8, budget=8, groups=2, batch=(20,))
    codes = code.sample(generator=source())
    limited = limit_active(codes, code, 2)
    for before, after, present in zip(codes, limited, code.presence_probs, strict=True):
        here = before.nonzero().flatten().tolist()
        kept = sorted(here, key=lambda k: (-present[k].item(), k))[:2]
        assert sorted(kept) == after.nonzero().flatten().tolist()
        assert torch.equal(after[kept], before[kept])


def test_ties_between_features_go_to_the_lower_index() -> None:
    flat: Grouped = tiny_model(features=6, budget=6, groups=1).prior()
    codes = torch.tensor([0.0, 1, 2, 0, 1, 1])
    assert limit_active(codes, flat, 2).tolist() == [0, 1, 2, 0, 0, 0]
    assert limit_active(codes, flat, 6) is codes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": "median"}, "one of 'mode', 'mean', 'sample', 'best', 'search', got 'median'"),
        ({"code": "best", "candidates": 1}, "at least 2 .the mode and the rounded mean., got 1"),
        ({"code": "mode", "max_active": 0}, "max_active must be at least 1, got 0"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, typing.Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_codes(tiny_model(), bits(), **options)


def test_open_gates_cannot_be_closed() -> None:
    model = tiny_model(gates="open")
    with pytest.raises(ConfigError, match="fills all 3"):
        choose_codes(model, bits(), "mode", max_active=2)
    assert (choose_codes(model, bits(), "mode", max_active=3).sum(-1) == 3).all()
