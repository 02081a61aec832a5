"""The comparison of classifiers of label sets, in its smallest profile: files, resuming, ranks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from paper.labels import experiment
from paper.labels.experiment import METRICS, average_ranks, reproduce

from sdlgm.errors import SDLGMError

WITH_DATA = pytest.mark.skipif(
    not (Path(os.environ.get("SDLGM_DATA", "-")) / "mulan" / "emotions").is_dir(),
    reason="SDLGM_DATA names no folder with mulan/emotions",
)


@WITH_DATA
def test_a_comparison_is_written_and_continued(tmp_path: Path, monkeypatch) -> None:
    lines: list[str] = []
    only = ["emotions", "sdlgm", "logistic", "extra trees"]
    path = reproduce(tmp_path, profile="smoke", only=only, say=lines.append)
    rows = json.loads(path.read_text())["rows"]
    assert {row["method"] for row in rows} == set(only[1:])
    assert {row["metric"] for row in rows} == set(METRICS)
    assert all(len(row["seeds"]) == 2 for row in rows)
    text = path.with_suffix(".md").read_text()
    assert "### Average ranks over 1 sets" in text

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"{arguments} is computed again")

    monkeypatch.setattr(experiment, "_measure", refuse)
    again: list[str] = []
    reproduce(tmp_path, profile="smoke", only=only, say=again.append)
    assert all("done before" in line for line in again)
    assert len(again) == len(lines) == 6


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match="No method or set is named 'forest'"):
        reproduce(tmp_path, profile="smoke", only=["forest"])


def test_ranks_and_their_test_are_those_of_the_textbook() -> None:
    """The example of Demsar 2006, section 3.2.2: 4 methods, 14 sets, critical distance 1.25."""
    values = np.random.default_rng(0).random((14, 4)) + np.array([0.0, 0.5, 1.0, 2.0])
    ranks, p, distance = average_ranks(values, higher=True)
    assert distance == pytest.approx(1.25, abs=0.01)
    assert ranks[3] == 1
    assert p < 0.001
    np.testing.assert_allclose(average_ranks(-values, higher=False)[0], ranks)
