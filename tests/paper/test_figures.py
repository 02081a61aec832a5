"""Figures 3 and 4 in their smallest profile: files, resuming, errors."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from paper.__main__ import main
from paper.figures import experiment as figures
from paper.figures.comparisons import take_digits
from paper.figures.tables import METRICS

from helpers import SMALL
from sdlgm.config import DataConfig
from sdlgm.data import load_data
from sdlgm.errors import SDLGMError

pytest.importorskip("openTSNE")

TINY = figures.Profile("digits", 20, 120, 6, 2)


@pytest.fixture(autouse=True, scope="module")
def tiny() -> object:
    """Make both models small, and use the digits of scikit-learn."""
    patch = pytest.MonkeyPatch()
    patch.setitem(figures.PROFILES, "smoke", TINY)
    for name, model in figures.MODELS.items():
        groups = 1 if name == "paper-relaxed" else SMALL.groups
        config = dataclasses.replace(SMALL, groups=groups)
        patch.setitem(figures.MODELS, name, dataclasses.replace(model, config=config))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, tiny: object) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    assert main(f"figures --profile smoke --seeds 2 --out {folder}".split()) == 0
    return folder


def test_results_file_has_the_documented_form(out: Path) -> None:
    result = json.loads((out / "figures.json").read_text())
    assert set(result) == {"experiment", "command", "commit", "versions", "rows"}
    assert result["command"] == "python -m paper figures --profile smoke --seeds 2"
    by = {(line["method"], line["metric"]): line for line in result["rows"]}
    for model in figures.MODELS:
        assert {metric for method, metric in by if method == model} == set(METRICS)
        assert by[model, "negative_elbo"]["seeds"] == [0, 1]
        assert by[model, "negative_elbo"]["std"] is not None
        ratio, parts = "variance_ratio", ("variance_within", "variance_between")
        total = sum(by[model, part]["value"] for part in parts)
        assert by[model, ratio]["value"] == pytest.approx(total)
        assert 0 <= by[model, "tv_exact"]["value"] <= 1
    assert by["mean digit", "nll"]["value"] > 10
    assert 0.1 < by["largest class", "neighbours"]["value"] < 0.2
    assert by["PCA of grey values, 64", "neighbours"]["value"] > 0.8
    assert by["default", "nll_bound"]["importance_samples"] == 2


def test_pictures_and_page_are_written(out: Path) -> None:
    text = (out / "figures.md").read_text()
    for part in ("20 iterations", "2 seeds", "M = 2", "120 digits", "| mean digit |", " ± "):
        assert part in text, part
    for name in ("figure3.png", "figure4.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    page = (out / "figures.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "not chosen" in page
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page) == []


def test_finished_runs_are_drawn_without_training(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError(arguments)

    names = ("figure3.png", "figure4.png", "figures.json", "figures.md", "figures.html")
    before = {name: (out / name).read_bytes() for name in names}
    monkeypatch.setattr(figures, "fit", refuse)
    monkeypatch.setattr(figures, "resume", refuse)
    lines: list[str] = []
    figures.reproduce(out, profile="smoke", seeds=2, say=lines.append)
    assert len(lines) == 4
    assert {name: (out / name).read_bytes() for name in names} == before


def test_interrupted_training_continues(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "default-0"
    shutil.copytree(out / "runs" / "default-0", folder)
    whole = json.loads((folder / "metrics.json").read_text())
    for name in ("metrics.json", "config.json", "model.safetensors"):
        (folder / name).unlink()
    path = figures.reproduce(tmp_path, profile="smoke", only=["default"], say=lambda text: None)
    assert json.loads(path.read_text())["command"].endswith("--seeds 1 --only default")
    again = json.loads((folder / "metrics.json").read_text())
    assert again["model_sha256"] == whole["model_sha256"]


def test_runs_with_other_settings_raise_an_error(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = dataclasses.replace(TINY, iterations=30)
    monkeypatch.setitem(figures.PROFILES, "smoke", longer)
    with pytest.raises(SDLGMError, match="default-0 holds a run with other settings"):
        figures.reproduce(out, profile="smoke", say=lambda text: None)


def test_a_missing_extra_is_reported_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise SDLGMError("The map of figure 4 needs openTSNE")

    monkeypatch.setattr(figures, "require_map", missing)
    with pytest.raises(SDLGMError, match="openTSNE"):
        figures.reproduce(tmp_path / "new", profile="smoke")
    assert not (tmp_path / "new").exists()


def test_unknown_names_raise_errors(tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match="No model is named 'vae'. There are default, paper-rel"):
        figures.reproduce(tmp_path, profile="smoke", only=["vae"])
    with pytest.raises(SDLGMError, match="No profile is named 'huge'"):
        figures.reproduce(tmp_path, profile="huge")
    with pytest.raises(SDLGMError, match="seeds must be a positive integer, got 0"):
        figures.reproduce(tmp_path, profile="smoke", seeds=0)


def test_digits_are_evenly_spaced() -> None:
    dataset = load_data(DataConfig("digits"))
    digits = take_digits(dataset, 50, 5)
    assert digits.shown.tolist() == [0, 12, 24, 36, 49]
    assert torch.equal(digits.grey[[0, -1]], dataset.test.grey()[[0, -1]])
    assert torch.equal(digits.bits, take_digits(dataset, 50, 5).bits)
    everything = take_digits(dataset, 10_000, 5)
    assert torch.equal(everything.labels, dataset.test.labels)
