"""The experiment on structured codes in its smallest profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from paper.__main__ import main
from paper.bound.cases import PROFILES
from paper.structured.cases import BUDGETS, SLOT_COSTS, cases

from sdlgm.cli import main as sdlgm_main
from sdlgm.config import ModelConfig, preset

NAMES = ["best", "default", "slot-cost-0.4"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("structured")
    words = f"structured --profile smoke --out {folder} --only"
    assert main([*words.split(), *NAMES]) == 0
    return folder


def test_files_and_picture_report_every_finished_case(out: Path) -> None:
    rows = json.loads((out / "structured_bound.json").read_text())["rows"]
    by = {(row["method"], row["metric"]): row for row in rows}
    assert {method for method, _ in by} == set(NAMES)
    for name in NAMES:
        assert by[name, "nll_bound"]["value"] < by[name, "negative_elbo"]["value"] < 60
    text = (out / "structured_bound.md").read_text()
    assert "one level, masked prior, a slot cost of 0.4" in text
    assert "### The preset best" in text
    assert (out / "structured_activity.png").read_bytes().startswith(b"\x89PNG")


def test_the_sweep_changes_the_slot_cost_or_the_budget_alone() -> None:
    known = cases(PROFILES["full"])
    assert known["best"].training.iterations == preset("best")[1].iterations
    assert known["best"].model == known["default"].model == ModelConfig()
    short = known["default"]
    for cost in SLOT_COSTS:
        other = known[f"slot-cost-{cost:g}"]
        assert (other.model, other.training.slot_cost) == (short.model, cost)
        assert other.training.iterations == short.training.iterations == 10_000
    for budget in BUDGETS:
        other = known[f"budget-{budget}"]
        assert (other.model, other.training) == (ModelConfig(budget=budget), short.training)


def test_the_fit_command_with_the_preset_reproduces_the_headline(out: Path, tmp_path: Path) -> None:
    words = f"fit digits --preset best --iterations 40 --importance-samples 5 --out {tmp_path}/run"
    assert sdlgm_main(words.split()) == 0
    headline = json.loads((out / "cells-smoke" / "best-0.json").read_text())["numbers"]
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["negative_elbo"] == headline["negative_elbo"]
    assert found["nll_bound"] == headline["nll_bound"]
