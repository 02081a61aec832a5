"""The one training loop: it takes steps, calls what happens between them, and ends cleanly."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from sdlgm.errors import TrainingError
from sdlgm.interrupts import handling
from sdlgm.training.optimiser import Schedule, set_learning_rate
from sdlgm.training.state import LoopState

__all__ = ["Callback", "Interrupted", "Task", "run_loop"]


class Interrupted(TrainingError):  # noqa: N818 (not a fault)
    """Training was stopped by the user, between two steps."""


class Task(Protocol):
    """What the loop trains. A step is a function of its number, so that a training can resume."""

    optimizer: torch.optim.Optimizer
    schedule: Schedule

    def step(self, step: int) -> Tensor:
        """Take gradient step ``0, 1, ...``; return a new tensor of numbers to follow, ``(t,)``.

        It may stay on the device, for the loop does not read it.
        """
        ...

    def check(self, start: int, terms: list[Tensor]) -> None:
        """Raise ``TrainingError`` if the terms of steps ``start, ...`` are not all finite."""
        ...


class Callback:
    """Something that happens between steps. A subclass overrides what it needs."""

    def receive(self, state: LoopState) -> None:
        """See, or replace, the terms of a step before they are checked."""

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
    with _collected_signals() as signals:
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


@contextmanager
def _collected_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that no step is cut short; a second one interrupts at once."""
    seen: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    with handling(handle, signal.SIGINT, signal.SIGTERM):
        yield seen
