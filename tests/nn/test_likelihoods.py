"""Likelihoods normalise, start at the data's mean, and refuse data that they cannot explain."""

from __future__ import annotations

import pytest
import torch

from sdlgm.data import Rows
from sdlgm.errors import ConfigError, DataError
from sdlgm.nn import check_data, data_statistics, likelihood, rows_at_once

DATA = {
    "bernoulli": torch.tensor([[0.0, 1, 1], [0, 1, 0], [1, 1, 0], [0, 1, 0]]),
    "gaussian": torch.tensor([[10.0, -3, 0.1], [12, -1, 0.2], [11, -2, 0.7], [10, -5, 0.4]]),
    "poisson": torch.tensor([[0.0, 3, 12], [1, 4, 9], [0, 5, 11], [2, 1, 15]]),
    "categorical": torch.tensor([[0.0, 3, 2], [1, 3, 3], [0, 2, 3], [2, 1, 3]]),
}


@pytest.mark.parametrize("name", DATA)
def test_decoders_start_at_the_mean_of_the_data(name: str) -> None:
    x = DATA[name]
    statistics = data_statistics(x)
    start = likelihood(name, statistics)
    p = start(start.initial_bias(statistics))
    assert p.event_shape == (3,)
    atol = 0.35 if name == "categorical" else 2e-3
    torch.testing.assert_close(p.mean, x.mean(0), atol=atol, rtol=1e-3)
    assert p.log_prob(x).shape == (4,)
    assert p.log_prob(x).isfinite().all()


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "categorical"])
def test_discrete_likelihoods_normalise(name: str, generator: torch.Generator) -> None:
    statistics = data_statistics(DATA[name])
    part = likelihood(name, statistics)
    p = part(torch.randn(part.n_outputs, generator=generator))
    last = {"bernoulli": 1, "poisson": 40, "categorical": statistics.levels - 1}[name]
    levels = torch.arange(last + 1.0)
    grid = levels.unsqueeze(-1).expand(-1, 3)
    per_dimension = p.base_dist.log_prob(grid).exp().sum(0)
    torch.testing.assert_close(per_dimension, torch.ones(3), atol=1e-4, rtol=0)


def test_bits_have_the_log_probability_and_gradient_of_torch(generator: torch.Generator) -> None:
    x = DATA["bernoulli"]
    raw = torch.randn(2, 4, 3, generator=generator, requires_grad=True)  # two codes a sample
    p = likelihood("bernoulli", data_statistics(x))(raw)
    plain = torch.distributions.Bernoulli(logits=raw).log_prob(x.expand(2, 4, 3)).sum(-1)
    assert torch.equal(p.log_prob(x), plain)
    weights = torch.randn(2, 4, generator=generator)
    gradients = [torch.autograd.grad(v, raw, weights) for v in (p.log_prob(x), plain)]
    torch.testing.assert_close(*gradients)


def test_rescaled_data_change_only_the_density(generator: torch.Generator) -> None:
    x = DATA["gaussian"]
    raw = torch.randn(4, 3, generator=generator)
    one = likelihood("gaussian", data_statistics(x))
    thousand = likelihood("gaussian", data_statistics(1000 * x))
    shift = 3 * torch.tensor(1000.0).log()
    torch.testing.assert_close(
        thousand(raw).log_prob(1000 * x) + shift, one(raw).log_prob(x), rtol=1e-3, atol=1e-3
    )


def test_statistics_match_and_constant_columns_have_scale_one() -> None:
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    statistics = data_statistics(x, block=1)
    assert statistics.mean.tolist() == [2, 5]
    assert statistics.scale.tolist() == [1, 1]
    assert data_statistics(torch.tensor([[0], [200]], dtype=torch.uint8)).levels == 201


def test_weighted_statistics_equal_those_of_repeated_rows(generator: torch.Generator) -> None:
    x = torch.randn(9, 3, generator=generator)
    x[4] = 99  # has weight 0, so it is ignored
    weights = torch.tensor([1, 2, 0, 3, 0, 1, 1, 5, 2])
    found = data_statistics(x, block=4, weights=weights)
    expected = x.double().repeat_interleave(weights, 0)
    torch.testing.assert_close(found.mean, expected.mean(0))
    torch.testing.assert_close(found.scale, expected.std(0, correction=0), rtol=1e-9, atol=0)
    assert found.levels == int(expected.max().clamp_min(1)) + 1
    halved = data_statistics(x, weights=weights / 2)
    torch.testing.assert_close(halved, found)


def test_wide_rows_are_read_a_few_at_a_time() -> None:
    assert rows_at_once(10**9) == 1
    assert rows_at_once(5_000) * 5_000 <= 2**21 < (rows_at_once(5_000) + 1) * 5_000


@pytest.mark.parametrize("name", DATA)
def test_draws_follow_the_distribution(name: str, generator: torch.Generator) -> None:
    statistics = data_statistics(DATA[name])
    part = likelihood(name, statistics)
    raw = torch.randn(2, part.n_outputs, generator=generator)
    p = part(raw)
    many = raw.expand(8_000, -1, -1)
    drawn = part.sample(many.reshape(16_000, -1), generator).view(8_000, 2, 3)
    assert part.check(Rows(drawn.flatten(1)).summary) is None
    error = (drawn.mean(0) - p.mean) / (drawn.var(0) / 8_000 + 1e-12).sqrt()
    assert error.abs().max() < 5
    if name != "categorical":  # which has no variance in torch
        torch.testing.assert_close(drawn.var(0), p.variance, rtol=0.15, atol=0.01)
    first, again = (part.sample(raw, torch.Generator().manual_seed(1)) for _ in "ab")
    assert first.shape == (2, 3)
    assert torch.equal(first, again)
    # Two seeds differ somewhere in many rows.
    one, two = (part.sample(many[:, 0], torch.Generator().manual_seed(s)) for s in (1, 2))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("name", ["poisson", "categorical", "gaussian"])
def test_bytes_are_accepted(name: str) -> None:
    check_data(name, Rows(torch.tensor([[0, 255]], dtype=torch.uint8)))


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("bernoulli", [[0.5]], "binarisation"),
        ("bernoulli", [[2.0]], "0 and 1"),
        ("poisson", [[-1.0]], "non-negative integers"),
        ("poisson", [[1.5]], "non-negative integers"),
        ("categorical", [[70_000.0]], "65,535"),
    ],
)
def test_bad_data_are_refused(name: str, bad: list[list[float]], message: str) -> None:
    with pytest.raises(DataError, match=f"the data \\(values from .*{message}"):
        check_data(name, Rows(torch.tensor(bad)))


def test_an_unknown_likelihood_is_refused() -> None:
    with pytest.raises(ConfigError, match="'cauchy'; there are: bernoulli"):
        likelihood("cauchy", data_statistics(torch.ones(2, 2)))
