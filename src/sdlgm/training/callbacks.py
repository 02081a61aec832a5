"""What happens between the steps of a training; see :class:`~sdlgm.training.loop.Callback`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sdlgm.training.loop import Callback
from sdlgm.training.state import Best, LoopState

if TYPE_CHECKING:
    from sdlgm.training.processes import Group

__all__ = [
    "Agreement",
    "CheckEveryStep",
    "Checkpoints",
    "Display",
    "LogLines",
    "Validation",
    "describe_not_finite",
]


class Agreement(Callback):
    """Gives all processes of a group the same terms, and lets them stop at the same step."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def receive(self, state: LoopState) -> None:
        """Replace the terms by the means of the whole batch; one interruption counts for all."""
        own = torch.cat([state.terms.cpu(), torch.tensor([1.0 * state.interrupted])])
        total = self.group.sum(own)
        state.terms, state.interrupted = total[:-1] / self.group.size, bool(total[-1] > 0)


class CheckEveryStep(Callback):
    """Lets the loop check the terms of each step at once; on a CPU this costs nothing."""

    def reads(self, state: LoopState) -> bool:
        """Return true."""
        return True


class LogLines(Callback):
    """Writes a line about the steps since the one before.

    Parameters
    ----------
    write
        Takes a line.
    line
        Makes it from the terms of these steps.
    every
        Number of steps between two lines, or the steps after which there is one; there is one
        after the last step, too. ``None``: that one alone.
    """

    def __init__(
        self,
        write: Callable[[dict[str, Any]], None],
        line: Callable[[list[Tensor], LoopState], dict[str, Any]],
        *,
        every: int | Collection[int] | None,
    ) -> None:
        self.write, self.line, self.every = write, line, every
        self._terms: list[Tensor] = []

    def reads(self, state: LoopState) -> bool:
        """Return whether a line is due."""
        return _due(state, self.every)

    def after_step(self, state: LoopState) -> None:
        """Collect the terms, and write a line if one is due."""
        self._terms.append(state.terms)
        if self.reads(state):
            self.write(self.line(self._terms, state))
            self._terms = []


class Validation(Callback):
    """Evaluates the model on held-out data; keeps the best weights; stops early.

    Parameters
    ----------
    model
        The model, in evaluation mode during an evaluation.
    evaluate
        Returns the loss of the held-out data.
    report
        Takes each value.
    every
        Number of steps between two evaluations, or the steps after which there is one; there is
        one after the last step, too.
    keep_best
        Whether the weights of the best evaluation are those that the model ends with.
    patience
        Stop after this many evaluations without a better one. Needs ``keep_best``.
    """

    def __init__(
        self,
        model: nn.Module,
        evaluate: Callable[[], float],
        report: Callable[[LoopState, float], None],
        *,
        every: int | Collection[int],
        keep_best: bool = True,
        patience: int | None = None,
    ) -> None:
        self.model, self.evaluate, self.report = model, evaluate, report
        self.every, self.keep_best, self.patience = every, keep_best, patience

    def reads(self, state: LoopState) -> bool:
        """Return whether an evaluation is due."""
        return _due(state, self.every)

    def after_step(self, state: LoopState) -> None:
        """Evaluate if it is due; compare with the best."""
        if not self.reads(state):
            return
        self.model.eval()
        value = self.evaluate()
        self.model.train()
        self.report(state, value)
        if self.keep_best:
            self._compare(state, value)

    def finish(self, state: LoopState) -> None:
        """Restore the best weights."""
        if state.best.weights:
            self.model.load_state_dict(state.best.weights)

    def _compare(self, state: LoopState, value: float) -> None:
        if value < (math.inf if state.best.value is None else state.best.value):
            weights = {n: t.detach().cpu().clone() for n, t in self.model.state_dict().items()}
            state.best = Best(value, state.step, 0, weights)
        else:
            state.best.misses += 1
        state.stopped = self.patience is not None and state.best.misses >= self.patience


class Checkpoints(Callback):
    """Saves the training every so often, when it is interrupted and when it is complete."""

    def __init__(self, save: Callable[[LoopState], None], *, every: int) -> None:
        self.save, self.every = save, every

    def reads(self, state: LoopState) -> bool:
        """Return whether a checkpoint is due, or this is the last step before an interruption."""
        return state.interrupted or _due(state, self.every)

    def after_step(self, state: LoopState) -> None:
        """Save if it is due. Early stopping is known only now."""
        if state.stopped or self.reads(state):
            self.save(state)


class Display(Callback):
    """Shows how far the training is.

    Parameters
    ----------
    show
        Takes the number of units done and numbers to show.
    numbers
        Returns these numbers.
    every, start
        Number of steps in a unit, and of steps that were taken before the first.
    """

    def __init__(
        self,
        show: Callable[[int, dict[str, float]], None],
        numbers: Callable[[], Mapping[str, float]] = dict,
        *,
        every: int = 1,
        start: int = 0,
    ) -> None:
        self.show, self.numbers, self.every, self.start = show, numbers, every, start

    def after_step(self, state: LoopState) -> None:
        """Show the state after each unit."""
        units, rest = divmod(state.step - self.start, self.every)
        if not rest:
            self.show(units, dict(self.numbers()))


def describe_not_finite(names: tuple[str, ...], start: int, terms: list[Tensor]) -> str | None:
    """Return which term of which step is the first that is not finite, if there is one.

    Parameters
    ----------
    names
        Names of the terms.
    start, terms
        Number of steps taken before, and the terms of each step since then.
    """
    values = torch.stack(terms)
    if math.isfinite(values.sum().item()):
        return None
    bad = ~torch.isfinite(values)
    if not bool(bad.any()):
        return None
    row, column = (int(i) for i in bad.nonzero()[0])
    return f"The {names[column]} is {float(terms[row][column])} at step {start + row + 1}."


def _due(state: LoopState, every: int | Collection[int] | None) -> bool:
    if state.at_last_step or every is None:
        return state.at_last_step
    return state.step % every == 0 if isinstance(every, int) else state.step in every
