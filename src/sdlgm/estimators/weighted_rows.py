"""From checked rows to a trained model, and its numbers for rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.config import LikelihoodName, ModelConfig, TrainingConfig
from sdlgm.data import Rows, Samples, SparseRows
from sdlgm.models import SDLGM
from sdlgm.nn import check_data, data_statistics, rows_at_once
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.random import generator
from sdlgm.training.loop import Interrupted, train
from sdlgm.training.order import WeightedOrder
from sdlgm.training.step import Trainer
from sdlgm.training.window import Window

__all__ = ["BLOCK", "WeightedRows", "elbo", "fit_model", "make_rows", "new_model", "update_model"]

BLOCK = 1000
"""Rows that are encoded or decoded at a time."""


class WeightedRows(NamedTuple):
    """What is trained on."""

    rows: Samples
    weights: NDArray[np.float64]
    """Of each row, shape ``(n,)``, 0 or more."""

    def order(self, batch_size: int, seed: int) -> WeightedOrder:
        """Return batches by weight, the rows sorted by a projection of their values."""
        direction = torch.randn(
            self.rows.n_inputs, dtype=torch.float64, generator=generator(0, "row keys")
        )
        blocks = self.rows.grey().split(rows_at_once(self.rows.n_inputs))
        keys = torch.cat([block.double() @ direction for block in blocks])
        return WeightedOrder(torch.from_numpy(self.weights), keys, batch_size, seed)


Show = Callable[[int, dict[str, float]], None]
"""Takes the number of steps and the latest numbers, for a progress display."""


def make_rows(table: Any, likelihood: LikelihoodName) -> Samples:
    """Return checked rows, an array or CSR of float32, as the training takes them.

    Raises
    ------
    DataError
        If the values do not suit the likelihood.
    """
    bits = likelihood == "bernoulli"
    rows: Samples
    if sp.issparse(table):
        rows = SparseRows(table, dynamic=bits, name="X")
    else:  # torch wants memory that it could write to
        values = torch.from_numpy(np.require(table, requirements=["C", "W"]))
        rows = Rows(values, dynamic=bits, name="X")
    check_data(likelihood, rows)
    return rows


def new_model(config: ModelConfig, data: WeightedRows, seed: int) -> SDLGM:
    """Return a model with random weights, centred on the rows."""
    weights = torch.from_numpy(data.weights)
    statistics = data_statistics(data.rows.grey(), weights=weights)
    return SDLGM(config, statistics, generator(seed, "weights"))


def fit_model(
    model: SDLGM, data: WeightedRows, config: TrainingConfig, show: Show
) -> list[dict[str, Any]]:
    """Train a model in place, from the first step to the last; return the lines of the log.

    Raises
    ------
    TrainingError
        If a term of the objective is not finite.
    KeyboardInterrupt
        After Ctrl-C, so that it also ends a search that fits many estimators.
    """
    order = data.order(config.batch_size, config.seed)
    try:
        result = train(model, data.rows, config, order=order, on_step=show)
    except Interrupted as stop:
        raise KeyboardInterrupt(f"{stop} Nothing is kept.") from None
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
    """Train a model in place for one pass: as many steps as there are batches, rounded up.

    Parameters
    ----------
    model, data, config
        What is trained, on what, and how.
    start
        Number of steps taken before.
    adam
        State of the optimiser after these; ``None`` at its first use.
    show
        Display of progress.

    Returns
    -------
    step, adam, line
        The number of steps taken, the optimiser's new state, and the line of the log.

    Raises
    ------
    TrainingError
        If a term of the objective is not finite.
    """
    trainer, window = Trainer(model, config), Window(start)
    if adam is not None:
        trainer.adam.load_state_dict(copy.deepcopy(adam))  # which would change it in place
    order = data.order(config.batch_size, config.seed)
    stop = start + math.ceil(len(data.rows) / config.batch_size)
    model.train()
    for step in range(start, stop):
        x = data.rows.batch(order.batch(step), generator(config.seed, "bits", step))
        window.add(trainer.step(x, step))
        show(step - start + 1, {})
    window.check(model)
    line = _reproducible(window.line(model, config, stop, 0.0))
    model.cpu().eval()
    return stop, trainer.adam.state_dict(), line


def elbo(model: SDLGM, rows: Samples, seed: int) -> NDArray[np.float64]:
    """Evidence lower bound of each row, nats, of one hard code a row: ``(n,)``."""
    bits, noise = generator(seed, "evaluation bits"), generator(seed, "evaluation codes")
    bounds = [
        -negative_elbo(model, x, generator=noise).total.double() for x in rows.batches(BLOCK, bits)
    ]
    return torch.cat(bounds).numpy()


def in_blocks(values: Any) -> Iterator[Tensor]:
    """Hand out checked rows, an array or CSR, in dense blocks."""
    yield from make_rows(values, "gaussian").grey().split(BLOCK)


def _reproducible(line: dict[str, Any]) -> dict[str, Any]:
    """Leave out how long it took, so that equal fits have equal histories."""
    return {name: value for name, value in line.items() if name != "seconds"}
