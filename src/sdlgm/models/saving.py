"""A model on disk: ``model.safetensors`` and ``config.json``, checked and free of pickle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from sdlgm.config import ModelConfig, from_dict, to_dict
from sdlgm.errors import ModelFileError
from sdlgm.models.sdlgm import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.storage import read_described, read_description, write_described

__all__ = ["FORMAT_VERSION", "SavedModel", "check_tensors", "load_model", "save_model"]

FORMAT_VERSION = 1
"""Version of the format on disk; files of a newer one are refused."""


@dataclasses.dataclass(frozen=True)
class SavedModel:
    """A model from disk and the hash of its content."""

    model: SDLGM
    sha256: str


def save_model(folder: Path | str, model: SDLGM) -> str:
    """Write a model into a folder, each file atomically; return its hash."""
    description = {
        "format": "sdlgm-model",
        "format_version": FORMAT_VERSION,
        "class": type(model).__name__,
        "n_inputs": model.n_inputs,
        "levels": model.levels,
        "config": to_dict(model.config),
    }
    folder = Path(folder)
    return write_described(
        folder / "model.safetensors", folder / "config.json", model.state_dict(), description
    )


def load_model(folder: Path | str) -> SavedModel:
    """Read a model from a folder onto the CPU, in evaluation mode; nothing is executed.

    Raises
    ------
    ModelFileError
        If a file is missing, damaged, of a newer format, or does not hold what it should.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        hint = f"Train one: sdlgm fit DATA --out {folder}"
        if (folder / "checkpoint.safetensors").is_file():
            hint = f"Its training can go on: sdlgm resume {folder}"
        if (folder / "estimator.json").is_file():
            hint = "It holds an estimator: sdlgm.estimators.load."
        raise ModelFileError(f"{folder} holds no finished model. {hint}")
    described = read_description(folder / "config.json", "sdlgm-model", FORMAT_VERSION)
    if described.get("class") != SDLGM.__name__:
        raise ModelFileError(f"{folder} holds a {described.get('class')!r}, not an SDLGM.")
    tensors, sha = read_described(folder / "model.safetensors", folder / "config.json", described)
    inputs, levels = described["n_inputs"], described["levels"]
    blank = DataStatistics(torch.full((inputs,), 0.5), torch.ones(inputs), levels)
    model = SDLGM(from_dict(ModelConfig, described["config"]), blank)
    check_tensors(tensors, model.state_dict(), str(folder / "model.safetensors"))
    model.load_state_dict(tensors)
    return SavedModel(model.eval(), sha)


def check_tensors(found: dict[str, Tensor], expected: dict[str, Tensor], where: str) -> None:
    """Raise :class:`ModelFileError` unless names, shapes and types agree."""
    missing, extra = sorted(expected.keys() - found), sorted(found.keys() - expected)
    if missing or extra:
        raise ModelFileError(
            f"{where} does not fit its model: missing {missing or 'none'}, extra {extra or 'none'}."
        )
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise ModelFileError(
                f"{where}: {name} is {found[name].dtype} {tuple(found[name].shape)}, not "
                f"{tensor.dtype} {tuple(tensor.shape)}."
            )
