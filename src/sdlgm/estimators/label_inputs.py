"""What the networks of labels read in a step: dense rows, or the non-zeros of sparse ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sdlgm.estimators.scaling import Inputs, take_rows
from sdlgm.estimators.unit_adam import LazyUnitAdam, UnitAdam
from sdlgm.estimators.validation import BLOCK, Table, pad_rows
from sdlgm.models import LabelModelConfig, SupervisedSDLGM
from sdlgm.nn.sparse_rows import OwnProduct, SparseRows

__all__ = [
    "ActiveLabels",
    "Entries",
    "Read",
    "SparseInputs",
    "block_inputs",
    "dense_inputs",
    "first_weights",
    "sparse_inputs",
]

Read: TypeAlias = Callable[[Tensor], tuple[Any, Any]]
"""Maps rows ``(members, b)`` to the encoder's inputs and the decoder's targets."""

MOST_COLUMNS = 0.2
"""Share of the columns that occur in a batch, up to which the first layer is trained by lines."""
MOST_NON_ZERO = 0.2
"""Share of values that are not 0, up to which products with non-zeros alone are faster."""


class Entries:
    """The non-zeros of a sparse table as lists, from which those of a batch are looked up."""

    def __init__(self, table: sp.csr_array) -> None:
        ends = torch.from_numpy(table.indptr.astype(np.int64))
        self.starts, self.numbers = ends[:-1], ends.diff()
        self.columns = torch.from_numpy(table.indices.astype(np.int64))

    def places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of non-zeros of each row ``(b,)``, and the places of all of them."""
        numbers = self.numbers[rows]
        # The first place of a row, minus the number of non-zeros in the rows before it.
        offset = self.starts[rows] + numbers - numbers.cumsum(0)
        places = torch.repeat_interleave(offset, numbers)
        return numbers, places.add_(torch.arange(len(places)))


class ActiveLabels(Entries):
    """The labels of all samples."""

    def __call__(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the present labels: rows in the flattened ``samples``, and columns."""
        numbers, places = self.places(samples.flatten())
        return torch.repeat_interleave(numbers), self.columns[places]


def dense_inputs(
    rows: Table,
    scaling: Inputs,
    config: LabelModelConfig,
    device: torch.device,
    first: UnitAdam | None = None,
) -> Read:
    """Return a function that gives dense inputs ``(members, b, inputs)`` and targets.

    Sparse rows are made dense one batch at a time. Targets are scaled rows, or unscaled bits.
    ``first`` multiplies the inputs by the weights that it trains.
    """
    raw = config.likelihood == "bernoulli"
    if raw or sp.issparse(rows):
        read_batch = _batch_reader(rows, scaling, raw, device)
    else:
        read_batch = _look_up(rows, scaling, device)

    def read(index: Tensor) -> tuple[Any, Tensor]:
        inputs, target = read_batch(index)
        return inputs if first is None else OwnProduct(inputs, first.multiply), target

    return read


def _batch_reader(
    rows: Table, scaling: Inputs, raw: bool, device: torch.device
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a function that scales one batch at a time."""

    def read_batch(index: Tensor) -> tuple[Tensor, Tensor]:
        taken = take_rows(rows, index.flatten().numpy())
        read, scaled = scaling(taken)
        read, target = _moved(read, torch.from_numpy(taken) if raw else scaled, device)
        return read.view(*index.shape, -1), target.view(*index.shape, -1)

    return read_batch


def _look_up(
    rows: Table, scaling: Inputs, device: torch.device
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a function that looks batches up in a table of all scaled rows."""
    read, scaled = _moved(*scaling(rows), device)

    def look_up(index: Tensor) -> tuple[Tensor, Tensor]:
        shape, flat = (*index.shape, -1), index.flatten().to(device)
        taken = read.index_select(0, flat).view(shape)
        same = scaled is read
        return taken, taken if same else scaled.index_select(0, flat).view(shape)

    return look_up


def _moved(read: Tensor, target: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return inputs and targets on a device; what was one tensor stays one."""
    moved = read.to(device)
    return moved, moved if target is read else target.to(device)


def first_weights(model: SupervisedSDLGM) -> nn.Parameter:
    """Return the weights of the encoder's first hidden layer, ``(members, inputs, units)``."""
    return model.encoder.get_parameter("layers.0.weight")


class SparseInputs:
    """Non-zeros of sparse rows, and what trains the first layer's weights by their products."""

    def __init__(self, rows: sp.csr_array, scaling: Inputs, weights: UnitAdam) -> None:
        self.entries, self.values = Entries(rows), scaling.non_zeros(rows)
        self.inputs, self.weights = rows.shape[1], weights

    def __call__(self, index: Tensor) -> tuple[SparseRows, Any]:
        """Return the inputs of rows ``(members, b)``."""
        numbers, places = self.entries.places(index.flatten())
        lines = self.entries.columns[places]
        each = numbers.view(index.shape).sum(1)
        lines += torch.repeat_interleave(torch.arange(len(each)) * self.inputs, each)
        starts = numbers.cumsum(0) - numbers
        shape = (index.shape[0], index.shape[1])
        return self._multiplied(SparseRows(shape, lines, self.values[places], starts)), None

    def _multiplied(self, rows: SparseRows) -> SparseRows:
        return replace(rows, multiply=self.weights.multiply)


class LazyInputs(SparseInputs):
    """The same, with the lines of the first layer's weights that a batch touches.

    The weights are trained by :class:`~sdlgm.estimators.unit_adam.LazyUnitAdam`, so that a step
    takes time by the number of columns that occur in its batch.
    """

    weights: LazyUnitAdam

    def __init__(self, rows: sp.csr_array, scaling: Inputs, weights: LazyUnitAdam) -> None:
        super().__init__(rows, scaling, weights)
        lines = weights.parameter.shape[0] * self.inputs
        self._place = torch.empty(lines, dtype=torch.int64)
        self._occurs = torch.zeros(lines, dtype=torch.bool)

    def _multiplied(self, rows: SparseRows) -> SparseRows:
        self._occurs[rows.lines] = True
        touched = torch.nonzero(self._occurs).squeeze(1)
        self._occurs[touched] = False
        self._place[touched] = torch.arange(len(touched))
        table = self.weights.take(touched)
        return super()._multiplied(replace(rows, lines=self._place[rows.lines], table=table))


def sparse_inputs(
    rows: Table,
    scaling: Inputs,
    model: SupervisedSDLGM,
    device: torch.device,
    batch_size: int,
) -> SparseInputs | None:
    """Return sparse inputs if they make steps faster, else ``None``."""
    config = model.config
    possible = (
        device.type == "cpu"
        and not config.decoder
        and not config.input_noise
        and scaling.keeps_zeros
    )
    if not possible:
        return None
    rows, weights = sp.csr_array(rows), first_weights(model)
    frequency = np.bincount(rows.indices, minlength=rows.shape[1]) / rows.shape[0]
    occurs = 1 - (1 - frequency.clip(max=1)) ** batch_size
    if occurs.mean() <= MOST_COLUMNS:
        return LazyInputs(rows, scaling, LazyUnitAdam(weights))
    return SparseInputs(rows, scaling, UnitAdam(weights))


def block_inputs(
    rows: Table, index: NDArray[np.int64], scaling: Inputs, members: int, device: torch.device
) -> Any:
    """Return the inputs of a block of rows for all members, filled up to ``BLOCK`` rows."""
    if sp.issparse(rows) and scaling.keeps_zeros and device.type == "cpu":
        block = rows[index]
        if block.nnz <= MOST_NON_ZERO * np.prod(block.shape):
            return _sparse_block(block, scaling, members)
    x, _ = scaling(take_rows(rows, index))
    x = pad_rows(x).to(device)
    return x.expand(members, *x.shape)


def _sparse_block(block: sp.csr_array, scaling: Inputs, members: int) -> SparseRows:
    number = max(block.shape[0], BLOCK)
    entries = Entries(block)
    starts = torch.cat(
        [entries.starts, entries.starts.new_full((number - block.shape[0],), block.nnz)]
    )
    member = torch.arange(members).unsqueeze(1)
    return SparseRows(
        (members, number),
        (entries.columns + member * block.shape[1]).flatten(),
        scaling.non_zeros(block).repeat(members),
        (starts + member * block.nnz).flatten(),
    )
