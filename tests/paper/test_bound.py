"""The experiment on the discrete bound in its smallest profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from paper.__main__ import main
from paper.bound import experiment as bound
from paper.bound.cases import BUDGETS, PROFILES, cases

from sdlgm.cli import main as sdlgm_main
from sdlgm.config import ModelConfig, preset
from sdlgm.errors import SDLGMError

NAMES = ["best", "categorical", "budget-5", "budget-80"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bound")
    words = f"bound --profile smoke --out {folder} --only"
    assert main([*words.split(), *NAMES]) == 0
    return folder


def test_files_contain_all_metrics(out: Path) -> None:
    rows = json.loads((out / "bound.json").read_text())["rows"]
    by = {(row["method"], row["metric"]): row for row in rows}
    assert {method for method, _ in by} == {*NAMES, "best-close", "best-close-refined"}
    for name in NAMES:
        elbo, tighter = by[name, "negative_elbo"], by[name, "nll_bound"]
        assert 10 < tighter["value"] < elbo["value"] < 60
        assert "lower is better" in elbo["unit"]
        (points,) = elbo["curves"]
        assert [point[0] for point in points] == [elbo["iterations"] // 2, elbo["iterations"]]
        assert points[0][1] <= points[1][1]
        assert by[name, "active_features_mean"]["value"] <= by[name, "active_features_max"]["value"]
    assert by["categorical", "active_features_mean"]["value"] == 20
    assert by["budget-5", "active_features_max"]["value"] <= 5
    assert by["best", "negative_elbo"]["refine_steps"] == 0
    assert by["best-close", "nll_bound"]["value"] < by["best", "nll_bound"]["value"]
    refined = by["best-close-refined", "negative_elbo"]
    assert refined["refine_steps"] == PROFILES["smoke"].refine_steps
    assert refined["importance_samples"] == PROFILES["smoke"].close_samples
    assert refined["value"] < by["best", "negative_elbo"]["value"] + 1
    text = (out / "bound.md").read_text()
    assert "posterior fitted to it by 3 gradient steps" in text
    assert "20 x 10 categorical" in text
    assert "L0 = 80, 40 groups" in text


def test_pictures_are_drawn(out: Path) -> None:
    for name in ("curve", "budget", "features"):
        assert (out / f"bound_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_fit_command_reproduces_the_headline(out: Path, tmp_path: Path) -> None:
    words = "fit digits --prior learned_gates --slot-cost 0.03 --weight-decay 0.1 --iterations 40"
    words = f"{words} --importance-samples 5 --out {tmp_path}/run"
    assert sdlgm_main(words.split()) == 0
    headline = json.loads((out / "cells-smoke" / "best-0.json").read_text())["numbers"]
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["negative_elbo"] == headline["negative_elbo"]
    assert found["nll_bound"] == headline["nll_bound"]


def test_finished_cases_are_not_trained_again(out: Path) -> None:
    before = (out / "cells-smoke" / "best-0.json").read_bytes()
    lines: list[str] = []
    bound.reproduce(out, profile="smoke", only=["best"], say=lines.append)
    assert len(lines) == 1
    assert (out / "cells-smoke" / "best-0.json").read_bytes() == before


def test_wrong_arguments_raise_errors(tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match="No case is named 'worst'"):
        bound.reproduce(tmp_path, profile="smoke", only=["worst"])
    with pytest.raises(SDLGMError, match="jobs must be a positive integer, got 0"):
        bound.reproduce(tmp_path, profile="smoke", jobs=0)


def test_the_baseline_differs_only_in_its_latent_distribution() -> None:
    known = cases(PROFILES["full"])
    ours, baseline = known["best"], known["categorical"]
    for field in ("encoder_hidden", "residual", "shared_trunk", "activation", "normalisation"):
        assert getattr(ours.model, field) == getattr(baseline.model, field)
    for field in ("estimator", "learning_rate", "weight_decay", "batch_size", "schedule"):
        assert getattr(ours.training, field) == getattr(baseline.training, field)
    assert baseline.training.iterations > ours.training.iterations
    sweep = [case.model.budget for case in known.values() if "budget" in case.parts]
    assert sorted(sweep) == list(BUDGETS)
    assert known["paper-networks"].model.activation == "relu"
    assert not known["paper-networks"].model.residual
    assert known["default"].model == ModelConfig(prior="learned_gates")
    assert known["default-plain"].model == preset("plain")[0]
