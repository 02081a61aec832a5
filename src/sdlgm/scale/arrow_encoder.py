"""Encode batches of Arrow rows, with the same codes on every engine."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.codec.parquet import SCHEMA, code_schema, to_arrow
from sdlgm.config import Accelerator, CodeMethod, DataConfig
from sdlgm.data import Columns, Rows, Table, as_numbers
from sdlgm.data.arrow_columns import (
    check_numeric,
    index_columns,
    is_list,
    listed,
    to_numbers,
)
from sdlgm.data.columns import match_names
from sdlgm.data.drift import Drift
from sdlgm.data.partitions import NamedKeys
from sdlgm.data.rows import not_finite
from sdlgm.environment import device_of, neutral, placed
from sdlgm.errors import ConfigError, DataError
from sdlgm.inference import choose_codes, default_code
from sdlgm.models import SDLGM
from sdlgm.training import Run

__all__ = ["BLOCK", "ArrowEncoder"]

BLOCK = 1024
"""Rows per pass through the networks. Shorter blocks are padded with zeros, because the kernel of a
matrix product, and so the last bits of its result, depend on the shape."""

CODE_METHODS = ("mode", "search")
"""Methods whose code depends on the row alone. Draws depend on the position in the batch."""

N_ACTIVE = pa.field("n_active", pa.uint16(), nullable=False)

Rowed = TypeVar("Rowed", pa.RecordBatch, pa.Table)


class ArrowEncoder:
    """Maps batches of rows to batches of codes; picklable, and a function of the batch alone.

    Each process loads the model with its first batch, so an encoder is sent to a worker as a path
    and a few names. The first batch with values far outside of the training range is named in a
    warning, once for each copy of the encoder; :meth:`new_drift` counts them over many batches.

    Parameters
    ----------
    run
        Folder of the run whose model encodes. Workers on other machines need the same path.
    columns
        The columns of the model's input in the order of its training data: numbers, or one column
        of lists of numbers. Default: those that the run was trained on, by name, whatever their
        order; other columns must be among ``keep``, unless the run was given its columns by name,
        too. If the run or its columns have no names, all
        columns except ``keep`` and the index of a pandas table, in the batch's order.
    keep
        Columns to pass through unchanged.
    code
        How to choose a code: ``"mode"``, ``"search"``, or ``None`` for what suits the model
        (:func:`~sdlgm.inference.default_code`). Draws would depend on how the rows are split into
        batches.
    accelerator
        Device to encode on. The default, ``"cpu"``, gives the same codes on every machine and
        engine; a GPU may choose another of two codes that are equal but for rounding.

    Raises
    ------
    ConfigError
        If ``code`` depends on more than the row, a column is named twice, or ``keep`` names an
        output column.

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
        code: CodeMethod | None = None,
        accelerator: Accelerator = "cpu",
    ) -> None:
        if code is not None and code not in CODE_METHODS:
            raise ConfigError(
                f"For a data set code must be {' or '.join(map(repr, CODE_METHODS))}, got "
                f"{code!r}: draws would depend on how its rows are split into batches."
            )
        self.run = str(Path(run).absolute())
        self.columns = None if columns is None else tuple(columns)
        self.keep, self._code, self.accelerator = tuple(keep), code, accelerator
        self._said = False
        named = [*self.keep, *(self.columns or ())]
        taken = sorted(set(self.keep) & {*SCHEMA.names, N_ACTIVE.name})
        if len(set(named)) < len(named):
            raise ConfigError(f"A column is named twice: {', '.join(named)}.")
        if taken:
            raise ConfigError(
                f"{', '.join(taken)} cannot be kept: the output has its own columns of that name. "
                "Rename them first."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_said": False}

    @property
    def model(self) -> SDLGM:
        """The model, loaded once in each process."""
        return _load(self.run)[0]

    @property
    def code(self) -> CodeMethod:
        """How codes are chosen."""
        return self._code or default_code(self.model.config)

    @property
    def skips_others(self) -> bool:
        """Whether columns beside those of the model and of ``keep`` are skipped: if some are named.

        They are named here, or were when the run was started.
        """
        return self.columns is not None or _load(self.run)[2].columns is not None

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the columns of the output: those of ``keep``, then the code."""
        missing = [name for name in self.keep if name not in given.names]
        if missing:
            raise DataError(
                f"There is no column {listed(missing)} to keep; there are {listed(given.names)}."
            )
        model = self.model
        codes = code_schema(model.config.budget, model.groups)
        most = min(model.config.budget, model.config.features)
        active = N_ACTIVE if most < 2**16 else N_ACTIVE.with_type(pa.uint32())
        return pa.schema([*(given.field(name) for name in self.keep), *codes, active])

    def with_keys(self, table: pa.Table, name: str) -> pa.Table:
        """Append those keys of a file's path, relative to its folder, that are encoded or kept."""
        read = self.columns or _load(self.run)[1].names or ()
        return NamedKeys(read, self.keep).add(table, Path(name))

    def new_drift(self) -> Drift:
        """Return a counter of values far outside of the training range of the run.

        Pass it to :meth:`encode` or :meth:`encode_batches`; its method ``warn`` says then what it
        counted, and ``merge`` adds the ``counts()`` of another process.
        """
        return Drift(_load(self.run)[1])

    def layout(self, given: pa.Schema) -> Columns:
        """Describe the columns that are encoded and kept, as a file of codes records them."""
        table = Table(given.empty_table(), inputs=self.inputs(given), keep=self.keep)
        about, binarisation = table.columns(), _load(self.run)[2].binarisation
        types = (about.types or ()) * (self.model.n_inputs if about.lists else 1)
        # Bits that were made from grey values do not have the type of these.
        return replace(about, types=None if binarisation == "threshold" else types)

    def inputs(self, given: pa.Schema) -> tuple[str, ...]:
        """Return the names of the columns to encode; check their names, types and number.

        Raises
        ------
        DataError
            If a column is missing or not numeric, or their number is not the model's.
        """
        names = self._chosen(given)
        types = [given.field(name).type for name in names]
        check_numeric(names, types, "The data")
        expected = self.model.n_inputs
        if not any(is_list(kind) for kind in types) and len(names) != expected:
            raise DataError(
                f"There are {len(names)} columns to encode ({listed(names)}), but the model was "
                f"trained on {expected}. Name its columns with --columns, or others with --keep."
            )
        return names

    def passed(self, given: pa.Schema) -> set[str]:
        """Return the names of columns that are not encoded: kept, kept by the run, or an index."""
        return {*self.keep, *_load(self.run)[2].keep, *index_columns(given)}

    def _chosen(self, given: pa.Schema) -> tuple[str, ...]:
        """Return the columns to encode, matched by name where the run has names."""
        twice = [name for name, number in Counter(given.names).items() if number > 1]
        if twice:
            raise DataError(f"There are several columns named {listed(twice)}. Rename them first.")
        known, passed = _load(self.run)[1], self.passed(given)
        wanted, names = known.names, self.columns
        if names is not None:
            missing = [name for name in names if name not in given.names]
            if missing:
                raise DataError(
                    f"There is no column {listed(missing)} to encode; there are "
                    f"{listed(given.names)}."
                )
            # The same columns in another order are put right; others stand for the model's.
            return wanted if wanted and set(names) == set(wanted) else names
        skipped = {*self.keep, *index_columns(given)}
        rest = tuple(name for name in given.names if name not in skipped)
        lists = any(is_list(given.field(name).type) for name in rest)
        if wanted is None or (lists != known.lists and len(rest) in (1, known.width)):
            return rest
        match_names(wanted, given.names, given.names if self.skips_others else passed, "The data")
        return wanted

    def __call__(self, batch: Rowed) -> Rowed:
        """Encode a batch of any number of rows (or, for Ray Data, a table)."""
        if isinstance(batch, pa.Table):
            parts = [self.encode(part) for part in batch.to_batches()]
            return pa.Table.from_batches(parts, schema=self.schema(batch.schema))
        return self.encode(batch)

    def encode_batches(
        self, batches: Iterable[pa.RecordBatch], drift: Drift | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Encode batches one by one; messages count rows over the whole stream.

        ``drift`` counts values far outside of the training range. By default they are counted over
        the whole stream and said at its end.
        """
        row, counted = 0, self.new_drift() if drift is None else drift
        for batch in batches:
            yield self.encode(batch, row, counted)
            row += len(batch)
        if drift is None:
            counted.warn("The batches")

    @neutral()
    @torch.no_grad()
    def encode(
        self, batch: pa.RecordBatch, first_row: int = 0, drift: Drift | None = None
    ) -> pa.RecordBatch:
        """Encode a batch whose first row has the number ``first_row`` in messages.

        ``drift`` counts values far outside of the training range. By default the first batch with
        such values is named in a warning.

        Raises
        ------
        DataError
            If the columns are not the model's, or a value is missing, not finite, or unsuitable for
            the model's likelihood; the message names row and column.
        """
        schema, names = self.schema(batch.schema), self.inputs(batch.schema)
        model, _, data = _load(self.run)
        values = self._values(batch, names, first_row)
        if len(values):
            self._check(values, names, data, first_row)
        self._count(values, drift)
        codes = torch.cat([torch.empty(0, model.config.features), *self._codes(values, first_row)])
        code = to_arrow(codes, code_schema(model.config.budget, model.groups))
        active = pa.array((codes > 0).sum(-1).numpy()).cast(schema.field(N_ACTIVE.name).type)
        kept = [batch.column(name) for name in self.keep]
        return pa.RecordBatch.from_arrays([*kept, *code.columns, active], schema=schema)

    def _count(self, values: NDArray[Any], drift: Drift | None) -> None:
        if drift is not None:
            drift.add(values)
        elif not self._said:
            own = self.new_drift()
            own.add(values)
            self._said = own.warn("The first batch with such values")

    def _codes(self, values: NDArray[Any], first_row: int) -> Iterator[Tensor]:
        model = placed(self.model, device_of(self.accelerator))
        for start in range(0, len(values), BLOCK):
            part = values[start : start + BLOCK]
            block = torch.zeros(BLOCK, model.n_inputs, dtype=torch.from_numpy(part).dtype)
            block[: len(part)] = torch.from_numpy(part)
            codes = choose_codes(
                model, block, self.code, name="The batch", first_row=first_row + start
            )
            yield codes[: len(part)]

    def _values(
        self, batch: pa.RecordBatch, names: tuple[str, ...], first_row: int
    ) -> NDArray[Any]:
        """Return the input, shape ``(n, D)``."""
        width = self.model.n_inputs
        values = np.empty((len(batch), width), np.float64)
        for place, name in enumerate(names):
            column = batch.column(name)
            if column.null_count:
                row = int(np.flatnonzero(column.is_null())[0])
                raise DataError(_place(first_row + row, name, "is missing"))
            if is_list(column.type):
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
                numbers = to_numbers(flat, name, "The data")
                return as_numbers(np.array(numbers).reshape(len(batch), width))
            values[:, place] = to_numbers(column, name, "The data")
        return as_numbers(values)

    def _check(
        self, values: NDArray[Any], names: tuple[str, ...], data: DataConfig, first_row: int
    ) -> None:
        bad = ~np.isfinite(values)
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            name = names[column] if len(names) > 1 else f"{names[0]}[{column}]"
            what = f"is {not_finite(values[row, column])}; drop or fill such rows first"
            raise DataError(_place(first_row + row, name, what))
        if data.binarisation == "threshold":
            np.copyto(values, (values * 2 >= 1).astype(values.dtype))
        name = f"the batch at row {first_row}"
        self.model.check_rows(Rows(torch.from_numpy(values), name=name))


@functools.lru_cache(maxsize=1)
def _load(folder: str) -> tuple[SDLGM, Columns, DataConfig]:
    run = Run.open(folder)
    return run.model, run.columns, run.config.data


def _place(row: int, column: str, what: str) -> str:
    return f"Row {row} (counted from 0), column {column!r} {what}."
