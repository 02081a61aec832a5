"""One short loop that fits a network, whatever its loss; augmentation of images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdlgm.errors import TrainingError
from sdlgm.nn.convolutional import split_columns
from sdlgm.objectives.counts import CountDistribution
from sdlgm.random import generator
from sdlgm.training.order import Order

__all__ = ["Augmentation", "Schedule", "apply", "optimise", "train_counter"]

BLOCK = 500
"""Samples that are evaluated at a time."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training images that leave the counts as they are."""

    columns: int = 1
    """Parts of an image that are changed independently of each other."""
    shift: float = 0.0
    """Largest shift in pixels, in both directions."""
    rotation: float = 0.0
    """Largest rotation about the centre of a part, in degrees."""
    shuffle: bool = False
    """Put the parts into a random order."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change images ``(n, h, w)``; what is shifted in is 0."""
        parts = split_columns(images, self.columns)
        number, columns, height, width = parts.shape
        if self.shuffle:
            keys = torch.rand(number, columns, generator=generator)
            parts = parts[torch.arange(number)[:, None], keys.argsort(1)]
        if self.shift or self.rotation:
            noise = 2 * torch.rand(3, number * columns, generator=generator) - 1
            angle = noise[0] * math.radians(self.rotation)
            cos, sin = angle.cos(), angle.sin()
            # Grid coordinates go from -1 to 1 over either side, so that a rotation has to know
            # their ratio.
            down, right = (2 * self.shift * noise[1:].T / torch.tensor([height, width])).T
            across = torch.stack([cos, -sin * height / width, right], -1)
            along = torch.stack([sin * width / height, cos, down], -1)
            flat = parts.reshape(-1, 1, height, width)
            grid = F.affine_grid(torch.stack([across, along], 1), list(flat.shape), False)
            parts = F.grid_sample(flat, grid, align_corners=False).view(parts.shape)
        return parts.transpose(1, 2).reshape(images.shape)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network is trained."""

    epochs: int
    batch_size: int
    learning_rate: float
    """Highest rate of AdamW: it rises over the first 5 % of the steps and falls as a cosine."""
    weight_decay: float
    patience: int | None
    """Epochs without a better validation likelihood after which training ends."""
    seed: int


def train_counter(
    network: nn.Module,
    distribution: CountDistribution,
    inputs: Tensor,
    counts: Tensor,
    weights: Tensor,
    schedule: Schedule,
    *,
    augmentation: Augmentation | None = None,
    validation: tuple[Tensor, Tensor, Tensor] | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[dict[str, float]]:
    """Fit a network in place by maximum likelihood; return the mean loss of each epoch.

    Parameters
    ----------
    network
        Maps float32 inputs ``(b, ...)`` to outputs ``(b, *distribution.outputs)``.
    distribution
        The distribution of counts, whose likelihood is maximised.
    inputs, counts, weights
        Training samples ``(n, ...)``, counts ``(n, K)`` and weights ``(n,)`` of a mean of 1.
    schedule, augmentation
        How to train, and how to change images on the way.
    validation
        Samples, counts and weights on which the likelihood is followed; the network of the best
        epoch is kept.
    on_epoch
        Called with the number of epochs done and the last loss, for a progress display.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the step.
    """
    order = Order(len(inputs), schedule.batch_size, schedule.seed)

    def loss(step: int) -> Tensor:
        index = order.batch(step)
        x = inputs[index].to(torch.float32)
        if augmentation is not None:
            x = augmentation(x, generator(schedule.seed, "augmentation", step))
        return -(distribution.log_prob(network(x), counts[index].to(x)) * weights[index]).mean()

    def validate() -> float:
        held, truth, shares = validation  # type: ignore[misc]
        each = distribution.log_prob(apply(network, held), truth.float())
        return -float((each * shares).sum() / shares.sum())

    return optimise(
        network,
        loss,
        order.batches_per_epoch,
        schedule,
        validate=None if validation is None else validate,
        on_epoch=on_epoch,
    )


def optimise(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    batches_per_epoch: int,
    schedule: Schedule,
    *,
    validate: Callable[[], float] | None = None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[dict[str, float]]:
    """Fit a network in place by AdamW; return the mean loss of each epoch.

    Parameters
    ----------
    network
        What is fitted; in evaluation mode afterwards.
    loss
        Maps the step ``0, 1, ...`` to the loss of its batch, a scalar.
    batches_per_epoch, schedule
        How long and how fast.
    validate
        The loss of held-out samples, asked for after each epoch; the weights of the best are kept.
    on_epoch
        Called with the number of epochs done and the last loss, for a progress display.

    Raises
    ------
    TrainingError
        If the loss is not finite; the message names the step.
    """
    steps = schedule.epochs * batches_per_epoch
    adam = torch.optim.AdamW(
        network.parameters(),
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        fused=True,
    )
    history: list[dict[str, float]] = []
    best, best_weights, best_epoch = math.inf, None, 0
    for epoch in range(schedule.epochs):
        network.train()
        sum_of_losses = 0.0
        for step in range(epoch * batches_per_epoch, (epoch + 1) * batches_per_epoch):
            adam.param_groups[0]["lr"] = schedule.learning_rate * _rate(step, steps)
            value = loss(step)
            if not math.isfinite(value.item()):
                raise TrainingError(
                    f"The loss is {value.item()} at step {step}. Lower learning_rate (now "
                    f"{schedule.learning_rate:g}), or look for extreme values in X."
                )
            adam.zero_grad()
            value.backward()
            adam.step()
            sum_of_losses += value.item()
        line = {"epoch": epoch + 1, "loss": sum_of_losses / batches_per_epoch}
        history.append(line)
        if validate is not None:
            network.eval()
            line["validation_loss"] = validate()
            if line["validation_loss"] < best:
                best, best_epoch = line["validation_loss"], epoch
                best_weights = copy.deepcopy(network.state_dict())
        on_epoch(epoch + 1, line.get("validation_loss", line["loss"]))
        if schedule.patience is not None and epoch - best_epoch >= schedule.patience:
            break
    if best_weights is not None:
        network.load_state_dict(best_weights)
    network.eval()
    return history


@torch.no_grad()
def apply(network: nn.Module, inputs: Tensor) -> Tensor:
    """Outputs for all samples, block by block, in evaluation mode."""
    network.eval()
    return torch.cat([network(block.to(torch.float32)) for block in inputs.split(BLOCK)])


def _rate(step: int, steps: int) -> float:
    """Share of the highest rate at a step."""
    warm = max(1, round(0.05 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
