"""The state of a training, which the loop and its callbacks share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Best", "LoopState"]


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
