"""Trackers hold exactly the lines of the log, each step once, and do not change a training."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from helpers import SMALL
from sdlgm.config import DataConfig, TrainingConfig
from sdlgm.errors import ConfigError
from sdlgm.models import model_sha256
from sdlgm.training import Run, fit, read_log, resume, train
from sdlgm.training.step import Trainer

TRACKERS = ("tensorboard", "mlflow")
QUICK: dict[str, Any] = {
    "iterations": 200, "batch_size": 10, "checkpoint_every": 100, "validation_fraction": 0.1,
    "evaluate_every": 50,
}  # fmt: skip
Points = list[tuple[str, int, float]]


@pytest.fixture(autouse=True)
def _own_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return quick(tmp_path_factory.mktemp("plain") / "run", "none")


def quick(folder: Path, tracker: str, **options: Any) -> Run:
    training = TrainingConfig(**QUICK, tracker=tracker)  # type: ignore[arg-type]
    return fit(
        DataConfig("digits"),
        SMALL,
        training,
        out=folder,
        importance_samples=1,
        progress=False,
        **options,
    )


def tracked(folder: Path, tracker: str) -> Points:
    """Read all values that a tracker holds."""
    pytest.importorskip(tracker)
    if tracker == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        tags = events.Tags()["scalars"]
        return sorted((tag, e.step, e.value) for tag in tags for e in events.Scalars(tag))
    client, run = mlflow_run(folder)
    return sorted(
        (name, metric.step, metric.value)
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
    )


def mlflow_run(folder: Path) -> tuple[Any, Any]:
    from mlflow import MlflowClient

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    client = MlflowClient(tracking_uri=(folder / "mlflow").as_uri())
    return client, client.get_run(json.loads((folder / "mlflow.json").read_text())["run_id"])


def logged(folder: Path) -> Points:
    return sorted(
        (f"{line['event']}/{name}", line["step"], value)
        for line in read_log(folder / "log.jsonl")
        for name, value in line.items()
        if name not in ("event", "step")
    )


def same(found: Points, expected: Points) -> bool:
    """Compare in float32, except for the seconds of steps that were taken twice."""
    assert [point[:2] for point in found] == [point[:2] for point in expected]
    return all(
        a[2] == pytest.approx(b[2], rel=1e-6)
        for a, b in zip(found, expected, strict=True)
        if not a[0].endswith("seconds")
    )


@pytest.mark.parametrize("tracker", TRACKERS)
def test_trackers_hold_the_log_and_do_not_change_the_weights(
    tracker: str, plain: Run, tmp_path: Path
) -> None:
    pytest.importorskip(tracker)
    watched = quick(tmp_path / "run", tracker)
    assert model_sha256(plain.model) == model_sha256(watched.model)
    assert same(tracked(watched.folder, tracker), logged(watched.folder))
    assert {"train/objective", "validation/negative_elbo"} <= {p[0] for p in logged(plain.folder)}
    assert not (plain.folder / "tensorboard").exists()
    assert not (plain.folder / "mlflow").exists()


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_resumed_training_continues_in_the_same_tracker_run(
    tracker: str, plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(tracker)
    before = Trainer.step

    def killed(self: Any, x: Any, step: int) -> Any:
        if step == 155:  # the last checkpoint is that of step 100, the last line that of 150
            raise RuntimeError("killed")
        return before(self, x, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", killed)
        with pytest.raises(RuntimeError, match="killed"):
            quick(tmp_path / "cut", tracker)
    assert max(point[1] for point in tracked(tmp_path / "cut", tracker)) == 150
    run = resume(tmp_path / "cut", importance_samples=1, progress=False)
    assert model_sha256(run.model) == model_sha256(plain.model)
    assert same(tracked(run.folder, tracker), logged(plain.folder))


def test_mlflow_records_the_settings_and_the_status(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    run = quick(tmp_path / "a", "mlflow")
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ
    _, found = mlflow_run(run.folder)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "a"
    assert (found.data.params["features"], found.data.params["tracker"]) == ("12", "mlflow")


@pytest.mark.parametrize("tracker", TRACKERS)
def test_the_tracker_forgets_a_replaced_run(tracker: str, tmp_path: Path) -> None:
    pytest.importorskip(tracker)
    quick(tmp_path / "a", tracker)
    run = quick(tmp_path / "a", tracker, overwrite=True)
    assert same(tracked(run.folder, tracker), logged(run.folder))
    quick(tmp_path / "a", "none", overwrite=True)
    assert not {"tensorboard", "mlflow.json"} & {f.name for f in run.folder.iterdir()}


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_missing_package_is_reported_before_anything_is_replaced(
    tracker: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'pip install "sdlgm\[tracking\]"'):
        quick(tmp_path / "a", tracker)
    assert not (tmp_path / "a").exists()


def test_a_tracker_needs_a_folder(run: Run) -> None:
    pytest.importorskip("tensorboard")
    with pytest.raises(ConfigError, match="needs a training with a folder"):
        train(run.model, run.dataset.train, TrainingConfig(tracker="tensorboard"))


def test_a_failing_tracker_does_not_stop_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    def full(*arguments: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    with pytest.warns(RuntimeWarning, match="no space left.*log.jsonl holds all"):
        run = quick(tmp_path / "a", "tensorboard")
    assert run.metrics["iterations"] == 200


def test_a_run_without_a_tracker_setting_opens(run: Run, tmp_path: Path) -> None:
    text = (run.folder / "config.yaml").read_text()
    assert "tracker: none\n" in text
    (tmp_path / "config.yaml").write_text(text.replace("tracker: none\n", ""))
    assert Run.open(tmp_path).config == run.config


def test_a_server_that_never_answers_is_a_sentence_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        started = time.monotonic()
        with pytest.raises(ConfigError, match=f"MLflow at {address} cannot be used"):
            quick(tmp_path / "a", "mlflow")
    assert time.monotonic() - started < 20
    assert not (tmp_path / "a").exists()
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_an_address_without_a_server_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    started = time.monotonic()
    with pytest.raises(ConfigError, match="cannot be used.*Check MLFLOW_TRACKING_URI"):
        quick(tmp_path / "a", "mlflow")
    assert time.monotonic() - started < 20


def test_a_server_that_dies_does_not_hold_up_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from sdlgm.training import tracking as module

    def dead(self: Any, line: Any) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            from mlflow import MlflowClient

            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with module._variables(module.PATIENCE):
                MlflowClient(tracking_uri=address).search_experiments()

    monkeypatch.setattr(module._MLflow, "write", dead)
    started = time.monotonic()
    with pytest.warns(RuntimeWarning, match="Tracking has ended"):
        run = quick(tmp_path / "a", "mlflow")
    assert run.metrics["iterations"] == 200
    assert time.monotonic() - started < 60
