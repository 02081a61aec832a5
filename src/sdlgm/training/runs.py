"""Runs: a training in a folder, from the data to the trained model and its test metrics."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import yaml

from sdlgm.config import (
    DataConfig,
    ModelConfig,
    TrainingConfig,
    from_dict,
    resolve_training,
    to_dict,
)
from sdlgm.data import Dataset, Rows, load_data, resolve_binarisation
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.gradients import get_estimator
from sdlgm.inference.codes import encode_batches
from sdlgm.inference.evaluation import Evaluation, evaluate
from sdlgm.inference.usage import FEW, count_used, warn_of_unused
from sdlgm.migration import migrate_run
from sdlgm.models import SDLGM, load_model, save_model
from sdlgm.nn import check_data, data_statistics
from sdlgm.progress import progress_bar
from sdlgm.random import generator
from sdlgm.storage import atomic_path, read_json, write_json
from sdlgm.training.checkpoint import FILE as CHECKPOINT
from sdlgm.training.log import read_log
from sdlgm.training.loop import Interrupted
from sdlgm.training.model_training import train
from sdlgm.training.step import check_shared
from sdlgm.training.tracking import check_tracker
from sdlgm.version import __version__

if TYPE_CHECKING:
    from sdlgm.training.processes import Group

__all__ = ["Run", "RunConfig", "fit", "resume", "train_in_group"]

FORMAT_VERSION = 2
"""Version of ``config.yaml``. Older versions are migrated, newer ones refused."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """All settings of a run."""

    data: DataConfig
    """What is learned from."""
    model: ModelConfig
    """The shape of the model."""
    training: TrainingConfig
    """How it is trained."""

    @classmethod
    def from_yaml(cls, path: Path | str) -> RunConfig:
        """Read the settings of a run from its ``config.yaml``.

        Raises
        ------
        ConfigError
            If the file is not YAML, has an unknown key or a wrong value, or is of a newer format.
        """
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ConfigError(f"{path} is not YAML: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must map keys to values.")
        version = values.get("format_version", 1)
        if type(version) is not int or version > FORMAT_VERSION:
            raise ConfigError(
                f"{path} is of format version {version!r}; this version of sdlgm reads up to "
                f"{FORMAT_VERSION}. Update sdlgm."
            )
        values = migrate_run(values)
        del values["format_version"]
        return cls(*_split(values))

    def to_yaml(self, path: Path | str) -> None:
        """Write the settings atomically, one key a line."""
        values = to_dict(self.data, self.model, self.training)
        text = yaml.safe_dump({"format_version": FORMAT_VERSION, **values}, sort_keys=False)
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Run:
    """A folder with ``config.yaml``, ``log.jsonl``, the model's files and ``metrics.json``.

    Parameters
    ----------
    folder
        The folder.
    config
        The settings that the run was started with.
    """

    folder: Path
    config: RunConfig

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Open the run in a folder.

        Raises
        ------
        ModelFileError
            If the folder holds no run.
        ConfigError
            If its ``config.yaml`` has an unknown key or a wrong value.
        """
        folder = Path(folder)
        path = folder / "config.yaml"
        if not path.is_file():
            raise ModelFileError(
                f"{folder} holds no run: there is no {path.name}. Start one: "
                f"sdlgm fit DATA --out {folder}"
            )
        return cls(folder, RunConfig.from_yaml(path))

    @functools.cached_property
    def model(self) -> SDLGM:
        """The trained model.

        Raises
        ------
        ModelFileError
            If the run is not finished, or a file of the model is damaged.
        """
        return load_model(self.folder)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data that the model was trained on."""
        return load_data(self.config.data, self.config.model.likelihood)

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of ``log.jsonl``."""
        path = self.folder / "log.jsonl"
        return read_log(path) if path.is_file() else []

    @property
    def metrics(self) -> dict[str, Any]:
        """The held-out numbers measured after training, with what they were measured on."""
        return read_json(self.folder / "metrics.json")

    def load_rows(self, data: str | None = None) -> Dataset:
        """Load other data, binarised as the run's own. Default: the run's own data."""
        config = self.config
        if data is None or data == config.data.data:
            return self.dataset
        return load_data(dataclasses.replace(config.data, data=data), config.model.likelihood)


@neutral()
def fit(
    data: DataConfig | Path | str,
    model: ModelConfig | None = None,
    training: TrainingConfig | None = None,
    *,
    out: Path | str,
    overwrite: bool = False,
    importance_samples: int = 100,
    progress: bool = True,
) -> Run:
    """Train a model and write a run to the folder ``out``.

    Parameters
    ----------
    data
        The data: a configuration, or the name or path of a data set.
    model, training
        Settings of the model and of its training. Default: the recommended ones.
    out
        Folder of the run.
    overwrite
        Whether to replace an existing run.
    importance_samples
        Number M of codes per sample in the ``nll_bound`` of the final evaluation.
    progress
        Whether to show progress bars on standard error.

    Raises
    ------
    ConfigError
        If ``out`` already holds a run, or a setting does not fit.
    DataError
        If the data do not suit the model.
    TrainingError
        If a term of the objective is not finite.
    Interrupted
        After Ctrl-C or SIGTERM, once a checkpoint is written.
    """
    data = DataConfig(str(data)) if isinstance(data, str | Path) else data
    _check_kinds(data, model, training)
    model = model or ModelConfig()
    training = resolve_training(training or TrainingConfig(), model.likelihood)
    kind = resolve_binarisation(data, model.likelihood)
    data = dataclasses.replace(data, binarisation=kind)
    run = Run(Path(out), RunConfig(data, model, training))
    if (run.folder / "config.yaml").exists() and not overwrite:
        raise ConfigError(
            f"{run.folder} holds a run already. Continue it (sdlgm resume {run.folder}), replace "
            "it (--overwrite), or choose another folder."
        )
    check_tracker(training.tracker, run.folder)
    get_estimator(str(training.estimator))  # fail on names and data before replacing anything
    if training.devices > 1:
        check_shared(training)
    prepared = _prepare(run)
    for name in ("metrics.json", "config.json", "model.safetensors", CHECKPOINT, "log.jsonl"):
        (run.folder / name).unlink(missing_ok=True)
    run.config.to_yaml(run.folder / "config.yaml")
    return _complete(run, prepared, False, importance_samples, progress)


@neutral()
def resume(folder: Path | str, *, importance_samples: int = 100, progress: bool = True) -> Run:
    """Continue a run that was stopped, from its last checkpoint, or else from its beginning.

    Raises
    ------
    ConfigError
        If the run is complete.
    """
    run = Run.open(folder)
    if (run.folder / "metrics.json").exists():
        raise ConfigError(f"{run.folder} is complete; there is nothing to resume.")
    resumed = (run.folder / CHECKPOINT).exists()
    return _complete(run, _prepare(run), resumed, importance_samples, progress)


def _check_kinds(data: Any, model: Any, training: Any) -> None:
    """Raise ``ConfigError`` for an argument of another kind, such as two that are swapped."""
    if not isinstance(data, DataConfig):
        raise ConfigError(
            f"data must be a DataConfig, or the name or path of a data set, got a "
            f"{type(data).__name__}. For an array or a frame in memory, use SDLGMTransformer."
        )
    for name, value, kind in (
        ("model", model, ModelConfig),
        ("training", training, TrainingConfig),
    ):
        if value is not None and not isinstance(value, kind):
            raise ConfigError(f"{name} must be a {kind.__name__}, got a {type(value).__name__}.")


class _Prepared(NamedTuple):
    """What a training starts with."""

    model: SDLGM
    rows: Rows
    validation: Rows | None


def _prepare(run: Run) -> _Prepared:
    """Load and check the data and make the model, without writing anything."""
    dataset, config = run.dataset, run.config
    rows, validation = dataset.train, None
    check_data(config.model.likelihood, rows)
    if config.training.validation_fraction:
        rows, validation = rows.split(config.training.validation_fraction, config.training.seed)
    weights = generator(config.training.seed, "weights")
    model = SDLGM(config.model, data_statistics(rows.grey()), weights)
    for part, what in ((validation, f"{dataset.name} (validation rows)"), (dataset.test, None)):
        if part is not None:
            model.check_rows(part, what)
    return _Prepared(model, rows, validation)


def _complete(
    run: Run, prepared: _Prepared, resumed: bool, importance_samples: int, progress: bool
) -> Run:
    """Train or resume, save the model, evaluate it."""
    settings, dataset, model = run.config.training, run.dataset, prepared.model
    with (
        _connected(run, resumed) as group,
        progress_bar("training", settings.iterations, progress) as update,
    ):
        result = train(
            model,
            prepared.rows,
            settings,
            validation=prepared.validation,
            folder=run.folder,
            resume=resumed,
            on_step=update,
            group=group,
        )
    model.cpu()
    sha = save_model(run.folder, model)
    started = time.monotonic()
    measured = _measure(model, dataset, importance_samples, progress)
    write_json(
        run.folder / "metrics.json",
        {
            **dataclasses.asdict(measured),
            "units": "nats per sample, lower is better; relaxed_objective is not a bound",
            "data": dataset.name,
            "split": "test",
            "binarisation": run.config.data.binarisation,
            "objective": settings.objective,
            "iterations": result.step,
            "kept_iteration": result.best_step or result.step,
            "seed": settings.seed,
            "evaluation_seed": 0,
            "gate_temperature": model.gate_temperature.item(),
            "feature_temperature": model.feature_temperature.item(),
            "training_seconds": round(result.seconds, 1),
            "evaluation_seconds": round(time.monotonic() - started, 1),
            "model_sha256": sha,
            "versions": {"sdlgm": __version__, "torch": torch.__version__},
        },
    )
    (run.folder / CHECKPOINT).unlink(missing_ok=True)
    _warn_of_unused(model, prepared.rows)
    return run


def _warn_of_unused(model: SDLGM, rows: Rows) -> None:
    features, possible = model.config.features, model.config.budget * len(rows)
    used = count_used(encode_batches(model, rows), FEW * min(features, possible))
    warn_of_unused(used, features, possible, "iterations", "features")


def _connected(run: Run, resumed: bool) -> contextlib.AbstractContextManager[Group | None]:
    """Start the other processes of a training, if there are any, and connect to them."""
    if run.config.training.devices == 1:
        return contextlib.nullcontext()
    from sdlgm.training.processes import process_group

    return process_group(run.folder, run.config.training.devices, resumed)


@neutral()
def train_in_group(run: Run, group: Group, resumed: bool) -> None:
    """Train along with the first process of a group, without writing anything."""
    prepared = _prepare(run)
    with contextlib.suppress(Interrupted):
        train(
            prepared.model,
            prepared.rows,
            run.config.training,
            validation=prepared.validation,
            folder=run.folder,
            resume=resumed,
            group=group,
        )


def _measure(model: SDLGM, dataset: Dataset, importance_samples: int, progress: bool) -> Evaluation:
    with progress_bar("evaluating", len(dataset.test), progress) as update:
        return evaluate(
            model,
            dataset.test,
            importance_samples=importance_samples,
            progress=lambda done: update(done, {}),
        )


def _split(values: Mapping[str, Any]) -> tuple[DataConfig, ModelConfig, TrainingConfig]:
    """Split a flat mapping into the three configurations; an unknown key is an error."""
    parts: list[dict[str, Any]] = [{}, {}, {}]
    kinds = (DataConfig, ModelConfig, TrainingConfig)
    for name, value in values.items():
        for part, kind in zip(parts, kinds, strict=True):
            if name in {field.name for field in dataclasses.fields(kind)}:
                part[name] = value
                break
        else:
            raise ConfigError(f"config.yaml has an unknown key {name!r}.")
    if "data" not in parts[0]:
        raise ConfigError("config.yaml does not name its data.")
    return (
        from_dict(DataConfig, parts[0]),
        from_dict(ModelConfig, parts[1]),
        from_dict(TrainingConfig, parts[2]),
    )
