"""The benchmark of a GPU, on the CPU and on a pretended GPU: it runs and writes its keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import _card, gpu
from pretend_gpu import pretended

CONTENDERS = {
    "default", "best", "relaxed", "bernoulli-200", "gumbel-softmax", "gumbel-softmax-plain",
}  # fmt: skip


def bench(out: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "--quick", "--json", str(out), *words])
    command.main()
    return json.loads(out.read_text())


def test_it_runs_on_a_cpu_without_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bench(tmp_path / "gpu.json", monkeypatch, "--accelerator", "cpu")
    assert found["card"] == "cpu"
    assert found["left_out"] == []
    assert not any("error" in found[part] for part in gpu.PARTS)
    step = found["steps"]["4"]
    assert set(step["contenders"]) == CONTENDERS
    assert step["contenders"]["best"]["why_not_recorded"] == "there is no GPU"
    assert step["ratios"]["default_over_gumbel_softmax"]["median"] > 0
    assert [case["features"] for case in found["latent"]["cases"]] == [12, 40]
    assert found["to_bound"]["negative_elbo"]
    assert found["whole_fit"]["metrics"]["iterations"] == 6
    assert set(found["reached"]) == set(gpu.GOALS)
    assert found["reached"]["fit_seconds"] > 0
    assert found["reached"]["best_recorded_ms"] is None  # the goals are for a batch of 100


def test_parts_without_time_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench(tmp_path / "gpu.json", monkeypatch, "--seconds", "0", "--parts", "steps")
    assert found["left_out"] == ["steps"]


def test_a_part_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(bench: gpu.Bench) -> dict[str, Any]:
        raise torch.OutOfMemoryError("too large")

    monkeypatch.setitem(gpu.PARTS, "steps", fail)
    words = ("--parts", "steps", "latent", "--accelerator", "cpu")
    found = bench(tmp_path / "gpu.json", monkeypatch, *words)
    assert found["steps"]["error"] == "OutOfMemoryError: too large"
    assert found["latent"]["cases"]


def test_it_records_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pretended one: what is recorded is called."""
    monkeypatch.setattr(_card, "record", lambda body, sources: body)
    monkeypatch.setattr(_card, "warm_up", lambda body, device: body())
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda device: None)
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 10**6)
    with pretended(monkeypatch):
        found = bench(tmp_path / "gpu.json", monkeypatch)
    assert found["card"] == "Pretended GPU"
    assert not any("error" in found[part] for part in gpu.PARTS)
    contenders = found["steps"]["4"]["contenders"]
    assert set(contenders) == CONTENDERS
    for name, one in contenders.items():
        assert one["recorded (ms)"]["median"] > 0
        assert one["peak_megabytes"] == 0
        assert name.startswith("gumbel") or one["whole, recorded (ms)"]["median"] > 0
    assert "relaxed_over_gumbel_softmax, recorded" in found["steps"]["4"]["ratios"]
    assert "ours_over_naive, recorded" in found["latent"]["cases"][0]
    assert found["reached"]["latent_over_naive"] > 0
    assert found["whole_fit"]["metrics"]["device"] == "Pretended GPU"
