"""Linear decoders: the fast search, compared with the general one."""

from __future__ import annotations

import itertools

import pytest
import torch

from helpers import linear_model, tiny_model
from sdlgm.errors import DataError
from sdlgm.inference import choose_codes, linear, search, search_codes
from sdlgm.inference.linear import AdditiveSearch, quadratic_search, standard_residual


@pytest.mark.parametrize("gates", ["learned", "open"])
def test_the_fast_search_finds_the_codes_of_the_general_one(gates, generator, monkeypatch) -> None:
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
    assert linear.is_quadratic(model)
    quick = search_codes(model, x, start, weight=weight, sweeps=3)
    monkeypatch.setattr(search, "is_quadratic", lambda model: False)
    plain = search_codes(model, x, start, weight=weight, sweeps=3)
    assert (quick != start).any()
    assert torch.equal(quick, plain)


@pytest.mark.parametrize(
    "settings", [{"groups": 2}, {"decoder_hidden": (4,)}, {"likelihood": "bernoulli"}]
)
def test_other_models_take_the_general_search(settings) -> None:
    known = {"features": 12, "budget": 4, "groups": 4, "encoder_hidden": ()}
    settings = known | {"likelihood": "gaussian"} | settings
    assert not linear.is_quadratic(tiny_model(**settings))


WEIGHTS = [None, [0.25, 0.0, 0.75], [0.5, 0.3, 0.2]]
"""Weights of the errors of the first 1, 2 and 3 groups."""


def costs(entries, lengths, x, rate, error_weights=None):
    """J of every combination of entries, and the combinations."""
    groups, size, _ = entries.shape
    every = torch.tensor(list(itertools.product(range(size), repeat=groups)))
    selected = torch.stack([entries[group][every[:, group]] for group in range(groups)], 1)
    length = sum(lengths[group][every[:, group]] for group in range(groups))
    errors = (x[:, None, None] - selected.cumsum(1)).square().sum(-1)  # (n, codes, G)
    weights = torch.tensor(error_weights or [0.0] * (groups - 1) + [1.0])
    return errors @ weights + rate * length, every


@pytest.fixture
def problem(generator):
    entries = torch.randn(3, 4, 5, generator=generator)
    entries[:, -1] = 0
    lengths = torch.rand(3, 4, generator=generator)
    return entries, lengths, torch.randn(60, 5, generator=generator) * 1.5


@pytest.mark.parametrize("error_weights", WEIGHTS)
def test_a_beam_that_keeps_everything_finds_the_best_of_all_codes(error_weights, problem) -> None:
    entries, lengths, x = problem
    cost, every = costs(entries, lengths, x, 0.7, error_weights)
    found = AdditiveSearch(entries, lengths, error_weights)(x, rate=0.7, width=64, sweeps=0)
    assert torch.equal(found, every[cost.argmin(1)])


def test_each_row_may_have_a_rate_of_its_own(problem) -> None:
    entries, lengths, x = problem
    rate = torch.linspace(0, 3, len(x))
    search_ = AdditiveSearch(entries, lengths)
    together = search_(x, rate=rate, width=4)
    alone = torch.cat(
        [search_(row[None], rate=float(r), width=4) for row, r in zip(x, rate, strict=True)]
    )
    assert torch.equal(together, alone)


@pytest.mark.parametrize("error_weights", WEIGHTS)
def test_sweeps_never_raise_the_cost_and_end_where_no_single_change_helps(
    error_weights, problem
) -> None:
    entries, lengths, x = problem
    start = torch.full((len(x), 3), 3)
    search_ = AdditiveSearch(entries, lengths, error_weights)
    found = search_(x, rate=0.3, start=start, sweeps=50)
    cost, every = costs(entries, lengths, x, 0.3, error_weights)
    where = {tuple(code.tolist()): place for place, code in enumerate(every)}
    for row, code in enumerate(found):
        own = cost[row, where[tuple(code.tolist())]]
        assert own <= cost[row, where[(3, 3, 3)]] + 1e-5
        near = (every != code).sum(1) <= 1
        assert cost[row][near].min() >= own - 1e-5


def test_an_entry_of_infinite_length_is_never_selected(problem) -> None:
    entries, lengths, x = problem
    lengths[:, -1] = torch.inf
    search_ = AdditiveSearch(entries, lengths)
    assert (search_(x, rate=0.0) < 3).all()
    assert (search_(x, rate=2.0) < 3).all()


def test_tables_that_are_too_large_are_computed_on_the_way(problem, monkeypatch) -> None:
    entries, lengths, x = problem
    expected = AdditiveSearch(entries, lengths)(x, rate=0.5)
    monkeypatch.setattr(linear, "TABLE_LIMIT", 1)
    monkeypatch.setattr(linear, "NUMBERS_AT_ONCE", 100)
    assert torch.equal(AdditiveSearch(entries, lengths)(x, rate=0.5), expected)


@pytest.mark.parametrize("error_weights", WEIGHTS)
def test_closing_slots_costs_least_and_keeps_the_limit(error_weights, problem) -> None:
    entries, lengths, x = problem
    search_ = AdditiveSearch(entries, lengths, error_weights)
    full = search_(x, width=64)
    limited = search_.close(x, full, 1, rate=0.4)
    assert ((limited != 3).sum(1) <= 1).all()
    assert ((limited == full) | (limited == 3)).all()
    two = search_.close(x, full, 2, rate=0.4)
    cost, every = costs(entries, lengths, x, 0.4, error_weights)
    for row in range(len(x)):
        if (full[row] != 3).sum() == 3:
            options = [full[row].clone() for _ in range(3)]
            for group, option in enumerate(options):
                option[group] = 3
            values = [cost[row][(every == option).all(1)] for option in options]
            own = cost[row][(every == two[row]).all(1)]
            assert own <= min(values) + 1e-5


@pytest.mark.parametrize("gates", ["learned", "open"])
def test_searched_codes_are_within_the_budget_and_better_than_the_mode(gates, generator) -> None:
    model = linear_model(gates=gates)
    with torch.no_grad():
        model.output_head.weight.mul_(3)
    x = torch.randn(100, 5, generator=generator)

    def length(codes):
        with torch.no_grad():
            return -model.data_distribution(codes).log_prob(x) - model.prior().log_prob(codes)

    codes = choose_codes(model, x)
    assert (codes.unflatten(-1, (4, 3)).sum(-1) <= 1).all()
    assert length(codes).mean() < length(choose_codes(model, x, "mode")).mean()
    assert (length(codes) <= length(choose_codes(model, x, "best")) + 1e-4).float().mean() > 0.9
    if gates == "learned":
        assert ((choose_codes(model, x, max_active=2) > 0).sum(-1) <= 2).all()


def test_the_search_follows_the_weights_of_the_model(generator) -> None:
    model = linear_model()
    x = torch.randn(50, 5, generator=generator)
    first = choose_codes(model, x)
    with torch.no_grad():
        model.output_head.weight.copy_(torch.randn(model.output_head.weight.shape))
    fresh = linear._new_search(model)(standard_residual(model, x), rate=2.0, width=16)
    again = quadratic_search(model)(standard_residual(model, x), rate=2.0, width=16)
    assert torch.equal(again, fresh)
    assert not torch.equal(choose_codes(model, x), first)


def test_a_row_that_overflows_has_no_code() -> None:
    x = torch.zeros(3, 5)
    x[1, 2] = torch.inf
    with pytest.raises(DataError, match="row 1"):
        choose_codes(linear_model(), x)
