"""Runs: a training in a folder, from the data to the trained model and its test metrics."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch

from sdlgm.config import (
    Accelerator,
    DataConfig,
    ModelConfig,
    ObjectiveName,
    TrainingConfig,
    resolve_training,
)
from sdlgm.data import (
    BUILT_IN,
    SUFFIXES,
    Columns,
    Dataset,
    FolderRows,
    Rows,
    file_sha256,
    is_folder,
    load_data,
    resolve_binarisation,
)
from sdlgm.data.folder_tables import folder_sha256
from sdlgm.environment import describe_device, device_of, neutral, resolve_accelerator
from sdlgm.errors import ConfigError, DataError, ModelFileError, SDLGMWarning, warn
from sdlgm.folders import METRICS, SETTINGS, holds_metrics, holds_run
from sdlgm.gradients import get_estimator
from sdlgm.inference.codes import encode_batches
from sdlgm.inference.evaluation import Evaluation, evaluate
from sdlgm.inference.usage import FEW, count_used, warn_of_unused
from sdlgm.models import SDLGM, load_model, model_sha256, save_model
from sdlgm.nn import check_data, data_statistics, warn_of_constant_columns
from sdlgm.outputs import check_space, locked, sweep
from sdlgm.progress import progress_bar, silenced
from sdlgm.random import generator
from sdlgm.storage import read_json, write_json
from sdlgm.training.checkpoint import FILE as CHECKPOINT
from sdlgm.training.log import read_log
from sdlgm.training.loop import Interrupted
from sdlgm.training.model_training import train
from sdlgm.training.run_config import RunConfig
from sdlgm.training.run_data import LoadedRows, load_rows, stream_rows
from sdlgm.training.run_folders import check_folder, place, replaced_by, replacing, starting
from sdlgm.training.step import check_shared
from sdlgm.training.tracking import check_tracker
from sdlgm.version import __version__

if TYPE_CHECKING:
    from sdlgm.training.processes import Group

__all__ = ["LoadedRows", "Run", "RunConfig", "fit", "resume", "train_in_group"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A folder with ``config.yaml``, ``columns.json``, ``log.jsonl``, the model and its metrics.

    Parameters
    ----------
    folder
        The folder.
    config
        The settings that the run was started with.
    """

    folder: Path
    config: RunConfig
    has_settings: ClassVar[bool] = True
    """Whether the folder holds the settings of the training."""

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """Open the run in a folder, or the model in it without its run, as from the Hub.

        Raises
        ------
        ModelFileError
            If the folder holds neither.
        ConfigError
            If its ``config.yaml`` has an unknown key or a wrong value.
        """
        folder = Path(folder)
        if not holds_run(folder):
            from sdlgm.training.model_folders import ModelFolder  # which imports this module

            return ModelFolder.open(folder)
        run = cls(folder, RunConfig.from_yaml(folder / SETTINGS))
        run._check_parts()
        return run

    def _check_parts(self) -> None:
        """Raise :class:`ModelFileError` if ``metrics.json`` is there and of other settings."""
        expected = self._measured().get("settings_sha256")
        if expected is not None and expected != self.config.sha256():
            raise ModelFileError(
                f"{self.folder / SETTINGS} does not belong to this run: its settings are not "
                "those that the model was trained with. Restore it from a copy, or train again."
            )

    @functools.cached_property
    def model(self) -> SDLGM:
        """The trained model.

        Raises
        ------
        ModelFileError
            If the run is not finished, a file of the model is damaged, or the model is not that of
            this run.
        """
        model = load_model(self.folder)
        self._check_model(model)
        return model

    def _check_model(self, model: SDLGM) -> None:
        """Raise :class:`ModelFileError` if the model is not that of the settings and metrics."""
        expected = self._measured().get("model_sha256")
        if model.config != self.config.model or expected not in (None, model_sha256(model)):
            raise ModelFileError(
                f"{self.folder} holds the settings of one run and the model of another. Restore "
                "config.yaml, metrics.json, config.json and model.safetensors from one copy, or "
                "train again."
            )

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data that the model was trained on.

        Raises
        ------
        DataError
            If they are a file that is gone, has changed, or cannot be recognised because neither
            its absolute path nor its SHA-256 was recorded (as by version 0.1).
        """
        data = self.config.data
        if data.data not in BUILT_IN and not (data.data_sha256 and Path(data.data).is_absolute()):
            raise DataError(
                f"{self.folder} does not record which file {data.data} was: it has no absolute "
                "path or no SHA-256. Name the data: --data FILE."
            )
        if data.data not in BUILT_IN and not (is_folder(data.data) or Path(data.data).is_file()):
            raise DataError(
                f"{data.data}, which {self.folder} was trained on, does not exist any more. "
                "Restore it, or name the data: --data FILE."
            )
        with warnings.catch_warnings():
            if holds_metrics(self.folder):  # said when the run was trained
                warnings.simplefilter("ignore", SDLGMWarning)
            dataset = load_data(data, self.config.model.likelihood)
        self._check_source(dataset)
        return dataset

    def _check_source(self, dataset: Dataset) -> None:
        """Raise :class:`DataError` if the rows were made from something else than those of fit."""
        source = self._measured().get("data_source")
        if source is not None and source != dataset.source:
            raise DataError(
                f"{self.folder} was trained on {dataset.name} ({source}), but here it is "
                f"{dataset.source}. Provide the data of the training, or train again."
            )

    @functools.cached_property
    def columns(self) -> Columns:
        """Names, types and ranges of the columns of the training data, as far as recorded."""
        return Columns.read(self.folder) or Columns()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of ``log.jsonl``."""
        path = self.folder / "log.jsonl"
        return read_log(path) if path.is_file() else []

    @property
    def metrics(self) -> dict[str, Any]:
        """The held-out numbers measured after training, with what they were measured on."""
        path = self.folder / METRICS
        metrics = read_json(path)
        if not isinstance(metrics, dict):
            raise ModelFileError(f"{path} is damaged: it does not map names to numbers.")
        return metrics

    def _measured(self) -> dict[str, Any]:
        """Return the numbers measured after training; none before."""
        return self.metrics if holds_metrics(self.folder) else {}

    def load_rows(
        self,
        data: Any = None,
        split: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        keep: Sequence[str] | None = None,
        header: bool | None = None,
    ) -> LoadedRows:
        """Load rows for the model, binarised as the run's own data.

        A file is taken as it is, in its order. A folder or pattern of files is, too, if its rows
        fit into memory; otherwise a random sample is taken, and a warning says so (see
        :meth:`stream_rows`). Columns are matched with those of the training
        data by name, or by position if either has no names. Values far outside of the training
        range are counted in a warning.

        Parameters
        ----------
        data
            A built-in set, a file, a folder or pattern of files, an array, an Arrow table, or a
            data frame of pandas or polars. Default: the run's own data.
        split
            ``"train"``, ``"test"`` or ``"all"``. Only built-in sets and the run's own file, which
            is recognised by its content, have a split. Default: the test rows of the run's own
            data and of built-in sets, all rows of a named file.
        columns
            Columns of a file to read instead, in the model's order.
        keep
            Columns of a file to pass through. Default: those of the run that the file has. The
            columns to keep of a folder are not read.
        header
            Whether a CSV file has a line of names. Default: as the run's own.

        Raises
        ------
        DataError
            If data cannot be read, do not have the model's columns, or have no such split.
        """
        return load_rows(self, data, split, columns, keep, header)

    def stream_rows(
        self,
        data: Path | str | None = None,
        *,
        columns: Sequence[str] | None = None,
        keep: Sequence[str] | None = None,
        header: bool | None = None,
    ) -> FolderRows:
        """Return all rows of a folder or pattern of files, which are read as they are used.

        They are in the order of the files, which is that of their names. The options are those of
        :meth:`load_rows`.

        Raises
        ------
        DataError
            If files cannot be read or their columns are not the model's; the message names the
            file. Values are checked when they are reached.
        """
        return stream_rows(self, data, columns, keep, header)


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
        Folder of the run: a new or empty one.
    overwrite
        Whether to replace an existing run. The new run is trained in the folder ``OUT.new`` and
        takes the place of the old one when it is complete.
    importance_samples
        Number M of codes per sample in the ``nll_bound`` of the final evaluation.
    progress
        Whether to show progress bars on standard error.

    Raises
    ------
    ConfigError
        If ``out`` holds a run and not ``overwrite``, or anything else, or a setting does not fit.
    DataError
        If the data do not suit the model.
    TrainingError
        If a term of the objective is not finite.
    Interrupted
        After Ctrl-C or SIGTERM, once a checkpoint is written.
    """
    with silenced(not progress):
        data = recorded(data)
    _check_kinds(model, training)
    model = model or ModelConfig()
    training = resolve_training(training or TrainingConfig(), model)
    device = resolve_accelerator(training.accelerator, training.devices)
    training = dataclasses.replace(training, accelerator=device)  # what the run will record
    kind = resolve_binarisation(data, model.likelihood)
    data = dataclasses.replace(data, binarisation=kind)
    _check_samples(importance_samples)
    target = check_folder(out, overwrite, RunConfig.from_yaml)
    run = Run(place(target), RunConfig(data, model, training))
    check_tracker(training.tracker, run.folder)
    get_estimator(str(training.estimator))  # fail on names and data before writing anything
    if training.devices > 1:
        check_shared(training)
    with silenced(not progress):
        prepared = _prepare(run)
    check_space(run.folder, _expected_bytes(prepared.model))
    with starting(target, run.folder):
        columns = run.dataset.columns or Columns()
        columns.with_ranges(run.dataset.train).write(run.folder)
        run.config.to_yaml(run.folder / SETTINGS)
        return _complete(run, prepared, False, importance_samples, progress)


@neutral()
def resume(
    folder: Path | str,
    *,
    accelerator: Accelerator | None = None,
    importance_samples: int = 100,
    progress: bool = True,
) -> Run:
    """Continue a run that was stopped, from its last checkpoint, or else from its beginning.

    Parameters
    ----------
    folder
        Folder of the run.
    accelerator
        Device to continue on. Default: the kind that the run was started on, so that the result is
        bit-equal to that of an uninterrupted training. On another kind it is not, which a warning
        says; the run then records the new one.
    importance_samples, progress
        See :func:`fit`.

    Raises
    ------
    ConfigError
        If the run is complete, or this machine has no such device as it was started on.
    """
    _check_samples(importance_samples)
    run = Run.open(folder)
    if holds_metrics(run.folder) and replaced_by(run.folder) is None:
        raise ConfigError(f"{run.folder} is complete; there is nothing to resume.")
    before, run = run.config, _moved(run, accelerator)
    with silenced(not progress):
        prepared = _prepare(run)
    with locked(run.folder):
        sweep(run.folder)
        if holds_metrics(run.folder):  # killed just before it replaced another
            with replacing(run.folder) as final:
                return Run(final, run.config)
        resumed = (run.folder / CHECKPOINT).exists()
        if run.config != before:
            run.config.to_yaml(run.folder / SETTINGS)
        return _complete(run, prepared, resumed, importance_samples, progress)


def _moved(run: Run, accelerator: Accelerator | None) -> Run:
    """Return a run with the device that it continues on; a warning says if it is another one."""
    training = run.config.training
    before = training.accelerator
    try:
        now = resolve_accelerator(accelerator or before, training.devices)
    except ConfigError as error:
        if accelerator:
            raise
        raise ConfigError(
            f"{run.folder} was started with accelerator = {before!r}, but this machine has no such "
            "device. Continue it where there is one, or here with accelerator = 'cpu' "
            "(--accelerator cpu): the result is as good, but not bit-equal."
        ) from error
    if now == before:
        return run
    if before != "auto":
        warn(
            f"{run.folder} was started with accelerator = {before!r} and continues with {now!r}: "
            "the result is as good, but not bit-equal to that of an uninterrupted training."
        )
    config = dataclasses.replace(
        run.config, training=dataclasses.replace(training, accelerator=now)
    )
    return Run(run.folder, config)


def _check_samples(importance_samples: int) -> None:
    if importance_samples < 1:
        raise ConfigError(f"importance_samples must be at least 1, got {importance_samples}.")


def _expected_bytes(model: SDLGM) -> int:
    """Return about how many bytes a run takes: the model, and two checkpoints while one is saved.

    A checkpoint holds the weights, the best ones so far, and two moments of each.
    """
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    return 9 * weights + 2**20


def _check_kinds(model: Any, training: Any) -> None:
    """Raise ``ConfigError`` for an argument of another kind, such as two that are swapped."""
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
    if config.training.validation_fraction and dataset.validation is not None:
        validation = dataset.validation
    elif config.training.validation_fraction:
        rows, validation = rows.split(config.training.validation_fraction, config.training.seed)
    weights = generator(config.training.seed, "weights")
    statistics = data_statistics(rows.grey())
    if config.model.likelihood == "gaussian" and dataset.image_shape is None:
        warn_of_constant_columns(statistics, rows.name, rows.columns)
    model = SDLGM(config.model, statistics, weights)
    for part, what in ((validation, f"{dataset.name} (validation rows)"), (dataset.test, None)):
        if part is not None:
            model.check_rows(part, what)
    return _Prepared(model, rows, validation)


def _complete(
    run: Run, prepared: _Prepared, resumed: bool, importance_samples: int, progress: bool
) -> Run:
    """Train or resume, save the model, evaluate it, and let the run replace another."""
    with replacing(run.folder) as final:
        try:
            _train_and_measure(run, prepared, resumed, importance_samples, progress)
        except Interrupted as stop:
            raise Interrupted(f"{stop}{_unchanged(run.folder, final)}") from None
        except KeyboardInterrupt:
            if not (run.folder / CHECKPOINT).exists():
                raise
            raise Interrupted(
                f"Stopped. Continue with: sdlgm resume {run.folder}{_unchanged(run.folder, final)}"
            ) from None
    return Run(final, run.config)


def _unchanged(folder: Path, final: Path) -> str:
    return "" if folder == final else f" ({final} holds the old run until then)"


def _train_and_measure(
    run: Run, prepared: _Prepared, resumed: bool, importance_samples: int, progress: bool
) -> None:
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
    if settings.accelerator != "mps":  # evaluation takes double precision
        model.to(device_of(settings.accelerator))
    sha = save_model(run.folder, model)
    started = time.monotonic()
    measured = _measure(model, dataset, importance_samples, progress)
    write_json(
        run.folder / METRICS,
        {
            **measured.to_dict(),
            "units": "nats per sample, lower is better; relaxed_objective is not a bound; "
            "code_bits are bits, distortion is a share of the variance",
            "data": Path(dataset.name).name,
            **({"data_source": dataset.source} if dataset.source else {}),
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
            "settings_sha256": run.config.sha256(),
            "versions": {"sdlgm": __version__, "torch": torch.__version__},
            "device": describe_device(model.device),
        },
    )
    (run.folder / CHECKPOINT).unlink(missing_ok=True)
    _warn_of_unused(model, prepared.rows, settings.objective)


def _warn_of_unused(model: SDLGM, rows: Rows, objective: ObjectiveName | None) -> None:
    features, possible = model.config.features, model.config.budget * len(rows)
    used = count_used(encode_batches(model, rows), FEW * min(features, possible))
    warn_of_unused(
        used, features, possible, objective=objective, length="iterations", number="features"
    )


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


def recorded(data: DataConfig | Path | str) -> DataConfig:
    """Return the configuration of the data, a file with its absolute path and SHA-256.

    Raises
    ------
    ConfigError
        If ``data`` is no configuration and no name.
    """
    if isinstance(data, str | os.PathLike):
        data = DataConfig(os.fspath(data))
    if not isinstance(data, DataConfig):
        raise ConfigError(
            "data must be a DataConfig, or the name or path of a data set, got a "
            f"{type(data).__name__}. For an array or a frame in memory, use SDLGMTransformer, or "
            "save it first."
        )
    if data.data in BUILT_IN:
        if data.columns or data.keep:
            raise ConfigError(f"{data.data} has no names of columns: name a file.")
        return dataclasses.replace(data, data_sha256=None)
    path = Path(data.data)
    if is_folder(data.data):
        data = dataclasses.replace(data, data=str(path.absolute()), data_sha256=None)
        return dataclasses.replace(data, data_sha256=folder_sha256(data.data))
    if path.suffix not in SUFFIXES or not path.is_file():
        load_data(dataclasses.replace(data, data_sha256=None))  # raises, with the nearest name
    return dataclasses.replace(data, data=str(path.absolute()), data_sha256=file_sha256(path))


def _measure(model: SDLGM, dataset: Dataset, importance_samples: int, progress: bool) -> Evaluation:
    with progress_bar("evaluating", len(dataset.test), progress) as update:
        return evaluate(
            model,
            dataset.test,
            importance_samples=importance_samples,
            progress=lambda done: update(done, {}),
        )
