"""Training of networks of counts and labels by the epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sdlgm.errors import TrainingError
from sdlgm.estimators.augmentation import Augmentation
from sdlgm.estimators.interruption import as_keyboard_interrupt
from sdlgm.estimators.unit_adam import UnitAdam
from sdlgm.objectives.counts import CountDistribution
from sdlgm.random import generator
from sdlgm.training.callbacks import (
    CheckEveryStep,
    Display,
    LogLines,
    Validation,
    describe_not_finite,
)
from sdlgm.training.loop import Callback, run_loop
from sdlgm.training.optimiser import EpochSchedule, Schedule, adam_step, make_adam
from sdlgm.training.order import Order
from sdlgm.training.state import LoopState

__all__ = ["TrainingSettings", "apply", "optimise", "train_counter"]

BLOCK = 500
"""Samples that are evaluated at a time."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained."""

    epochs: int
    batch_size: int
    learning_rate: float
    """Highest rate of AdamW: it rises over the first 5 % of the steps."""
    weight_decay: float
    patience: int | None
    """Stop after this many epochs without a better validation loss."""
    seed: int
    course: Literal["constant", "cosine"] = "cosine"
    """Whether the rate falls along a half cosine, or stays, so that the training can continue."""
    l2: float = 0.0
    """Adam adds the gradient of this times half the squared parameters, instead of the decay."""
    by_unit: bool = False
    """Whether the first layer is trained by :mod:`~sdlgm.estimators.unit_adam`, with the decay."""


class NetworkTask:
    """Gradient steps of a network, for :func:`~sdlgm.training.loop.run_loop`.

    Parameters
    ----------
    network
        The network to fit.
    loss
        Maps the step ``0, 1, ...`` to the loss of its batch, a scalar. If it has no graph, the
        gradients are set already.
    epochs, settings
        Number of steps of each epoch, and how to take them.
    state
        The state of the optimiser of a training that this one continues.
    first
        What trains the weights of the first layer, if it is not AdamW.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[int], Tensor],
        epochs: Sequence[int],
        settings: TrainingSettings,
        state: dict[str, Any] | None = None,
        first: UnitAdam | None = None,
    ) -> None:
        self.loss, rate = loss, settings.learning_rate
        # A training that continues another has no second warm-up.
        warmup = 0.0 if state else 0.05
        self.schedule: Schedule = EpochSchedule.of(rate, epochs, settings.course, warmup)
        self.optimizer: torch.optim.Optimizer = make_adam(
            network, rate, settings.weight_decay, l2=settings.l2
        )
        if state:
            self.optimizer.load_state_dict(state)
        self._adam_step = adam_step(self.optimizer)
        self.first = first
        if first is not None:
            first.start(self.optimizer, settings.weight_decay)

    def step(self, step: int) -> Tensor:
        """Take gradient step ``0, 1, ...``; return the loss, ``(1,)``."""
        loss = self.loss(step)
        if loss.requires_grad:
            self.optimizer.zero_grad()
            loss.backward()
        if self.first is not None:
            self.first.step(self.schedule(step))
        self._adam_step()
        return loss.view(1)

    def check(self, start: int, terms: list[Tensor]) -> None:
        """Raise ``TrainingError`` if a loss is not finite."""
        what = describe_not_finite(("loss",), start, terms)
        if what is not None:
            raise TrainingError(
                f"{what} Lower learning_rate (now {self.schedule.highest:g}), or look for extreme "
                "values in X."
            )


def train_counter(
    network: nn.Module,
    distribution: CountDistribution,
    inputs: Tensor,
    counts: Tensor,
    weights: Tensor,
    settings: TrainingSettings,
    *,
    augmentation: Augmentation | None = None,
    validation: tuple[Tensor, Tensor, Tensor] | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[dict[str, float]]:
    """Fit a network in place by maximum likelihood; return the mean loss of each epoch.

    Parameters
    ----------
    network
        Maps float inputs ``(b, ...)``, which it scales, to outputs ``(b, *distribution.outputs)``.
    distribution
        The distribution of counts, whose likelihood is maximised.
    inputs, counts, weights
        Training samples ``(n, ...)``, counts ``(n, K)`` and weights ``(n,)`` of a mean of 1, on any
        device.
    settings, augmentation
        How to train, and how to change images before each step.
    validation
        Samples, counts and weights on which to evaluate the likelihood after each epoch; the best
        weights are kept.
    on_epoch
        Called with the number of epochs done and the latest loss, for a progress display.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the step.
    KeyboardInterrupt
        After Ctrl-C, once the current step is complete.
    """
    order = Order(len(inputs), settings.batch_size, settings.seed)
    device = next(network.parameters()).device
    inputs, counts, weights = (part.to(device) for part in (inputs, counts, weights))

    def loss(step: int) -> Tensor:
        index = order.batch(step).to(device)
        x = _floats(inputs[index])
        if augmentation is not None:
            x = augmentation(x, generator(settings.seed, "augmentation", step))
        return -(distribution.log_prob(network(x), counts[index].float()) * weights[index]).mean()

    def validate() -> float:
        held, truth, shares = (part.to(device) for part in validation or ())
        each = distribution.log_prob(apply(network, held), truth.float())
        return -float((each * shares).sum() / shares.sum())

    return optimise(
        network,
        loss,
        [order.batches_per_epoch] * settings.epochs,
        settings,
        validate=None if validation is None else validate,
        on_epoch=on_epoch,
    )


def optimise(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    epochs: Sequence[int],
    settings: TrainingSettings,
    *,
    validate: Callable[[], float] | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
    on_step: Callable[[int], None] = lambda step: None,
    optimiser_state: dict[str, Any] | None = None,
    first: UnitAdam | None = None,
) -> list[dict[str, float]]:
    """Fit a network in place by AdamW; return the mean loss of each epoch.

    Parameters
    ----------
    network
        The network to fit, in evaluation mode afterwards.
    loss
        Maps the step ``0, 1, ...`` to the loss of its batch, a scalar. If it has no graph, the
        gradients are set already.
    epochs
        Number of steps of each epoch. If they become fewer, because batches grow, the rate grows
        by the root of the factor.
    settings
        How fast to train.
    validate
        Returns the loss of held-out samples, after each epoch; the best weights are kept.
    on_epoch
        Called with the number of epochs done and the latest loss, for a progress display.
    on_step
        Called with the number of steps done.
    optimiser_state
        With a constant rate: the state of the optimiser before, which is replaced by that after the
        training; empty at first.
    first
        What trains the weights of the first layer, if it is not AdamW; they are brought up to date
        before ``validate``, and at the end.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the step.
    KeyboardInterrupt
        After Ctrl-C, once the current step is complete.
    """
    history: list[dict[str, float]] = []

    def line(losses: list[Tensor], state: LoopState) -> dict[str, float]:
        total = 0.0
        for value in losses:
            total += value.item()
        return {"epoch": len(history) + 1, "loss": total / len(losses)}

    def report(state: LoopState, value: float) -> None:
        history[-1]["validation_loss"] = value

    def show(step: int, _: dict[str, float]) -> None:
        on_step(step)
        if step in ends:
            last = history[-1]
            on_epoch(len(history), last.get("validation_loss", last["loss"]))

    ends = frozenset(itertools.accumulate(epochs))
    callbacks: list[Callback] = [
        CheckEveryStep(),
        LogLines(history.append, line, every=ends),
    ]
    if first is not None and validate is not None:
        callbacks.append(Display(lambda step, _: first.catch_up() if step in ends else None))
    if validate is not None:
        patience = settings.patience
        callbacks.append(Validation(network, validate, report, every=ends, patience=patience))
    callbacks.append(Display(show))
    network.train()
    with as_keyboard_interrupt():
        continues = settings.course == "constant" and optimiser_state is not None
        before = optimiser_state if continues else None
        task = NetworkTask(network, loss, epochs, settings, before, first)
        run_loop(task, LoopState(sum(epochs)), callbacks)
        if first is not None:
            first.finish()
    network.eval()
    if optimiser_state is not None:
        optimiser_state.clear()
        optimiser_state.update(task.optimizer.state_dict() if continues else {})
    return history


@torch.no_grad()
def apply(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs for all samples, block by block, in evaluation mode.

    They are on the network's device, wherever the samples are.
    """
    network.eval()
    device = next(network.parameters()).device
    return torch.cat([network(_floats(block.to(device))) for block in inputs.split(BLOCK)])


def _floats(values: Tensor) -> Tensor:
    """Return bytes as float32; the network scales other numbers in their own precision."""
    return values.to(torch.float32) if values.dtype == torch.uint8 else values
