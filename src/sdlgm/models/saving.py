"""Save and load models: ``model.safetensors`` and ``config.json``, checked and free of pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdlgm.config import ModelConfig, from_dict, to_dict
from sdlgm.environment import neutral
from sdlgm.errors import ModelFileError
from sdlgm.migration import migrate_model, migrate_statistics
from sdlgm.models.sdlgm import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.storage import described_digest, read_described, read_description, write_described

__all__ = ["FORMAT_VERSION", "check_tensors", "load_model", "model_sha256", "save_model"]

FORMAT_VERSION = 2
"""Version of the format on disk. Older versions are migrated, newer ones refused."""


@neutral()
def save_model(folder: Path | str, model: SDLGM) -> str:
    """Write a model into a folder, each file atomically; return the hash of its content."""
    folder = Path(folder)
    sha = write_described(
        folder / "model.safetensors", folder / "config.json", model.state_dict(), _describe(model)
    )
    model.saved_as = (sha, sha)
    return sha


@neutral()
def load_model(folder: Path | str) -> SDLGM:
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
            hint = f"Its training is not finished: sdlgm resume {folder}"
        if (folder / "estimator.json").is_file():
            hint = "It holds an estimator: load it with sdlgm.load."
        raise ModelFileError(f"{folder} holds no finished model. {hint}")
    about = read_description(folder / "config.json", "sdlgm-model", FORMAT_VERSION)
    if about.get("class") != SDLGM.__name__:
        raise ModelFileError(f"{folder} holds a {about.get('class')!r}, not an SDLGM.")
    tensors, sha = read_described(folder / "model.safetensors", folder / "config.json", about)
    about = migrate_model(about)
    inputs, levels = about["n_inputs"], about["levels"]
    blank = DataStatistics(torch.full((inputs,), 0.5), torch.ones(inputs), levels)
    model = SDLGM(from_dict(ModelConfig, about["config"]), blank)
    migrate_statistics(tensors, model.state_dict())
    check_tensors(tensors, model.state_dict(), str(folder / "model.safetensors"))
    model.load_state_dict(tensors)
    model.saved_as = (sha, _content_sha256(model))
    return model.eval()


def model_sha256(model: SDLGM) -> str:
    """Return the hash that ties files of codes to a model.

    For a model that is unchanged since it was loaded or saved, this is the hash of its files, in
    whatever format they are, so that codes made by an older version stay decodable. For any other
    model it is the hash that :func:`save_model` would return now.
    """
    content = _content_sha256(model)
    of_files, content_then = model.saved_as or (content, content)
    return of_files if content == content_then else content


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


def _describe(model: SDLGM) -> dict[str, Any]:
    return {
        "format": "sdlgm-model",
        "format_version": FORMAT_VERSION,
        "class": type(model).__name__,
        "n_inputs": model.n_inputs,
        "levels": model.levels,
        "config": to_dict(model.config),
    }


def _content_sha256(model: SDLGM) -> str:
    return described_digest(model.state_dict(), _describe(model))
