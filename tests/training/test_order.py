"""The order of rows is a function of seed and step."""

from __future__ import annotations

import torch

from sdlgm.training.order import Order


def test_an_epoch_visits_rows_once() -> None:
    order = Order(10, 3, seed=1)
    visited = torch.cat([order.batch(step) for step in range(3)])
    assert len(visited.unique()) == 9
    second = torch.cat([order.batch(step) for step in range(3, 6)])
    assert not torch.equal(visited, second)


def test_no_history_is_needed() -> None:
    whole, fresh = Order(100, 8, seed=1), Order(100, 8, seed=1)
    for step in range(40):
        whole.batch(step)
    assert torch.equal(whole.batch(41), fresh.batch(41))
    assert not torch.equal(whole.batch(41), Order(100, 8, seed=2).batch(41))


def test_fewer_rows_than_a_batch() -> None:
    assert sorted(Order(3, 100, seed=0).batch(5).tolist()) == [0, 1, 2]
