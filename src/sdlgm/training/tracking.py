"""Trackers: the lines of a training's log in TensorBoard or MLflow.

A tracker receives exactly what is written to ``log.jsonl`` and draws no random numbers, so it does
not influence the training.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from sdlgm.config import TrackerName
from sdlgm.errors import ConfigError
from sdlgm.storage import read_json, write_json

__all__ = ["Tracker", "check_tracker", "tracking"]

PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""How long to wait for a server, unless the user has set it; MLflow's own are minutes."""
TENSORBOARD, MLFLOW, MLFLOW_RUN = "tensorboard", "mlflow", "mlflow.json"


class Tracker(Protocol):
    """Receives the lines of a log."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Record a line: an ``event``, a ``step`` and numbers."""

    def close(self, *, finished: bool) -> None:
        """End the tracking; ``finished`` says whether the training is complete."""


def check_tracker(name: TrackerName, folder: Path | None) -> None:
    """Raise :class:`ConfigError` unless a tracker is installed, has a folder and can be reached."""
    if name == "none":
        return
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f'tracker = {name!r} needs a package that is missing: pip install "sdlgm[tracking]"'
        )
    if folder is None:
        raise ConfigError(
            f"tracker = {name!r} needs a training with a folder. Set folder, or tracker = 'none'."
        )
    if name == "mlflow" and os.environ.get("MLFLOW_TRACKING_URI"):
        with _asking_mlflow():
            _client(folder).search_experiments(max_results=1)


@contextmanager
def tracking(
    name: TrackerName, folder: Path | None, settings: Mapping[str, Any], keep_until: int
) -> Iterator[Tracker | None]:
    """Track a training that starts or resumes at step ``keep_until``.

    If it resumes, what was recorded for later steps is dropped. If it starts, the event files of
    an earlier training in ``folder`` are deleted. MLflow keeps the earlier run and starts another.

    Raises
    ------
    ConfigError
        As :func:`check_tracker`, or if MLflow cannot be reached.
    """
    check_tracker(name, folder)
    if folder is not None and not keep_until:
        shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)
        (folder / MLFLOW_RUN).unlink(missing_ok=True)
    if name == "none" or folder is None:
        yield None
        return
    tracker: Tracker = (
        _TensorBoard(folder, keep_until) if name == "tensorboard" else _MLflow(folder, settings)
    )
    guarded, finished = _Guarded(tracker), False
    try:
        yield guarded
        finished = True
    finally:
        guarded.close(finished=finished)


class _Guarded:
    """Turns the failure of a tracker into a warning; the training continues without it."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker: Tracker | None = tracker

    def write(self, line: Mapping[str, Any]) -> None:
        if self.tracker:
            with self._once():
                self.tracker.write(line)

    def close(self, *, finished: bool) -> None:
        if self.tracker:
            with self._once():
                self.tracker.close(finished=finished)

    @contextmanager
    def _once(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.tracker = None
            warnings.warn(
                f"Tracking has ended ({error}). Training continues; log.jsonl holds all lines.",
                RuntimeWarning,
                stacklevel=4,
            )


def _scalars(line: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"{line['event']}/{name}": float(value)
        for name, value in line.items()
        if name not in ("event", "step") and not isinstance(value, str)
    }


class _TensorBoard:
    """Writes event files to ``RUN/tensorboard``, for ``tensorboard --logdir RUN``."""

    def __init__(self, folder: Path, keep_until: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Readers ignore what a killed training wrote from this step on.
        self._writer = SummaryWriter(str(folder / TENSORBOARD), purge_step=keep_until + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        for name, value in _scalars(line).items():
            self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        self._writer.close()


class _MLflow:
    """Writes a run of the experiment ``sdlgm`` at ``MLFLOW_TRACKING_URI``, or to ``RUN/mlflow``.

    ``RUN/mlflow.json`` holds its id for a resumed training. MLflow cannot drop metrics, so steps
    that it already holds are not written a second time; their numbers are the same.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param

        self._metric = Metric
        self._last: dict[str, int] = {}
        with _asking_mlflow():
            self._client = _client(folder)
            if (folder / MLFLOW_RUN).is_file():
                self._run_id = read_json(folder / MLFLOW_RUN)["run_id"]
                for name in self._client.get_run(self._run_id).data.metrics:
                    history = self._client.get_metric_history(self._run_id, name)
                    self._last[name] = max(metric.step for metric in history)
                self._client.update_run(self._run_id, status="RUNNING")
                return
            found = self._client.get_experiment_by_name("sdlgm")
            experiment = found.experiment_id if found else self._client.create_experiment("sdlgm")
            run = self._client.create_run(experiment, run_name=folder.resolve().name)
            self._run_id = run.info.run_id
            params = [Param(name, str(value)) for name, value in settings.items()]
            self._client.log_batch(self._run_id, params=params)
        write_json(folder / MLFLOW_RUN, {"run_id": self._run_id})

    def write(self, line: Mapping[str, Any]) -> None:
        step, now = line["step"], int(time.time() * 1000)
        new = {k: v for k, v in _scalars(line).items() if step > self._last.get(k, 0)}
        metrics = [self._metric(name, value, now, step) for name, value in new.items()]
        with _variables(PATIENCE):
            self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, *, finished: bool) -> None:
        with _variables(PATIENCE):
            self._client.set_terminated(self._run_id, "FINISHED" if finished else "KILLED")


def _client(folder: Path) -> Any:
    """Return a client of the user's MLflow server, or of a file store in the run's folder."""
    from mlflow import MlflowClient

    if os.environ.get("MLFLOW_TRACKING_URI"):
        return MlflowClient()
    # MLflow asks for consent to its file store, the only local one without SQL.
    with _variables({"MLFLOW_ALLOW_FILE_STORE": "true"}, override=True):
        return MlflowClient(tracking_uri=(folder / MLFLOW).resolve().as_uri())


@contextmanager
def _asking_mlflow() -> Iterator[None]:
    """Wait for MLflow for a short time, and turn its errors into a sentence."""
    from mlflow.exceptions import MlflowException

    where = os.environ.get("MLFLOW_TRACKING_URI", "its folder in the run")
    try:
        with _variables(PATIENCE):
            yield
    except (MlflowException, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        first = first.partition(" with exception ")[0]
        raise ConfigError(
            f"MLflow at {where} cannot be used ({first:.200}). Check MLFLOW_TRACKING_URI, or set "
            "tracker = 'none'. For a slow server, raise MLFLOW_HTTP_REQUEST_TIMEOUT (seconds)."
        ) from None


@contextmanager
def _variables(values: Mapping[str, str], *, override: bool = False) -> Iterator[None]:
    """Set environment variables inside the block; those that are set stay, unless overridden."""
    before = {name: os.environ.get(name) for name in values}
    changed = {name: v for name, v in values.items() if override or before[name] is None}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            old = before[name]
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
