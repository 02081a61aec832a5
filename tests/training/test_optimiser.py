"""The learning rate of each step, and which parameters decay."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sdlgm.training.optimiser import (
    EpochSchedule,
    Schedule,
    adam_step,
    make_adam,
    set_learning_rate,
)


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


def test_epochs_of_equal_length_go_along_the_course_of_their_steps() -> None:
    epochs, steps = EpochSchedule.of(0.3, [5] * 4, "cosine", 0.1), Schedule(0.3, 20, warmup=0.1)
    assert [epochs(step) for step in range(20)] == [steps(step) for step in range(20)]


def test_epochs_of_fewer_steps_go_as_far_and_have_higher_rates() -> None:
    schedule, steps = EpochSchedule.of(0.3, [8, 2, 8], "cosine"), Schedule(0.3, 24)
    assert schedule(8) == pytest.approx(2 * steps(8))
    assert schedule(9) == pytest.approx(2 * steps(12))
    assert schedule(10) == pytest.approx(steps(16))


def test_a_step_without_hooks_equals_one_of_torch() -> None:
    def trained(direct: bool, l2: float) -> list[torch.Tensor]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        unused = torch.nn.Linear(2, 2)
        module = torch.nn.ModuleList([layer, unused])
        adam = make_adam(module, 0.1, 0.02, l2=l2)
        step = adam_step(adam) if direct else adam.step
        for _ in range(4):
            adam.zero_grad()
            layer(torch.ones(5, 3)).square().sum().backward()
            step()
        return [parameter.detach() for parameter in module.parameters()]

    for l2 in (0.0, 0.3):
        for found, wanted in zip(trained(True, l2), trained(False, l2), strict=True):
            assert torch.equal(found, wanted)
