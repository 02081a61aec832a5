"""Save and load models: ``model.safetensors`` and ``config.json``, checked and free of pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sdlgm.config import ModelConfig, from_dict, to_dict
from sdlgm.errors import ModelFileError
from sdlgm.limits import check, is_integer, reading
from sdlgm.migration import migrate_model
from sdlgm.models.sdlgm import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.storage import described_digest, read_described, read_description, write_described

__all__ = [
    "FORMAT_VERSION",
    "check_finite",
    "check_tensors",
    "load_model",
    "load_weights",
    "model_sha256",
    "save_model",
]

FORMAT_VERSION = 2
"""Version of the format on disk. Older versions are migrated, newer ones refused."""


def save_model(folder: Path | str, model: SDLGM) -> str:
    """Write a model into a folder, each file atomically; return the hash of its content."""
    folder = Path(folder)
    sha = write_described(
        folder / "model.safetensors", folder / "config.json", model.state_dict(), _describe(model)
    )
    model.saved_as = (sha, sha)
    return sha


def load_model(folder: Path | str) -> SDLGM:
    """Read a model from a folder onto the CPU, in evaluation mode; nothing is executed.

    Raises
    ------
    ModelFileError
        If a file is missing, damaged, of a newer format, or does not hold what it should; if a
        weight is not finite; or if a limit of :mod:`sdlgm.limits` is exceeded.
    ConfigError
        If a setting has a wrong type or is out of range.
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
    with reading(folder / "config.json"):
        about = migrate_model(about)
        config = from_dict(ModelConfig, about["config"])
        inputs, levels = about["n_inputs"], about["levels"]
        if not (is_integer(inputs, 1) and is_integer(levels, 2, 2**16)):
            raise ModelFileError(
                f"{folder / 'config.json'} is damaged: n_inputs = {inputs!r}, levels = {levels!r}."
            )
        check("inputs", inputs, f"n_inputs in {folder / 'config.json'}")

    def new() -> SDLGM:
        return SDLGM(config, DataStatistics(torch.full((inputs,), 0.5), torch.ones(inputs), levels))

    model = load_weights(new, tensors, str(folder / "model.safetensors"))
    model.saved_as = (sha, _content_sha256(model))
    return model.eval()


Network = TypeVar("Network", bound=nn.Module)


def load_weights(
    new: Callable[[], Network], tensors: Mapping[str, Tensor], where: str, prefix: str = ""
) -> Network:
    """Make a network and load its weights, after comparing names, shapes and types.

    The network is made twice: first on torch's meta device, which knows shapes and has no memory,
    so that settings that ask for a larger network than the file holds cost nothing.

    Parameters
    ----------
    new
        Makes the network.
    tensors
        What the file holds.
    where
        Name of the file for messages.
    prefix
        What precedes the network's names in the file.

    Raises
    ------
    ModelFileError
        If the tensors do not fit, or a weight is not finite.
    """
    with reading(f"The description of {where}"), torch.device("meta"):
        shapes = {prefix + name: tensor for name, tensor in new().state_dict().items()}
    check_tensors(tensors, shapes, where)
    network = new()
    expected = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    check_finite(tensors, expected, where)
    network.load_state_dict({name.removeprefix(prefix): tensors[name] for name in expected})
    return network


def model_sha256(model: SDLGM) -> str:
    """Return the hash that ties files of codes to a model.

    For a model that is unchanged since it was loaded or saved, this is the hash of its files, in
    whatever format they are, so that codes made by an older version stay decodable. For any other
    model it is the hash that :func:`save_model` would return now.
    """
    content = _content_sha256(model)
    of_files, content_then = model.saved_as or (content, content)
    return of_files if content == content_then else content


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise :class:`ModelFileError` unless names, shapes and types agree."""
    missing, extra = sorted(expected.keys() - found), sorted(found.keys() - expected)
    if missing or extra:
        raise ModelFileError(
            f"{where} does not fit its model: missing {_first(missing)}, extra {_first(extra)}."
        )
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise ModelFileError(
                f"{where}: {name} is {found[name].dtype} {tuple(found[name].shape)}, not "
                f"{tensor.dtype} {tuple(tensor.shape)}."
            )


def check_finite(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Raise :class:`ModelFileError` if a tensor holds NaN or infinity, unless a new one does too.

    The gates of a model whose gates are always open are infinite.
    """
    for name, tensor in found.items():
        if not tensor.is_floating_point():
            continue
        bad = ~torch.isfinite(tensor)
        if not bool(bad.any()):
            continue
        new = expected.get(name)
        if new is None or new.shape != tensor.shape or not torch.equal(tensor[bad], new[bad].cpu()):
            raise ModelFileError(
                f"{where}: {name} holds {int(bad.sum()):,} numbers that are not finite, the first "
                f"{float(tensor[bad][0])}. Restore it from a copy, or train again."
            )


def _first(names: list[str]) -> str:
    """List the first names."""
    shown = [name[:80] for name in names[:5]]
    return f"{shown}{' ...' if len(names) > 5 else ''}" if names else "none"


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
