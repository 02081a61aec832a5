"""The simulation of promises, in its smallest profile: files and their numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from paper.guarantees.experiment import SETS, promised, reproduce


@pytest.mark.skipif(
    not (Path(os.environ.get("SDLGM_DATA", "-")) / "mulan" / "emotions").is_dir(),
    reason="SDLGM_DATA names no folder with mulan/emotions",
)
def test_the_simulation_counts_promises_that_are_kept_and_refused(tmp_path: Path) -> None:
    path = reproduce(tmp_path, profile="smoke", seeds=1, only=["emotions"])
    rows = json.loads(path.read_text())["rows"]
    ours = [row for row in rows if row["method"] == "ours" and row["protocol"] == "population"]
    assert {row["family"] for row in ours} == set(promised(SETS["emotions"]))
    by_promise = {(row["family"], row["metric"]): row["value"] for row in ours}
    for promise in promised(SETS["emotions"]):
        assert by_promise[promise, "kept"] + by_promise[promise, "refused"] <= 5
        assert by_promise.get((promise, "over_the_cap"), 0) == 0
    fits = {row["protocol"] for row in rows if row["method"] == "extra trees"}
    assert fits == {"whole fits, split"}
    assert "`RecallAtLeast(0.8)`" in path.with_suffix(".md").read_text()
