"""sdlgm vectors: a file of codes becomes a file of vectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from helpers import untrained_run
from sdlgm.cli import main
from sdlgm.codec import read_codes
from sdlgm.config import SearchEngine, VectorFormat
from sdlgm.errors import CodeFileError, ConfigError, DataError
from sdlgm.estimators import SDLGMTransformer
from sdlgm.export import engine_records, engine_vectors, export_codes
from sdlgm.inference import document_weights, prefix_codes, query_weights
from sdlgm.models import SDLGM

SETTINGS = {
    "features": 12, "budget": 4, "groups": 4, "encoder_hidden": (), "likelihood": "gaussian",
    "prefixes": (2,),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its model, and codes of 30 rows that keep a column of names."""
    folder = tmp_path_factory.mktemp("vectors")
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 5)), columns=list("abcde"))
    frame.to_parquet(folder / "rows.parquet")
    (folder / "run").mkdir()
    untrained_run(folder / "run", folder / "rows.parquet", **SETTINGS)
    frame["name"] = [f"row {number}" for number in range(30)]
    frame.to_parquet(folder / "named.parquet")
    run = str(folder / "run")
    for rows, codes, keep in (
        ("named.parquet", "codes.parquet", ["--keep", "name"]),
        ("rows.parquet", "codes.sdz", []),
        ("named.parquet", "named.sdz", ["--keep", "name"]),
    ):
        words = ["encode", run, str(folder / rows), "--out", str(folder / codes), *keep]
        assert main(words) == 0
    return folder


def loaded(place: Path) -> tuple[SDLGM, torch.Tensor]:
    from sdlgm.models import load_model

    return load_model(place / "run"), torch.cat(list(read_codes(place / "codes.sdz")[1]))


def call(place: Path, out: Path, text: str, codes: str = "codes.parquet") -> int:
    words = ["vectors", str(place / "run"), str(place / codes), "--out", str(out)]
    return main([*words, *text.split()])


@pytest.mark.parametrize("codes", ["codes.parquet", "codes.sdz"])
def test_a_file_of_codes_becomes_records(codes, place: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "points.jsonl"
    assert call(place, out, "--format qdrant", codes) == 0
    assert "30 vectors for qdrant" in capsys.readouterr().err
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert records == engine_records(loaded(place)[1].numpy(), "qdrant")


def test_options_reach_the_weights_and_records(place: Path, tmp_path: Path) -> None:
    model, codes = loaded(place)
    out = tmp_path / "rows"
    assert call(place, out, "--format pinecone --metric cosine --ids name") == 0
    names = [f"row {number}" for number in range(30)]
    expected = engine_records(document_weights(model, codes, "cosine"), "pinecone", names)
    assert [json.loads(line) for line in out.read_text().splitlines()] == expected
    assert call(place, out, "--format milvus --positive --field sparse") == 0
    weights = document_weights(model, codes, positive=True)
    expected = engine_records(weights, "milvus", field="sparse")
    assert out.read_text() == "".join(json.dumps(record) + "\n" for record in expected)
    assert call(place, out, "--format pgvector --metric l2 --ids name") == 0
    vectors = engine_vectors(document_weights(model, codes, "l2"), "pgvector")
    assert [line.split("\t") for line in out.read_text().splitlines()] == [
        list(pair) for pair in zip(names, vectors, strict=True)
    ]
    assert call(place, out, "--format npz --metric l2") == 0
    read = sp.load_npz(out)
    assert np.array_equal(read.toarray(), document_weights(model, codes, "l2").toarray())


def test_queries_find_their_own_rows_in_the_file(place: Path, tmp_path: Path) -> None:
    model, codes = loaded(place)
    out = tmp_path / "rows.npz"
    export_codes(place / "run", place / "codes.sdz", out, "npz", metric="cosine")
    rows = model.decode(codes)
    found = query_weights(model, rows, "cosine") @ sp.load_npz(out).T
    np.testing.assert_allclose(found.diagonal(), 1, atol=1e-5)
    np.testing.assert_allclose(found.max(1).toarray(), 1, atol=1e-5)


def test_an_index_of_faiss_decodes_the_codes(place: Path, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    model, codes = loaded(place)
    out = tmp_path / "codes.faiss"
    assert call(place, out, "--format faiss", "codes.sdz") == 0
    index = faiss.read_index(str(out))
    np.testing.assert_allclose(index.reconstruct_n(0, 30), model.decode(codes), atol=1e-5)


def test_a_prefix_of_each_code_is_exported(place: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.sdz"
    words = ["encode", str(place / "run"), str(place / "rows.parquet"), "--out", str(drawn)]
    assert main([*words, "--code", "sample"]) == 0
    for out, options in (("cut.npz", "--prefix 2"), ("whole.npz", "")):
        assert call(place, tmp_path / out, f"--format npz {options}", str(drawn)) == 0
    cut, whole = (sp.load_npz(tmp_path / name).toarray() for name in ("cut.npz", "whole.npz"))
    assert np.array_equal(cut[:, :6], whole[:, :6])
    assert whole[:, 6:].any()
    assert not cut[:, 6:].any()
    decoded = ["decode", str(place / "run"), str(drawn), "--out", str(tmp_path / "cut.npy")]
    assert main([*decoded, "--prefix", "2"]) == 0
    model, codes = loaded(place)[0], torch.cat(list(read_codes(drawn)[1]))
    expected = model.decode(prefix_codes(model, codes, 2))
    np.testing.assert_allclose(np.load(tmp_path / "cut.npy"), expected, rtol=1e-5)


def test_codes_of_a_saved_transformer(tmp_path: Path) -> None:
    from sdlgm.codec import describe, write_codes

    X = np.random.default_rng(0).normal(size=(40, 3))
    model = SDLGMTransformer(12, 4, epochs=1, random_state=0).fit(X)
    model.save(tmp_path / "model")
    codes = torch.from_numpy(model.transform(X))
    about = describe(model.model_)
    write_codes(tmp_path / "codes.sdz", [codes.float()], about)
    out = tmp_path / "rows.npz"
    assert export_codes(tmp_path / "model", tmp_path / "codes.sdz", out, "npz") == 40
    assert np.array_equal(sp.load_npz(out).toarray(), codes.numpy())


def test_ids_come_from_the_kept_columns_of_either_format(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows"
    for codes in ("codes.parquet", "named.sdz"):
        assert call(place, out, "--format pinecone --metric cosine --ids name", codes) == 0
        ids = [json.loads(line)["id"] for line in out.read_text().splitlines()]
        assert ids == [f"row {number}" for number in range(30)]


def test_what_does_not_fit_is_refused_before_anything_is_written(
    place: Path, tmp_path: Path
) -> None:
    run, codes, out = place / "run", place / "codes.parquet", tmp_path / "out"
    for options, error, message in (
        ({"file_format": "lucene"}, ConfigError, "format must be one of 'qdrant'"),
        ({"file_format": "npz", "ids": "name"}, ConfigError, "npz has no ids"),
        ({"file_format": "qdrant", "ids": "name"}, DataError, "'row 0' of row 0 .* UUID"),
        ({"file_format": "qdrant", "ids": "a"}, ConfigError, "no column 'a'.*has name.*--keep a"),
        ({"file_format": "elasticsearch", "metric": "l2"}, DataError, "negative"),
        ({"file_format": "faiss", "metric": "cosine"}, ConfigError, "'l2' or 'inner_product' only"),
        ({"file_format": "npz", "metric": "l2", "positive": True}, ConfigError, "does not suit"),
    ):
        with pytest.raises(error, match=message):
            export_codes(run, codes, out, **options)
    with pytest.raises(ConfigError, match=r"codes.sdz has no column 'name'.*--keep name"):
        export_codes(run, place / "codes.sdz", out, "qdrant", ids="name")
    with pytest.raises(ConfigError, match="is the input"):
        export_codes(run, codes, codes, "qdrant")
    assert not out.exists()


def test_codes_of_another_model_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    untrained_run(tmp_path / "other", place / "rows.parquet", **SETTINGS | {"features": 16})
    with pytest.raises(CodeFileError, match="encoded by another model"):
        export_codes(tmp_path / "other", place / "codes.sdz", tmp_path / "out", "npz")


def test_every_search_engine_is_a_format() -> None:
    assert VectorFormat.__args__ == (*SearchEngine.__args__, "npz", "faiss")
