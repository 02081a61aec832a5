"""Save and load models: ``model.safetensors`` and ``config.json``, checked and free of pickle."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sdlgm.config import ModelConfig, from_dict, to_dict
from sdlgm.environment import neutral, shapes_only
from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.folders import MODEL, holds_estimator, holds_model
from sdlgm.limits import check, is_integer, reading
from sdlgm.migration import migrate_model, migrate_statistics
from sdlgm.models.sdlgm import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.outputs import atomic_folder, named
from sdlgm.storage import (
    described_digest,
    read_described,
    read_description,
    read_json,
    write_described,
)

__all__ = [
    "FILES",
    "FORMAT_VERSION",
    "check_finite",
    "check_replaceable",
    "check_savable",
    "check_tensors",
    "load_model",
    "load_weights",
    "model_sha256",
    "save_model",
    "write_model",
]

FORMAT_VERSION = 2
"""Version of the format on disk. Older versions are migrated, newer ones refused."""
FILES = ("model.safetensors", MODEL)
"""Names of the files of a model."""


@neutral()
def save_model(folder: Path | str, model: SDLGM) -> str:
    """Write a model into a folder, all files at one stroke; return the hash of its content.

    See :func:`~sdlgm.outputs.atomic_folder` for folders that hold other files.

    Raises
    ------
    ModelFileError
        If the model could not be loaded: it is of a subclass, or has a network of one's own.
    ConfigError
        If the folder holds a file of that name that is not of sdlgm.
    OutputError
        If a file cannot be written.
    """
    folder = Path(named(folder, "The folder"))
    check_savable(model)
    check_replaceable(folder, FILES)
    with atomic_folder(folder, FILES) as staged:
        return write_model(staged, model)


def write_model(folder: Path, model: SDLGM) -> str:
    """Write the files of a checked model into a folder one by one; return the hash."""
    weights, description = (folder / name for name in FILES)
    sha = write_described(weights, description, model.state_dict(), _describe(model))
    model.saved_as = (sha, sha)
    return sha


def check_savable(model: SDLGM) -> None:
    """Raise :class:`ModelFileError` if a model has parts that its settings do not describe.

    Loading builds a model from its settings, so that no code is read from a file.
    """
    if type(model) is not SDLGM:
        raise ModelFileError(
            f"A {type(model).__name__} cannot be saved: only an SDLGM can be loaded, because no "
            f"code is read from files. {_BY_HAND}"
        )
    inputs = model.n_inputs
    blank = DataStatistics(torch.full((inputs,), 0.5), torch.ones(inputs), model.levels)
    expected = _parts(SDLGM(model.config, blank))
    found = _parts(model)
    changed = sorted(name for name in found | expected if found.get(name) != expected.get(name))
    if changed:
        raise ModelFileError(
            f"The model cannot be saved: its {changed[0] or 'class'} is not the one that its "
            f"settings describe, and no code is read from files. {_BY_HAND}"
        )


_BY_HAND = (
    "Save its weights with safetensors.torch.save_model, and load them into a model that your own "
    "program builds."
)


def _parts(model: SDLGM) -> dict[str, str]:
    """Return the class and settings of each module, and the shape of each tensor, by name."""
    modules = {
        name: f"{type(module).__module__}.{type(module).__qualname__}({module.extra_repr()})"
        for name, module in model.named_modules()
    }
    tensors = {
        name: f"{tensor.dtype} {tuple(tensor.shape)}" for name, tensor in model.state_dict().items()
    }
    return modules | tensors


def check_replaceable(folder: Path, names: Iterable[str]) -> None:
    """Raise :class:`ConfigError` if a folder has a file of such a name that is not of sdlgm."""
    for name in names:
        path = folder / name
        if os.path.lexists(path) and not _is_ours(path):
            raise ConfigError(
                f"{path} was not written by sdlgm, so it is not replaced. Save to another folder."
            )


def _is_ours(path: Path) -> bool:
    """Whether a file says that it is of this library; a damaged one of ours may not."""
    try:
        if path.suffix == ".json":
            about = read_json(path)
            return isinstance(about, dict) and str(about.get("format", "")).startswith("sdlgm-")
        with safe_open(path, framework="pt") as file:
            return "sdlgm" in (file.metadata() or {})
    except (ModelFileError, SafetensorError, OSError):
        return False


@neutral()
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
    if not holds_model(folder):
        hint = f"Train one: sdlgm fit DATA --out {folder}"
        if (folder / "checkpoint.safetensors").is_file():
            hint = f"Its training is not finished: sdlgm resume {folder}"
        if holds_estimator(folder):
            hint = "It holds an estimator: load it with sdlgm.load."
        raise ModelFileError(f"{folder} holds no finished model. {hint}")
    about = read_description(folder / MODEL, "sdlgm-model", FORMAT_VERSION)
    if about.get("class") != SDLGM.__name__:
        raise ModelFileError(f"{folder} holds a {about.get('class')!r}, not an SDLGM.")
    tensors, sha = read_described(folder / "model.safetensors", folder / MODEL, about)
    with reading(folder / MODEL):
        about = migrate_model(about)
        config = from_dict(ModelConfig, about["config"])
        inputs, levels = about["n_inputs"], about["levels"]
        if not (is_integer(inputs, 1) and is_integer(levels, 2, 2**16)):
            raise ModelFileError(
                f"{folder / MODEL} is damaged: n_inputs = {inputs!r}, levels = {levels!r}."
            )
        check("inputs", inputs, f"n_inputs in {folder / MODEL}")

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
    with reading(f"The description of {where}"), shapes_only():
        shapes = {prefix + name: tensor for name, tensor in new().state_dict().items()}
    tensors = dict(tensors)
    migrate_statistics(tensors, shapes)
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
