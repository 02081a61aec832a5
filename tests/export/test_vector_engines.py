"""Vectors for search engines, read by the engines' own clients where they are installed."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import scipy.sparse as sp

from sdlgm.config import SearchEngine
from sdlgm.errors import ConfigError, DataError
from sdlgm.export import engine_records, engine_vectors, write_vectors

ENGINES = get_args(SearchEngine)
FEATURES = 40


def random_weights(rows: int, seed: int = 0, *, low: float = -1.0, active: int = 6) -> sp.csr_array:
    random = np.random.default_rng(seed)
    table = np.zeros((rows, FEATURES), np.float32)
    for row in table:
        place = random.choice(FEATURES, active, replace=False)
        row[place] = random.uniform(low, 1, active)
    return sp.csr_array(table)


def parts_of(weights: sp.csr_array) -> list[tuple[list[int], np.ndarray]]:
    """Indices and values of each row."""
    ends = weights.indptr[1:-1]
    return [
        (indices.tolist(), values)
        for indices, values in zip(
            np.split(weights.indices, ends), np.split(weights.data, ends), strict=True
        )
    ]


def products(queries: sp.csr_array, documents: sp.csr_array) -> np.ndarray:
    return (queries @ documents.T).toarray()


# --- forms and limits ---------------------------------------------------------------------------


def test_each_engine_has_its_form() -> None:
    row = sp.csr_array(np.array([[1, 0, 0.1, 0]], np.float32))
    forms = {engine: engine_vectors(row, engine)[0] for engine in ENGINES}
    lists = {"indices": [0, 2], "values": [1.0, 0.1]}
    assert forms == {
        "qdrant": lists,
        "pinecone": lists,
        "pgvector": "{1:1,3:0.1}/4",
        "milvus": {0: 1.0, 2: 0.1},
        "seismic": {"0": 1.0, "2": 0.1},
        "elasticsearch": {"0": 1.0, "2": 0.1},
    }


def test_values_are_the_shortest_that_single_precision_allows() -> None:
    weights = random_weights(50)
    for (_, data), vector in zip(parts_of(weights), engine_vectors(weights, "qdrant"), strict=True):
        assert np.array_equal(np.float32(vector["values"]), data)
        assert all(len(repr(abs(value))) <= 14 for value in vector["values"])


def test_tables_of_any_kind_give_the_same_vectors() -> None:
    weights = random_weights(5)
    expected = engine_vectors(weights, "seismic")
    unsorted = sp.csr_array(weights)
    unsorted.indices, unsorted.data = unsorted.indices[::-1].copy(), unsorted.data[::-1].copy()
    assert all(
        list(map(int, vector)) == sorted(map(int, vector))
        for vector in engine_vectors(unsorted, "seismic")
    )
    for same in (weights.toarray(), sp.csr_matrix(weights), sp.coo_array(weights)):
        assert engine_vectors(same, "seismic") == expected


def test_a_single_row_must_be_a_table() -> None:
    with pytest.raises(DataError, match=r"shape \(40,\)\. Give a table, one row for each vector"):
        engine_vectors(random_weights(2)[0], "milvus")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_holds_a_record_for_each_row(engine, tmp_path: Path) -> None:
    weights = random_weights(3, low=0.1)
    path = tmp_path / "vectors"
    assert write_vectors(path, weights, engine, [7, 8, 9]) == 3
    lines = path.read_text().splitlines()
    records = engine_records(weights, engine, [7, 8, 9])
    if engine == "pgvector":
        assert lines[1].split("\t") == ["8", engine_vectors(weights, engine)[1]]
    elif engine == "elasticsearch":
        assert len(lines) == 6
        assert json.loads(lines[2]) == {"index": {"_id": "8"}}
        assert json.loads(lines[3]) == records[1]["_source"]
    else:
        assert [json.loads(line) for line in lines] == json.loads(json.dumps(records))


@pytest.mark.parametrize("engine", ["milvus", "elasticsearch"])
def test_negative_weights_are_refused_with_the_cure(engine, tmp_path: Path) -> None:
    weights = random_weights(4, low=0.1)
    weights.data[weights.indptr[2]] = -1
    path = tmp_path / "vectors"
    with pytest.raises(DataError, match=f"Row 2 .* negative .* {engine} .* positive=True"):
        write_vectors(path, weights, engine)
    assert not path.exists()


@pytest.mark.parametrize("engine", ["milvus", "pinecone"])
def test_rows_without_weights_are_refused_with_the_cure(engine) -> None:
    weights = sp.vstack([random_weights(1, low=0.1), sp.csr_array((2, FEATURES))])
    with pytest.raises(DataError, match=f"Row 1 .* {engine} refuses.*positive=True.*drop the row"):
        engine_vectors(weights, engine)
    assert len(engine_vectors(weights, "qdrant")) == 3


@pytest.mark.parametrize("engine", ["pinecone", "pgvector"])
def test_rows_of_too_many_weights_are_refused_with_the_cure(engine) -> None:
    weights = np.ones((2, 1001))
    weights[0, 0] = 0
    with pytest.raises(DataError, match=f"Row 1 .* 1,001 weights, but {engine} .* 1,000.*top=1000"):
        engine_vectors(weights, engine)
    assert len(engine_vectors(weights[:1], engine)) == 1


def test_weights_that_are_not_finite_are_refused() -> None:
    weights = random_weights(3)
    for value in (np.nan, np.inf):
        weights.data[-1] = value
        with pytest.raises(DataError, match=r"Row 2 .* not finite"):
            engine_vectors(weights, "qdrant")


def test_unknown_engines_are_refused() -> None:
    with pytest.raises(ConfigError, match="engine must be one of 'qdrant', .* got 'lucene'"):
        engine_vectors(random_weights(1), "lucene")


def test_ids_suit_the_engine() -> None:
    weights = random_weights(2, low=0.1)
    name = str(uuid.UUID(int=5))
    assert [r["id"] for r in engine_records(weights, "qdrant", [name, np.int64(3)])] == [name, 3]
    assert [r["id"] for r in engine_records(weights, "pinecone")] == ["0", "1"]
    for engine, ids, message in (
        ("qdrant", ["a", 1], "'a' of row 0 .* a non-negative integer or a UUID"),
        ("qdrant", [1, -1], "-1 of row 1"),
        ("seismic", [1, "b"], "'b' of row 1 .* a non-negative integer"),
        ("pinecone", ["", "b"], "'' of row 0 .* 1 to 512 ASCII"),
        ("elasticsearch", ["a", "é"], "'é' of row 1"),
        ("milvus", [1, 1.5], "1.5 of row 1"),
        ("pgvector", [None, 1], "None of row 0"),
        ("milvus", [4, 4], "4 of row 1 .* twice"),
        ("milvus", [4], "1 ids for 2 rows"),
    ):
        with pytest.raises(DataError, match=message):
            engine_records(weights, engine, ids)


def test_ids_are_escaped_for_copy(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    write_vectors(path, [[1.0], [2.0]], "pgvector", ["a\tb", "c\\d\ne"])
    assert path.read_text() == "a\\tb\t{1:1}/1\nc\\\\d\\ne\t{1:2}/1\n"


# --- the engines --------------------------------------------------------------------------------


def test_qdrant_finds_the_rows_of_the_largest_products() -> None:
    qdrant = pytest.importorskip("qdrant_client")
    models = qdrant.models
    documents, queries = random_weights(300), random_weights(5, 1, active=30)
    client = qdrant.QdrantClient(":memory:")
    client.create_collection(
        "rows", vectors_config={}, sparse_vectors_config={"code": models.SparseVectorParams()}
    )
    points = [models.PointStruct(**each) for each in engine_records(documents, "qdrant")]
    client.upsert("rows", points)
    expected = products(queries, documents)
    for vector, scores in zip(engine_vectors(queries, "qdrant"), expected, strict=True):
        asked = models.SparseVector(**vector)
        found = client.query_points("rows", query=asked, using="code", limit=10).points
        assert [point.id for point in found] == np.argsort(-scores)[:10].tolist()
        np.testing.assert_allclose([point.score for point in found], -np.sort(-scores)[:10], 1e-5)


def test_pinecone_takes_the_records() -> None:
    vectors = pytest.importorskip("pinecone")
    weights = random_weights(4)
    for record, (indices, data) in zip(
        engine_records(weights, "pinecone"), parts_of(weights), strict=True
    ):
        values = vectors.SparseValues(**record["sparse_values"])
        vector = vectors.Vector(id=record["id"], values=[], sparse_values=values)
        assert vector.sparse_values.indices == indices
        assert np.array_equal(np.float32(vector.sparse_values.values), data)


def test_milvus_finds_the_rows_of_the_largest_products(tmp_path: Path) -> None:
    pymilvus = pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    documents, queries = random_weights(300, low=0.01), random_weights(5, 1, low=0.01, active=30)
    client = pymilvus.MilvusClient(str(tmp_path / "rows.db"))
    schema = client.create_schema()
    schema.add_field("id", pymilvus.DataType.INT64, is_primary=True)
    schema.add_field("code", pymilvus.DataType.SPARSE_FLOAT_VECTOR)
    index = client.prepare_index_params()
    index.add_index("code", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection("rows", schema=schema, index_params=index)
    client.insert("rows", engine_records(documents, "milvus"))
    client.load_collection("rows")
    found = client.search(
        "rows", engine_vectors(queries, "milvus"), anns_field="code", limit=10,
        search_params={"metric_type": "IP"},
    )  # fmt: skip
    client.close()
    for hits, scores in zip(found, products(queries, documents), strict=True):
        assert [hit["id"] for hit in hits] == np.argsort(-scores)[:10].tolist()


def test_the_parser_of_milvus_takes_the_vectors() -> None:
    helper = pytest.importorskip("pymilvus.client.entity_helper")
    weights = random_weights(4, low=0.01)
    parsed = helper.sparse_rows_to_proto(engine_vectors(weights, "milvus"))
    found = helper.sparse_proto_to_rows(parsed)
    for (indices, data), vector in zip(parts_of(weights), found, strict=True):
        assert list(vector) == indices
        assert np.array_equal(np.float32(list(vector.values())), data)


def test_pgvector_reads_the_texts() -> None:
    pgvector = pytest.importorskip("pgvector")
    weights = sp.vstack([random_weights(4), sp.csr_array((1, FEATURES))]).tocsr()
    for text, row in zip(engine_vectors(weights, "pgvector"), weights.toarray(), strict=True):
        assert np.array_equal(pgvector.SparseVector.from_text(text).to_numpy(), row)


@pytest.mark.skipif("SDLGM_PGVECTOR" not in os.environ, reason="SDLGM_PGVECTOR names no server")
def test_postgresql_finds_the_rows_of_the_largest_products(tmp_path: Path) -> None:
    """SDLGM_PGVECTOR is a connection string of psql, to a database that has the extension."""
    documents, queries = random_weights(300), random_weights(5, 1, active=30)
    documents.data[:2] = 1e-7, -2e-10
    documents = sp.vstack([documents, sp.csr_array((1, FEATURES))]).tocsr()
    names = [f"a\tb\\{row}" for row in range(301)]
    write_vectors(tmp_path / "rows.tsv", documents, "pgvector", names)
    asked = "".join(
        f"SELECT id FROM rows ORDER BY code <#> '{vector}' LIMIT 10;"  # noqa: S608
        for vector in engine_vectors(queries, "pgvector")
    )
    found = subprocess.run(
        ["psql", os.environ["SDLGM_PGVECTOR"], "-qtA", "-v", "ON_ERROR_STOP=1"],
        input=f"""CREATE TEMPORARY TABLE rows (id text, code sparsevec({FEATURES}));
            \\copy rows FROM '{tmp_path}/rows.tsv'
            CREATE INDEX ON rows USING hnsw (code sparsevec_ip_ops);
            SET enable_indexscan = off;
            SELECT count(*), count(DISTINCT id) FROM rows;
            {asked}""",  # noqa: S608
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert found[0] == "301|301"
    for start, scores in zip(range(1, 51, 10), products(queries, documents), strict=True):
        assert found[start : start + 10] == [names[row] for row in np.argsort(-scores)[:10]]


def test_seismic_finds_most_rows_of_the_largest_products(tmp_path: Path) -> None:
    seismic = pytest.importorskip("seismic")
    documents, queries = random_weights(300, low=0.01), random_weights(5, 1, active=30)
    documents.data = np.round(documents.data * 64) / 64  # it stores 16 bits
    documents.eliminate_zeros()
    path = tmp_path / "rows.jsonl"
    write_vectors(path, documents, "seismic", range(1000, 1300))
    index = seismic.SeismicIndex.build(str(path))
    assert (index.len, index.nnz) == (300, documents.nnz)
    hits = 0
    for vector, scores in zip(
        engine_vectors(queries, "seismic"), products(queries, documents), strict=True
    ):
        found = index.search(
            query_id="0",
            query_components=np.array(list(vector), seismic.get_seismic_string()),
            query_values=np.array(list(vector.values()), np.float32),
            k=10,
            query_cut=len(vector),
            heap_factor=0.0,
        )
        rows = [int(name) - 1000 for _, _, name in found]
        np.testing.assert_allclose([score for _, score, _ in found], scores[rows], 1e-5)
        hits += len(set(rows) & set(np.argsort(-scores)[:10].tolist()))
    assert hits >= 45  # of 50: its search is approximate
