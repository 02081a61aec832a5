"""Encode batches of Arrow rows, with the same codes on every engine."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.codec.parquet import SCHEMA, code_schema, to_arrow
from sdlgm.config import CodeMethod, DataConfig
from sdlgm.data import Rows
from sdlgm.errors import ConfigError, DataError
from sdlgm.inference import check_posterior
from sdlgm.models import SDLGM
from sdlgm.training import Run

__all__ = ["BLOCK", "ArrowEncoder"]

BLOCK = 1024
"""Rows per pass through the networks. Shorter blocks are padded with zeros, because the kernel of a
matrix product, and so the last bits of its result, depend on the shape."""

CODE_METHODS = ("mode",)
"""Methods whose code depends on the row alone. Draws depend on the position in the batch."""

N_ACTIVE = pa.field("n_active", pa.uint16(), nullable=False)

Rowed = TypeVar("Rowed", pa.RecordBatch, pa.Table)


class ArrowEncoder:
    """Maps batches of rows to batches of codes; stateless and picklable.

    Each process loads the model with its first batch, so an encoder is sent to a worker as a path
    and a few names.

    Parameters
    ----------
    run
        Folder of the run whose model encodes. Workers on other machines need the same path.
    columns
        The columns of the model's input in the order of its training data: numbers, or one column
        of lists of numbers. Default: all columns except ``keep``, in the batch's order.
    keep
        Columns to pass through unchanged.
    code
        How to choose a code. Only ``"mode"`` is possible: draws would depend on how the rows are
        split into batches.

    Raises
    ------
    ConfigError
        If ``code`` is not ``"mode"``, a column is named twice, or ``keep`` names an output column.

    Examples
    --------
    ``ArrowEncoder("runs/metrics", keep=["host"])(batch)`` has the columns ``host``, ``indices``,
    ``counts`` and ``n_active``.
    """

    def __init__(
        self,
        run: Path | str,
        *,
        columns: Sequence[str] | None = None,
        keep: Sequence[str] = (),
        code: CodeMethod = "mode",
    ) -> None:
        if code not in CODE_METHODS:
            raise ConfigError(
                f"For a data set code must be {' or '.join(map(repr, CODE_METHODS))}, got "
                f"{code!r}: draws would depend on how its rows are split into batches."
            )
        self.run = str(Path(run).absolute())
        self.columns = None if columns is None else tuple(columns)
        self.keep, self.code = tuple(keep), code
        named = [*self.keep, *(self.columns or ())]
        taken = sorted(set(self.keep) & {*SCHEMA.names, N_ACTIVE.name})
        if len(set(named)) < len(named):
            raise ConfigError(f"A column is named twice: {', '.join(named)}.")
        if taken:
            raise ConfigError(
                f"{', '.join(taken)} cannot be kept: the output has its own columns of that name. "
                "Rename them first."
            )

    @property
    def model(self) -> SDLGM:
        """The model, loaded once in each process."""
        return _load(self.run)[0]

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the columns of the output: those of ``keep``, then the code."""
        missing = [name for name in self.keep if name not in given.names]
        if missing:
            raise DataError(
                f"There is no column {', '.join(missing)} to keep; there are {_list(given.names)}."
            )
        model = self.model
        codes = code_schema(model.config.budget, model.groups)
        most = min(model.config.budget, model.config.features)
        active = N_ACTIVE if most < 2**16 else N_ACTIVE.with_type(pa.uint32())
        return pa.schema([*(given.field(name) for name in self.keep), *codes, active])

    def inputs(self, given: pa.Schema) -> tuple[str, ...]:
        """Return the names of the columns to encode; check their names, types and number.

        Raises
        ------
        DataError
            If a column is missing or not numeric, or their number is not the model's.
        """
        names = self.columns or tuple(name for name in given.names if name not in self.keep)
        missing = [name for name in names if name not in given.names]
        if missing:
            raise DataError(
                f"There is no column {_list(missing)} to encode; there are {_list(given.names)}."
            )
        types = [given.field(name).type for name in names]
        lists = [_is_list(kind) for kind in types]
        leaves = [kind.value_type if _is_list(kind) else kind for kind in types]
        wrong = [
            f"{n} ({t})"
            for n, t, leaf in zip(names, types, leaves, strict=True)
            if _is_not_numeric(leaf)
        ]
        if wrong:
            raise DataError(
                f"These columns hold no numbers: {_list(wrong)}. Name the columns to encode with "
                "columns, or those to pass through with keep."
            )
        if any(lists) and len(names) > 1:
            raise DataError(
                f"There are several columns to encode, with lists among them: {_list(names)}. Name "
                "either one column of lists or columns of numbers with columns."
            )
        expected = self.model.n_inputs
        if not any(lists) and len(names) != expected:
            raise DataError(
                f"There are {len(names)} columns to encode ({_list(names)}), but the model was "
                f"trained on {expected}. Name its columns with columns, or others with keep."
            )
        return names

    def __call__(self, batch: Rowed) -> Rowed:
        """Encode a batch of any number of rows (or, for Ray Data, a table)."""
        if isinstance(batch, pa.Table):
            parts = [self.encode(part) for part in batch.to_batches()]
            return pa.Table.from_batches(parts, schema=self.schema(batch.schema))
        return self.encode(batch)

    def encode_batches(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Encode batches one by one; messages count rows over the whole stream."""
        row = 0
        for batch in batches:
            yield self.encode(batch, row)
            row += len(batch)

    @torch.no_grad()
    def encode(self, batch: pa.RecordBatch, first_row: int = 0) -> pa.RecordBatch:
        """Encode a batch whose first row has the number ``first_row`` in messages.

        Raises
        ------
        DataError
            If the columns are not the model's, or a value is missing, not finite, or unsuitable for
            the model's likelihood; the message names row and column.
        """
        schema, names = self.schema(batch.schema), self.inputs(batch.schema)
        model, data = _load(self.run)
        values = self._values(batch, names, first_row)
        if len(values):
            self._check(values, names, data, first_row)
        codes = torch.cat([torch.empty(0, model.config.features), *self._codes(values, first_row)])
        code = to_arrow(codes, code_schema(model.config.budget, model.groups))
        active = pa.array((codes > 0).sum(-1).numpy()).cast(schema.field(N_ACTIVE.name).type)
        kept = [batch.column(name) for name in self.keep]
        return pa.RecordBatch.from_arrays([*kept, *code.columns, active], schema=schema)

    def _codes(self, values: NDArray[np.float32], first_row: int) -> Iterator[Tensor]:
        model = self.model
        for start in range(0, len(values), BLOCK):
            part = values[start : start + BLOCK]
            block = torch.zeros(BLOCK, model.n_inputs)
            block[: len(part)] = torch.from_numpy(part)
            posterior = model.posterior(block)
            check_posterior(model, posterior, "The batch", first_row + start)
            yield posterior.mode[: len(part)]

    def _values(
        self, batch: pa.RecordBatch, names: tuple[str, ...], first_row: int
    ) -> NDArray[np.float32]:
        """Return the input, shape ``(n, D)``."""
        width = self.model.n_inputs
        values = np.empty((len(batch), width), np.float32)
        for place, name in enumerate(names):
            column = batch.column(name)
            if column.null_count:
                row = int(np.flatnonzero(column.is_null())[0])
                raise DataError(_place(first_row + row, name, "is missing"))
            if _is_list(column.type):
                lengths = column.value_lengths().to_numpy(zero_copy_only=False)
                if (lengths != width).any():
                    row = int(np.flatnonzero(lengths != width)[0])
                    what = f"has {lengths[row]} values, but the model was trained on {width}"
                    raise DataError(_place(first_row + row, name, what))
                flat = column.flatten()
                if flat.null_count:
                    index = int(np.flatnonzero(flat.is_null())[0])
                    where = f"{name}[{index % width}]"
                    raise DataError(_place(first_row + index // width, where, "is missing"))
                return _floats(flat).reshape(len(batch), width)
            values[:, place] = _floats(column)
        return values

    def _check(
        self, values: NDArray[np.float32], names: tuple[str, ...], data: DataConfig, first_row: int
    ) -> None:
        bad = ~np.isfinite(values)
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            name = names[column] if len(names) > 1 else f"{names[0]}[{column}]"
            what = f"is {values[row, column]}; drop or fill such rows first"
            raise DataError(_place(first_row + row, name, what))
        if data.binarisation == "threshold":
            np.copyto(values, values * 2 >= 1)
        name = f"the batch at row {first_row}"
        self.model.check_rows(Rows(torch.from_numpy(values), name=name))


@functools.lru_cache(maxsize=1)
def _load(folder: str) -> tuple[SDLGM, DataConfig]:
    run = Run.open(folder)
    return run.model, run.config.data


def _floats(column: pa.Array) -> NDArray[np.float32]:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    with np.errstate(over="ignore"):  # too large for float32: infinite, and refused later
        return column.to_numpy(zero_copy_only=False).astype(np.float32)


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_not_numeric(kind: pa.DataType) -> bool:
    types = pa.types
    return not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _place(row: int, column: str, what: str) -> str:
    return f"Row {row} (counted from 0), column {column!r} {what}."
