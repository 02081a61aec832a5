"""Files are written completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sdlgm.errors import ModelFileError
from sdlgm.outputs import atomic_path
from sdlgm.storage import digest, read_tensors, write_json, write_tensors


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_json(tmp_path / "ours", {})
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_nan_is_not_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_tensors_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).view(2, 3).T, "b": torch.tensor(1.5), "c": torch.zeros(0, 2)}
    sha = write_tensors(tmp_path / "t.safetensors", tensors, {"step": 3})
    found, state, read_sha = read_tensors(tmp_path / "t.safetensors")
    assert state == {"step": 3}
    assert read_sha == sha
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)


def test_the_digest_depends_on_names_types_shapes_values_and_note() -> None:
    base = digest({"a": torch.zeros(4)}, "note")
    others = (
        digest({"b": torch.zeros(4)}, "note"),
        digest({"a": torch.zeros(4, dtype=torch.int32)}, "note"),
        digest({"a": torch.zeros(2, 2)}, "note"),
        digest({"a": torch.tensor([0.0, 0, 0, 1])}, "note"),
        digest({"a": torch.zeros(4)}, "other"),
    )
    assert base == digest({"a": torch.zeros(4)}, "note")
    assert len({base, *others}) == 6


def test_missing_files_and_files_of_other_programs_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(ModelFileError, match="does not exist"):
        read_tensors(tmp_path / "none")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(ModelFileError, match="not written by sdlgm"):
        read_tensors(tmp_path / "foreign")
