"""The training loop: short, on Lightning Fabric, and a function of the step."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sdlgm.config import TrainingConfig, to_dict
from sdlgm.data import Rows
from sdlgm.errors import ConfigError, DataError, TrainingError
from sdlgm.evaluation import check_rows
from sdlgm.gradients import options
from sdlgm.models import SDLGM
from sdlgm.objectives import negative_elbo
from sdlgm.random import generator
from sdlgm.training.checkpoint import FILE, Progress, load_checkpoint, save_checkpoint
from sdlgm.training.log import Log
from sdlgm.training.order import Order
from sdlgm.training.step import TERMS, Trainer, kl_weight, learning_rate

if TYPE_CHECKING:
    from sdlgm.training.processes import Group

__all__ = ["Interrupted", "Result", "train"]

LOG_EVERY = 100


class Interrupted(TrainingError):  # noqa: N818 (not a fault)
    """Training was stopped by the user; a checkpoint was written."""


@dataclass(frozen=True)
class Result:
    """What a training came to."""

    step: int
    """Number of gradient steps taken."""
    best_step: int | None
    """Step of the weights that were kept, under early stopping."""
    seconds: float
    """Wall time of the training, all sessions added up."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The lines of the log."""


def train(
    model: SDLGM,
    rows: Rows,
    config: TrainingConfig,
    *,
    validation: Rows | None = None,
    folder: Path | str | None = None,
    resume: bool = False,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
    group: Group | None = None,
) -> Result:
    """Train a model in place.

    Parameters
    ----------
    model, rows, config
        What is trained, on what, and how.
    validation
        Rows on which the discrete bound is followed every ``config.evaluate_every`` iterations.
    folder
        Where the log and the checkpoints go; ``None`` keeps neither.
    resume
        Continue from the checkpoint in ``folder``; on one machine's CPU the outcome is bit-equal
        to that of a training that was never stopped.
    on_step
        Called with the number of steps taken and the latest numbers, for a progress display.
    group
        The processes that train with this one, each with the same arguments; only rank 0 writes.
        :func:`~sdlgm.training.fit` starts them as ``config.devices`` says.

    Raises
    ------
    ConfigError
        If ``config.devices`` is not the size of the group.
    DataError
        If the rows do not suit the model.
    TrainingError
        If a term of the objective is not finite; the message names step and term.
    Interrupted
        After Ctrl-C or SIGTERM: the step under way is finished and a checkpoint written.
    """
    check_rows(model, rows, "the training data")
    if validation is not None:
        check_rows(model, validation, "the validation data")
    if config.patience is not None and validation is None:
        raise DataError("Early stopping (patience) needs validation rows.")
    if config.devices != (group.size if group else 1):
        raise ConfigError(
            f"devices = {config.devices}, but this is one process. sdlgm.fit (or sdlgm fit) starts "
            "as many as are asked for."
        )
    folder = None if folder is None else Path(folder)
    trainer = Trainer(model, config, group)
    adam, objective = trainer.adam, trainer.objective
    mark = _fingerprint(model, rows, validation, config)
    progress = load_checkpoint(folder, objective, adam, mark) if folder and resume else Progress()
    if group and group.rank:
        folder = None  # the first process writes
    log = Log(folder / "log.jsonl" if folder else None, keep_until=progress.step)
    order = Order(len(rows), config.batch_size, config.seed)
    if order.batch_size % config.devices:
        raise ConfigError(
            f"devices = {config.devices} cannot share the {len(rows)} rows of the data evenly."
        )
    window = _Window(progress.step)
    started = time.monotonic() - progress.seconds

    def checkpoint() -> None:
        progress.seconds = time.monotonic() - started
        if folder:
            save_checkpoint(folder, objective, adam, progress, mark)

    model.train()
    with _signals() as interrupted:
        while progress.step < config.iterations and not progress.stopped:
            step = progress.step
            x = rows.batch(order.batch(step), generator(config.seed, "bits", step))
            terms, stopping = trainer.step(x, step), bool(interrupted)
            if group:  # all see the means of the whole batch, and stop at the same step
                both = group.sum(torch.cat([terms.detach().cpu(), torch.tensor([1.0 * stopping])]))
                terms, stopping = both[:-1] / group.size, bool(both[-1] > 0)
            window.add(terms)
            progress.step = step = step + 1

            last = step == config.iterations
            evaluating = validation is not None and (step % config.evaluate_every == 0 or last)
            saving = step % config.checkpoint_every == 0 or stopping
            if step % LOG_EVERY == 0 or last or evaluating or saving:
                window.check(folder, model)
            if step % LOG_EVERY == 0 or last:
                log.write(_line(window, model, config, step, time.monotonic() - started))
                window = _Window(step)
            if evaluating:
                value = math.nan
                if not group or group.rank == 0:
                    value = _validate(model, validation, config)  # type: ignore[arg-type]
                if group:
                    value = group.from_first(value)
                log.write({"event": "validation", "step": step, "negative_elbo": value})
                _track(progress, value, model, config)
            if saving or last or progress.stopped:
                checkpoint()
            if on_step:
                on_step(step, log.latest)
            if stopping and not last and not progress.stopped:
                raise Interrupted(
                    f"Stopped at step {step} of {config.iterations}."
                    + (f" Go on with: sdlgm resume {folder}" if folder else "")
                )
    if progress.best:
        model.load_state_dict(progress.best)
    model.eval()
    best = progress.best_step if progress.best else None
    return Result(progress.step, best, progress.seconds, log.lines)


class _Window:
    """Terms of the steps since the last line of the log, read from the device once a line."""

    def __init__(self, start: int) -> None:
        self.start, self.terms = start, []  # type: int, list[Tensor]

    def add(self, terms: Tensor) -> None:
        self.terms.append(terms)

    def means(self) -> list[float]:
        return torch.stack(self.terms).double().mean(0).tolist()

    def check(self, folder: Path | None, model: nn.Module) -> None:
        """Raise :class:`TrainingError` at the first step with a term that is not finite."""
        bad = ~torch.isfinite(torch.stack(self.terms)) if self.terms else torch.zeros(0)
        if bool(bad.any()):
            row, column = (int(i) for i in bad.nonzero()[0])
            name = (*TERMS, "active_features")[column]
            value = float(self.terms[row][column])
            what = f"Step {self.start + row + 1}: the term {name} is {value}."
        else:
            names = [n for n, p in model.named_parameters() if bool(p.isnan().any())]
            if not names:
                return
            what = f"By step {self.start + len(self.terms)} the weights {names[0]} became NaN."
        kept = folder is not None and (folder / FILE).is_file()
        raise TrainingError(
            f"{what} Try a lower --learning-rate or a --gradient-clip (for example 10)."
            + (f" The last good checkpoint stays in {folder}." if kept else "")
        )


def _line(
    window: _Window, model: SDLGM, config: TrainingConfig, step: int, seconds: float
) -> dict[str, Any]:
    reconstruction, kl_gates, kl_features, active = window.means()
    line = {
        "event": "train",
        "step": step,
        "objective": reconstruction + kl_gates + kl_features,
        "reconstruction": reconstruction,
        "kl_gates": kl_gates,
        "kl_features": kl_features,
        "kl_weight": kl_weight(config, step - 1),
        "learning_rate": learning_rate(config, step - 1),
        "seconds": round(seconds, 3),
    }
    if {"gate_temperature", "slope"} & options(str(config.estimator)):  # it is relaxed
        line["gate_temperature"] = model.gate_temperature.item()
        line["feature_temperature"] = model.feature_temperature.item()
    if config.estimator != "gumbel_softmax":  # which decodes no codes
        line["active_features"] = active
    return line


def _validate(model: SDLGM, rows: Rows, config: TrainingConfig) -> float:
    """Mean negative ELBO of hard codes; the same bits and noise at each call."""
    device = next(model.parameters()).device
    noise = generator(config.seed, "validation", device=device)
    bits = generator(config.seed, "validation bits")
    model.eval()
    total = sum(
        float(negative_elbo(model, x.to(device), generator=noise).total.double().sum())
        for x in rows.batches(500, bits)
    )
    model.train()
    return total / len(rows)


def _track(progress: Progress, value: float, model: SDLGM, config: TrainingConfig) -> None:
    """Keep the best weights, and stop when they have not got better for long enough."""
    if config.patience is None:
        return
    if progress.best_value is None or value < progress.best_value:
        progress.best_value, progress.best_step, progress.misses = value, progress.step, 0
        progress.best = {n: t.detach().cpu().clone() for n, t in model.state_dict().items()}
    else:
        progress.misses += 1
        progress.stopped = progress.misses >= config.patience


def _fingerprint(model: SDLGM, rows: Rows, validation: Rows | None, config: TrainingConfig) -> str:
    """Digest of all that a training is a function of."""
    given = to_dict(model.config, config)
    del given["devices"]  # which changes nothing but rounding
    settings = [given, rows.dynamic, rows.sha256()]
    settings.append(validation.sha256() if validation is not None else None)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that a step is never cut in two; a second one is obeyed."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def handle(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
