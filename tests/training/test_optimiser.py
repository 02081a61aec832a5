"""The learning rate of each step, and which parameters decay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sdlgm.training.optimiser import Schedule, make_adam, set_learning_rate


def test_a_constant_rate_stays() -> None:
    assert [Schedule(0.3, 10, "constant")(step) for step in (0, 5, 10, 9999)] == [0.3] * 4


def test_a_cosine_falls_from_the_highest_rate_to_zero() -> None:
    schedule = Schedule(0.2, 100)
    assert schedule(0) == 0.2
    assert schedule(50) == pytest.approx(0.1)
    assert 0 < schedule(99) < 1e-4
    assert schedule(30) == 0.2 * 0.5 * (1 + math.cos(math.pi * 30 / 100))


def test_a_warm_up_rises_linearly_before_the_course_begins() -> None:
    schedule = Schedule(0.2, 100, warmup=0.05)
    assert [schedule(step) for step in range(6)] == pytest.approx(
        [0.04, 0.08, 0.12, 0.16, 0.2, 0.2]
    )
    assert schedule(5 + 95 // 2) == pytest.approx(0.1, rel=0.02)
    assert Schedule(1.0, 100, "constant", warmup=0.1)(50) == 1.0


def test_a_warm_up_of_a_short_training_takes_one_step() -> None:
    assert [Schedule(0.5, 2, warmup=0.05)(step) for step in range(2)] == [0.5, 0.5]
    assert Schedule(0.5, 1, warmup=0.05)(0) == 0.5


def test_the_rate_is_set_for_all_parameters() -> None:
    adam = make_adam(nn.Linear(3, 2), 0.1, 0.5, decayed="matrices")
    set_learning_rate(adam, 0.01)
    assert [group["lr"] for group in adam.param_groups] == [0.01, 0.01]


def test_only_what_should_decay_does() -> None:
    layer = nn.Linear(3, 2)
    assert type(make_adam(layer, 0.1)) is torch.optim.Adam
    whole = make_adam(layer, 0.1, 0.5)
    assert [group["weight_decay"] for group in whole.param_groups] == [0.5]
    parts = make_adam(layer, 0.1, 0.5, decayed="matrices")
    assert [(group["params"], group["weight_decay"]) for group in parts.param_groups] == [
        ([layer.weight], 0.5),
        ([layer.bias], 0.0),
    ]
