"""Encode one Parquet file into one file of codes, the unit of work of every engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sdlgm.codec import describe
from sdlgm.codec.parquet import TABLE, code_writer
from sdlgm.data.drift import Drift
from sdlgm.errors import DataError, OutputError
from sdlgm.models import model_sha256
from sdlgm.scale.arrow_encoder import BLOCK, ArrowEncoder

__all__ = ["NOTE", "Task", "encode_file"]

NOTE = "sdlgm.encoded_from"
"""Metadata key of an output that records what it was made from."""

BATCH_BYTES = 16 * 2**20
"""Approximate size of a batch of float32 input."""


class Task(NamedTuple):
    """A file to encode, its output, its number of rows, and its name in the folder."""

    source: str
    target: str
    rows: int
    name: str = ""

    def note(self, encoder: ArrowEncoder) -> dict[str, Any]:
        """Return everything that determines the output."""
        about = Path(self.source).stat()
        return {
            "size": about.st_size,
            "modified_ns": about.st_mtime_ns,
            "encoding": {
                "model_sha256": model_sha256(encoder.model),
                "columns": list(encoder.columns or ()),
                "keep": list(encoder.keep),
                "code": encoder.code,
            },
        }


def encode_file(encoder: ArrowEncoder, task: Task, drift: Drift | None = None) -> Iterator[int]:
    """Encode one file; yield the number of rows of each finished batch.

    ``drift`` counts values far outside of the training range. The last number is yielded when the
    output is complete.

    Raises
    ------
    DataError
        If the file is damaged, changes meanwhile, or holds a value that cannot be encoded; the
        message names file, row and column. No output is left then.
    OutputError
        If the output cannot be written.
    """
    model, note = encoder.model, task.note(encoder)
    size = max(1, BATCH_BYTES // (4 * model.n_inputs * BLOCK)) * BLOCK
    last = 0
    try:
        # With a buffer, a row group is read page by page, not as a whole.
        with pq.ParquetFile(task.source, buffer_size=2**18) as file:
            given = encoder.with_keys(file.schema_arrow.empty_table(), task.name).schema
            schema = encoder.schema(given)
            columns = [*encoder.inputs(given), *encoder.keep]
            columns = [name for name in columns if name in file.schema_arrow.names]
            layout = encoder.layout(given).to_dict()
            notes = {NOTE: json.dumps(note), TABLE: json.dumps(layout)}
            with code_writer(task.target, describe(model), schema, notes) as writer:
                batches = _with_keys(encoder, task, file.iter_batches(size, columns=columns))
                for batch in encoder.encode_batches(batches, drift):
                    if last:
                        yield last
                    writer.write(batch)
                    last = len(batch)
                _check_unchanged(task, writer.rows, note == task.note(encoder))
    except DataError as error:
        raise DataError(f"{task.source}: {error}") from None
    except OutputError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{task.source} cannot be read, or its codes cannot be written: {error}"
        ) from None
    yield last


def _with_keys(
    encoder: ArrowEncoder, task: Task, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from encoder.with_keys(pa.Table.from_batches([batch]), task.name).to_batches()


def _check_unchanged(task: Task, rows: int, same: bool) -> None:
    if not same or rows != task.rows:
        raise DataError(
            f"The file changed while it was read ({rows:,} rows instead of {task.rows:,}). Encode "
            "it again."
        )
