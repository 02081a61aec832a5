"""Runs in a folder; a killed run resumes without a difference in its result."""

from __future__ import annotations

import dataclasses
import json
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from helpers import SMALL
from sdlgm.cli import main
from sdlgm.config import DataConfig, TrainingConfig
from sdlgm.errors import ConfigError, DataError, ModelFileError
from sdlgm.models import model_sha256
from sdlgm.training import Run, RunConfig, fit, resume
from trials import run_command

SETTINGS = (
    "fit digits --iterations 400 --checkpoint-every 7 --features 12 --budget 4 --groups 2 "
    "--encoder-hidden [64,32] --sparsity-hidden [16] --importance-samples 5 --out"
).split()


def test_a_run_holds_its_settings_model_log_and_metrics(run: Run) -> None:
    assert sorted(p.name for p in run.folder.iterdir()) == [
        "columns.json", "config.json", "config.yaml", "log.jsonl", "metrics.json",
        "model.safetensors",
    ]  # fmt: skip
    values = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert values["format_version"] == 2
    assert values["data"] == "digits"
    assert values["binarisation"] == "dynamic"  # the resolved value
    assert values["estimator"] == "reinmax"
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["model_sha256"] == model_sha256(run.model)
    assert {"seed", "iterations", "split", "binarisation", "importance_samples", "units"} <= set(
        metrics
    )
    assert Run.open(run.folder) == run
    assert RunConfig.from_yaml(run.folder / "config.yaml") == run.config


def test_a_run_is_not_replaced_by_accident(run: Run) -> None:
    with pytest.raises(ConfigError, match=r"holds a run already.*--overwrite"):
        fit("digits", out=run.folder)
    with pytest.raises(ConfigError, match="complete; there is nothing to resume"):
        resume(run.folder)


def test_bad_data_do_not_touch_an_existing_run(tmp_path: Path) -> None:
    out = tmp_path / "r"
    settings = TrainingConfig(iterations=3)
    fit("digits", SMALL, settings, out=out, importance_samples=2, progress=False)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(DataError):
        fit("digitz", SMALL, settings, out=out, overwrite=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    fit("digits", SMALL, settings, out=out, overwrite=True, importance_samples=2, progress=False)
    assert (out / "model.safetensors").read_bytes() == before["model.safetensors"]


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", "categorical"])
def test_every_likelihood_trains_on_bytes(likelihood: str, tmp_path: Path) -> None:
    model = dataclasses.replace(SMALL, likelihood=likelihood)
    settings = TrainingConfig(iterations=200, learning_rate=3e-3, kl_warmup=0.1)
    run = fit("digits", model, settings, out=tmp_path / "r", importance_samples=2, progress=False)
    assert run.log[-1]["reconstruction"] < run.log[0]["reconstruction"] - 1
    assert run.config.data.binarisation == "none"


def test_data_unsuitable_for_the_likelihood_leave_no_run(tmp_path: Path) -> None:
    data = DataConfig("digits", binarisation="none")
    with pytest.raises(DataError, match=r"from 0 to 16\): a Bernoulli likelihood needs"):
        fit(data, SMALL, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_errors_in_config_yaml_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"no config.yaml"):
        Run.open(tmp_path)
    for text, message in (
        ("data: digits\nbudgets: 3", "unknown key 'budgets'"),
        ("budget: 3", "does not name its data"),
        ("- 3", "must map keys"),
        ("a: [", "not YAML"),
        ("data: digits\nbudget: many", "does not fit int"),
        ("data: digits\nformat_version: 3", "format version 3.*Update sdlgm"),
        ("data: digits\nformat_version: x", "format version 'x'"),
    ):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            Run.open(tmp_path)


def test_settings_of_0_1_keep_their_defaults(tmp_path: Path) -> None:
    """A file without a version is one of 0.1: missing settings have the values of then."""
    path = tmp_path / "config.yaml"
    path.write_text("data: digits\nfeatures: 12\nbudget: 4\n")
    config = RunConfig.from_yaml(path)
    assert config.model.encoder_hidden == (512, 384, 256)
    model = config.model
    assert (model.residual, model.shared_trunk, model.joint_gates) == (False, False, False)
    assert model.prior == "learned"
    assert (config.training.learning_rate, config.training.weight_decay) == (1e-3, 0.0)
    config.to_yaml(path)
    assert RunConfig.from_yaml(path) == config
    path.write_text("format_version: 2\ndata: digits\nfeatures: 12\nbudget: 4\n")
    assert RunConfig.from_yaml(path).model.residual


def test_the_settings_file_configures_another_run(run: Run, tmp_path: Path) -> None:
    command = ["fit", "--config", str(run.folder / "config.yaml"), "--iterations", "3"]
    assert main([*command, "--importance-samples", "2", "--out", str(tmp_path / "r")]) == 0
    config = Run.open(tmp_path / "r").config
    assert config.model == run.config.model
    assert config.training == dataclasses.replace(run.config.training, iterations=3)


def test_the_metrics_name_the_iteration_that_was_kept(tmp_path: Path) -> None:
    settings = TrainingConfig(
        iterations=60, validation_fraction=0.2, patience=1, evaluate_every=20, learning_rate=0.003
    )
    run = fit(
        DataConfig("digits"),
        SMALL,
        settings,
        out=tmp_path / "r",
        importance_samples=2,
        progress=False,
    )
    assert run.metrics["kept_iteration"] in (20, 40, 60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Weights of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_command([*SETTINGS, str(folder / "run")], folder).status == 0
    return (folder / "run/model.safetensors").read_bytes()


@pytest.mark.parametrize("attempt", range(3))
def test_a_killed_training_resumes_to_bit_equal_weights(
    attempt: int, whole: bytes, tmp_path: Path
) -> None:
    """The training is killed some time after a checkpoint of a random step."""
    out = tmp_path / "run"
    step = random.Random(attempt).randrange(1, 300)
    kill = (signal.SIGKILL, lambda: checkpoint_step(out) >= step)
    ended = run_command([*SETTINGS, str(out)], tmp_path, kill=kill)
    assert ended.status == -signal.SIGKILL, "the training ended before it could be killed"
    assert not (out / "model.safetensors").exists()
    assert run_command(["resume", str(out)], tmp_path).status == 0
    assert (out / "model.safetensors").read_bytes() == whole


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_resume(whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "run"
    kill = (signal.SIGINT, lambda: checkpoint_step(out) >= 20)
    ended = run_command([*SETTINGS, str(out)], tmp_path, kill=kill)
    assert ended.status == 130
    assert f"Continue with: sdlgm resume {out}" in ended.said.replace("\n", "")
    assert "Traceback" not in ended.said
    assert run_command(["resume", str(out)], tmp_path).status == 0
    assert (out / "model.safetensors").read_bytes() == whole


def checkpoint_step(out: Path) -> int:
    """Read the step of the last checkpoint from the header of its file."""
    try:
        with (out / "checkpoint.safetensors").open("rb") as file:
            head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return int(
            json.loads(json.loads(head["__metadata__"]["sdlgm"])["state"])["progress"]["step"]
        )
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((9, 4)),), "data must be a DataConfig.*got a ndarray.*use SDLGMTransformer"),
        ((SMALL, DataConfig("digits")), "data must be a DataConfig.*got a ModelConfig"),
        (("digits", TrainingConfig()), "model must be a ModelConfig, got a TrainingConfig"),
        (("digits", None, SMALL), "training must be a TrainingConfig, got a ModelConfig"),
    ],
)
def test_arguments_of_another_kind_are_named(arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(*arguments, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()
