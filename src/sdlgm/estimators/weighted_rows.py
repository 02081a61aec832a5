"""Weighted rows for the transformer: checking, training a model on them, evaluating it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from sdlgm.config import LikelihoodName, ModelConfig, TrainingConfig
from sdlgm.data import Rows, Samples, SparseRows
from sdlgm.estimators.interruption import as_keyboard_interrupt
from sdlgm.models import SDLGM
from sdlgm.nn import (
    check_data,
    data_statistics,
    rows_at_once,
    warn_of_constant_columns,
)
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.random import generator
from sdlgm.training import train
from sdlgm.training.callbacks import Display, LogLines
from sdlgm.training.loop import run_loop
from sdlgm.training.model_training import ModelTask, search_and_refit
from sdlgm.training.order import WeightedOrder
from sdlgm.training.state import LoopState
from sdlgm.training.step import Trainer

__all__ = [
    "BLOCK",
    "WeightedRows",
    "elbo",
    "fit_model",
    "make_rows",
    "new_model",
    "update_model",
]

BLOCK = 1000
"""Number of rows that are encoded or decoded at a time."""


class WeightedRows(NamedTuple):
    """Training rows with weights."""

    rows: Samples
    weights: NDArray[np.float64]
    """Weight of each row, shape ``(n,)``, 0 or more."""

    def order(self, model: SDLGM, batch_size: int, seed: int) -> WeightedOrder:
        """Return batches drawn by weight, with a random projection of the rows as sort keys.

        Rows of real numbers are projected in the standard units of the model, so that the order
        does not depend on the units of the columns.
        """
        scaled = model.config.likelihood != "bernoulli"
        direction = torch.randn(
            self.rows.n_inputs, dtype=torch.float64, generator=generator(0, "row keys")
        )
        blocks = self.rows.grey().split(rows_at_once(self.rows.n_inputs))
        keys = torch.cat(
            [
                (model.standard_units(block) if scaled else block).double() @ direction
                for block in blocks
            ]
        )
        return WeightedOrder(torch.from_numpy(self.weights), keys, batch_size, seed)


Show = Callable[[int, dict[str, float]], None]
"""Shows the progress: takes the number of steps taken and the latest numbers."""


def make_rows(
    table: Any, likelihood: LikelihoodName, columns: Sequence[str] | None = None
) -> Samples:
    """Return rows for training from a checked table, an array or CSR.

    Raises
    ------
    DataError
        If the values do not suit the likelihood.
    """
    bits = likelihood == "bernoulli"
    names = None if columns is None else tuple(map(str, columns))
    rows: Samples
    if sp.issparse(table):
        rows = SparseRows(table, dynamic=bits, name="X", columns=names)
    else:  # torch needs writable memory
        values = torch.from_numpy(np.require(table, requirements=["C", "W"]))
        rows = Rows(values, dynamic=bits, name="X", columns=names)
    check_data(likelihood, rows)
    return rows


def new_model(
    config: ModelConfig, data: WeightedRows, seed: int
) -> tuple[SDLGM, NDArray[np.float64]]:
    """Return a model with random weights that centres and scales its inputs as the rows need.

    Also return the smallest and the largest value of each column, ``(2, D)``. Constant columns of
    real numbers are named in a warning.
    """
    weights = torch.from_numpy(data.weights)
    statistics = data_statistics(data.rows.grey(), weights=weights)
    if config.likelihood == "gaussian":
        warn_of_constant_columns(statistics, "X", data.rows.columns)
    model = SDLGM(config, statistics, generator(seed, "weights"))
    low, high = statistics.low, statistics.high
    return model, torch.stack([low, high]).numpy()  # type: ignore[list-item]  # both are known


def fit_model(
    model: SDLGM, data: WeightedRows, config: TrainingConfig, show: Show
) -> list[dict[str, Any]]:
    """Train a model in place, from the first step to the last; return the lines of the log.

    Raises
    ------
    TrainingError
        If a term of the objective is not finite.
    KeyboardInterrupt
        After Ctrl-C, once the current step is complete.
    """
    order = data.order(model, config.batch_size, config.seed)
    with as_keyboard_interrupt():
        result = train(model, data.rows, config, order=order, on_step=show)
    model.cpu()
    return [_reproducible(line) for line in result.history]


def update_model(
    model: SDLGM,
    data: WeightedRows,
    config: TrainingConfig,
    start: int,
    adam: dict[str, Any] | None,
    show: Show,
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Train a model in place for one epoch: one step a batch, the last batch counted in full.

    Parameters
    ----------
    model, data, config
        The model, the training data and the settings.
    start
        Number of steps taken before.
    adam
        State of the optimiser after these steps; ``None`` before the first.
    show
        Takes the progress.

    Returns
    -------
    step, adam, line
        The number of steps taken, the optimiser's new state, and the line of the log.

    Raises
    ------
    TrainingError
        If a term of the objective is not finite.
    KeyboardInterrupt
        After Ctrl-C, once the current step is complete.
    """
    order = data.order(model, config.batch_size, config.seed)  # before the model is moved
    trainer = Trainer(model, config)
    if adam is not None:
        states = copy.deepcopy(adam["state"])  # loading shares the tensors
        trainer.adam.load_state_dict({**trainer.adam.state_dict(), "state": states})
    task = ModelTask(trainer, data.rows, order)
    if trainer.config.objective == "rate_distortion":
        trainer.objective.joint = start > 0
        if not start:
            search_and_refit(task, show)
    state = LoopState(start + math.ceil(len(data.rows) / config.batch_size), start)
    lines: list[dict[str, Any]] = []
    model.train()
    with as_keyboard_interrupt():
        run_loop(
            task, state, [LogLines(lines.append, task.line, every=None), Display(show, start=start)]
        )
    model.cpu().eval()
    return state.step, _on_cpu(trainer.adam.state_dict()), _reproducible(lines[-1])


def _on_cpu(adam: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an optimiser on the CPU, where it can be pickled."""
    return tree_map(lambda each: each.cpu() if isinstance(each, Tensor) else each, adam)


def elbo(model: SDLGM, rows: Samples, seed: int) -> NDArray[np.float64]:
    """Return the evidence lower bound of each row (nats), by one sampled code each: ``(n,)``."""
    bits = generator(seed, "evaluation bits")
    noise = generator(seed, "evaluation codes", device=model.device)
    bounds = [
        -negative_elbo(model, x.to(model.device), generator=noise).total.double()
        for x in rows.batches(BLOCK, bits)
    ]
    return torch.cat(bounds).cpu().numpy()


def in_blocks(values: Any) -> Iterator[Tensor]:
    """Yield checked rows, an array or CSR, in dense blocks."""
    yield from make_rows(values, "gaussian").grey().split(BLOCK)


def _reproducible(line: dict[str, Any]) -> dict[str, Any]:
    """Drop the wall time, so that equal fits have equal histories."""
    return {name: value for name, value in line.items() if name != "seconds"}
