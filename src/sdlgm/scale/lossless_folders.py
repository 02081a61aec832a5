"""Compress the files of a folder one by one, without loss; skip those that are done."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sdlgm.codec.lossless import compress_file, read_source
from sdlgm.config import Accelerator
from sdlgm.data import Columns
from sdlgm.data.drift import Drift
from sdlgm.data.folder_tables import FolderTable, Part
from sdlgm.environment import device_of, neutral, placed
from sdlgm.errors import CodeFileError, ConfigError
from sdlgm.models import SDLGM
from sdlgm.outputs import locked, named
from sdlgm.progress import progress_bar
from sdlgm.scale.dataset import Report
from sdlgm.scale.places import check_places, check_targets, sweep_beside
from sdlgm.training import Run
from sdlgm.training.run_data import open_folder, table_rows

__all__ = ["compress_dataset"]

SUFFIX = ".sdl"


class _Task(NamedTuple):
    part: Part
    target: Path
    source: dict[str, Any]
    """What determines the output, besides the model."""


@neutral()
def compress_dataset(
    run: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    columns: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    header: bool | None = None,
    seed: int = 0,
    accelerator: Accelerator = "cpu",
    progress: bool = True,
) -> Report:
    """Compress every file of a data set into a file ``NAME.sdl`` under ``out``, without loss.

    Memory is bounded by the largest file, which is read as a whole. Each output is written
    atomically, so the same call continues after a kill: a file is skipped if its output was made
    from it (same size and modification time) with this model and these options, and compressed
    again if it has changed. An output of another model or other options is never replaced.

    Parameters
    ----------
    run, columns, keep, header
        As for :meth:`~sdlgm.training.Run.load_rows`. Every file must have the columns of the first
        one, in any order.
    data
        A folder, at any depth, or a pattern of ``.parquet``, ``.csv`` or ``.npy`` files, all of one
        format.
    out
        Folder for the outputs. It is locked meanwhile.
    seed
        Source of the bits that are drawn from grey values, for each file anew.
    accelerator
        Device to compute on. What was compressed on a GPU can be restored on such a GPU alone.
    progress
        Whether to show a progress bar.

    Raises
    ------
    DataError
        If there are no files, or one cannot be read or does not suit the model.
    ConfigError
        If an existing output was not made by this call, an output would be an input, or another
        process writes into ``out``.
    CodeFileError
        If the model cannot compress.
    OutputError
        If an output cannot be written.
    """
    opened, folder, started = Run.open(run), named(out), time.monotonic()
    model = placed(opened.model, device_of(accelerator))
    check_places(str(data), folder)
    table = open_folder(opened, str(data), columns, keep, header)
    options = _options(opened, table, seed, model)
    tasks = [_task(part, folder, options) for part in table.parts]
    check_targets(str(data), folder, [(task.part.path, task.target) for task in tasks])
    with locked(folder):
        waiting = [task for task in tasks if not _is_done(model, task)]
        rows, drift, done = sum(task.part.rows for task in waiting), Drift(opened.columns), 0
        sweep_beside(task.target for task in waiting)
        with progress_bar("compressing", rows, progress and bool(waiting)) as update:
            for task in waiting:
                before = done

                def advance(number: int, before: int = before) -> None:
                    update(before + number, {})

                _compress(opened, model, table, task, drift, seed, advance)
                done += task.part.rows
    drift.warn(str(data))
    return Report(len(tasks), len(table), len(waiting), rows, time.monotonic() - started)


def _options(run: Run, table: FolderTable, seed: int, model: SDLGM) -> dict[str, Any]:
    inputs = table.first.inputs
    return {
        "columns": None if inputs is None else list(inputs),
        "keep": list(table.first.keep),
        "binarisation": run.config.data.binarisation,
        "seed": seed,
        "device": model.device.type,
    }


def _task(part: Part, folder: Path, options: dict[str, Any]) -> _Task:
    about = part.path.stat()
    source = {"size": about.st_size, "modified_ns": about.st_mtime_ns, "options": options}
    return _Task(part, folder / part.name.with_name(part.name.name + SUFFIX), source)


def _is_done(model: SDLGM, task: _Task) -> bool:
    """Whether an output was made from the present state of its file.

    Raises
    ------
    ConfigError
        If the output was made by another model, with other options or by another program.
    """
    if not task.target.exists():
        return False
    try:
        found = read_source(model, task.target)
    except CodeFileError:
        found = None
    if not isinstance(found, dict) or found.get("options") != task.source["options"]:
        raise ConfigError(
            f"{task.target} exists already and was made by another model, with other options, or "
            "by another program, or is damaged. Delete it, or choose another folder."
        )
    return found == task.source


def _compress(
    run: Run,
    model: SDLGM,
    table: FolderTable,
    task: _Task,
    drift: Drift,
    seed: int,
    progress: Callable[[int], None],
) -> None:
    read = table.whole(task.part)
    if not len(read):
        columns, kept, rows = _without_rows(run, read.columns()), read.kept(), None
    else:
        rows, columns, kept, _ = table_rows(run, read, drift)
    compress_file(
        model,
        rows,
        task.target,
        seed=seed,
        columns=columns,
        kept=kept,
        source=task.source,
        progress=progress,
    )


def _without_rows(run: Run, columns: Columns | None) -> Columns | None:
    """Return the description of a table, where a column of lists counts as many as the model."""
    if columns is None or not columns.lists or not columns.types:
        return columns
    return dataclasses.replace(columns, types=columns.types[:1] * run.model.n_inputs)
