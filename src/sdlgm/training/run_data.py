"""The rows of a run: its own data, recognised by content, and others, matched by name."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sdlgm.data import (
    BUILT_IN,
    SUFFIXES,
    Columns,
    FolderRows,
    Rows,
    Table,
    file_sha256,
    is_folder,
    load_data,
    read_table,
    resolve_binarisation,
    split_file,
)
from sdlgm.data.drift import Drift
from sdlgm.data.folder_tables import FolderTable, folder_sha256
from sdlgm.data.named import read_folder
from sdlgm.data.partitions import NamedKeys
from sdlgm.errors import DataError, SDLGMWarning

if TYPE_CHECKING:
    import pyarrow as pa

    from sdlgm.config import Binarisation
    from sdlgm.training.runs import Run

__all__ = ["LoadedRows", "load_rows", "open_folder", "stream_rows", "table_rows"]


class LoadedRows(NamedTuple):
    """Rows for a model, with what is needed to give a table back."""

    rows: Rows
    """The values, in the model's order of columns."""
    columns: Columns | None = None
    """Names, types and layout of the columns of a file."""
    kept: pa.Table | None = None
    """The columns that are passed through."""
    image_shape: tuple[int, int] | None = None
    """Height and width, if a row is an image."""


@dataclasses.dataclass(frozen=True)
class _Asked:
    """Which columns of data to take, where they are not those of the run."""

    columns: Sequence[str] | None
    keep: Sequence[str] | None
    header: bool | None


def load_rows(
    run: Run,
    data: Any,
    split: str | None,
    columns: Sequence[str] | None,
    keep: Sequence[str] | None,
    header: bool | None,
) -> LoadedRows:
    """Load rows as :meth:`~sdlgm.training.Run.load_rows` describes."""
    config = run.config.data
    named = data is None or isinstance(data, str | os.PathLike)
    name = os.fspath(config.data if data is None else data) if named else "the data"
    if data is None or name in BUILT_IN:
        if columns or keep:
            raise DataError(f"Columns can be named for a file only: name one, not {name}.")
        return _known_rows(run, name, data is None or name == config.data, split or "test")
    header = config.header if header is None else header
    asked = _Asked(columns, keep, header)
    if named and is_folder(name):
        return _folder_rows(run, name, split or "all", asked)
    if named and Path(name).suffix not in SUFFIXES:
        load_data(dataclasses.replace(config, data=name))  # raises, with the nearest name
    table = _matched(run, read_table(name, header) if named else Table.of(data), asked)
    return _table_rows(run, table, name if named else None, split or "all")


def stream_rows(
    run: Run,
    data: Path | str | None,
    columns: Sequence[str] | None,
    keep: Sequence[str] | None,
    header: bool | None,
) -> FolderRows:
    """Return rows as :meth:`~sdlgm.training.Run.stream_rows` describes."""
    config = run.config.data
    name = config.data if data is None else os.fspath(data)
    if not is_folder(name):
        raise DataError(f"{name} is no folder or pattern of files.")
    header = config.header if header is None else header
    asked = _Asked(columns, keep, header)
    folder = read_folder(config) if data is None else _opened(run, name, asked)
    return FolderRows(
        folder, _binarisation(run, name), config.split_seed, run.columns, run.model.check_rows
    )


def open_folder(
    run: Run,
    name: str,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    header: bool | None = None,
) -> FolderTable:
    """Open a folder or pattern of files whose columns are matched with those of the run.

    The options are those of :meth:`~sdlgm.training.Run.load_rows`.
    """
    header = run.config.data.header if header is None else header
    return _opened(run, name, _Asked(columns, keep, header))


def table_rows(run: Run, table: Table, drift: Drift | None = None) -> LoadedRows:
    """Return the rows of a table whose columns are matched, binarised as the run's own data.

    ``drift`` counts values far outside of the training range. By default they are said at once.
    """
    kind = _binarisation(run, table.name)
    rows = table.rows().binarise(kind, run.config.data.split_seed)
    about = _checked(run, rows, table.columns(), kind, drift)
    return LoadedRows(rows, about, table.kept(), table.image_shape)


def _known_rows(run: Run, name: str, own: bool, split: str) -> LoadedRows:
    """Return rows of the run's own data, or of another built-in set."""
    config = run.config.data
    other = dataclasses.replace(config, data=name, columns=None, keep=(), data_sha256=None)
    dataset = run.dataset if own else load_data(other, run.config.model.likelihood)
    return LoadedRows(dataset.rows(split), dataset.columns, None, dataset.image_shape)


def _table_rows(run: Run, table: Table, name: str | None, split: str) -> LoadedRows:
    """Return the rows of a table whose columns are chosen; ``name`` is that of its file."""
    config, label = run.config.data, name or table.name
    kind, own = _binarisation(run, label), False
    if name and config.data_sha256 is not None and (split != "all" or kind == "fixed"):
        own = file_sha256(name) == config.data_sha256
    if split != "all" and not own:
        raise _no_split(run, "file", label, split)
    if not own:
        return table_rows(run, table)
    config = dataclasses.replace(config, data=label)
    dataset = split_file(table, config, run.config.model.likelihood)
    rows = dataset.rows(split)
    if split != "all" and dataset.places is not None:
        places = dataset.places.split([len(dataset.train), len(dataset.test)])
        table = table.take(places[split == "test"])
    about = _checked(run, rows, table.columns(), kind)
    return LoadedRows(rows, about, table.kept(), table.image_shape)


def _folder_rows(run: Run, name: str, split: str, asked: _Asked) -> LoadedRows:
    """Return the rows of a folder, or a sample of them, in memory."""
    config, kind = run.config.data, _binarisation(run, name)
    if split != "all":
        if config.data_sha256 is None or folder_sha256(name) != config.data_sha256:
            raise _no_split(run, "folder", name, split)
        own = dataclasses.replace(config, data=name)
        with warnings.catch_warnings():  # said when the run was trained
            warnings.simplefilter("ignore", SDLGMWarning)
            dataset = load_data(own, run.config.model.likelihood)
        return LoadedRows(dataset.rows(split), dataset.columns, None, dataset.image_shape)
    folder = _opened(run, name, asked)
    rows = folder.rows(config.max_rows, config.split_seed)[0].binarise(kind, config.split_seed)
    about = _checked(run, rows, folder.columns(), kind)
    return LoadedRows(rows, about, None, folder.first.image_shape)


def _opened(run: Run, name: str, asked: _Asked) -> FolderTable:
    """Open a folder whose columns are matched with those of the training data."""
    config = run.config.data
    named = asked.columns or config.columns
    return FolderTable.open(
        name,
        lambda table: _matched(run, table, asked),
        others=None if named else config.keep,
        header=asked.header,
        keys=NamedKeys(
            asked.columns or run.columns.names or config.columns or (),
            config.keep if asked.keep is None else asked.keep,
        ),
    )


def _matched(run: Run, table: Table, asked: _Asked) -> Table:
    """Match the columns of a table with those of the training data."""
    config, columns, keep = run.config.data, asked.columns, asked.keep
    if keep is None:
        keep = [each for each in config.keep if each in (table.names or ())]
    if columns is None and run.columns.names is None:
        columns = config.columns if table.names else None
    return table.match(run.columns, columns, keep, skip_others=config.columns is not None)


def _checked(
    run: Run, rows: Rows, about: Columns, kind: Binarisation, drift: Drift | None = None
) -> Columns:
    """Check rows that the run was not trained on; return the description of their columns."""
    run.model.check_rows(rows)
    if drift is None:
        run.columns.warn_of_drift(rows)
    else:
        drift.add(rows.values.numpy())
    # Bits that were made from grey values do not have the type of these.
    return about if kind == "none" else dataclasses.replace(about, types=None)


def _binarisation(run: Run, name: str) -> Binarisation:
    data = dataclasses.replace(run.config.data, data=name)
    return resolve_binarisation(data, run.config.model.likelihood)


def _no_split(run: Run, what: str, name: str, split: str) -> DataError:
    return DataError(
        f"{name} is not the {what} that {run.folder} was trained on, so it has no {split} rows. "
        f"Leave out --split: a {what} is taken as it is."
    )
