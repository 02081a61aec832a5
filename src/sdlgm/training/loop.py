"""The training loop: short, on Lightning Fabric, and a function of the step."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sdlgm.config import TrainingConfig, to_dict
from sdlgm.data import Rows, Samples
from sdlgm.errors import ConfigError, DataError, TrainingError
from sdlgm.interrupts import handling
from sdlgm.models import SDLGM
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.random import generator
from sdlgm.training.checkpoint import FILE, Progress, load_checkpoint, save_checkpoint
from sdlgm.training.log import Log
from sdlgm.training.order import Batches, Order
from sdlgm.training.step import Trainer
from sdlgm.training.tracking import check_tracker, tracking
from sdlgm.training.window import Window

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
    """Train a model in place.

    Parameters
    ----------
    model, rows, config
        What is trained, on what, and how.
    order
        Which rows a step visits. Default: a new permutation each epoch. Like the rows, it must be
        given again to resume.
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
        If ``config.devices`` is not the size of the group, or ``config.tracker`` is not installed
        or has no folder to write into.
    DataError
        If the rows do not suit the model.
    TrainingError
        If a term of the objective is not finite; the message names step and term.
    Interrupted
        After Ctrl-C or SIGTERM: the step under way is finished and a checkpoint written.
    """
    model.check_rows(rows, "the training data")
    if validation is not None:
        model.check_rows(validation, "the validation data")
    if config.patience is not None and validation is None:
        raise DataError("Early stopping (patience) needs validation rows.")
    if config.devices != (group.size if group else 1):
        raise ConfigError(
            f"devices = {config.devices}, but this is one process. sdlgm.fit (or sdlgm fit) starts "
            "as many as are asked for."
        )
    folder = None if folder is None else Path(folder)
    check_tracker(config.tracker, folder)
    trainer = Trainer(model, config, group)
    config, adam, objective = trainer.config, trainer.adam, trainer.objective
    mark = _fingerprint(model, rows, validation, config)
    progress = load_checkpoint(folder, objective, adam, mark) if folder and resume else Progress()
    tracker_name = config.tracker
    if group and group.rank:
        folder, tracker_name = None, "none"  # the first process writes
    if order is None:
        order = Order(len(rows), config.batch_size, config.seed)
        if order.batch_size % config.devices:
            raise ConfigError(
                f"devices = {config.devices} cannot share the {len(rows)} rows of the data evenly."
            )
    window = Window(progress.step)
    started = time.monotonic() - progress.seconds

    def checkpoint() -> None:
        progress.seconds = time.monotonic() - started
        if folder:
            save_checkpoint(folder, objective, adam, progress, mark)

    model.train()
    settings = to_dict(model.config, config)
    with (
        tracking(tracker_name, folder, settings, progress.step) as tracker,
        _signals() as interrupted,
    ):
        log = Log(folder / "log.jsonl" if folder else None, progress.step, tracker)
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
                kept = folder if folder and (folder / FILE).is_file() else None
                window.check(model, kept)
            if step % LOG_EVERY == 0 or last:
                log.write(window.line(model, config, step, time.monotonic() - started))
                window = Window(step)
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


def _fingerprint(
    model: SDLGM, rows: Samples, validation: Rows | None, config: TrainingConfig
) -> str:
    """Digest of all that a training is a function of."""
    about = to_dict(model.config, config)
    del about["tracker"]  # which has no influence
    del about["devices"]  # which changes nothing but rounding
    settings = [about, rows.dynamic, rows.sha256()]
    settings.append(validation.sha256() if validation is not None else None)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that a step is never cut in two; a second one is obeyed."""
    seen: list[int] = []

    def handle(number: int, frame: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    with handling(handle, signal.SIGINT, signal.SIGTERM):
        yield seen
