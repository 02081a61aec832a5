"""Checkpoints: everything that is not a function of the step, in one file without pickle.

Schedules, the order of the rows and random numbers are functions of the step. What remains is the
objective (the model and any control variate), the optimiser, and the best weights so far.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sdlgm.errors import ModelFileError
from sdlgm.models.saving import check_tensors
from sdlgm.storage import read_tensors, write_tensors
from sdlgm.training.state import Best, LoopState

__all__ = ["load_checkpoint", "save_checkpoint"]

FORMAT_VERSION = 3
FILE = "checkpoint.safetensors"


def save_checkpoint(
    folder: Path,
    objective: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: LoopState,
    fingerprint: str,
) -> None:
    """Write ``checkpoint.safetensors`` atomically.

    ``fingerprint`` is a digest of data and settings, by which loading knows that both fit.
    """
    tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.weights.items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in entries.items()}
    progress = {
        "step": state.step,
        "best_value": state.best.value,
        "best_step": state.best.step,
        "misses": state.best.misses,
        "stopped": state.stopped,
        "seconds": state.seconds,
    }
    note = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint, "progress": progress}
    write_tensors(folder / FILE, tensors, note)


def load_checkpoint(
    folder: Path,
    objective: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: LoopState,
    fingerprint: str,
) -> None:
    """Restore in place what :func:`save_checkpoint` wrote.

    Raises
    ------
    ModelFileError
        If the file is missing or damaged, or belongs to other data or settings.
    """
    tensors, note, _ = read_tensors(folder / FILE)
    if note.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{folder / FILE} has format version {note.get('format_version')}, not "
            f"{FORMAT_VERSION}. Finish this training with the version of sdlgm that started it."
        )
    if note["fingerprint"] != fingerprint:
        raise ModelFileError(
            f"{folder / FILE} was made with other data or settings. Restore them, or "
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
    progress = note["progress"]
    state.step, state.stopped = progress["step"], progress["stopped"]
    state.seconds_before = progress["seconds"]
    state.best = Best(
        progress["best_value"], progress["best_step"], progress["misses"], parts["best"]
    )
