"""The order of the rows is a function of seed and step."""

from __future__ import annotations

import torch

from sdlgm.training.order import Order, WeightedOrder


def test_an_epoch_visits_rows_once() -> None:
    order = Order(10, 3, seed=1)
    visited = torch.cat([order.batch(step) for step in range(3)])
    assert len(visited.unique()) == 9
    second = torch.cat([order.batch(step) for step in range(3, 6)])
    assert not torch.equal(visited, second)


def test_a_batch_depends_only_on_seed_and_step() -> None:
    whole, fresh = Order(100, 8, seed=1), Order(100, 8, seed=1)
    for step in range(40):
        whole.batch(step)
    assert torch.equal(whole.batch(41), fresh.batch(41))
    assert not torch.equal(whole.batch(41), Order(100, 8, seed=2).batch(41))


def test_a_batch_is_at_most_all_rows() -> None:
    assert sorted(Order(3, 100, seed=0).batch(5).tolist()) == [0, 1, 2]


def weighted(weights: list[float], batch_size: int, seed: int = 0) -> WeightedOrder:
    return WeightedOrder(
        torch.tensor(weights, dtype=torch.float64),
        torch.arange(len(weights)).double(),
        batch_size,
        seed,
    )


def test_rows_are_visited_in_proportion_to_their_weights() -> None:
    weights = [0.0, 0.5, 3.0, 1.0, 0.0, 5.5]
    order = weighted(weights, 40)
    visits = torch.stack([order.batch(step).bincount(minlength=6) for step in range(500)])
    expected = 40 * torch.tensor(weights) / 10
    assert ((visits - expected).abs() < 2).all()
    assert (visits[:, torch.tensor(weights) == 0] == 0).all()
    # The number of copies above the integer part is random, with a deviation of at most 0.5.
    assert ((visits.double().mean(0) - expected).abs() < 5 * 0.5 / 500**0.5 + 1e-9).all()


def test_a_weight_of_two_equals_duplicating_the_row_in_any_order() -> None:
    once = weighted([1, 2, 1], 7)
    keys = torch.tensor([1.0, 2.0, 0.0, 1.0])  # the second row twice, and all in another order
    twice = WeightedOrder(torch.full((4,), 5.0, dtype=torch.float64), keys, 7, 0)
    row = torch.tensor([1, 2, 0, 1])
    for step in range(20):
        assert torch.equal(once.batch(step), row[twice.batch(step)])


def test_weighted_batches_are_a_function_of_the_step() -> None:
    whole = weighted([1.0] * 50, 8, seed=1)
    for step in range(10):
        whole.batch(step)
    assert torch.equal(whole.batch(11), weighted([1.0] * 50, 8, seed=1).batch(11))
    assert not torch.equal(whole.batch(11), weighted([1.0] * 50, 8, seed=2).batch(11))


def test_a_batch_may_be_larger_than_the_rows() -> None:
    assert weighted([1.0, 1.0], 6).batch(0).bincount().tolist() == [3, 3]
