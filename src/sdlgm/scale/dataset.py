"""Encode data sets of Parquet files; skip files that are already encoded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sdlgm.config import Accelerator, CodeMethod
from sdlgm.data import BUILT_IN
from sdlgm.data.columns import match_names
from sdlgm.data.drift import Drift
from sdlgm.data.folders import find_files, is_folder
from sdlgm.data.partitions import partition_keys
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, DataError
from sdlgm.migration import migrate_encoding
from sdlgm.outputs import locked, named
from sdlgm.progress import progress_bar
from sdlgm.scale.arrow_encoder import ArrowEncoder
from sdlgm.scale.parquet_files import NOTE, Task, encode_file
from sdlgm.scale.places import check_places, check_targets, sweep_beside
from sdlgm.training import Run

__all__ = ["Engine", "Report", "encode_dataset", "is_dataset"]

Engine = Literal["local", "ray"]
"""What runs the encoder: this process, or Ray Data (one actor per CPU, one CPU left free)."""


class Report(NamedTuple):
    """Result of encoding a data set."""

    files: int
    """Files of the data set."""
    rows: int
    """Rows in all of them."""
    encoded_files: int
    """Files that this call encoded; the others were already encoded."""
    encoded_rows: int
    """Rows that this call encoded."""
    seconds: float
    """Wall time, including the start of the engine."""


@dataclass(frozen=True)
class _Plan:
    encoder: ArrowEncoder
    tasks: list[Task]
    files: int
    rows: int


def is_dataset(data: str, out: str) -> bool:
    """Whether ``data`` is a folder or a pattern, or ``out`` is a folder or ends with ``/``.

    The name of a built-in data set is none, whatever folders there are.
    """
    return (data not in BUILT_IN and is_folder(data)) or _is_folder(out)


@neutral()
def encode_dataset(
    run: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    engine: Engine = "local",
    columns: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    code: CodeMethod | None = None,
    accelerator: Accelerator = "cpu",
    progress: bool = True,
) -> Report:
    """Encode every Parquet file of a data set into a file of codes of the same name under ``out``.

    Memory is bounded by a batch of about 16 MB, however large the files are. Values far outside
    of the training range are counted over all files that are encoded, in one warning.

    Each output is written atomically, so the same call continues after a kill: a file is skipped if
    its output was made from it (same size and modification time) with this model and these columns,
    and encoded again if it has changed. An output of another model or other columns is never
    replaced.

    Parameters
    ----------
    run, columns, keep, code, accelerator
        As for :class:`~sdlgm.scale.ArrowEncoder`. By default, those columns are kept that the run
        keeps and the first file has. The default columns are those of the first file;
        every other file must have them, in any order, and no others but those of ``keep``.
    data
        A Parquet file, a folder of such files (at any depth, also as Hive and Spark write them;
        symbolic links are followed, names that start with ``.`` or ``_`` are skipped), or a pattern
        such as ``lake/2026-*/*.parquet``.
    out
        Folder for the outputs, which have the relative names of the inputs. It may lie in the
        folder of the data, but not be it. It is locked meanwhile.
    engine
        ``"local"`` or ``"ray"``; the outputs are the same, byte for byte.
    progress
        Whether to show a progress bar with the rows per second.

    Raises
    ------
    DataError
        If there are no files or one cannot be encoded; the message names file, row and column.
    ConfigError
        If an existing output was not made by this encoding, an output would be an input, another
        process encodes into ``out``, or the engine does not use the accelerator.
    OutputError
        If an output cannot be written.
    """
    if engine == "ray" and accelerator != "cpu":
        raise ConfigError(
            f"The engine 'ray' computes on CPUs, got accelerator = {accelerator!r}. Use the engine "
            "'local' for a GPU."
        )
    options: dict[str, Any] = {"columns": columns, "code": code, "accelerator": accelerator}
    encoder = ArrowEncoder(run, keep=keep or (), **options)
    folder = named(out)
    check_places(str(data), folder)
    if keep is None:
        kept = _kept_by_default(run, str(data), folder)
        encoder = ArrowEncoder(run, keep=kept, **options)
    if engine == "ray":
        from sdlgm.scale.ray_engine import encode_files
    elif engine == "local":
        encode_files = _encode_files
    else:
        raise ConfigError(f"engine must be 'local' or 'ray', got {engine!r}.")
    with locked(folder):
        plan = _plan(encoder, str(data), folder)
        pending = sum(task.rows for task in plan.tasks)
        done, started, drift = 0, time.monotonic(), plan.encoder.new_drift()
        try:
            with progress_bar("encoding", pending, progress and bool(plan.tasks)) as update:
                for count in encode_files(plan.encoder, plan.tasks, drift) if plan.tasks else ():
                    done += count
                    update(done, {"rows/s": done / (time.monotonic() - started)})
        finally:
            sweep_beside(task.target for task in plan.tasks)
    if done != pending:
        raise DataError(
            f"Only {done:,} of {pending:,} rows were encoded: a file changed meanwhile."
        )
    drift.warn(str(data))
    return Report(plan.files, plan.rows, len(plan.tasks), done, time.monotonic() - started)


def _encode_files(
    encoder: ArrowEncoder, tasks: Sequence[Task], drift: Drift | None = None
) -> Iterator[int]:
    """Encode the files one by one in this process; yield the number of rows of each batch."""
    for task in tasks:
        yield from encode_file(encoder, task, drift)


def _plan(encoder: ArrowEncoder, data: str, out: Path) -> _Plan:
    """Check all files before any is encoded, and remove leftovers of a killed process."""
    sources = find_files(data, out)
    check_targets(data, out, [(source, out / name) for source, name in sources])
    first = _schema(encoder, _footer(sources[0][0]), sources[0][1])
    others_allowed = encoder.skips_others
    try:
        encoder.columns = encoder.inputs(first)
    except DataError as error:
        raise DataError(f"{sources[0][0]}: {error}") from None
    tasks, rows = [], 0
    for source, name in sources:
        footer = _footer(source)
        try:
            given = _schema(encoder, footer, name)
            schema = encoder.schema(given)
            encoder.inputs(given)
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
        if not others_allowed:
            passed = encoder.passed(given)
            match_names(encoder.columns, given.names, passed, str(source), str(sources[0][0]))
        task = Task(str(source), str(out / name), footer.num_rows, str(name))
        rows += task.rows
        if not _is_done(encoder, task, schema):
            tasks.append(task)
    sweep_beside(task.target for task in tasks)
    return _Plan(encoder, tasks, len(sources), rows)


def _kept_by_default(run: Path | str, data: str, out: Path) -> list[str]:
    """Return the columns that the run keeps, where the first file has them."""
    keep = Run.open(run).config.data.keep
    if not keep:
        return []
    path, place = find_files(data, out)[0]
    names = {*_footer(path).schema.to_arrow_schema().names, *partition_keys(place)}
    return [name for name in keep if name in names]


def _schema(encoder: ArrowEncoder, footer: pq.FileMetaData, name: Path) -> pa.Schema:
    """Return the columns of a file, with the keys of its path that are encoded or kept."""
    return encoder.with_keys(footer.schema.to_arrow_schema().empty_table(), str(name)).schema


def _footer(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged, or is not a Parquet file ({error}).") from None


def _is_done(encoder: ArrowEncoder, task: Task, schema: pa.Schema) -> bool:
    """Whether an output was made from the present state of its source.

    Raises
    ------
    ConfigError
        If the output was made by another model, from other columns or by another program.
    """
    target = Path(task.target)
    if not target.exists():
        return False
    try:
        found = json.loads((pq.read_metadata(target).metadata or {})[NOTE.encode()])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        found = {}
    wanted = task.note(encoder)
    if migrate_encoding(found.get("encoding", {})) != wanted["encoding"]:
        raise ConfigError(
            f"{target} exists already and was made by another model, from other columns, or by "
            "another program. Delete it, or choose another folder."
        )
    return all(found.get(name) == wanted[name] for name in ("size", "modified_ns"))


def _is_folder(out: str) -> bool:
    return out.endswith("/") or Path(out).is_dir()
