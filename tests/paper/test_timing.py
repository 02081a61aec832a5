"""The timing of training steps in its smallest profile: keys and files, but no times."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.__main__ import main as benchmark
from paper.__main__ import main
from paper.timing import experiment as timing

from sdlgm.errors import SDLGMError
from trials import run_command

RATIOS = {
    "ratio_default", "ratio_default_shared_trunk", "ratio_default_one_group", "ratio_relaxed",
    "ratio_default_over_autoencoder", "ratio_default_shared_trunk_over_autoencoder",
    "ratio_default_over_gaussian", "ratio_default_over_top_k",
}  # fmt: skip


def test_benchmark_writes_the_documented_keys(tmp_path: Path) -> None:
    out = tmp_path / "new" / "step_time.json"
    arguments = "step_time --profile smoke --rounds 3 --json".split()
    done = run_command([*arguments, str(out)], tmp_path, program=benchmark)
    assert done.status == 0, done.said
    found = json.loads(out.read_text())
    for key in RATIOS:
        assert found[key] > 0
        assert found["cpu_time"][key] > 0
        low, high = found["ratio_quartiles"][key]
        assert low <= high
    assert set(found["milliseconds"]) == set(timing.MODELS)
    assert found["settings"]["rounds"] == 3
    assert found["settings"]["threads"] == 1
    assert found["machine"]["torch"] == torch.__version__


def test_experiment_writes_rows_and_a_table(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["timing", "--profile", "smoke", "--out", str(tmp_path)]) == 0
    assert "html" not in capfd.readouterr().err
    result = json.loads((tmp_path / "timing.json").read_text())
    assert set(result) == {"experiment", "command", "commit", "versions", "rows"}
    metrics = {line["metric"]: line for line in result["rows"]}
    assert set(metrics) > RATIOS
    assert metrics["ratio_relaxed"]["published"] == pytest.approx(1.44, abs=0.01)
    assert "1.44" in (tmp_path / "timing.md").read_text()


def test_measuring_restores_threads_and_random_state() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    timing.measure(replace(timing.PROFILES["smoke"], rounds=2, warmup=0), threads=2)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_baselines_have_the_same_networks() -> None:
    size = timing.PROFILES["full"]
    for timed in timing.MODELS.values():
        if timed.model is None:
            continue
        assert timed.model.encoder_hidden == size.hidden
        assert timed.ratios
        for name in timed.ratios.values():
            baseline = timing.MODELS[name]
            assert baseline.network is not None
            assert timed.model.activation == baseline.activation
            assert timed.model.normalisation == baseline.normalisation


def test_wrong_arguments_raise_errors() -> None:
    with pytest.raises(SDLGMError, match="threads must be a positive integer, got 0"):
        timing.measure(timing.PROFILES["smoke"], threads=0)
    with pytest.raises(SDLGMError, match="rounds must be at least 2, got 1"):
        timing.measure(timing.Size(rounds=1))
