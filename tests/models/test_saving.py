"""Saved models: bit-equal in a new process, refused if damaged, known by their hash."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import tiny_model
from sdlgm.config import ModelConfig, to_dict
from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.models import SDLGM, load_model, model_sha256, save_model
from sdlgm.nn import DataStatistics, data_statistics
from sdlgm.storage import read_tensors, write_described, write_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "m", tiny_model())
    return tmp_path / "m"


def test_round_trip_is_bit_equal(folder: Path) -> None:
    model, loaded = tiny_model(), load_model(folder)
    assert loaded.config == model.config
    x = torch.ones(2, 5)
    assert torch.equal(loaded(x).base.feature_logits, model(x).base.feature_logits)
    assert not loaded.training
    assert save_model(folder, loaded) == model_sha256(loaded)


def test_the_hash_is_that_of_the_files(folder: Path) -> None:
    model = tiny_model()
    of_files = json.loads((folder / "config.json").read_text())["sha256"]
    assert model_sha256(model) == of_files  # what saving would give
    assert model_sha256(load_model(folder)) == of_files
    assert save_model(folder, model) == model_sha256(model) == of_files


def test_the_hash_follows_changes_in_place(folder: Path) -> None:
    model = load_model(folder)
    before = model_sha256(model)
    with torch.no_grad():
        model.output_head.bias[0] += 1
    changed = model_sha256(model)
    assert changed != before
    assert changed == save_model(folder, model) == model_sha256(load_model(folder))
    with torch.no_grad():
        model.output_head.bias[0] -= 1
    assert model_sha256(model) != changed
    copied = copy.deepcopy(load_model(folder)).double()
    assert model_sha256(copied) != changed
    assert model_sha256(copied.float()) == changed
    copied.config = dataclasses.replace(copied.config, feature_temperature=2.0)
    assert model_sha256(copied) != changed


def old_model(folder: Path, model: SDLGM, *missing: str) -> str:
    """Write a model as 0.1 did, without some fields of its configuration; return its hash."""
    config = {k: v for k, v in to_dict(model.config).items() if k not in missing}
    about = {
        "format": "sdlgm-model",
        "format_version": 1,
        "class": "SDLGM",
        "n_inputs": model.n_inputs,
        "levels": model.levels,
        "config": config,
    }
    return write_described(
        folder / "model.safetensors", folder / "config.json", model.state_dict(), about
    )


def test_missing_fields_of_format_1_have_the_values_of_0_1(tmp_path: Path) -> None:
    fields = ("encoder_hidden", "residual", "shared_trunk", "joint_gates", "prior")
    config = ModelConfig(
        4, 2, encoder_hidden=(512, 384, 256), residual=False, shared_trunk=False,
        joint_gates=False, prior="learned",
    )  # fmt: skip
    model = SDLGM(config, data_statistics(torch.eye(5)))
    sha = old_model(tmp_path, model, *fields)
    loaded = load_model(tmp_path)
    assert loaded.config == config
    assert model_sha256(loaded) == sha


def test_a_model_of_format_1_keeps_the_hash_of_its_files_until_it_changes(tmp_path: Path) -> None:
    sha = old_model(tmp_path / "old", tiny_model())
    model = load_model(tmp_path / "old")
    assert model_sha256(model) == model_sha256(copy.deepcopy(model)) == sha
    with torch.no_grad():
        model.output_head.bias[0] += 1
    assert model_sha256(model) not in (sha, model_sha256(tiny_model()))
    model = load_model(tmp_path / "old")
    new = save_model(tmp_path / "new", model)
    assert new == model_sha256(model) == model_sha256(load_model(tmp_path / "new")) != sha


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "poisson", "categorical"])
def test_every_likelihood_is_restored(likelihood: str, tmp_path: Path) -> None:
    model = tiny_model(likelihood=likelihood)
    save_model(tmp_path, model)
    z, x = torch.ones(1, 3), torch.ones(1, 5)
    loaded = load_model(tmp_path)
    assert torch.equal(
        loaded.data_distribution(z).log_prob(x), model.data_distribution(z).log_prob(x)
    )


def test_a_fresh_process_in_another_folder_gives_the_same_bits(
    folder: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, torch; from sdlgm.models import load_model;"
        "q = load_model(sys.argv[1])(torch.ones(2, 5));"
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
    expected = load_model(folder)(torch.ones(2, 5)).base.feature_logits
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
def test_a_truncated_file_is_found(folder: Path, keep: int) -> None:
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
        ({"format_version": 3}, "newer than the 2"),
        ({"format_version": 1}, "does not belong"),
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
        ("input_shift", torch.ones(4), r"input_shift is torch.float64 \(4,\), not .* \(5,\)"),
        ("input_shift", torch.ones(5).half(), "input_shift is torch.float16"),
    ):
        wrong = dict(tensors)
        del wrong[name]
        if replaced is not None:
            wrong[name] = replaced
        change(folder, sha256=write_tensors(path, wrong, state))
        with pytest.raises(ModelFileError, match=message):
            load_model(folder)


def test_a_folder_without_a_model_is_an_error(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelFileError, match="sdlgm fit DATA --out"):
        load_model(tmp_path)
    shutil.copy(folder / "model.safetensors", tmp_path / "checkpoint.safetensors")
    with pytest.raises(ModelFileError, match="sdlgm resume"):
        load_model(tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match="not JSON"):
        load_model(folder)


def test_a_model_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    class Own(SDLGM):
        pass

    model = tiny_model()
    subclass = Own(model.config, DataStatistics(torch.full((5,), 0.4), torch.full((5,), 0.5), 3))
    with pytest.raises(ModelFileError, match=r"A Own cannot be saved.*safetensors.torch"):
        save_model(tmp_path / "m", subclass)
    for decoder in (
        torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh()),
        torch.nn.Sequential(*model.decoder, torch.nn.Dropout(0.1)),
    ):
        changed = tiny_model()
        changed.decoder = decoder
        with pytest.raises(ModelFileError, match=r"The model cannot be saved: its decoder"):
            save_model(tmp_path / "m", changed)
    assert not (tmp_path / "m").exists()


def test_files_of_other_programs_are_not_replaced_by_a_model(tmp_path: Path) -> None:
    for name, text in (("config.json", '{"model_type": "bert"}'), ("model.safetensors", "w")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(ConfigError, match=f"{name} was not written by sdlgm"):
            save_model(folder, tiny_model())
        assert [path.read_text() for path in folder.iterdir()] == [text]
    with pytest.raises(ConfigError, match="The folder is empty"):
        save_model("", tiny_model())
