"""Encode data into files of codes, and decode them, with a trained model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import torch
from torch import Tensor

from sdlgm.codec import parquet
from sdlgm.codec.chains import coding_prior
from sdlgm.codec.code_files import CodeFormat, code_format, is_container, read_codes
from sdlgm.codec.description import CodeFile
from sdlgm.codec.passed import Passed, storable
from sdlgm.codec.sdz import CodeContainer, Damage, write_container
from sdlgm.config import CodeMethod
from sdlgm.data import Columns, Rows
from sdlgm.environment import neutral
from sdlgm.errors import CodeFileError, ModelFileError, warn
from sdlgm.inference import encode_batches, prefix_codes
from sdlgm.inference.prefixes import features_of_prefix
from sdlgm.limits import check_cells, parse_json, reading
from sdlgm.models import SDLGM, model_sha256

__all__ = ["Decoded", "decode_file", "decode_table", "describe", "encode_file", "passed_through"]


class Decoded(NamedTuple):
    """A decoded table."""

    values: Tensor
    """Means of the data, shape ``(n, D)``."""
    columns: Columns | None
    """Names, types and layout of the table that was encoded, where they are known."""
    kept: pa.Table | None
    """Columns that were passed through."""


def describe(model: SDLGM) -> CodeFile:
    """Return the description of a file of codes of this model, with 0 rows."""
    config = model.config
    return CodeFile(0, config.features, config.budget, model.groups, model_sha256(model))


@neutral()
def encode_file(
    model: SDLGM,
    rows: Rows,
    path: Path | str,
    *,
    code: CodeMethod | None = None,
    candidates: int = 16,
    max_active: int | None = None,
    seed: int = 0,
    prefix: int | None = None,
    file_format: CodeFormat | None = None,
    columns: Columns | None = None,
    kept: pa.Table | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Encode rows into a file of codes, written atomically; return its number of rows.

    ``file_format`` overrides the format that the suffix names. ``columns`` describes the table of
    the rows and ``kept`` are columns to pass through; the file stores both. ``prefix`` keeps so
    many groups of each code (:func:`~sdlgm.inference.prefix_codes`). The other options are those of
    :meth:`~sdlgm.models.SDLGM.encode`. ``progress`` is called with the number of rows done.

    Raises
    ------
    ConfigError
        If the model was not trained for the prefix.
    CodeFileError
        If kept columns have the names of the columns of codes in Parquet, or a type that a
        container does not hold.
    """
    chosen = code_format(path, file_format)  # fail before anything is encoded
    features_of_prefix(model.config, prefix)
    _check_kept(path, chosen, kept, len(rows))
    batches = encode_batches(
        model, rows, code, candidates=candidates, max_active=max_active, seed=seed
    )

    def counted() -> Iterator[Tensor]:
        done = 0
        for codes in batches:
            yield prefix_codes(model, codes, prefix)
            done += len(codes)
            if progress:
                progress(done)

    if chosen == "sdz":
        named = columns if columns is not None and (columns.names or kept is not None) else None
        return write_container(
            path, counted(), describe(model), columns=named, kept=kept, prior=coding_prior(model)
        )
    notes = {parquet.TABLE: json.dumps(columns.layout().to_dict())} if columns else None
    own = parquet.code_schema(model.config.budget, model.groups)
    schema = pa.schema([*(kept.schema if kept is not None else ()), *own])
    with parquet.code_writer(path, describe(model), schema, notes) as writer:
        for codes in counted():
            batch = parquet.to_arrow(codes, own)
            if kept is None:
                writer.write(batch)
                continue
            part = kept.slice(writer.rows, len(codes)).combine_chunks()
            passed = [part.column(name).combine_chunks() for name in part.column_names]
            writer.write(pa.RecordBatch.from_arrays([*passed, *batch.columns], schema=schema))
    return writer.rows


def _check_kept(path: Path | str, chosen: CodeFormat, kept: pa.Table | None, rows: int) -> None:
    if kept is None:
        return
    taken = [name for name in kept.column_names if name in (*parquet.SCHEMA.names, "n_active")]
    if taken and chosen == "parquet":
        raise CodeFileError(
            f"{', '.join(taken)} cannot be kept: files of codes have columns of that name. Rename "
            "them first."
        )
    if chosen == "sdz":
        storable(kept, rows)
    if len(kept) != rows:
        raise CodeFileError(f"{len(kept)} rows of columns to keep for {rows} rows of data.")


@neutral()
def decode_file(
    model: SDLGM,
    path: Path | str,
    progress: Callable[[int], None] | None = None,
    on_damage: Callable[[Damage], None] | None = None,
    prefix: int | None = None,
) -> Tensor:
    """Decode a file of codes to means of the data, shape ``(n, D)``, as ``SDLGM.decode`` does.

    ``on_damage`` is called with each damaged block of a container; its rows become NaN. ``prefix``
    decodes so many groups of each code alone (:func:`~sdlgm.inference.prefix_codes`).

    Raises
    ------
    ConfigError
        If the model was not trained for the prefix.
    CodeFileError
        If the file is damaged, was made by another model, or claims too many rows for its size.
    """
    prior = coding_prior(model) if is_container(Path(path)) else None
    about, batches = read_codes(path, describe(model), on_damage, prior)
    cells = about.n_codes * model.n_inputs
    check_cells(cells, Path(path).stat().st_size, str(path), CodeFileError, coded=True)
    kind = model.decode(torch.zeros(1, model.config.features)).dtype
    decoded = torch.empty(about.n_codes, model.n_inputs, dtype=kind)
    done = 0
    for codes in batches:
        decoded[done : done + len(codes)] = model.decode(prefix_codes(model, codes, prefix))
        done += len(codes)
        if progress:
            progress(done)
    return decoded


def decode_table(
    model: SDLGM,
    path: Path | str,
    columns: Columns | None = None,
    progress: Callable[[int], None] | None = None,
    on_damage: Callable[[Damage], None] | None = None,
    prefix: int | None = None,
) -> Decoded:
    """Decode a file of codes with its columns and those passed through.

    ``columns`` describes the table if the file does not; ``prefix`` is that of
    :func:`decode_file`. With ``on_damage``, a container whose
    kept columns are damaged is decoded without them, which a warning says.

    Raises
    ------
    CodeFileError
        If the file is damaged or was made by another model.
    """
    values = decode_file(model, path, progress, on_damage, prefix)
    own, kept, _ = passed_through(model, path, salvage=on_damage is not None)
    columns = columns if own is None else own
    if columns is not None and columns.width not in (None, values.shape[1]):
        raise CodeFileError(
            f"{path} describes {columns.width} columns, but the model has {values.shape[1]}."
        )
    return Decoded(values, columns, kept)


def passed_through(model: SDLGM, path: Path | str, *, salvage: bool = False) -> Passed:
    """Return the layout of the encoded table, and its kept columns, as a file of codes has them.

    Either is ``None`` if the file has none. With ``salvage``, those of a container that are damaged
    are lost, which a warning says. Call this after the codes were read, which checks the file.

    Raises
    ------
    CodeFileError
        If they are damaged.
    """
    if is_container(Path(path)):
        return _passed_of_container(model, path, salvage)
    try:
        with reading(path, CodeFileError):
            note, kept = parquet.read_passed(path)
            if note is None:
                return Passed(None, kept)
            about = parse_json(note, str(path), CodeFileError)
            return Passed(Columns.from_dict(about, str(path)), kept)
    except ModelFileError as error:
        raise CodeFileError(f"{path} is damaged: {error}") from None


def _passed_of_container(model: SDLGM, path: Path | str, salvage: bool) -> Passed:
    with CodeContainer(path, describe(model)) as container:
        passed = container.read_passed(model.n_inputs)
    if passed is not None:
        return passed
    if not salvage:
        raise CodeFileError(
            f"{path} is damaged: the kept columns, or the names of the columns, do not match their "
            "digest. The codes can be salvaged without them."
        )
    warn(f"{path} is damaged: its kept columns, and the names of its columns, are lost.")
    return Passed()
