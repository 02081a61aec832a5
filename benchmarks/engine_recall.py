"""Recall of codes in a search engine: weights of queries beside codes against codes and scores.

The base are the codes of the training rows; the queries are test rows with their real values. The
truth are the ten nearest base rows by exact L2. Recall 10@100 is the share of them among the first
100 that a method returns. The engine is Seismic, an inverted index, or Qdrant in local mode, which
reads all rows and takes minutes. The page docs/search.md explains the methods.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from paper.machine import machine

from benchmarks._rounds import add_profile, report
from sdlgm import DataConfig, SDLGMTransformer
from sdlgm.config import WeightMetric
from sdlgm.data import load_data
from sdlgm.export import engine_records, engine_vectors, write_vectors
from sdlgm.inference import is_linear

__all__ = ["add_arguments", "run"]

NEAREST = 10
RETURNED = 100
CUT = 256
"""Largest weights of a query by which Seismic chooses candidates; all weights rank them."""
Table = NDArray[Any]


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    data: str
    queries: int
    engine_queries: int
    """Queries that the engine answers: the first of all."""
    settings: dict[str, Any]


PROFILES = {
    "full": Size(
        "mnist",
        1000,
        200,
        {"n_components": 8 * 255, "budget": 8, "scaling": "common"},
    ),
    "smoke": Size("digits", 50, 50, {"n_components": 32, "budget": 8, "epochs": 5}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    add_profile(parser, PROFILES)
    parser.add_argument(
        "--model",
        type=Path,
        default=None,
        help="Folder of the transformer. It is loaded if it exists, and written otherwise.",
    )
    parser.add_argument(
        "--params",
        type=json.loads,
        default={},
        help="Parameters of the transformer in JSON that replace those of the profile.",
    )
    parser.add_argument(
        "--engine",
        choices=("seismic", "qdrant", "none"),
        default="seismic",
        help="The engine; none measures the exact products alone.",
    )


def run(options: argparse.Namespace) -> None:
    """Measure, print the numbers, and write the results file."""
    torch.set_num_threads(1)
    size = PROFILES[options.profile]
    data = load_data(DataConfig(size.data, binarisation="none"), "gaussian")
    base, queries = (part.values.float().numpy() for part in (data.train, data.test))
    base, queries = base / base.max(), queries[: size.queries] / base.max()
    model, seconds = _model({**size.settings, **options.params}, base, options.model)
    start = time.perf_counter()
    codes = sp.csr_array(model.transform(base))
    encoding = time.perf_counter() - start
    truth = _largest(_exact(queries, base), NEAREST)
    found: dict[str, Any] = {}
    for name, returned in _by_tables(model, queries, codes):
        found[name] = _recall(truth, returned)
        _say(f"{name}: {found[name]}")
    for name, asked, stored in _by_weights(model, queries, codes):
        exact = _largest((asked @ stored.T).toarray(), RETURNED)
        found[name] = {"exact": _recall(truth, exact)}
        if options.engine != "none":
            few = slice(size.engine_queries)
            start = time.perf_counter()
            returned = ENGINES[options.engine](asked[few], stored)
            found[name] |= {
                f"exact, {size.engine_queries} queries": _recall(truth[few], exact[few]),
                f"{options.engine}, {size.engine_queries} queries": _recall(truth[few], returned),
                "seconds": time.perf_counter() - start,
            }
        _say(f"{name}: {found[name]}")
    report(
        options,
        {
            "benchmark": "engine_recall",
            "data": f"{size.data}: {len(base)} base rows, {len(queries)} queries",
            "truth": f"the {NEAREST} nearest base rows by exact L2",
            "linear_decoder": is_linear(model.model_),
            "features_used": int(np.count_nonzero(codes.sum(0))),
            "active_features_mean": codes.nnz / codes.shape[0],
            "seconds": {"fit": seconds, "encode": encoding},
            "methods": found,
            "settings": {
                "profile": options.profile,
                "engine": options.engine,
                "model": model.get_params(),
            },
            "machine": machine(),
        },
    )


def _model(
    settings: dict[str, Any], rows: Table, folder: Path | None
) -> tuple[SDLGMTransformer, float | None]:
    """Return the transformer, and the seconds of its training unless it was loaded."""
    if folder is not None and folder.exists():
        return SDLGMTransformer.load(folder), None
    start = time.perf_counter()
    model = SDLGMTransformer(**settings, random_state=0, accelerator="cpu", progress=True).fit(rows)
    seconds = time.perf_counter() - start
    if folder is not None:
        model.save(folder)
    return model, seconds


def _by_tables(
    model: SDLGMTransformer, queries: Table, codes: sp.csr_array
) -> Iterator[tuple[str, Table]]:
    """Yield what scores against decoded rows return."""
    for metric in ("l2", "cosine"):
        yield f"scores {metric}", _largest(model.scores(queries, codes, metric), RETURNED)


def _by_weights(
    model: SDLGMTransformer, queries: Table, codes: sp.csr_array
) -> Iterator[tuple[str, sp.csr_array, sp.csr_array]]:
    """Yield weights of queries and documents, whose sparse products rank."""
    own = sp.csr_array(model.transform(queries).astype(np.float32))
    yield "code against code", own, codes.astype(np.float32)
    metrics: list[WeightMetric] = ["posterior"]
    if is_linear(model.model_):
        metrics = ["plain", "inner_product", "cosine", "l2", "posterior"]
    for metric in metrics:
        asked = model.query_weights(queries, metric)
        yield f"query_weights {metric}", asked, model.document_weights(codes, metric)
    asked = model.query_weights(queries, positive=True)
    yield "query_weights positive", asked, model.document_weights(codes, positive=True)


# --- engines ------------------------------------------------------------------------------------


def _seismic(asked: sp.csr_array, stored: sp.csr_array) -> Table:
    """Return what Seismic finds; it prunes, and stores 16 bits a weight."""
    import seismic

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_vectors(path, stored, "seismic")
        index = seismic.SeismicIndex.build(str(path), n_postings=stored.shape[0], num_threads=1)
    kind = seismic.get_seismic_string()
    found = np.full((asked.shape[0], RETURNED), -1)
    for row, vector in enumerate(engine_vectors(asked, "seismic")):
        hits = index.search(
            query_id=str(row),
            query_components=np.array(list(vector), kind),
            query_values=np.array(list(vector.values()), np.float32),
            k=RETURNED,
            query_cut=CUT,
            heap_factor=0.7,
        )
        found[row, : len(hits)] = [int(name) for _, _, name in hits]
    return found


def _qdrant(asked: sp.csr_array, stored: sp.csr_array) -> Table:
    """Return what Qdrant finds in local mode."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    client.create_collection(
        "rows", vectors_config={}, sparse_vectors_config={"code": models.SparseVectorParams()}
    )
    points = [models.PointStruct(**record) for record in engine_records(stored, "qdrant")]
    client.upsert("rows", points)
    found = np.full((asked.shape[0], RETURNED), -1)
    for row, vector in enumerate(engine_vectors(asked, "qdrant")):
        query = models.SparseVector(**vector)
        hits = client.query_points("rows", query=query, using="code", limit=RETURNED).points
        found[row, : len(hits)] = [int(hit.id) for hit in hits]
    return found


ENGINES = {"seismic": _seismic, "qdrant": _qdrant}


# --- recall -------------------------------------------------------------------------------------


def _exact(queries: Table, base: Table) -> Table:
    return 2 * queries @ base.T - np.square(base).sum(1)


def _largest(scores: Table, number: int) -> Table:
    """Return the columns of the largest scores of each row, in order; ties in random order."""
    order = np.random.default_rng(0).permutation(scores.shape[1])
    shuffled = -scores[:, order]
    first = np.argpartition(shuffled, number - 1, axis=1)[:, :number]
    ranked = np.take_along_axis(shuffled, first, 1).argsort(1, kind="stable")
    return order[np.take_along_axis(first, ranked, 1)]


def _recall(truth: Table, returned: Table) -> dict[str, float]:
    shares = {}
    for number in (NEAREST, RETURNED):
        hit = (returned[:, :number, None] == truth[:, None, :]).any(1)
        shares[f"10@{number}"] = round(float(hit.mean()), 4)
    return shares


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
