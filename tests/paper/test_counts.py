"""The counting experiment in its smallest profile: files, resuming, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from paper.__main__ import main
from paper.counts import experiment as counts
from paper.results import ResultCache, row

from sdlgm.errors import SDLGMError

ROW = {
    "method", "dataset", "family", "protocol", "metric", "value", "std", "seeds", "published",
    "title",
}  # fmt: skip
FAST = ["constant", "extra-trees", "columns", "constant-half"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counts")
    words = f"counts --profile smoke --seeds 2 --out {folder} --only {' '.join(FAST)}"
    assert main(words.split()) == 0
    return folder


def test_results_file_has_the_documented_form(out: Path) -> None:
    result = json.loads((out / "counts.json").read_text())
    assert set(result) == {"experiment", "command", "commit", "versions", "rows"}
    assert result["experiment"] == "counts"
    assert result["command"].startswith("python -m paper counts --profile smoke --seeds 2")
    assert all(set(line) == ROW for line in result["rows"])
    assert all(line["seeds"] == [0, 1] and line["std"] is not None for line in result["rows"])
    by = {(line["method"], line["dataset"], line["metric"]): line for line in result["rows"]}
    assert {method for method, _, _ in by} == set(FAST)
    for columns in (3, 5, 8, 12):
        assert by["columns", f"digit columns, {columns}", "mse"]["value"] > 0
    mse = by["constant", "digit columns, 5", "mse"]["value"]
    parts = [by["constant", "digit columns, 5", f"mse_of_{k}"]["value"] for k in range(10)]
    assert mse == pytest.approx(sum(parts) / 10)
    assert 0.35 < mse < 0.5
    assert 0.15 < by["constant-half", "digit columns, 5", "mse"]["value"] < 0.3
    assert "probability 0.5," in by["constant-half", "digit columns, 5", "mse"]["protocol"]


def test_tables_and_page_are_written(out: Path) -> None:
    text = (out / "counts.md").read_text()
    for part in ("200 training and 100 test", "(`constant`)", "| 12 |", "compared with the paper"):
        assert part in text, part
    page = (out / "counts.html").read_text()
    assert page.count("data:image/png;base64,") == 20
    assert 'class="wrong"' in page
    assert "not chosen" in page
    assert re.findall(r'(?:src|href)="(?!data:|#)([^"]*)"', page) == []


def test_finished_methods_are_not_fitted_again(
    out: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(arguments)

    before = (out / "counts.json").read_bytes()
    monkeypatch.setattr(counts, "_compute", refuse)
    lines: list[str] = []
    counts.reproduce(out, profile="smoke", seeds=2, only=FAST, say=lines.append)
    assert len(lines) == 8
    assert all("done before" in line for line in lines)
    assert (out / "counts.json").read_bytes() == before


def test_numbers_with_other_settings_are_computed_again(tmp_path: Path) -> None:
    cache = ResultCache(tmp_path)
    settings = {"epochs": 3, "widths": (4, 5)}
    assert cache.get("m", 0, settings, lambda: {"mse": 1.0})[1] is False
    assert cache.get("m", 0, settings, lambda: {"mse": 2.0})[0]["mse"] == 1.0
    assert cache.get("m", 0, {"epochs": 4}, lambda: {"mse": 2.0})[0]["mse"] == 2.0
    assert cache.get("m", 1, settings, lambda: {"mse": 3.0})[1] is False


def test_one_seed_has_no_standard_deviation() -> None:
    labels = {"dataset": "d", "family": "f", "protocol": "p", "metric": "mse"}
    assert row("m", [2.0], [0], **labels)["std"] is None
    assert row("m", [1.0, 3.0], [0, 1], **labels)["value"] == 2.0


def test_unknown_names_raise_errors(tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match="No method is named 'forest'. There are constant, random"):
        counts.reproduce(tmp_path, profile="smoke", only=["forest"])
    with pytest.raises(SDLGMError, match="No profile is named 'huge'. There are full, smoke"):
        counts.reproduce(tmp_path, profile="huge")
    with pytest.raises(SDLGMError, match="seeds must be a positive integer, got 0"):
        counts.reproduce(tmp_path, profile="smoke", seeds=0)
