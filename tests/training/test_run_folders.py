"""A run is written to a new folder, or takes the place of a run when it is complete."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from helpers import SMALL
from sdlgm.cli import main
from sdlgm.config import TrainingConfig
from sdlgm.errors import ConfigError, ModelFileError, OutputError
from sdlgm.outputs import locked
from sdlgm.training import Run, fit, resume, runs

SETTINGS = TrainingConfig(iterations=4)


def train(out: Path | str, **more: object) -> Run:
    options = {"importance_samples": 2, "progress": False, **more}
    training = options.pop("training", SETTINGS)
    return fit("digits", SMALL, training, out=out, **options)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": '{"model_type": "bert"}', "model.safetensors": "weights"},
        {"config.yaml": "defaults: [a]", "model.safetensors": "weights"},
        {"notes.txt": "mine"},
        {"log.jsonl": "{}", "tensorboard/events": "mine"},
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_others_is_never_touched(
    files: dict[str, str], overwrite: bool, tmp_path: Path
) -> None:
    out = tmp_path / "theirs"
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    before = content(out)
    with pytest.raises(ConfigError, match=r"not empty and not a run alone.*Choose a new folder"):
        train(out, overwrite=overwrite)
    assert content(out) == before
    assert os.listdir(tmp_path) == ["theirs"]  # noqa: PTH208


def test_a_run_with_files_of_the_users_is_not_replaced(run: Run, tmp_path: Path) -> None:
    out = shutil.copytree(run.folder, tmp_path / "run")
    (out / "codes.parquet").write_text("codes")
    before = content(out)
    with pytest.raises(ConfigError, match=r"not a run alone \(codes.parquet\)"):
        train(out, overwrite=True)
    assert content(out) == before


def test_out_is_not_empty_and_not_a_file(in_tmp: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--out", ""]) == 1
    assert "--out is empty. Is a shell variable unset?" in capfd.readouterr().err
    Path("file").write_text("mine")
    with pytest.raises(ConfigError, match="file is a file"):
        train("file", overwrite=True)
    assert content(in_tmp) == {"file": b"mine"}


def test_a_failed_start_leaves_nothing_that_blocks_the_next(tmp_path: Path) -> None:
    out = tmp_path / "run"
    no_device = TrainingConfig(iterations=4, accelerator="mps")
    for overwrite in (False, True):
        with pytest.raises(Exception, match="(?i)mps"):
            train(out, training=no_device, overwrite=overwrite)
        assert not out.exists()
    out.mkdir()
    with pytest.raises(Exception, match="(?i)mps"):
        train(out, training=no_device)
    assert content(out) == {}
    assert train(out).metrics["seed"] == 0


def test_whatever_fails_leaves_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    train(out)
    before = content(out)

    def unchanged() -> None:
        assert content(out) == before
        assert os.listdir(tmp_path) == ["run"]  # noqa: PTH208

    with pytest.raises(ConfigError, match="importance_samples must be at least 1, got 0"):
        train(out, overwrite=True, importance_samples=0)
    unchanged()
    with pytest.raises(Exception, match="(?i)mps"):
        train(out, overwrite=True, training=TrainingConfig(iterations=4, accelerator="mps"))
    unchanged()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_expected_bytes", lambda model: 10**18)
        with pytest.raises(OutputError, match="of free space"):
            train(out, overwrite=True)
    unchanged()
    with locked(out), pytest.raises(ConfigError, match="is being written by another process"):
        train(out, overwrite=True)
    unchanged()

    def fail(*_: object) -> None:
        raise RuntimeError("late")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_measure", fail)  # the last thing that can fail
        with pytest.raises(RuntimeError, match="late"):
            train(out, overwrite=True)
    assert content(out) == before
    finished = resume(tmp_path / "run.new", importance_samples=2, progress=False)
    assert finished.folder == out
    assert os.listdir(tmp_path) == ["run"]  # noqa: PTH208


def test_the_finished_run_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    out = tmp_path / "link"
    out.symlink_to("real")
    first = train(out).model
    second = train(out, overwrite=True, training=TrainingConfig(iterations=4, seed=1))
    assert second.folder.resolve() == tmp_path / "real"
    assert out.is_symlink()
    assert Run.open(out).config.training.seed == 1
    assert not first.prior_gate_logits.equal(Run.open(out).model.prior_gate_logits)
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]  # noqa: PTH208
    assert "replaces.json" not in content(out)


def test_a_folder_in_the_way_is_not_touched(tmp_path: Path) -> None:
    train(tmp_path / "run")
    (tmp_path / "run.new").mkdir()
    (tmp_path / "run.new/mine").touch()
    with pytest.raises(ConfigError, match=r"run.new is in the way"):
        train(tmp_path / "run", overwrite=True)
    assert content(tmp_path / "run.new") == {"mine": b""}


def test_settings_and_model_of_two_runs_are_noticed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(one)
    train(two, training=TrainingConfig(iterations=4, seed=1))
    mixed = shutil.copytree(two, tmp_path / "mixed")
    shutil.copy(one / "config.yaml", mixed)
    with pytest.raises(ModelFileError, match="config.yaml does not belong to this run"):
        Run.open(mixed)
    shutil.copy(two / "config.yaml", mixed)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(one / name, mixed)
    with pytest.raises(ModelFileError, match="the settings of one run and the model of another"):
        _ = Run.open(mixed).model
    # As 0.1 wrote them: no digest of the settings.
    metrics = json.loads((two / "metrics.json").read_text())
    del metrics["settings_sha256"], metrics["model_sha256"]
    (two / "metrics.json").write_text(json.dumps(metrics))
    assert Run.open(two).model.config == SMALL
    settings = yaml.safe_load((two / "config.yaml").read_text())
    (two / "config.yaml").write_text(yaml.safe_dump({**settings, "budget": 2}))
    with pytest.raises(ModelFileError, match="the settings of one run and the model of another"):
        _ = Run.open(two).model
