"""Encode data sets of Parquet files; skip files that are already encoded."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sdlgm.config import CodeMethod
from sdlgm.errors import ConfigError, DataError
from sdlgm.migration import migrate_encoding
from sdlgm.progress import progress_bar
from sdlgm.scale.arrow_encoder import ArrowEncoder
from sdlgm.scale.parquet_files import NOTE, Task, encode_file

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
    """Whether ``data`` is a folder or a pattern, or ``out`` is a folder or ends with ``/``."""
    return (
        (Path(data).is_dir() or glob.has_magic(data)) and not Path(data).is_file()
    ) or _is_folder(out)


def encode_dataset(
    run: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    engine: Engine = "local",
    columns: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    code: CodeMethod = "mode",
    progress: bool = True,
) -> Report:
    """Encode every Parquet file of a data set into a file of codes of the same name under ``out``.

    Memory is bounded by a batch of about 16 MB, however large the files are. Each output is written
    atomically, so the same call continues after a kill: a file is skipped if its output was made
    from it (same size and modification time) with this model and these columns, and encoded again
    if it has changed. An output of another model or other columns is never replaced.

    Parameters
    ----------
    run, columns, keep, code
        As for :class:`~sdlgm.scale.ArrowEncoder`. The default columns are those of the first file;
        every other file must have them, in any order.
    data
        A Parquet file, a folder of such files (at any depth; names that start with ``.`` or ``_``
        are skipped), or a pattern such as ``lake/2026-*/*.parquet``.
    out
        Folder for the outputs, which have the relative names of the inputs.
    engine
        ``"local"`` or ``"ray"``; the outputs are the same, byte for byte.
    progress
        Whether to show a progress bar with the rows per second.

    Raises
    ------
    DataError
        If there are no files or one cannot be encoded; the message names file, row and column.
    ConfigError
        If an existing output was not made by this encoding.
    """
    plan = _plan(ArrowEncoder(run, columns=columns, keep=keep, code=code), str(data), Path(out))
    if engine == "ray":
        from sdlgm.scale.ray_engine import encode_files
    elif engine == "local":
        encode_files = _encode_files
    else:
        raise ConfigError(f"engine must be 'local' or 'ray', got {engine!r}.")
    pending = sum(task.rows for task in plan.tasks)
    done, started = 0, time.monotonic()
    try:
        with progress_bar("encoding", pending, progress and bool(plan.tasks)) as update:
            for count in encode_files(plan.encoder, plan.tasks) if plan.tasks else ():
                done += count
                update(done, {"rows/s": done / (time.monotonic() - started)})
    finally:
        _sweep(plan.tasks)
    if done != pending:
        raise DataError(
            f"Only {done:,} of {pending:,} rows were encoded: a file changed meanwhile."
        )
    return Report(plan.files, plan.rows, len(plan.tasks), done, time.monotonic() - started)


def _encode_files(encoder: ArrowEncoder, tasks: Sequence[Task]) -> Iterator[int]:
    """Encode the files one by one in this process; yield the number of rows of each batch."""
    for task in tasks:
        yield from encode_file(encoder, task)


def _plan(encoder: ArrowEncoder, data: str, out: Path) -> _Plan:
    """Check all files before any is encoded, and remove leftovers of a killed process."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file, but a data set is encoded into a folder.")
    sources = _sources(data, out)
    first = _footer(sources[0][0]).schema.to_arrow_schema()
    try:
        encoder.columns = encoder.inputs(first)
    except DataError as error:
        raise DataError(f"{sources[0][0]}: {error}") from None
    tasks, rows = [], 0
    for source, name in sources:
        footer = _footer(source)
        try:
            schema = encoder.schema(footer.schema.to_arrow_schema())
            encoder.inputs(footer.schema.to_arrow_schema())
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
        task = Task(str(source), str(out / name), footer.num_rows)
        rows += task.rows
        if not _is_done(encoder, task, schema):
            tasks.append(task)
    _sweep(tasks)
    return _Plan(encoder, tasks, len(sources), rows)


def _sources(data: str, out: Path) -> list[tuple[Path, Path]]:
    """Return the files of a data set in order, each with the relative name of its output."""
    path = Path(data)
    if path.is_file():
        found = [(path, Path(path.name))]
    elif path.is_dir():
        within = out.absolute()
        files = [f for f in path.rglob("*.parquet") if within not in f.absolute().parents]
        found = [(file, file.relative_to(path)) for file in files]
    else:
        # Names are relative to the part of the pattern before the first wildcard.
        parts = path.parts
        fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
        root = Path(*parts[:fixed])
        files = [file for file in root.glob(str(path.relative_to(root))) if file.is_file()]
        found = [(file, file.relative_to(root)) for file in files]
    found = [(f, name) for f, name in found if not any(p[0] in "._" for p in name.parts)]
    if not found:
        raise DataError(f"There are no Parquet files in {data}.")
    wrong = [str(file) for file, _ in found if file.suffix != ".parquet"]
    if wrong:
        raise DataError(f"{wrong[0]} does not end in .parquet.")
    return sorted(found)


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


def _sweep(tasks: Sequence[Task]) -> None:
    """Remove unfinished files that a killed process left beside these outputs."""
    for task in tasks:
        target = Path(task.target)
        for left in target.parent.glob(f".{glob.escape(target.name)}.*{target.suffix}"):
            left.unlink(missing_ok=True)


def _is_folder(out: str) -> bool:
    return out.endswith("/") or Path(out).is_dir()
