"""Checkpoints: all that is not a function of the step, in one file without pickle.

Schedule, warm-up, order of the rows and random numbers are functions of the step; what remains
is the objective (the model, and what its estimator learns), the optimiser, and the best weights so
far.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from sdlgm.errors import ModelFileError
from sdlgm.models.saving import check_tensors
from sdlgm.storage import read_tensors, write_tensors

__all__ = ["Progress", "load_checkpoint", "save_checkpoint"]

FORMAT_VERSION = 3
FILE = "checkpoint.safetensors"


@dataclass
class Progress:
    """How far a training has come."""

    step: int = 0
    """Number of gradient steps taken."""
    best_value: float | None = None
    """Best validation negative ELBO so far (nats)."""
    best_step: int = 0
    """Step of that evaluation."""
    misses: int = 0
    """Evaluations since."""
    stopped: bool = False
    """Whether early stopping has ended the training."""
    seconds: float = 0.0
    """Wall time spent so far."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights of the best evaluation (empty without early stopping)."""


def save_checkpoint(
    folder: Path,
    objective: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    fingerprint: str,
) -> None:
    """Write ``checkpoint.safetensors`` atomically. ``fingerprint`` ties it to data and settings."""
    tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in entries.items()}
    state = asdict(replace(progress, best={}))
    del state["best"]
    note = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint, "progress": state}
    write_tensors(folder / FILE, tensors, note)


def load_checkpoint(
    folder: Path,
    objective: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    fingerprint: str,
) -> Progress:
    """Restore what :func:`save_checkpoint` wrote.

    Raises
    ------
    ModelFileError
        If the file is missing or damaged, or is of other data or settings.
    """
    tensors, note, _ = read_tensors(folder / FILE)
    if note.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{folder / FILE} is of format version {note.get('format_version')}, not "
            f"{FORMAT_VERSION}: finish this training with the version of sdlgm that began it."
        )
    if note["fingerprint"] != fingerprint:
        raise ModelFileError(
            f"{folder / FILE} was made with other data or settings than these. Restore them, or "
            "start a new run in another folder."
        )
    parts: dict[str, dict[str, Tensor]] = {"objective": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    check_tensors(parts["objective"], objective.state_dict(), str(folder / FILE))
    objective.load_state_dict(parts["objective"])
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, key = name.partition(".")
        states.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return Progress(**note["progress"], best=parts["best"])
