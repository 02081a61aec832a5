"""Which device is chosen, and what a run records of it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from helpers import stopped_run
from pretend_gpu import pretended
from sdlgm import SDLGMClassifier, SDLGMCounter, SDLGMTransformer, environment
from sdlgm.config import TrainingConfig
from sdlgm.environment import accelerator_of, device_of, resolve_accelerator
from sdlgm.errors import ConfigError, SDLGMWarning
from sdlgm.scale import encode_dataset
from sdlgm.training import Run, RunConfig, resume
from sdlgm.training.step import make_fabric

QUICK = {"importance_samples": 2, "progress": False}


@pytest.mark.parametrize(
    ("name", "gpus", "devices", "expected"),
    [
        ("auto", 0, 1, "cpu"),
        ("auto", 1, 1, "gpu"),
        ("auto", 1, 2, "cpu"),
        ("auto", 2, 2, "gpu"),
        ("cpu", 1, 1, "cpu"),
        ("gpu", 1, 1, "gpu"),
    ],
)
def test_auto_is_the_gpu_if_there_is_one(
    name: str, gpus: int, devices: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "number_of_gpus", lambda: gpus)
    assert resolve_accelerator(name, devices) == expected


def test_a_device_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "number_of_gpus", lambda: 0)
    with pytest.raises(ConfigError, match=r"no GPU on this machine.*--accelerator cpu"):
        device_of("gpu")
    monkeypatch.setattr(environment, "number_of_gpus", lambda: 1)
    with pytest.raises(ConfigError, match="with devices = 2, but torch finds 1 GPU on"):
        resolve_accelerator("gpu", 2)
    monkeypatch.setattr(environment, "number_of_gpus", lambda: 0)
    with pytest.raises(ConfigError, match="must be 'auto', 'cpu', 'gpu' or 'mps', got 'tpu'"):
        device_of("tpu")
    for estimator in (SDLGMTransformer, SDLGMClassifier, SDLGMCounter):
        with pytest.raises(ConfigError, match="no GPU on this machine"):
            estimator(accelerator="gpu", epochs=1).fit(torch.eye(12).numpy(), torch.eye(12).numpy())


def test_a_gpu_is_named_in_the_log_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(environment, "number_of_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Model T")
    environment._announce.cache_clear()
    with caplog.at_level(logging.INFO, "sdlgm"):
        assert [accelerator_of(device_of("auto")) for _ in range(3)] == ["gpu"] * 3
        device_of("cpu")
    assert caplog.messages == ["Using the GPU Model T."]
    environment._announce.cache_clear()


def test_fabric_gets_the_resolved_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "number_of_gpus", lambda: 0)
    assert make_fabric(TrainingConfig(accelerator="auto")).device.type == "cpu"


def test_a_run_records_the_device_that_was_used(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrainingConfig().accelerator == "auto"
    expected = "gpu" if environment.number_of_gpus() else "cpu"
    assert run.config.training.accelerator == expected
    assert f"accelerator: {expected}\n" in (run.folder / "config.yaml").read_text()
    assert run.metrics["device"]


def test_a_run_of_a_gpu_continues_without_one_only_if_asked(tmp_path: Path) -> None:
    training = TrainingConfig(iterations=6, batch_size=10, checkpoint_every=2)
    with pytest.MonkeyPatch.context() as patch, pretended(patch):
        stopped = stopped_run(tmp_path / "run", training, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "number_of_gpus", lambda: 0)
        wanted = r"started with accelerator = 'gpu', but.*--accelerator cpu.*not bit-equal"
        with pytest.raises(ConfigError, match=wanted):
            resume(stopped, **QUICK)
        with pytest.warns(SDLGMWarning, match="'gpu' and continues with 'cpu'.*not bit-equal"):
            done = resume(stopped, accelerator="cpu", **QUICK)
    assert done.config.training.accelerator == "cpu"
    assert Run.open(stopped).config == done.config
    assert done.metrics["iterations"] == 6


def test_a_run_that_recorded_auto_continues_where_it_is(tmp_path: Path) -> None:
    training = TrainingConfig(iterations=6, batch_size=10, checkpoint_every=2, accelerator="cpu")
    stopped = stopped_run(tmp_path / "run", training, 3)
    config = RunConfig.from_yaml(stopped / "config.yaml")
    auto = dataclasses.replace(config.training, accelerator="auto")
    dataclasses.replace(config, training=auto).to_yaml(stopped / "config.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "number_of_gpus", lambda: 0)
        assert resume(stopped, **QUICK).config.training.accelerator == "cpu"


def test_ray_computes_on_cpus(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'ray' computes on CPUs"):
        encode_dataset("run", "data", tmp_path / "out", engine="ray", accelerator="gpu")
