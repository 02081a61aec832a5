"""Training of a model on rows: its task for the loop, its log, validation and checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sdlgm.config import TrainingConfig, to_dict
from sdlgm.data import Rows, Samples
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, DataError, TrainingError
from sdlgm.gradients import options
from sdlgm.migration import without_later
from sdlgm.models import SDLGM
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.random import generator
from sdlgm.training.callbacks import (
    Agreement,
    Checkpoints,
    Display,
    LogLines,
    Validation,
    describe_not_finite,
)
from sdlgm.training.checkpoint import FILE, load_checkpoint, save_checkpoint
from sdlgm.training.hard_em import Turn, fit_codes, rows_of_turns
from sdlgm.training.log import Log
from sdlgm.training.loop import Callback, Interrupted, run_loop
from sdlgm.training.order import Batches, Order
from sdlgm.training.recorded import (
    Recorder,
    ResidentSteps,
    record,
    why_not_recorded,
    why_not_resident,
)
from sdlgm.training.state import LoopState
from sdlgm.training.step import TERMS, Trainer, kl_weight, rate_schedule
from sdlgm.training.tracking import check_tracker, tracking

if TYPE_CHECKING:
    from sdlgm.training.processes import Group

__all__ = ["ModelTask", "Result", "search_and_refit", "train"]

LOG_EVERY = 100
"""Steps between two lines of the log."""


@dataclass(frozen=True)
class Result:
    """The outcome of a training."""

    step: int
    """Number of gradient steps taken."""
    best_step: int | None
    """Step of the weights that were kept, under early stopping."""
    seconds: float
    """Wall time of the training, over all sessions."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The lines of the log."""


class ModelTask:
    """Gradient steps of a model on rows, for :func:`~sdlgm.training.loop.run_loop`.

    Parameters
    ----------
    trainer
        The model with its objective and optimiser.
    rows, order
        The data, and which of its rows a step visits.
    folder
        Where checkpoints are, for an error message to name.
    recorder
        Records the step on a GPU; ``None`` takes each step anew.

    Attributes
    ----------
    not_recorded
        Why steps are not recorded; ``None`` if they are.
    """

    def __init__(
        self,
        trainer: Trainer,
        rows: Samples,
        order: Batches,
        folder: Path | None = None,
        recorder: Recorder | None = record,
    ) -> None:
        self.trainer, self.rows, self.order, self.folder = trainer, rows, order, folder
        self.config, self.model = trainer.config, trainer.objective.model
        self.optimizer: torch.optim.Optimizer = trainer.adam
        self.schedule = rate_schedule(trainer.config)
        self.not_recorded = why_not_recorded(trainer, rows)
        self._resident: ResidentSteps | None = None
        if isinstance(rows, Rows) and why_not_resident(trainer, rows) is None:
            recorder = None if self.not_recorded else recorder
            self._resident = ResidentSteps(trainer, rows, order, recorder)

    def prepare(self, step: int) -> None:
        """Record the step on a GPU before step ``step`` is taken. Nothing is trained."""
        if self._resident:
            self.not_recorded = self._resident.prepare(step) or self.not_recorded

    def step(self, step: int) -> Tensor:
        """Take gradient step ``0, 1, ...``; return ``TERMS`` and active features, ``(4,)``."""
        if self._resident:
            return self._resident(step)
        bits = generator(self.config.seed, "bits", step)
        return self.trainer.step(self.rows.batch(self.order.batch(step), bits), step)

    def check(self, start: int, terms: list[Tensor]) -> None:
        """Raise ``TrainingError`` for the first term, or else weight, that is not finite."""
        names = tuple(f"term {name}" for name in (*TERMS, "active_features"))
        what = describe_not_finite(names, start, terms)
        if what is None:
            weights = dict(self.model.named_parameters())
            found = torch.stack([weight.isnan().any() for weight in weights.values()]).tolist()
            bad = [name for name, nan in zip(weights, found, strict=True) if nan]
            if not bad:
                return
            what = f"The weights {bad[0]} became NaN by step {start + len(terms)}."
        saved = self.folder is not None and (self.folder / FILE).is_file()
        raise TrainingError(
            f"{what} Try a lower learning_rate (--learning-rate), or a gradient_clip "
            "(--gradient-clip) of for example 10."
            + (f" The last good checkpoint stays in {self.folder}." if saved else "")
        )

    def line(self, terms: list[Tensor], state: LoopState) -> dict[str, Any]:
        """Return a line of the log: means of the terms of some steps, and the current settings."""
        config = self.config
        reconstruction, kl_gates, kl_features, active = torch.stack(terms).double().mean(0).tolist()
        line = {
            "event": "train",
            "step": state.step,
            "objective": reconstruction + kl_gates + kl_features,
            "reconstruction": reconstruction,
            "kl_gates": kl_gates,
            "kl_features": kl_features,
            "kl_weight": kl_weight(config, state.step - 1),
            "learning_rate": self.schedule(state.step - 1),
            "seconds": round(state.seconds, 3),
        }
        if {"gate_temperature", "slope"} & options(str(config.estimator)):  # samples are relaxed
            line["gate_temperature"] = self.model.gate_temperature.item()
            line["feature_temperature"] = self.model.feature_temperature.item()
        if config.estimator != "gumbel_softmax":  # it decodes no discrete codes
            line["active_features"] = active
        return line


@neutral()
def train(
    model: SDLGM,
    rows: Samples,
    config: TrainingConfig,
    *,
    order: Batches | None = None,
    validation: Rows | None = None,
    folder: Path | str | None = None,
    resume: bool = False,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    group: Group | None = None,
) -> Result:
    """Train a model in place, on the device of ``config``; it is then where it was before.

    Parameters
    ----------
    model, rows, config
        The model, the training data and the settings.
    order
        Which rows a step visits. Default: a new permutation each epoch. To resume, pass the same
        rows and order.
    validation
        Rows on which to evaluate the discrete bound every ``config.evaluate_every`` iterations.
    folder
        Where to write the log and the checkpoints; ``None`` writes neither.
    resume
        Continue from the checkpoint in ``folder``. On the CPU or the GPU of one machine the outcome
        is bit-equal to that of an uninterrupted training.
    on_step
        Called with the number of steps taken and the latest numbers, for a progress display.
    group
        The processes that train together, each with the same arguments; only rank 0 writes.
        :func:`~sdlgm.training.fit` starts as many as ``config.devices``.

    Raises
    ------
    ConfigError
        If ``config.devices`` is not the size of the group, or ``config.tracker`` is not installed
        or has no folder to write to.
    DataError
        If the rows do not suit the model.
    TrainingError
        If a term of the objective is not finite; the message names the term and the step.
    Interrupted
        After Ctrl-C or SIGTERM, once the current step is complete and a checkpoint is written.
    """
    folder = None if folder is None else Path(folder)
    _check_arguments(model, rows, config, validation, folder, group)
    home = model.device
    trainer = Trainer(model, config, group)
    config = trainer.config
    fingerprint = _fingerprint(model, rows, validation, config)
    state = LoopState(config.iterations)
    if folder and resume:
        load_checkpoint(folder, trainer.objective, trainer.adam, state, fingerprint)
    if group and group.rank:
        folder = None  # only the first process writes
    task = ModelTask(trainer, rows, order or _default_order(len(rows), config), folder)
    tracker_name = config.tracker if folder else "none"
    settings = to_dict(model.config, config)

    def save(state: LoopState) -> None:
        if folder:
            save_checkpoint(folder, trainer.objective, trainer.adam, state, fingerprint)

    model.train()
    with tracking(tracker_name, folder, settings, state.step) as tracker:
        log = Log(folder / "log.jsonl" if folder else None, state.step, tracker)
        callbacks: list[Callback] = [LogLines(log.write, task.line, every=LOG_EVERY)]
        if group:
            callbacks.insert(0, Agreement(group))
        if validation is not None:
            callbacks.append(_validation(model, validation, config, log, group))
        callbacks.append(Checkpoints(save, every=config.checkpoint_every))
        if config.objective == "rate_distortion" and not state.step:
            for turn in search_and_refit(task, on_step):
                log.write(turn.line())
        _record_step(task, state.step, log)
        if on_step:
            callbacks.append(Display(on_step, lambda: log.latest))
        try:
            run_loop(task, state, callbacks)
        except Interrupted as stop:
            how = f" Continue with: sdlgm resume {folder}" if folder else ""
            raise Interrupted(f"{stop}{how}") from None
    model.to(home).eval()
    best = state.best.step if state.best.weights else None
    return Result(state.step, best, state.seconds, log.lines)


def _record_step(task: ModelTask, step: int, log: Log) -> None:
    """Record the step on a GPU, and log whether it is."""
    device = task.trainer.fabric.device
    task.prepare(step)
    if device.type == "cuda":
        name, why = torch.cuda.get_device_name(device), task.not_recorded
        line = {"event": "device", "step": step, "device": name, "recorded": why is None}
        log.write(line if why is None else {**line, "reason": why})


def search_and_refit(
    task: ModelTask, on_step: Callable[[int, dict[str, float]], None] | None = None
) -> list[Turn]:
    """Fit decoder and prior before the gradient steps, which then train the encoder alone.

    It is repeated if a training is resumed before its first checkpoint. Each process of a group
    does the same.
    """
    index, weights = task.order.at_most(rows_of_turns(task.rows.n_inputs))

    def show(turn: Turn) -> None:
        if on_step:
            place = {"turn": turn.turn, "of": task.config.turns}
            on_step(0, {**place, "distortion": turn.distortion, "bits": turn.bits})

    return fit_codes(
        task.model, task.rows, task.config, index=index, weights=weights,
        device=task.trainer.fabric.device, show=show,
    )  # fmt: skip


def _check_arguments(
    model: SDLGM,
    rows: Samples,
    config: TrainingConfig,
    validation: Rows | None,
    folder: Path | None,
    group: Group | None,
) -> None:
    model.check_rows(rows, "the training data")
    if validation is not None:
        model.check_rows(validation, "the validation data")
    if config.patience is not None and validation is None:
        raise DataError("Early stopping (patience) needs validation rows.")
    if config.devices != (group.size if group else 1):
        raise ConfigError(
            f"devices = {config.devices}, but this is one process. Use sdlgm.fit (or sdlgm fit), "
            "which starts the others."
        )
    check_tracker(config.tracker, folder)


def _default_order(rows: int, config: TrainingConfig) -> Order:
    order = Order(rows, config.batch_size, config.seed)
    if order.batch_size % config.devices:
        raise ConfigError(
            f"devices = {config.devices} cannot share the {rows} rows of the data evenly."
        )
    return order


def _validation(
    model: SDLGM, rows: Rows, config: TrainingConfig, log: Log, group: Group | None
) -> Validation:
    """Return the callback that evaluates the discrete bound; one process of a group computes it."""

    def evaluate() -> float:
        value = math.nan if group and group.rank else _held_out_bound(model, rows, config)
        return group.from_first(value) if group else value

    def report(state: LoopState, value: float) -> None:
        log.write({"event": "validation", "step": state.step, "negative_elbo": value})

    return Validation(
        model,
        evaluate,
        report,
        every=config.evaluate_every,
        keep_best=config.patience is not None,
        patience=config.patience,
    )


def _held_out_bound(model: SDLGM, rows: Rows, config: TrainingConfig) -> float:
    """Return the mean negative ELBO, with the same bits and noise at each call."""
    device = next(model.parameters()).device
    noise = generator(config.seed, "validation", device=device)
    bits = generator(config.seed, "validation bits")
    total = sum(
        float(negative_elbo(model, x.to(device), generator=noise).total.double().sum())
        for x in rows.batches(500, bits)
    )
    return total / len(rows)


def _fingerprint(
    model: SDLGM, rows: Samples, validation: Rows | None, config: TrainingConfig
) -> str:
    """Return a digest of everything that determines the outcome of a training."""
    settings = without_later(to_dict(model.config, config))
    del settings["tracker"]  # has no influence
    del settings["devices"]  # changes only rounding
    settings["accelerator"] = "cpu"  # a checkpoint may be continued on another device
    parts = [settings, rows.dynamic, rows.sha256()]
    parts.append(validation.sha256() if validation is not None else None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
