"""The benchmark of vectors on few rows: it runs, continues, and measures what it says; no times."""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.__main__ import main
from benchmarks._quantisers import Ours, SparseAutoencoder, needs_faiss
from benchmarks._vector_sets import RANKINGS, explained, load_set, recalls

from benchmarks import prefixes
from sdlgm.errors import SDLGMError
from trials import run_command

WITHOUT_FAISS = find_spec("faiss") is None


def bench(out: Path, *words: str) -> dict[str, Any]:
    options = ["--sets", "digits", "--bytes", "4", "--rows", "400", "--epochs", "2"]
    arguments = ["vectors", *options, *words, "--out", str(out)]
    folder = {"SDLGM_DATA": str(out.parent)}
    done = run_command(arguments, out.parent, program=main, environment=folder)
    assert done.status == 0, done.said
    return json.loads(out.read_text())


def test_methods_without_faiss_run_and_keep_finished_cells(tmp_path: Path) -> None:
    out, picture = tmp_path / "vectors.json", tmp_path / "vectors.png"
    first = bench(out, "--methods", "sae")
    assert [cell["method"] for cell in first["cells"]] == ["sae"]
    found = bench(out, "--methods", "sae", "ours", "--budget-check", "50")
    assert found["cells"][0] == first["cells"][0]  # not measured again: its seconds are the same
    ours = found["cells"][1]
    assert ours["method"] == "ours"
    assert ours["rows_over_budget"] == 0
    for cell in found["cells"]:
        assert cell["bytes_entropy"] <= cell["bytes_fixed"] <= 4.01
        assert set(cell["recall"]) == set(RANKINGS)
    (encoder,) = found["encoders"].values()
    for counted in encoder["budget_check"].values():
        assert counted == {"rows": 50, "rows_over_budget": 0}
    half = bench(out, "--methods", "sae", "--held-out", "--plot", str(picture))
    assert (half["cells"][2]["train_rows"], half["cells"][2]["base_rows"]) == (200, 200)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(WITHOUT_FAISS, reason="faiss is not installed")
def test_quantisers_of_faiss_are_compared_with_residual_quantisation(tmp_path: Path) -> None:
    found = bench(tmp_path / "vectors.json", "--methods", "pq", "opq", "rq", "rabitq", "lsq")
    cells = {cell["method"]: cell for cell in found["cells"]}
    assert "8 bytes" in cells["rabitq"].pop("left_out")
    for method in ("pq", "opq", "rq", "lsq"):
        cell = cells[method]
        assert cell["bytes_fixed"] == 4
        assert cell["explained_variance"] > 0.8
        assert cell["over_rq"]["fit_seconds"] > 0
    assert cells["rq"]["over_rq"]["recall"]["cosine"]["10@10"] == 1


@pytest.mark.skipif(not WITHOUT_FAISS, reason="faiss is installed")
def test_a_missing_package_is_named_with_its_extra() -> None:
    needs_faiss(["sae", "ours"])
    with pytest.raises(SDLGMError, match=r"faiss-cpu.*sdlgm\[vectors\]"):
        needs_faiss(["rq"])


def test_recall_of_the_rows_themselves_is_one_and_of_shuffled_rows_is_low() -> None:
    data = load_set("digits", 500, held_out=False)
    truth = data.neighbours()
    found = recalls(data.base, data.queries, truth)
    assert found["l2"] == {"10@10": 1.0, "10@100": 1.0}
    assert found["cosine"]["10@100"] > 0.9
    assert explained(data.base, data.base) == 1
    shuffled = data.base[np.random.default_rng(0).permutation(len(data.base))]
    assert recalls(shuffled, data.queries, truth)["l2"]["10@10"] < 0.1


def test_symbols_of_our_codes_hold_the_feature_of_each_group() -> None:
    data = load_set("digits", 300, held_out=False)
    ours = Ours(data.train, 2, seed=0, epochs=1)
    codes = ours.encode(data.base).toarray()
    codes[:2] = 0
    codes[0, [3, 255 + 254]] = 1
    sparse = type(ours.encode(data.base))(codes)
    assert ours.symbols(sparse)[:2].tolist() == [[3, 254], [255, 255]]
    assert ours.bits(sparse) == 16
    assert ours.over_budget(sparse) == 0


def test_the_autoencoder_decodes_what_its_symbols_say() -> None:
    data = load_set("digits", 400, held_out=False)
    fitted = SparseAutoencoder(data.train, 4, seed=0, epochs=20)
    codes = fitted.encode(data.base)
    assert codes.shape == (400, 2 * fitted.active)
    assert codes.min() >= 0
    assert codes.max() <= 255
    assert fitted.bits(codes) == 32
    assert explained(data.base, fitted.decode(codes)) > 0.2


def test_prefixes_that_are_trained_explain_more_than_those_that_are_not(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    prefixes.add_arguments(parser)
    words = "--set digits --rows 200 --turns 2 --bytes 2 --prefixes 1".split()
    options = parser.parse_args(words)
    options.json = tmp_path / "prefixes.json"
    prefixes.run(options)
    found = json.loads(options.json.read_text())
    trained, plain = (found[name] for name in ("with prefixes", "without prefixes"))
    assert trained["1"]["explained_variance"] > plain["1"]["explained_variance"]
    assert set(found["for 1 bytes"]) == {"1"}
    assert set(trained["2"]["recall"]) == set(RANKINGS)
