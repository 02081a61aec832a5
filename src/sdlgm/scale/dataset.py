"""Data sets of Parquet files: what is to be done, what was done already, and what came of it."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sdlgm.errors import ConfigError, DataError
from sdlgm.progress import progress_bar
from sdlgm.scale.arrow_encoder import Encoder
from sdlgm.scale.parquet_files import NOTE, Task, encode_file

__all__ = ["Engine", "Report", "encode_dataset", "is_dataset"]

Engine = Literal["local", "ray"]
"""What runs the core: this process, or Ray Data (one actor for each CPU but one)."""

OnRows = Callable[[int], None]


class Report(NamedTuple):
    """What an encoding came to."""

    files: int
    """Files of the data set."""
    rows: int
    """Rows in all of them."""
    encoded_files: int
    """Files that were encoded now; the others had been before."""
    encoded_rows: int
    """Rows that were encoded now."""
    seconds: float
    """Wall time of the encoding, the start of the engine included."""


@dataclass(frozen=True)
class _Plan:
    encoder: Encoder
    tasks: list[Task]
    files: int
    rows: int


def is_dataset(data: str, out: str) -> bool:
    """Tell whether a source and a target name a data set: a folder, a pattern, or a folder to fill.

    A single file is one, too, if ``out`` ends with ``/`` or is a folder.
    """
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
    choice: str = "mode",
    progress: bool = True,
) -> Report:
    """Encode every Parquet file of a data set into a file of codes of the same name under ``out``.

    Memory is bounded by a batch of about 16 MB, whatever the files hold. Each output appears whole
    or not at all, so that after a kill the same call goes on: a file is passed over if its output
    was made from it (same size and time of change) with this model and these columns, and encoded
    again if it has changed since. An output of another model or other columns is never replaced.

    Parameters
    ----------
    run, columns, keep, choice
        As for :class:`~sdlgm.scale.Encoder`; the default columns are those of the first file, and
        every other file must have them, in any order.
    data
        A Parquet file, a folder of such files (at any depth; names that start with ``.`` or ``_``
        are passed over), or a pattern such as ``lake/2026-*/*.parquet``.
    out
        Folder of the outputs, which have the relative names of the inputs.
    engine
        ``"local"`` or ``"ray"``; the outputs are the same, byte for byte.
    progress
        Whether to show a progress bar with the rows a second.

    Raises
    ------
    DataError
        If there are no files, or one cannot be encoded; the message names file, row and column.
    ConfigError
        If an output that is there is not one of this encoding.
    """
    plan = _plan(Encoder(run, columns=columns, keep=keep, choice=choice), str(data), Path(out))
    if engine == "ray":
        from sdlgm.scale.ray_engine import encode_files
    elif engine == "local":
        encode_files = _encode_files
    else:
        raise ConfigError(f"The engine is 'local' or 'ray', got {engine!r}.")
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
        raise DataError(f"{done:,} of {pending:,} rows were encoded: a file changed meanwhile.")
    return Report(plan.files, plan.rows, len(plan.tasks), done, time.monotonic() - started)


def _encode_files(encoder: Encoder, tasks: Sequence[Task]) -> Iterator[int]:
    """Encode file after file in this process; yield numbers of rows as they are done."""
    for task in tasks:
        yield from encode_file(encoder, task)


def _plan(encoder: Encoder, data: str, out: Path) -> _Plan:
    """Look at all files before any is encoded; nothing is written but leftovers swept away."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; a data set is encoded into a folder.")
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
    """Return the files of a data set in order, each with its name in the output."""
    path = Path(data)
    if path.is_file():
        found = [(path, Path(path.name))]
    elif path.is_dir():
        within = out.absolute()
        files = [f for f in path.rglob("*.parquet") if within not in f.absolute().parents]
        found = [(file, file.relative_to(path)) for file in files]
    else:
        # The part of the pattern without a wildcard is what names are relative to.
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
        raise DataError(f"{path} is damaged, or is no Parquet file ({error}).") from None


def _is_done(encoder: Encoder, task: Task, schema: pa.Schema) -> bool:
    """Tell whether an output was made from its source as it is; raise if it is not ours."""
    target = Path(task.target)
    if not target.exists():
        return False
    try:
        found = json.loads((pq.read_metadata(target).metadata or {})[NOTE.encode()])
    except (pa.ArrowException, OSError, KeyError, ValueError):
        found = {}
    wanted = task.note(encoder)
    if found == wanted:
        return True
    if found.get("encoding") == wanted["encoding"]:
        return False  # of an older state of the source
    raise ConfigError(
        f"{target} is there already, and was made by another model, from other columns, or by "
        "another program. Delete it, or choose another folder."
    )


def _sweep(tasks: Sequence[Task]) -> None:
    """Remove what a killed process left half-written beside these outputs."""
    for task in tasks:
        target = Path(task.target)
        for left in target.parent.glob(f".{glob.escape(target.name)}.*{target.suffix}"):
            left.unlink(missing_ok=True)


def _is_folder(out: str) -> bool:
    return out.endswith("/") or Path(out).is_dir()
