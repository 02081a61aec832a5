"""Runs on folders of files: fitted as one table, measured as a stream."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import sdlgm.data.folder_tables as folder_tables
from helpers import SMALL, no_warning
from sdlgm.cli import main
from sdlgm.config import DataConfig, TrainingConfig
from sdlgm.data import Table
from sdlgm.errors import DataError, SDLGMWarning
from sdlgm.inference import evaluate
from sdlgm.training import Run, fit

SHORT = TrainingConfig(iterations=3, batch_size=20)
POISSON = dataclasses.replace(SMALL, likelihood="poisson")
pytestmark = pytest.mark.filterwarnings("ignore:Only . of 12 features")


def counts(rows: int, seed: int, most: int = 5) -> pa.Table:
    source = np.random.default_rng(seed)
    return pa.table({name: source.integers(0, most, rows) for name in ("cpu", "ram", "net")})


PARTS = {"day=1/a": counts(30, 1), "day=2/b": counts(1, 2), "day=2/c": counts(49, 3)}


def put(folder: Path, **parts: pa.Table) -> Path:
    for name, part in parts.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, path)
    return folder


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return put(tmp_path / "lake", **PARTS)


def trained(data: DataConfig | Path | str, out: Path) -> Run:
    return fit(data, POISSON, SHORT, out=out, importance_samples=2, progress=False)


@pytest.fixture
def made(lake: Path, tmp_path: Path) -> Run:
    return trained(lake, tmp_path / "run")


def test_a_folder_trains_the_model_of_one_file(made: Run, tmp_path: Path) -> None:
    pq.write_table(pa.concat_tables(list(PARTS.values())), tmp_path / "one.parquet")
    one = trained(tmp_path / "one.parquet", tmp_path / "one")
    assert made.columns == one.columns
    assert made.columns.types == ("int64",) * 3
    for name, weight in made.model.state_dict().items():
        assert torch.equal(weight, one.model.state_dict()[name])
    measured = {k: v for k, v in one.metrics.items() if isinstance(v, float) and "sec" not in k}
    assert {k: made.metrics[k] for k in measured} == measured
    assert made.metrics["data"] == "lake"


def test_a_folder_is_measured_as_one_file(made: Run, lake: Path, tmp_path: Path) -> None:
    pq.write_table(pa.concat_tables(list(PARTS.values())), tmp_path / "one.parquet")
    rows = made.load_rows(tmp_path / "one.parquet").rows
    one = evaluate(made.model, rows, importance_samples=2)
    for at_once in (folder_tables.VALUES_AT_ONCE, 10):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folder_tables, "VALUES_AT_ONCE", at_once)
            found = evaluate(made.model, made.stream_rows(lake), importance_samples=2)
        assert found == one
        assert found.n_samples == 80


def test_the_command_takes_folders_and_patterns(
    in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(Path("lake"), **PARTS)
    options = ["--preset", "quick", "--iterations", "3", "--importance-samples", "2"]
    call = ["fit", "lake/", "--likelihood", "poisson", *options, "--out", "run"]
    assert main(call) == 0
    assert Run.open("run").config.data.data == str(in_tmp / "lake")
    for more, number in (
        ([], 8),
        (["--split", "train"], 72),
        (["--split", "all"], 80),
        (["--data", "lake"], 80),
        (["--data", "lake/day=2/*.parquet"], 50),
        (["--data", "lake", "--split", "test"], 8),
    ):
        capfd.readouterr()
        assert main(["evaluate", "run", "--importance-samples", "2", "--json", *more]) == 0
        found = capfd.readouterr()
        assert json.loads(found.out)["n_samples"] == number
        assert main(["evaluate", "run", "--importance-samples", "2", "--quiet", *more]) == 0
        assert capfd.readouterr().err == ""
    assert main(["compress", "run", "lake", "--out", "packed"]) == 0
    assert len(list(Path("packed").rglob("*.sdl"))) == len(PARTS)


def test_a_report_draws_a_folder(made: Run, lake: Path, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    call = ["report", str(made.folder), "--data", str(lake), "--out", str(tmp_path / "x.html")]
    assert main(call) == 0


def test_a_run_on_a_sample_says_so_and_keeps_its_rows(lake: Path, tmp_path: Path) -> None:
    with pytest.warns(SDLGMWarning, match="40 of 80 rows are used") as said:
        run = trained(DataConfig(str(lake), max_rows=40), tmp_path / "run")
    assert sum("rows are used" in str(each.message) for each in said) == 1
    again = Run.open(run.folder)
    assert torch.equal(again.dataset.test.values, run.dataset.test.values)
    assert len(again.dataset.train) + len(again.dataset.test) == 40
    with no_warning():
        assert torch.equal(again.load_rows(lake, "test").rows.values, run.dataset.test.values)
    assert len(run.stream_rows()) == len(run.stream_rows(lake)) == 80
    with pytest.warns(SDLGMWarning, match="40 of 80 rows"):
        assert len(run.load_rows(lake).rows) == 40


def test_a_moved_folder_keeps_its_splits_and_a_changed_one_has_none(
    made: Run, lake: Path, tmp_path: Path
) -> None:
    test = made.load_rows(lake, "test").rows.values
    moved = lake.rename(tmp_path / "moved")
    run = Run.open(made.folder)
    assert torch.equal(run.load_rows(moved, "test").rows.values, test)
    with pytest.raises(DataError, match="does not exist any more"):
        _ = run.dataset
    put(moved, more=counts(3, 4))
    with pytest.raises(DataError, match="is not the folder .* so it has no test rows"):
        run.load_rows(moved, "test")
    assert len(run.load_rows(moved).rows) == 83
    moved.rename(lake)
    for read in (lambda: run.dataset, run.stream_rows):
        with pytest.raises(DataError, match="has changed since the run was trained on it"):
            read()


def test_columns_of_a_folder_are_matched_by_name(made: Run, tmp_path: Path) -> None:
    table = counts(20, 7)
    names = ["net", "cpu", "ram"]
    other = put(tmp_path / "other", a=table.select(names), b=table)
    wanted = Table.of(table).select().rows().values
    assert torch.equal(made.load_rows(other).rows.values, torch.cat([wanted, wanted]))
    put(tmp_path / "other", a=table.append_column("rack", table["cpu"]))
    with pytest.raises(DataError, match=r"a.parquet has columns that the model was not .*: rack"):
        made.stream_rows(other)
    assert len(made.stream_rows(other, columns=["cpu", "ram", "net"])) == 40
    put(tmp_path / "other", a=table, b=table.append_column("rack", table["cpu"]))
    with pytest.raises(DataError, match=r"b.parquet has columns that .*a.parquet does not .*rack"):
        made.stream_rows(other)
    put(tmp_path / "other", b=table.select(["cpu", "net"]))
    with pytest.raises(DataError, match=r"b.parquet lacks columns of .*a.parquet: ram"):
        made.stream_rows(other)


def test_columns_that_the_run_keeps_may_be_absent(tmp_path: Path) -> None:
    table = counts(20, 7)
    ids = table.append_column("id", pa.array([f"h{row}" for row in range(20)]))
    data = DataConfig(str(put(tmp_path / "lake", a=ids, b=ids)), keep=("id",))
    run = trained(data, tmp_path / "run")
    assert run.columns.order == ("cpu", "ram", "net", "id")
    assert len(run.stream_rows(put(tmp_path / "new", a=table, b=table))) == 40
    assert len(run.stream_rows(put(tmp_path / "mixed", a=table, b=ids))) == 40


def test_values_that_do_not_suit_are_named_on_reaching_their_file(
    made: Run, tmp_path: Path
) -> None:
    wrong = counts(20, 7).set_column(1, "ram", pa.array([-1.0] * 20))
    other = put(tmp_path / "other", a=counts(20, 7), b=wrong)
    with pytest.raises(DataError, match=r"b.parquet \(values from -1"):
        evaluate(made.model, made.stream_rows(other), importance_samples=2)


def test_drift_in_a_folder_is_said_once_at_the_end(
    made: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    far = counts(20, 7).set_column(0, "cpu", pa.array([99] * 20))
    other = put(tmp_path / "other", a=far, b=counts(20, 8), c=far)
    call = ["evaluate", str(made.folder), "--data", str(other), "--importance-samples", "2"]
    assert main(call) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if "far outside" in line]
    (said,) = lines
    assert "40 of 180 values" in said
    assert "in column cpu: cpu has 0 to 99, in training 0 to 4" in said


def test_fixed_bits_of_a_folder_are_drawn_anew_in_each_part(tmp_path: Path) -> None:
    grey = {name: pa.array(np.full(64, 0.5)) for name in "ab"}
    data = DataConfig(str(put(tmp_path / "lake", x=pa.table(grey))), binarisation="fixed")
    model = dataclasses.replace(SMALL, likelihood="bernoulli")
    run = fit(data, model, SHORT, out=tmp_path / "run", importance_samples=2, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_tables, "VALUES_AT_ONCE", 32)
        bits = list(run.stream_rows(data.data).batches(16, torch.Generator()))
    assert all(set(part.unique().tolist()) == {0, 1} for part in bits)
    assert not torch.equal(bits[0], bits[1])


def test_reading_is_shown_without_a_terminal_unless_quiet(
    lake: Path, in_tmp: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_tables, "SECONDS_WITHOUT_PROGRESS", 1e-9)
    monkeypatch.setattr(folder_tables, "VALUES_AT_ONCE", 10)
    options = ["--preset", "quick", "--iterations", "3", "--importance-samples", "2"]
    measure = ["evaluate", "shown", "--data", str(lake), "--importance-samples", "2"]
    fitting = ["fit", str(lake), "--likelihood", "poisson", *options]
    for call, steps in (
        ([*fitting, "--out", "shown"], ("hashing files 3/3", "reading 80/80", "training 3/3")),
        (measure, ("evaluating 80/80",)),
    ):
        assert main(call) == 0
        shown = capfd.readouterr().err
        assert all(step in shown for step in steps)
    for call in ([*fitting, "--out", "quiet"], measure):
        assert main([*call, "--quiet"]) == 0
        assert "80" not in capfd.readouterr().err
    fit(lake, POISSON, SHORT, out="silent", importance_samples=2, progress=False)
    assert "80" not in capfd.readouterr().err


def test_keys_of_hive_are_features_only_if_they_are_named(tmp_path: Path) -> None:
    parts = {f"year={year}/p": counts(20, year) for year in (2023, 2024)}
    lake = put(tmp_path / "lake", **parts)
    assert trained(lake, tmp_path / "plain").columns.names == ("cpu", "ram", "net")
    named = ("year", "cpu")
    run = trained(DataConfig(str(lake), columns=named), tmp_path / "named")
    assert run.columns.names == named
    assert run.columns.types == ("int64", "int64")
    rows = run.load_rows(lake, columns=named).rows
    assert rows.values[:, 0].tolist() == [2023] * 20 + [2024] * 20
    batches = list(run.stream_rows(lake, columns=named).batches(20, torch.Generator()))
    assert [part[:, 0].unique().tolist() for part in batches] == [[2023], [2024]]
    with pytest.raises(DataError, match="year"):
        run.load_rows(lake / "year=2023", columns=named)
