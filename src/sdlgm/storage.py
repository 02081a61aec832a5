"""Files that are written completely or not at all, and checked when they are read. No pickles."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sdlgm.errors import ModelFileError
from sdlgm.limits import check, open_regular, parse_json, read_bytes, reading
from sdlgm.outputs import atomic_path

__all__ = [
    "described_digest",
    "digest",
    "read_described",
    "read_description",
    "read_json",
    "read_tensors",
    "write_described",
    "write_json",
    "write_tensors",
]


def write_json(path: Path | str, value: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises
    ------
    ModelFileError
        If it is missing, is not JSON, or exceeds a limit of :mod:`sdlgm.limits`.
    """
    return parse_json(read_bytes(path, "json_bytes"), str(path))


def digest(tensors: Mapping[str, Tensor], note: str = "") -> str:
    """Return the SHA-256 of the names, types, shapes and bytes of tensors, and of a note."""
    sha = hashlib.sha256(note.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def described_digest(tensors: Mapping[str, Tensor], about: dict[str, Any]) -> str:
    """Return the digest that :func:`write_described` would return, without writing."""
    return digest(tensors, _note(about))


def _note(state: Any) -> str:
    return json.dumps(state, sort_keys=True, allow_nan=False)


def write_tensors(path: Path | str, tensors: Mapping[str, Tensor], state: Any) -> str:
    """Write tensors and a state (any JSON value) to one safetensors file; return its digest."""
    note = _note(state)
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    sha = digest(owned, note)
    with atomic_path(path) as temporary:
        # One key, as the order of several is not fixed and equal content should be equal bytes.
        metadata = json.dumps({"sha256": sha, "state": note})
        try:
            save_file(owned, temporary, metadata={"sdlgm": metadata})
        except SafetensorError as error:  # hides the error of the system in a text
            code = re.search(r"code: (\d+)|os error (\d+)", str(error))
            if code is None:
                raise
            number = int(code[1] or code[2])
            raise OSError(number, os.strerror(number)) from None
    return sha


def read_tensors(path: Path | str) -> tuple[dict[str, Tensor], Any, str]:
    """Read a file of :func:`write_tensors`: tensors (on the CPU), state and digest.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, does not match its digest, or exceeds a limit of
        :mod:`sdlgm.limits`.
    """
    path = Path(path)
    with open_regular(path) as file:
        header = int.from_bytes(file.read(8), "little")
    if header <= path.stat().st_size:
        check("header_bytes", header, f"The size of the header of {path}")
    with reading(path):
        return _read_tensors(path)


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], Any, str]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = list(file.keys())
            check("tensors", len(names), f"The number of tensors of {path}")
            noted = (file.metadata() or {}).get("sdlgm", "{}")
            metadata = json.loads(noted)
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, json.JSONDecodeError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is damaged or cut short ({path.stat().st_size:,} bytes: {error}). "
            "Restore it from a copy, or train again."
        ) from None
    metadata = metadata if isinstance(metadata, dict) else {}
    note, sha = metadata.get("state"), metadata.get("sha256")
    if not isinstance(note, str) or not isinstance(sha, str):
        raise ModelFileError(f"{path} was not written by sdlgm: it has no state or no digest.")
    if digest(tensors, note) != sha:
        raise ModelFileError(
            f"{path} is damaged: its content does not match its SHA-256 {sha[:12]}... "
            "Restore it from a copy, or train again."
        )
    check("json_bytes", len(note), f"The size of the description in {path}")
    return tensors, parse_json(note, str(path)), sha


def write_described(
    path: Path | str,
    json_path: Path | str,
    tensors: Mapping[str, Tensor],
    description: dict[str, Any],
) -> str:
    """Write tensors with a description, and the description also as a JSON file; return the digest.

    The JSON file can be read by people, and before the tensors. It also holds the digest, so that a
    change to either file is noticed.
    """
    sha = write_tensors(path, tensors, description)
    write_json(json_path, {**description, "sha256": sha})
    return sha


def read_description(json_path: Path | str, kind: str, newest: int) -> dict[str, Any]:
    """Read the JSON file of :func:`write_described`; its format must be ``kind``.

    Raises
    ------
    ModelFileError
        If it is missing, damaged, of another format, or of a newer version than ``newest``.
    """
    description = read_json(json_path)
    version = description.get("format_version") if isinstance(description, dict) else None
    if type(version) is not int or description.get("format") != kind:
        raise ModelFileError(f"{json_path} describes no {kind.replace('sdlgm-', '')} of sdlgm.")
    if version > newest:
        raise ModelFileError(
            f"{Path(json_path).parent} has format version {version}, newer than the {newest} "
            "that this version of sdlgm reads. Update sdlgm."
        )
    return description


def read_described(
    path: Path | str, json_path: Path | str, description: dict[str, Any]
) -> tuple[dict[str, Tensor], str]:
    """Read the tensors that belong to a description; return them and their digest.

    Raises
    ------
    ModelFileError
        If they are missing or damaged, or were written with another description.
    """
    tensors, state, sha = read_tensors(path)
    own = {**state, "sha256": sha} if isinstance(state, dict) else None
    # Compare text, because 1, 1.0 and True are equal in Python.
    if json.dumps(own, sort_keys=True) != json.dumps(description, sort_keys=True):
        raise ModelFileError(
            f"{json_path} does not belong to {path}: one of them was changed, or writing them was "
            "interrupted. Restore both from a copy, or save again."
        )
    return tensors, sha
