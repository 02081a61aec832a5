"""Turn a file of codes into a file of sparse vectors for a search engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import scipy.sparse as sp

from sdlgm.codec import coding_prior, describe, passed_through, read_codes
from sdlgm.config import VectorFormat, WeightMetric
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.export.additive_quantiser import faiss_index, write_faiss
from sdlgm.export.vector_engines import write_vectors
from sdlgm.inference import document_weights, prefix_codes
from sdlgm.models import SDLGM, load_model
from sdlgm.outputs import atomic_path, check_output

__all__ = ["export_codes"]


@neutral()
def export_codes(
    run: Path | str,
    codes: Path | str,
    out: Path | str,
    file_format: VectorFormat,
    *,
    metric: WeightMetric | None = None,
    positive: bool = False,
    ids: str | None = None,
    field: str = "code",
    prefix: int | None = None,
) -> int:
    """Write the weights of a file of codes as vectors of a search engine; return their number.

    The file is written completely or not at all. All codes are in memory, as a sparse table.

    Parameters
    ----------
    run
        Folder of the run, of the model or of a saved transformer that made the codes.
    codes
        File of codes, ``.parquet`` or ``.sdz``.
    out
        File to write.
    file_format
        The name of an engine, see :func:`~sdlgm.export.write_vectors`; ``"npz"`` for the weights as
        a CSR table of scipy; ``"faiss"`` for an index of faiss,
        :func:`~sdlgm.export.faiss_index`, with the codes themselves.
    metric, positive
        What the weights rank by, see :func:`~sdlgm.inference.document_weights`. Of faiss, ``"l2"``
        (the default) or ``"inner_product"``.
    ids
        The column that was passed through to the file of codes and holds the ids. ``None``: the
        numbers of the rows, from 0.
    field
        Name of the vector in the engine.
    prefix
        Keep so many groups of the codes, one of the model's ``prefixes``. ``None``: all.

    Raises
    ------
    ConfigError
        If the format is unknown, an option does not suit it or the model, or there is no column of
        that name.
    CodeFileError
        If the file of codes is damaged or was made by another model.
    DataError
        If a row or an id does not suit the engine.
    """
    if file_format not in get_args(VectorFormat):
        known = ", ".join(map(repr, get_args(VectorFormat)))
        raise ConfigError(f"format must be one of {known}, got {file_format!r}.")
    if ids is not None and file_format in ("npz", "faiss"):
        raise ConfigError(f"A file of format {file_format} has no ids: leave out ids {ids!r}.")
    check_output(out, (run, codes))
    model = load_model(run)
    table = prefix_codes(model, _read_table(model, codes), prefix)
    if file_format == "faiss":
        if positive or metric not in (None, "l2", "inner_product"):
            raise ConfigError("An index of faiss ranks by metric 'l2' or 'inner_product' only.")
        write_faiss(out, faiss_index(model, table, metric or "l2", prefix=prefix))
        return int(table.shape[0])
    weights = document_weights(model, table, metric, positive=positive)
    if file_format == "npz":
        with atomic_path(out) as temporary, temporary.open("wb") as file:
            sp.save_npz(file, weights)
        return int(weights.shape[0])
    return write_vectors(out, weights, file_format, _ids(model, codes, ids), field=field)


def _read_table(model: SDLGM, codes: Path | str) -> sp.csr_array:
    """Read a file of codes as a sparse table."""
    _, batches = read_codes(codes, describe(model), prior=coding_prior(model))
    parts = [sp.csr_array(batch.numpy()) for batch in batches]
    return sp.vstack([sp.csr_array((0, model.config.features), dtype=np.float32), *parts], "csr")


def _ids(model: SDLGM, codes: Path | str, column: str | None) -> Sequence[Any] | None:
    """Read the ids from a column that was passed through to a file of codes."""
    if column is None:
        return None
    kept = passed_through(model, codes).kept
    names = [] if kept is None else kept.column_names
    if kept is None or column not in names:
        raise ConfigError(
            f"{codes} has no column {column!r} for ids"
            + (f"; it has {', '.join(names)}" if names else "")
            + f". Encode with --keep {column}."
        )
    return kept.column(column).to_pylist()
