"""Columns of CSV files that are passed through come back as they were written."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import untrained_run
from sdlgm.cli import main
from sdlgm.config import DataConfig
from sdlgm.data import read_table
from sdlgm.errors import DataError

EXACT = {
    "zip": ["01234", "99999"],
    "id": ["12345678901234567890", "12345678901234567891"],
    "phone": ["0049123", "0"],
    "hex": ["0x1F", "31"],
    "digits": ["0.1234567890123456789", "1"],
    "signed": ["-0", "1"],
    "zone": ["2026-01-01 10:00:00+01:00", "2026-01-01 10:00:00Z"],
}
NUMBERS = {
    "count": (["1", "-20"], pa.int64()),
    "gap": (["1", ""], pa.int64()),
    "spaced": (["1", " 2"], pa.int64()),
    "price": (["1.50", "2.25"], pa.float64()),
    "small": (["1e-300", "2.5E10"], pa.float64()),
    "double": (["0.30000000000000004", "1.7976931348623157e308"], pa.float64()),
    "missing": (["0.5", "NaN"], pa.float64()),
    "utc": (["2026-01-01 10:00:00Z", ""], pa.timestamp("s", "UTC")),
    "local": (["2026-01-01 10:00:00", ""], pa.timestamp("s")),
}


def write(path: Path, columns: dict[str, list[str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def read(path: Path) -> dict[str, list[str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_numbers_that_would_change_the_text_stay_text(tmp_path: Path) -> None:
    columns = {**EXACT, **{name: text for name, (text, _) in NUMBERS.items()}, "x": ["1", "2"]}
    table = read_table(write(tmp_path / "a.csv", columns))
    kept = table.select(["x"], [*EXACT, *NUMBERS]).kept()
    assert kept is not None
    for name, text in EXACT.items():
        assert kept[name].to_pylist() == text
    for name, (_, kind) in NUMBERS.items():
        assert kept.schema.field(name).type == kind, name


@pytest.mark.parametrize("suffix", [".parquet", ".sdz", ".sdl"])
def test_codes_and_data_of_csv_files_give_identifiers_back(suffix: str, tmp_path: Path) -> None:
    columns = {**EXACT, "x": ["1", "2"], "y": ["0", "3"]}
    path = write(tmp_path / "a.csv", columns)
    run = untrained_run(
        tmp_path / "run", DataConfig(str(path), keep=tuple(EXACT)), likelihood="poisson"
    )
    there, back = ("compress", "decompress") if suffix == ".sdl" else ("encode", "decode")
    made, last = str(tmp_path / f"made{suffix}"), tmp_path / "back.csv"
    assert main([there, str(run.folder), str(path), "--out", made]) == 0
    assert main([back, str(run.folder), made, "--out", str(last)]) == 0
    found = read(last)
    assert {name: found[name] for name in EXACT} == EXACT
    lake = tmp_path / "lake"
    lake.mkdir()
    path.rename(lake / "a.csv")
    folders = [str(tmp_path / name) for name in ("packed", "restored")]
    if suffix == ".sdl":
        assert main([there, str(run.folder), str(lake), "--out", folders[0]]) == 0
        assert main([back, str(run.folder), folders[0], "--out", folders[1]]) == 0
        assert read(tmp_path / "restored/a.csv") == columns


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_doubles_as_python_writes_them_are_numbers(
    values: list[float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("doubles") / "a.csv"
    write(path, {"x": ["1"] * len(values), "v": [repr(value) for value in values]})
    kept = read_table(path).select(["x"], ["v"]).kept()
    assert kept is not None
    if pa.types.is_floating(kept.schema.field("v").type):
        np.testing.assert_array_equal(kept["v"].to_numpy(), values)
    else:  # such as 1e+16 beside whole numbers: the text is kept, so nothing is lost
        assert [float(text) for text in kept["v"].to_pylist()] == values


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"x": ["1", "2"], "id": ["1", "2"]})
    table = read_table(path)
    write(path, {"x": ["1"], "id": ["1"]})
    with pytest.raises(DataError, match=r"a\.csv changed while it was read"):
        table.select(["x"], ["id"])
