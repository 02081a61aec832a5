"""Adam and its learning rate, for every training in this package."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import nn
from torch.optim import Adam, AdamW, Optimizer

__all__ = ["EpochSchedule", "Schedule", "adam_step", "make_adam", "set_learning_rate"]


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step.

    Examples
    --------
    >>> [Schedule(1.0, 4, "cosine", warmup=0.5)(step) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """

    highest: float
    """The highest rate."""
    steps: int
    """Number of steps of the whole training."""
    course: Literal["constant", "cosine"] = "cosine"
    """Whether the rate stays constant after the warm-up, or falls to 0 along a half cosine."""
    warmup: float = 0.0
    """Share of the steps over which the rate first rises linearly."""

    def __call__(self, step: float) -> float:
        """Return the rate of step ``0, 1, ...``, or between two."""
        warm = max(1, round(self.warmup * self.steps)) if self.warmup else 0
        if step < warm:
            return self.highest * ((step + 1) / warm)
        if self.course == "constant":
            return self.highest
        done = math.pi * (step - warm) / max(1, self.steps - warm)
        return self.highest * (0.5 * (1 + math.cos(done)))


@dataclass(frozen=True)
class EpochSchedule(Schedule):
    """The same for epochs of different numbers of steps, each of which goes as far as the first.

    Fewer steps have larger batches, whose mean gradients are more exact: their rate is multiplied
    by the root of the ratio of the numbers of steps.

    Examples
    --------
    >>> schedule = EpochSchedule.of(1.0, [4, 1], "cosine")
    >>> [round(schedule(step), 2) for step in range(5)]
    [1.0, 0.96, 0.85, 0.69, 1.0]
    """

    epochs: tuple[int, ...] = (1,)
    """Number of steps of each epoch."""

    @classmethod
    def of(
        cls,
        highest: float,
        epochs: Sequence[int],
        course: Literal["constant", "cosine"],
        warmup: float = 0.0,
    ) -> Self:
        """Return the schedule of epochs."""
        return cls(highest, epochs[0] * len(epochs), course, warmup, tuple(epochs))

    @cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(self.epochs))

    def __call__(self, step: float) -> float:
        """Return the rate of step ``0, 1, ...``."""
        epoch = bisect.bisect(self._ends, step)
        factor = self.epochs[0] / self.epochs[epoch]
        into = (step - self._ends[epoch] + self.epochs[epoch]) * factor
        return super().__call__(epoch * self.epochs[0] + into) * math.sqrt(factor)


def make_adam(
    module: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.0,
    *,
    l2: float = 0.0,
    decayed: Literal["all", "matrices"] = "all",
) -> Adam:
    """Return Adam for the parameters of a module, or AdamW if there is a weight decay.

    On a GPU the learning rate is a tensor there, so that a recorded step can read it.

    Parameters
    ----------
    module
        The module, on its final device.
    learning_rate, weight_decay
        The rate to start with and the decay, which is multiplied by the rate.
    l2
        If it is not 0, Adam adds the gradient of l2 / 2 times the squared parameters to that of the
        loss, and there is no decay.
    decayed
        Which parameters decay: all, or only those of two and more dimensions (not biases,
        normalisations and the prior).
    """
    parameters = list(module.parameters())
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    capturable = bool(parameters) and parameters[0].device.type == "cuda"
    rate = torch.tensor(learning_rate, device=parameters[0].device) if capturable else learning_rate
    options: dict[str, Any] = {"lr": rate, "fused": fused, "capturable": capturable}
    if l2 or not weight_decay:
        return Adam(parameters, weight_decay=l2, **options)
    if decayed == "all":
        return AdamW(parameters, weight_decay=weight_decay, **options)
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    rest = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return AdamW(groups, **options)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of all parameters."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def adam_step(optimizer: Optimizer) -> Callable[[], None]:
    """Return what takes a step of :func:`make_adam`: on the CPU without hooks and profiling.

    What torch does around a fused step takes half as long as the step of a small network.
    """
    on_cpu = all(
        p.device.type == "cpu" for group in optimizer.param_groups for p in group["params"]
    )
    name = "_fused_adamw_" if isinstance(optimizer, AdamW) else "_fused_adam_"
    if not on_cpu or not hasattr(torch, name):
        return optimizer.step

    @torch.no_grad()
    def step() -> None:
        for group in optimizer.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moved:
                continue
            states = [optimizer.state[parameter] for parameter in moved]
            if not all(states):
                optimizer.step()  # makes the states
                return
            counts = [state["step"] for state in states]
            for count in counts:
                count += 1
            getattr(torch, name)(
                moved,
                [parameter.grad for parameter in moved],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                counts,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )

    return step
