"""Codes and weights as the sparse vectors that search engines take; no client is needed."""

from __future__ import annotations

import json
import typing
import uuid
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from sdlgm.config import SearchEngine
from sdlgm.errors import ConfigError, DataError
from sdlgm.outputs import atomic_path

__all__ = ["engine_records", "engine_vectors", "write_vectors"]

Identifier = int | str
POSITIVE = "Make queries and documents with positive=True"


class _Engine(NamedTuple):
    """What an engine takes."""

    vector: Callable[[list[int], list[float], int], Any]
    """Makes a vector of indices, values and width."""
    record: Callable[[Identifier, Any, str], dict[str, Any]]
    """Makes a record of an id, a vector and the name of its field."""
    identifier: Callable[[Identifier], str | None]
    """Returns what an id must be if it is refused."""
    nonzero: int | None = None
    """Largest number of weights of a vector."""
    negative: bool = True
    """Whether weights may be negative."""
    empty: bool = True
    """Whether a vector may have no weights."""
    text_ids: bool = False
    """Whether ids are always texts."""


# --- vectors ------------------------------------------------------------------------------------


def _lists(indices: list[int], values: list[float], width: int) -> dict[str, Any]:
    return {"indices": indices, "values": values}


def _pairs(indices: list[int], values: list[float], width: int) -> dict[int, float]:
    return dict(zip(indices, values, strict=True))


def _tokens(indices: list[int], values: list[float], width: int) -> dict[str, float]:
    return dict(zip(map(str, indices), values, strict=True))


def _sparsevec(indices: list[int], values: list[float], width: int) -> str:
    pairs = (
        f"{index + 1}:{repr(value).removesuffix('.0')}"
        for index, value in zip(indices, values, strict=True)
    )
    return f"{{{','.join(pairs)}}}/{width}"


# --- ids ----------------------------------------------------------------------------------------


def _any_id(each: Identifier) -> str | None:
    return None


def _whole(each: Identifier) -> str | None:
    return None if isinstance(each, int) and 0 <= each < 2**63 else "a non-negative integer"


def _whole_or_uuid(each: Identifier) -> str | None:
    if isinstance(each, str):
        try:
            uuid.UUID(each)
        except ValueError:
            return "a non-negative integer or a UUID"
        return None
    return "a non-negative integer or a UUID" if _whole(each) else None


def _short(each: Identifier) -> str | None:
    text = str(each)
    return None if 0 < len(text) <= 512 and text.isascii() else "1 to 512 ASCII characters"


_ENGINES: dict[str, _Engine] = {
    "qdrant": _Engine(
        _lists, lambda each, vector, field: {"id": each, "vector": {field: vector}}, _whole_or_uuid
    ),
    "pinecone": _Engine(
        _lists,
        lambda each, vector, field: {"id": each, "sparse_values": vector},
        _short,
        nonzero=1000,
        empty=False,
        text_ids=True,
    ),
    "pgvector": _Engine(
        _sparsevec, lambda each, vector, field: {"id": each, field: vector}, _any_id, nonzero=1000
    ),
    "milvus": _Engine(
        _pairs,
        lambda each, vector, field: {"id": each, field: vector},
        _any_id,
        negative=False,
        empty=False,
    ),
    "seismic": _Engine(
        _tokens, lambda each, vector, field: {"id": each, "content": "", "vector": vector}, _whole
    ),
    "elasticsearch": _Engine(
        _tokens,
        lambda each, vector, field: {"_id": each, "_source": {field: vector}},
        _short,
        negative=False,
        text_ids=True,
    ),
}


# --- public -------------------------------------------------------------------------------------


def engine_vectors(weights: Any, engine: SearchEngine) -> list[Any]:
    """Return the sparse vector of each row in the form of an engine, for documents and queries.

    ================== ================================================= ==========================
    engine             vector                                            limits that are checked
    ================== ================================================= ==========================
    "qdrant"           ``{"indices": [0, 4], "values": [1.0, 2.0]}``     none
    "pinecone"         the same                                          1 to 1,000 weights
    "pgvector"         the text ``{1:1,5:2}/6`` of a ``sparsevec``       1,000 weights (HNSW)
    "milvus"           ``{0: 1.0, 4: 2.0}``                              1 or more, none negative
    "seismic"          ``{"0": 1.0, "4": 2.0}``                          none
    "elasticsearch"    the same, also for OpenSearch                     none negative
    ================== ================================================= ==========================

    Parameters
    ----------
    weights
        Codes or weights, shape ``(n, K)``: sparse or dense.
    engine
        See above.

    Raises
    ------
    ConfigError
        If the engine is unknown.
    DataError
        If a row exceeds a limit of the engine, or the weights are not a table of finite numbers.

    Examples
    --------
    >>> engine_vectors([[1, 0, 0, 0, 2, 0]], "pgvector")
    ['{1:1,5:2}/6']
    """
    return list(_vectors(_checked(weights, engine), engine))


def engine_records(
    weights: Any, engine: SearchEngine, ids: Sequence[Any] | None = None, *, field: str = "code"
) -> list[dict[str, Any]]:
    """Return a record with id and vector for each row, as the engine's client takes it.

    ================== ===========================================================================
    engine             record
    ================== ===========================================================================
    "qdrant"           ``{"id": 7, "vector": {field: ...}}``: ``PointStruct(**record)``
    "pinecone"         ``{"id": "7", "sparse_values": ...}``: ``index.upsert(records)``
    "pgvector"         ``{"id": 7, field: ...}``
    "milvus"           ``{"id": 7, field: ...}``: ``client.insert(collection, records)``
    "seismic"          ``{"id": 7, "content": "", "vector": ...}``
    "elasticsearch"    ``{"_id": "7", "_source": {field: ...}}``: ``helpers.bulk(client, records,
                       index=...)``
    ================== ===========================================================================

    Parameters
    ----------
    weights, engine
        See :func:`engine_vectors`.
    ids
        An integer or a text for each row, all different. ``None``: 0, 1, 2, ...
    field
        Name of the vector.

    Raises
    ------
    ConfigError, DataError
        As :func:`engine_vectors`, or if ids do not suit the engine or the rows.
    """
    table = _checked(weights, engine)
    return list(_records(table, engine, _identifiers(ids, table.shape[0], engine), field))


def write_vectors(
    path: Path | str,
    weights: Any,
    engine: SearchEngine,
    ids: Sequence[Any] | None = None,
    *,
    field: str = "code",
) -> int:
    """Write the records of all rows to a file, atomically; return their number.

    The file has one record of :func:`engine_records` a line, in JSON, with these exceptions. For
    ``"pgvector"`` it has two columns, id and vector, separated by a tab, for ``COPY``. For
    ``"elasticsearch"`` each record takes two lines, as the bulk interface reads them.

    Parameters
    ----------
    path
        The file.
    weights, engine, ids, field
        See :func:`engine_records`.

    Raises
    ------
    ConfigError, DataError
        As :func:`engine_records`; nothing is written then.
    """
    table = _checked(weights, engine)
    names = _identifiers(ids, table.shape[0], engine)
    line = {"pgvector": _copied, "elasticsearch": _bulk}.get(engine, json.dumps)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in _records(table, engine, names, field):
            file.write(line(record) + "\n")
    return int(table.shape[0])


def _copied(record: dict[str, Any]) -> str:
    """Return a line of ``COPY``'s text format."""
    escapes: dict[str, str | int | None] = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
    return "\t".join(str(value).translate(str.maketrans(escapes)) for value in record.values())


def _bulk(record: dict[str, Any]) -> str:
    action = {"index": {"_id": record["_id"]}}
    return json.dumps(action) + "\n" + json.dumps(record["_source"])


def _records(
    table: sp.csr_array, engine: str, ids: Sequence[Identifier], field: str
) -> Iterator[dict[str, Any]]:
    for each, vector in zip(ids, _vectors(table, engine), strict=True):
        yield _ENGINES[engine].record(each, vector, field)


def _vectors(table: sp.csr_array, engine: str) -> Iterator[Any]:
    make, width = _ENGINES[engine].vector, int(table.shape[1])
    for start, end in zip(table.indptr[:-1].tolist(), table.indptr[1:].tolist(), strict=True):
        values = table.data[start:end].astype(str).astype(float)  # as short as float32 allows
        yield make(table.indices[start:end].tolist(), values.tolist(), width)


# --- checks -------------------------------------------------------------------------------------


def _checked(weights: Any, engine: str) -> sp.csr_array:
    """Return weights as CSR in single precision, in order and without zeros."""
    if engine not in _ENGINES:
        known = ", ".join(map(repr, typing.get_args(SearchEngine)))
        raise ConfigError(f"engine must be one of {known}, got {engine!r}.")
    if getattr(weights, "ndim", 2) != 2:
        raise DataError(
            f"The weights have shape {tuple(weights.shape)}. Give a table, one row for each vector."
        )
    table = sp.csr_array(weights, dtype=np.float32, copy=True)
    table.sum_duplicates()
    table.eliminate_zeros()
    lengths, limits = np.diff(table.indptr), _ENGINES[engine]
    _refuse(table, ~np.isfinite(table.data), "holds a weight that is not finite. Drop the row")
    if not limits.negative:
        _refuse(
            table, table.data < 0, f"holds a negative weight, which {engine} refuses. {POSITIVE}"
        )
    if not limits.empty and (lengths == 0).any():
        row = int(np.flatnonzero(lengths == 0)[0])
        raise DataError(
            f"Row {row} (counted from 0) has no weights, which {engine} refuses. {POSITIVE}, so "
            "that closed slots count, or drop the row."
        )
    if limits.nonzero is not None and (lengths > limits.nonzero).any():
        row = int(np.flatnonzero(lengths > limits.nonzero)[0])
        raise DataError(
            f"Row {row} (counted from 0) has {lengths[row]:,} weights, but {engine} takes up to "
            f"{limits.nonzero:,}. Keep the largest: query_weights(..., top={limits.nonzero}); for "
            "documents choose a smaller budget, or max_active."
        )
    return table


def _refuse(table: sp.csr_array, wrong: Any, what: str) -> None:
    if wrong.any():
        row = int(np.searchsorted(table.indptr, np.flatnonzero(wrong)[0], side="right")) - 1
        raise DataError(f"Row {row} (counted from 0) {what}.")


def _identifiers(ids: Sequence[Any] | None, number: int, engine: str) -> list[Identifier]:
    found = [_plain(each) for each in (range(number) if ids is None else ids)]
    if len(found) != number:
        raise DataError(f"There are {len(found):,} ids for {number:,} rows.")
    seen: set[Hashable] = set()
    for row, each in enumerate(found):
        known = isinstance(each, int | str) and not isinstance(each, bool)
        need = _ENGINES[engine].identifier(each) if known else "an integer or a text"
        if need:
            raise DataError(
                f"The id {each!r} of row {row} (counted from 0) does not suit {engine}, where an "
                f"id must be {need}."
            )
        if each in seen:
            raise DataError(f"The id {each!r} of row {row} (counted from 0) occurs twice.")
        seen.add(each)
    return [str(each) for each in found] if _ENGINES[engine].text_ids else found


def _plain(each: Any) -> Any:
    return each.item() if isinstance(each, np.generic) else each
