"""Checkpoints: everything that is not a function of the step, in one file without pickle.

Schedules, the order of the rows and random numbers are functions of the step. What remains is the
objective (the model and any control variate), the optimiser, and the best weights so far.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdlgm.errors import ModelFileError
from sdlgm.limits import is_integer, reading
from sdlgm.models.saving import check_finite, check_tensors
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
        If the file is missing or damaged, or belongs to other data or settings; or if a name,
        shape or type in it is not that of this training, or a number is not finite.
    """
    where = str(folder / FILE)
    tensors, note, _ = read_tensors(folder / FILE)
    if not isinstance(note, dict) or note.get("format_version") != FORMAT_VERSION:
        found = note.get("format_version") if isinstance(note, dict) else None
        raise ModelFileError(
            f"{where} has format version {str(found)[:40]}, not "
            f"{FORMAT_VERSION}. Finish this training with the version of sdlgm that started it."
        )
    if note.get("fingerprint") != fingerprint:
        raise ModelFileError(
            f"{where} was made with other data or settings. Restore them, or "
            "start a new run in another folder."
        )
    parts: dict[str, dict[str, Tensor]] = {"objective": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise ModelFileError(f"{where} is damaged: it holds a tensor {name[:80]!r}.")
        parts[part][rest] = tensor
    progress = _progress(note.get("progress"), state, where)
    expected = objective.state_dict()
    check_tensors(parts["objective"], expected, where)
    check_finite(parts["objective"], expected, where)
    if parts["best"]:
        of_model = {
            name.removeprefix("model."): tensor
            for name, tensor in expected.items()
            if name.startswith("model.")
        }
        check_tensors(parts["best"], of_model, where)
        check_finite(parts["best"], of_model, where)
    states = _optimizer_states(parts["optimizer"], optimizer, where)
    with reading(where):
        objective.load_state_dict(parts["objective"])
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    state.step, state.stopped = progress["step"], progress["stopped"]
    state.seconds_before = progress["seconds"]
    state.best = Best(
        progress["best_value"], progress["best_step"], progress["misses"], parts["best"]
    )


def _optimizer_states(
    tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, where: str
) -> dict[int, dict[str, Tensor]]:
    """Return the state of Adam for each parameter, after comparing it with the parameters.

    torch does not compare them, and its fused kernels read beyond the end of moments that are too
    short.
    """
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        if not (index.isascii() and index.isdecimal() and len(index) < 10):
            raise ModelFileError(f"{where} is damaged: it holds the tensor optimizer.{name[:80]}.")
        states.setdefault(int(index), {})[key] = tensor
    for number, found in states.items():
        if number >= len(parameters):
            raise ModelFileError(
                f"{where} does not fit its model: the optimiser has a state for parameter "
                f"{number}, but there are {len(parameters)}."
            )
        like = parameters[number].detach()
        expected = {
            f"optimizer.{number}.step": torch.zeros(()),
            f"optimizer.{number}.exp_avg": like,
            f"optimizer.{number}.exp_avg_sq": like,
        }
        named = {f"optimizer.{number}.{key}": tensor for key, tensor in found.items()}
        check_tensors(named, expected, where)
        check_finite(named, {}, where)
        if bool((found["step"] < 0) | (found["exp_avg_sq"] < 0).any()):
            raise ModelFileError(f"{where} is damaged: optimizer.{number} holds negative numbers.")
    return states


def _progress(found: Any, state: LoopState, where: str) -> Mapping[str, Any]:
    """Check how far the training is; return it."""
    good = isinstance(found, dict) and found.keys() == {
        "step", "best_value", "best_step", "misses", "stopped", "seconds"
    }  # fmt: skip
    if good:
        value, seconds = found["best_value"], found["seconds"]
        good = (
            is_integer(found["step"], 0, state.last_step)
            and is_integer(found["best_step"], 0, found["step"])
            and is_integer(found["misses"])
            and isinstance(found["stopped"], bool)
            and (value is None or (type(value) in (int, float) and math.isfinite(value)))
            and type(seconds) in (int, float)
            and 0 <= seconds < math.inf
        )
    if not good:
        raise ModelFileError(f"{where} is damaged: its progress is {str(found)[:200]}.")
    return found
