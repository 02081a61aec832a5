"""NAB files: tiny ones written here, and the real ones where they are available."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from sdlgm.config import DataConfig
from sdlgm.data import load_data, load_telemetry, series, sliding_windows, telemetry_dataset
from sdlgm.data.series import parse
from sdlgm.errors import DataError

DAY = "2014-02-14"


def lines(values: list[float]) -> str:
    rows = (f"{DAY} {i // 12:02d}:{5 * (i % 12):02d}:00,{value}" for i, value in enumerate(values))
    return "\n".join(["timestamp,value", *rows]) + "\n"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with series of 200 and 180 samples; the training part of the second is constant."""
    folder = tmp_path / "nab"
    folder.mkdir()
    content = {
        "busy": lines([float(i % 7) for i in range(200)]),
        "idle": lines([3.0] * 108 + [4.0] * 72),
    }
    labels = json.dumps(
        {
            "realAWSCloudwatch/busy.csv": [
                [f"{DAY} 00:10:00.000000", f"{DAY} 00:20:00.000000"],
                [f"{DAY} 15:00:00.000000", f"{DAY} 15:00:00.000000"],
            ],
            "realAWSCloudwatch/idle.csv": [],
        }
    )
    for name, text in content.items():
        (folder / f"{name}.csv").write_text(text)
    (folder / "combined_windows.json").write_text(labels)
    known = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in content.items()}
    monkeypatch.setattr(series, "TELEMETRY", MappingProxyType(known))
    monkeypatch.setattr(series, "_LABELS_SHA256", hashlib.sha256(labels.encode()).hexdigest())
    monkeypatch.setenv("SDLGM_DATA", str(tmp_path))
    return folder


def test_series_have_values_times_and_labels(tiny: Path) -> None:
    busy, idle = load_telemetry()
    assert (busy.name, len(busy.values), busy.cut) == ("busy", 200, 120)
    assert np.flatnonzero(busy.anomalous).tolist() == [2, 3, 4, 180]  # both ends are included
    assert not idle.anomalous.any()
    assert busy.times[1] - busy.times[0] == np.timedelta64(300, "s")
    np.testing.assert_allclose(busy.standard[:120].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(busy.standard[:120].std(), 1)
    assert (
        idle.standard.tolist() == [0.0] * 108 + [1.0] * 72
    )  # a constant training part is not scaled


def test_windows_start_every_stride() -> None:
    values = np.arange(10.0)
    assert sliding_windows(values, 3, 4).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert sliding_windows(values, 4, 4)[:, 0].tolist() == [0, 4]
    assert sliding_windows(np.stack([values, -values]), 4, 4).shape == (2, 2, 4)


def test_no_window_crosses_the_boundary_and_test_windows_do_not_overlap(tiny: Path) -> None:
    busy, _ = load_telemetry()
    data = telemetry_dataset(train_stride=8)
    assert data.train.values.shape == (8 + 6, 64)
    assert data.test.values.shape == (1 + 1, 64)
    expected = torch.from_numpy(busy.standard).float()
    assert torch.equal(data.train.values[7], expected[56:120])
    assert torch.equal(data.test.values[0], expected[120:184])
    built_in = load_data(DataConfig("nab"), "gaussian")
    assert not built_in.train.dynamic
    assert torch.equal(built_in.test.values, data.test.values)


def test_training_windows_do_not_depend_on_the_test_part(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = telemetry_dataset().train.values
    changed = lines([float(i % 7) for i in range(120)] + [1e6] * 80)
    (tiny / "busy.csv").write_text(changed)
    known = {**series.TELEMETRY, "busy": hashlib.sha256(changed.encode()).hexdigest()}
    monkeypatch.setattr(series, "TELEMETRY", known)
    assert torch.equal(telemetry_dataset().train.values, before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,value\n", "is empty"),
        (lines([1, 2]).replace(",2", ",nan"), "missing values"),
        (lines([1, 2]).replace(",2", ",two"), "could not convert string to float: 'two'"),
        (lines([1, 2]).replace("00:05:00", "soon"), "not a time and a number"),
        (lines([1, 2]).replace(",2", ""), "not a time and a number"),
    ],
)
def test_unreadable_series_are_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse("cpu", text, [])


def test_files_with_another_digest_are_refused(tiny: Path) -> None:
    (tiny / "idle.csv").write_text(lines([1, 2, 3]))
    with pytest.raises(DataError, match=r"idle.csv is not the file it should be"):
        load_telemetry()


def test_the_published_files_have_the_documented_sizes() -> None:
    if not (Path(os.environ.get("SDLGM_DATA", "-")) / "nab").is_dir():
        pytest.skip("SDLGM_DATA names no folder with nab")
    found = load_telemetry()
    assert len(found) == 17
    assert sum(len(one.values) for one in found) == 67_740
    assert [one.name for one in found if not one.anomalous.any()] == ["ec2_cpu_utilization_c6585a"]
    data = telemetry_dataset()
    assert data.test.values.shape == (418, 64)
    assert data.train.values.shape == (9894, 64)
