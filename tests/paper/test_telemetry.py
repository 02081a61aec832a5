"""The telemetry experiment in its smallest profile: resuming and files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from paper.telemetry import experiment as telemetry

from sdlgm.errors import SDLGMError


def test_finished_parts_are_kept_and_files_written(tmp_path: Path) -> None:
    if not (Path(os.environ.get("SDLGM_DATA", "-")) / "nab").is_dir():
        pytest.skip("SDLGM_DATA names no folder with nab")
    lines: list[str] = []
    for _ in range(2):
        path = telemetry.reproduce(
            tmp_path, profile="smoke", images=tmp_path / "images", say=lines.append
        )
    half = len(lines) // 2
    assert all(line.endswith(" s") for line in lines[:half])
    assert all(line.endswith("done before") for line in lines[half:])
    for name in ("telemetry-rates.png", "telemetry-anomalies.png"):
        assert (tmp_path / "images" / name).stat().st_size > 10_000
    result = json.loads(path.read_text())
    assert result["experiment"] == "telemetry"
    assert result["command"] == "python -m paper telemetry --profile smoke"
    amplitudes = (tmp_path / "telemetry_amplitudes.md").read_text()
    assert "ours, atoms and amplitudes, stream of means and codes" in amplitudes
    table = (tmp_path / "telemetry.md").read_text()
    assert "zstd of float32" in table
    assert "isolation forest" in table
    assert not np.any([word in table for word in ("nan", "inf ")])


def test_wrong_arguments_raise_errors(tmp_path: Path) -> None:
    with pytest.raises(SDLGMError, match="No profile is named 'huge'. There are full, short"):
        telemetry.reproduce(tmp_path, profile="huge")
    with pytest.raises(SDLGMError, match="seeds must be a positive integer, got 0"):
        telemetry.reproduce(tmp_path, profile="smoke", seeds=0)
