"""The one training loop: it takes steps, calls what happens between them, and ends cleanly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from sdlgm.errors import TrainingError
from sdlgm.training.optimiser import Schedule, set_learning_rate
from sdlgm.training.signals import collected_signals

__all__ = ["Best", "Callback", "Interrupted", "LoopState", "Task", "run_loop"]


class Interrupted(TrainingError):  # noqa: N818 (not a fault)
    """Training was stopped by the user, between two steps."""


@dataclass
class Best:
    """The best evaluation so far."""

    value: float | None = None
    step: int = 0
    misses: int = 0
    """Number of evaluations since then."""
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class LoopState:
    """What the loop and its callbacks share."""

    last_step: int
    """Number of steps after which training ends."""
    step: int = 0
    """Number of steps taken."""
    best: Best = field(default_factory=Best)
    stopped: bool = False
    """Whether early stopping has ended the training."""
    interrupted: bool = False
    """Whether the user has asked to stop; the loop then ends after this step."""
    terms: Tensor = field(default_factory=lambda: torch.empty(0))
    """What the latest step returned, ``(t,)``, on the device."""
    seconds_before: float = 0.0
    """Wall time of earlier sessions of this training."""
    started: float = field(default_factory=time.monotonic)

    @property
    def at_last_step(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self.last_step

    @property
    def done(self) -> bool:
        """Whether training is complete: all steps are taken, or early stopping has ended it."""
        return self.stopped or self.at_last_step

    @property
    def seconds(self) -> float:
        """Wall time of all sessions."""
        return self.seconds_before + time.monotonic() - self.started


class Task(Protocol):
    """What the loop trains. A step is a function of its number, so that a training can resume."""

    optimizer: torch.optim.Optimizer
    schedule: Schedule

    def step(self, step: int) -> Tensor:
        """Take gradient step ``0, 1, ...``; return numbers to follow, ``(t,)``, on the device."""
        ...

    def check(self, start: int, terms: list[Tensor]) -> None:
        """Raise ``TrainingError`` if the terms of steps ``start, ...`` are not all finite."""
        ...


class Callback:
    """Something that happens between steps. A subclass overrides what it needs."""

    def receive(self, state: LoopState) -> None:
        """See, or replace, the new terms, before they are checked. Must not wait for the device."""

    def reads(self, state: LoopState) -> bool:
        """Return whether ``after_step`` will read numbers; the loop then checks them first."""
        return False

    def after_step(self, state: LoopState) -> None:
        """Act after a step."""

    def finish(self, state: LoopState) -> None:
        """Act at the end of a training that is complete."""


def run_loop(task: Task, state: LoopState, callbacks: Sequence[Callback] = ()) -> None:
    """Train from ``state.step`` to ``state.last_step``, or until a callback sets ``stopped``.

    Callbacks are called in their order. Terms stay on the device until a callback reads numbers or
    the last step is taken; then all new ones are checked at once.

    Raises
    ------
    TrainingError
        If a number is not finite (from ``task.check``).
    Interrupted
        After Ctrl-C or SIGTERM, once the current step is complete and callbacks were called.
    """
    unchecked: list[Tensor] = []
    with collected_signals() as signals:
        while not state.done:
            set_learning_rate(task.optimizer, task.schedule(state.step))
            state.terms = task.step(state.step).detach()
            state.step += 1
            state.interrupted = bool(signals)
            for callback in callbacks:
                callback.receive(state)
            unchecked.append(state.terms)
            if state.at_last_step or any(callback.reads(state) for callback in callbacks):
                task.check(state.step - len(unchecked), unchecked)
                unchecked.clear()
            for callback in callbacks:
                callback.after_step(state)
            if state.interrupted and not state.done:
                raise Interrupted(f"Stopped at step {state.step} of {state.last_step}.")
    for callback in callbacks:
        callback.finish(state)
