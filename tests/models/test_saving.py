"""Models on disk: bit-equal in a fresh process, and refused when anything is off."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import tiny_model
from sdlgm.errors import ModelFileError
from sdlgm.models import load_model, save_model
from sdlgm.storage import read_tensors, write_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "m", tiny_model())
    return tmp_path / "m"


def test_round_trip_is_bit_equal(folder: Path) -> None:
    model, saved = tiny_model(), load_model(folder)
    assert saved.model.config == model.config
    x = torch.ones(2, 5)
    assert torch.equal(saved.model(x).base.feature_logits, model(x).base.feature_logits)
    assert not saved.model.training
    assert save_model(folder, saved.model) == saved.sha256


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "poisson", "categorical"])
def test_every_likelihood_is_restored(likelihood: str, tmp_path: Path) -> None:
    model = tiny_model(likelihood=likelihood)
    save_model(tmp_path, model)
    z, x = torch.ones(1, 3), torch.ones(1, 5)
    loaded = load_model(tmp_path).model
    assert torch.equal(
        loaded.data_distribution(z).log_prob(x), model.data_distribution(z).log_prob(x)
    )


def test_a_fresh_process_in_another_folder_gives_the_same_bits(
    folder: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, torch; from sdlgm import load_model;"
        "q = load_model(sys.argv[1]).model(torch.ones(2, 5));"
        "print(q.base.feature_logits.double().tolist())"
    )
    (tmp_path / "elsewhere").mkdir()
    out = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        cwd=tmp_path / "elsewhere",
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    expected = load_model(folder).model(torch.ones(2, 5)).base.feature_logits
    assert json.loads(out) == expected.double().tolist()


def test_no_pickle_is_written(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    content = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")  # safetensors: a JSON head, then numbers
    assert set(json.loads(content[8 : 8 + length])["__metadata__"]) == {"sdlgm"}


@pytest.mark.parametrize("place", [0.02, 0.5, 0.999])
def test_a_flipped_byte_is_found(folder: Path, place: float) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"damaged|not written by sdlgm|does not belong"):
        load_model(folder)


@pytest.mark.parametrize("keep", [0, 5, 100, 2000])
def test_a_cut_file_is_found(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="damaged or cut short"):
        load_model(folder)


def change(folder: Path, **values: object) -> None:
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, **values}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format_version": 2}, "newer than the 1"),
        ({"format_version": None}, "describes no model"),
        ({"class": "VAE"}, "holds a 'VAE', not an SDLGM"),
        ({"n_inputs": 6}, "does not belong"),
        ({"sha256": "0"}, "does not belong"),
    ],
)
def test_a_changed_description_is_refused(
    folder: Path, values: dict[str, object], message: str
) -> None:
    change(folder, **values)
    with pytest.raises(ModelFileError, match=message):
        load_model(folder)


def test_missing_and_misshapen_tensors_are_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors, state, _ = read_tensors(path)
    for name, replaced, message in (
        ("decoder.0.weight", None, r"missing \['decoder.0.weight'\]"),
        ("input_shift", torch.ones(4), r"input_shift is torch.float32 \(4,\), not .* \(5,\)"),
        ("input_shift", torch.ones(5).double(), "input_shift is torch.float64"),
    ):
        wrong = dict(tensors)
        del wrong[name]
        if replaced is not None:
            wrong[name] = replaced
        change(folder, sha256=write_tensors(path, wrong, state))
        with pytest.raises(ModelFileError, match=message):
            load_model(folder)


def test_a_folder_without_a_model(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelFileError, match="sdlgm fit DATA --out"):
        load_model(tmp_path)
    shutil.copy(folder / "model.safetensors", tmp_path / "checkpoint.safetensors")
    with pytest.raises(ModelFileError, match="sdlgm resume"):
        load_model(tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match="not JSON"):
        load_model(folder)
