"""The telemetry example runs, goes on where it was stopped, and writes what it says."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "paper" / "telemetry" / "experiment.py"


def test_the_smoke_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (Path(os.environ.get("SDLGM_DATA", "-")) / "nab").is_dir():
        pytest.skip("SDLGM_DATA names no folder with nab")
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    spec = importlib.util.spec_from_file_location("telemetry_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "telemetry_example", example)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "STEPS", (1.0, 4.0, 16.0))
    monkeypatch.setattr(example, "TRADE", (1.0,))
    for name, value in {"DRAWS": 2, "ATOMS": 16, "FEATURES": 16, "TREES": 5}.items():
        monkeypatch.setattr(example, name, value)
    monkeypatch.setattr(example, "BUDGETS", (1, 4))
    said: list[str] = []
    for _ in range(2):
        example.run(tmp_path, tmp_path, "smoke", said.append)
    half = len(said) // 2
    assert all(line.endswith(" s") for line in said[:half])
    assert all(line.endswith("kept") for line in said[half:])
    for name in ("telemetry-rates.png", "telemetry-anomalies.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    table = (tmp_path / "telemetry.md").read_text()
    assert "zstd of float32" in table
    assert "isolation forest" in table
    assert not np.any([word in table for word in ("nan", "inf ")])
