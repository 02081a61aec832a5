"""The benchmarks in their smallest profiles: they run and write their keys; no times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import main

from sdlgm.training import Run
from trials import run_command


def bench(out: Path, *words: str) -> dict[str, Any]:
    arguments = [*words, "--profile", "smoke", "--json", str(out)]
    folder = {"SDLGM_DATA": str(out.parent)}
    done = run_command(arguments, out.parent, program=main, environment=folder)
    assert done.status == 0, done.said
    return json.loads(out.read_text())


def test_imports_run_under_their_short_name(tmp_path: Path) -> None:
    found = bench(tmp_path / "import.json", "import")
    assert found["benchmark"] == "imports"
    for key in ("ratio_import", "ratio_import_all", "ratio_help"):
        assert found[key] > 0
    assert found["timed"]["torch"]["ratio_to_torch"]["median"] == 1


def test_fit_small(tmp_path: Path) -> None:
    found = bench(tmp_path / "fit.json", "fit_small")
    assert found["ratio_default"] > 0
    assert found["n_iter"] == {"MLPClassifier": 10, "transformer": 25}
    assert found["timed"]["classifier"]["settings"] == {}
    for timed in found["timed"].values():
        assert timed["first_call_seconds"] > 0
        assert len(timed["seconds"]["quartiles"]) == 2


def test_encode(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    model = tmp_path / "model"
    found = bench(tmp_path / "encode.json", "encode", "--model", str(model))
    errors, atoms = found["errors"], found["atoms"]
    assert found["onnx_identical_codes"] > 0.9
    # The two numbers of atoms enclose the error of the codes.
    if atoms["omp_next_above"] is not None:
        assert errors["omp_next_above"] >= errors["sdlgm"]
    if atoms["omp_next_below"] is not None:
        assert errors["omp_next_below"] < errors["sdlgm"]
    for timing in found["batches"].values():
        assert {"sdlgm", "onnxruntime", "pca", "omp_budget"} <= set(timing)
        assert timing["sdlgm"]["times_slower_than_sdlgm"]["median"] == 1
    loaded = bench(tmp_path / "loaded.json", "encode", "--model", str(model))
    assert loaded["training_seconds"]["sdlgm"] is None
    assert loaded["errors"]["sdlgm"] == errors["sdlgm"]


def test_compiled(tmp_path: Path) -> None:
    found = bench(tmp_path / "compiled.json", "compiled")
    assert found["ratio_default"]["median"] > 0
    assert found["kinds"]["default"]["first_four_steps_seconds"] > 0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_relaxed_draws(tmp_path: Path) -> None:
    found = bench(tmp_path / "relaxed.json", "relaxed_draws")
    assert len(found["draws"]) == 1
    for ways in found["draws"].values():
        assert set(ways) == {"stored", "recomputed", "plain"}
        assert ways["plain"]["cpu_ratio_to_plain"]["median"] == 1
        # The slots take 3.2 MB; the plain version needs several such arrays.
        assert 0 < ways["stored"]["peak_megabytes"] < ways["plain"]["peak_megabytes"]


def test_latent_cost(tmp_path: Path) -> None:
    found = bench(tmp_path / "latent.json", "latent_cost")
    assert {"flat_in_budget", "peak_megabytes", "times_faster_than_naive"} <= set(found)
    pairs = {(c["features"], c["budget"]): c for c in found["cases"]}
    assert set(pairs) == {(10, 1), (10, 8), (40, 1), (40, 4), (40, 8)}
    assert pairs[40, 8]["naive"] is None  # its arrays exceed the limit
    assert pairs[40, 4]["naive_over_ours_cpu"]["median"] > 0
    for case in pairs.values():
        assert case["ours"]["cpu_seconds"]["median"] > 0
    assert set(found["slopes"]) == {"ours", "naive"}
    assert found["slopes"]["naive"]["in_features"]["8"] is None  # one point has no slope


def test_roofline(tmp_path: Path) -> None:
    found = bench(tmp_path / "roofline.json", "roofline")
    assert found["ratio_step"] > 0
    for model in found["models"].values():
        shares = model["shares"]
        assert sum(shares.values()) == pytest.approx(1)
        assert {"Adam", "LayerNorm", "GELU", "draws", "KL", "rest"} <= set(shares)
        assert set(shares) - {"rest"} < set(model["cpu_milliseconds"])


def test_engine_recall(tmp_path: Path) -> None:
    found = bench(tmp_path / "recall.json", "engine_recall", "--engine", "none")
    methods = found["methods"]
    assert set(methods) == {
        "scores l2", "scores cosine", "code against code", "query_weights plain",
        "query_weights inner_product", "query_weights cosine", "query_weights l2",
        "query_weights posterior", "query_weights positive",
    }  # fmt: skip
    assert methods["scores l2"]["10@10"] > methods["code against code"]["exact"]["10@10"]
    positive = methods["query_weights positive"]["exact"]
    assert positive["10@100"] == pytest.approx(
        methods["query_weights plain"]["exact"]["10@100"], abs=0.02
    )


def test_structured_codes(tmp_path: Path, run: Run) -> None:
    found = bench(tmp_path / "structured.json", "structured", "--run", str(run.folder))
    assert found["ratio_two_levels"] > 0
    assert found["ratio_masked"] > 0
    assert found["timed"]["product"]["ratio"]["median"] == 1
    assert found["files"]["mode"]["frequencies"]["bits_per_code"] > 0
