"""A run and data: its own file, recognised by content, and others, taken as they are."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from helpers import SMALL, untrained_run
from sdlgm.cli import main
from sdlgm.codec import read_codes
from sdlgm.codec.parquet import read_passed
from sdlgm.config import DataConfig, TrainingConfig
from sdlgm.errors import ConfigError, DataError, SDLGMWarning
from sdlgm.storage import read_json, write_json
from sdlgm.training import Run, fit

SHORT = TrainingConfig(iterations=3, batch_size=20)
POISSON = dataclasses.replace(SMALL, likelihood="poisson")


def frame(rows: int, seed: int = 0) -> pa.Table:
    source = np.random.default_rng(seed)
    return pa.table(
        {
            "host": [f"h{row}" for row in range(rows)],
            "cpu": source.poisson(3, rows),
            "ram": source.poisson(1, rows),
            "net": source.poisson(5, rows),
        }
    )


@pytest.fixture
def made(tmp_path: Path) -> Run:
    """A run on 60 rows with a column to be kept."""
    pq.write_table(frame(60), tmp_path / "x.parquet")
    data = DataConfig(str(tmp_path / "x.parquet"), keep=("host",))
    return fit(data, POISSON, SHORT, out=tmp_path / "run", importance_samples=2, progress=False)


def test_the_columns_of_a_run_are_recorded(made: Run) -> None:
    columns = made.columns
    assert columns.names == ("cpu", "ram", "net")
    assert columns.types == ("int64",) * 3
    assert columns.order == ("host", "cpu", "ram", "net")
    values = made.dataset.train.values
    assert columns.low == tuple(values.amin(0).tolist())
    assert columns.high == tuple(values.amax(0).tolist())


def test_another_file_is_taken_whole_and_in_its_order(made: Run, tmp_path: Path) -> None:
    table = frame(20, seed=1).select(["net", "host", "cpu", "ram"])
    pq.write_table(table, tmp_path / "new.parquet")
    rows, columns, kept, _ = made.load_rows(tmp_path / "new.parquet")
    wanted = np.stack([table.column(name) for name in ("cpu", "ram", "net")], 1)
    assert np.array_equal(rows.values.numpy(), wanted)
    assert columns is not None
    assert columns.order == ("net", "host", "cpu", "ram")
    assert kept is not None
    assert kept.column("host").to_pylist() == [f"h{row}" for row in range(20)]
    with pytest.raises(DataError, match="is not the file .* trained on, so it has no test rows"):
        made.load_rows(tmp_path / "new.parquet", "test")


@pytest.mark.parametrize("rows", [1, 2])
def test_a_file_of_one_row_can_be_used(made: Run, rows: int, tmp_path: Path) -> None:
    path, run = str(tmp_path / "one.parquet"), str(made.folder)
    pq.write_table(frame(rows), path)
    codes, packed, back = (str(tmp_path / name) for name in ("c.parquet", "c.sdl", "b.parquet"))
    assert main(["encode", run, path, "--out", codes]) == 0
    assert read_codes(codes)[0].n_codes == rows
    assert main(["compress", run, path, "--out", packed]) == 0
    assert main(["decompress", run, packed, "--out", back]) == 0
    assert pq.read_table(back).equals(frame(rows))
    assert main(["evaluate", run, "--data", path, "--importance-samples", "2"]) == 0


def test_evaluate_measures_all_rows_of_a_named_file(
    made: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(frame(30, seed=2), tmp_path / "new.parquet")
    for more, number in (
        (["--data", str(tmp_path / "new.parquet")], 30),
        (["--data", made.config.data.data], 60),
        (["--data", made.config.data.data, "--split", "test"], 6),
        ([], 6),
        (["--split", "train"], 54),
        (["--split", "all"], 60),
    ):
        call = ["evaluate", str(made.folder), "--importance-samples", "2", "--json"]
        assert main([*call, *more]) == 0
        assert f'"n_samples": {number},' in capfd.readouterr().out


def test_the_splits_of_the_own_file_come_with_its_kept_columns(made: Run) -> None:
    path = made.config.data.data
    for split in ("train", "test", "all"):
        rows, _, kept, _ = made.load_rows(path, split)
        assert torch.equal(rows.values, made.dataset.rows(split).values)
        assert kept is not None
        numbers = torch.tensor([int(host[1:]) for host in kept.column("host").to_pylist()])
        assert torch.equal(made.dataset.rows("all").values[numbers], rows.values)


def test_a_moved_file_keeps_its_splits_and_a_changed_one_has_none(
    made: Run, tmp_path: Path
) -> None:
    own, moved = Path(made.config.data.data), tmp_path / "moved.parquet"
    test = made.load_rows(own, "test").rows.values
    own.rename(moved)
    run = Run.open(made.folder)
    assert torch.equal(run.load_rows(moved, "test").rows.values, test)
    with pytest.raises(DataError, match=r"which .* was trained on, does not exist any more"):
        _ = run.dataset
    pq.write_table(frame(60, seed=5), own)
    with pytest.raises(DataError, match="has changed since the run was trained on it"):
        _ = run.dataset
    with pytest.raises(DataError, match="so it has no test rows"):
        run.load_rows(own, "test")
    assert len(run.load_rows(own).rows) == 60


def test_a_run_finds_its_data_from_another_folder(
    in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(frame(40), "x.parquet")
    fit(
        DataConfig("x.parquet", keep=("host",)),
        POISSON, SHORT, out="run", importance_samples=2, progress=False,
    )  # fmt: skip
    other = in_tmp / "other"
    other.mkdir()
    pq.write_table(frame(40, seed=3), other / "x.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(other)
        run = Run.open("../run")
        assert np.array_equal(
            run.dataset.rows("all").values[:, 0], frame(40).column("cpu").to_numpy()
        )


def test_the_file_that_a_strangers_settings_name_is_not_opened(
    made: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A report of their run would draw a file of mine."""
    pytest.importorskip("jinja2")
    copy = shutil.copytree(made.folder, in_tmp / "copy")
    settings = yaml.safe_load((copy / "config.yaml").read_text())
    metrics = read_json(copy / "metrics.json")
    write_json(copy / "metrics.json", metrics | {"settings_sha256": None})
    for change in ({"data": "x.parquet"}, {"data_sha256": None}):
        (copy / "config.yaml").write_text(yaml.safe_dump({**settings, **change}))
        for command in ("report", "evaluate"):
            assert main([command, str(copy)]) == 1
            assert "does not record which file" in capfd.readouterr().err
    call = ["report", str(copy), "--data", made.config.data.data]
    assert main(call) == 0


def test_metrics_name_the_file_without_its_folder(made: Run) -> None:
    assert made.metrics["data"] == "x.parquet"


def test_kept_columns_pass_through_and_can_be_named_anew(made: Run, tmp_path: Path) -> None:
    path, codes = made.config.data.data, tmp_path / "c.parquet"
    assert main(["encode", str(made.folder), path, "--out", str(codes)]) == 0
    kept = read_passed(codes)[1]
    assert kept is not None
    assert kept.column("host").to_pylist() == [f"h{row}" for row in range(60)]
    wide = pq.read_table(path).append_column("rack", pa.array(range(60)))
    pq.write_table(wide, tmp_path / "wide.parquet")
    with pytest.raises(DataError, match="not trained on: rack"):
        made.load_rows(tmp_path / "wide.parquet")
    found = made.load_rows(tmp_path / "wide.parquet", keep=["rack", "host"]).kept
    assert found is not None
    assert found.column_names == ["rack", "host"]


def test_a_run_of_named_columns_takes_its_own_files_again(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    for part in range(2):
        pq.write_table(frame(30, part), lake / f"{part}.parquet")
    data = DataConfig(str(lake), columns=("ram", "cpu"))
    run = fit(data, POISSON, SHORT, out=tmp_path / "run", importance_samples=2, progress=False)
    assert run.load_rows(lake / "0.parquet").columns.names == ("ram", "cpu")
    for source, out in ((lake, "codes"), (lake / "1.parquet", "1.parquet"), (lake, "small")):
        verb = "compress" if out == "small" else "encode"
        assert main([verb, str(run.folder), str(source), "--out", str(tmp_path / out)]) == 0
    assert main(["evaluate", str(run.folder), "--data", str(lake)]) == 0
    assert len(list((tmp_path / "codes").glob("*.parquet"))) == 2
    with pytest.raises(DataError, match="lacks columns .* trained on: cpu"):
        run.load_rows(pq.read_table(lake / "0.parquet").drop_columns("cpu"))


def test_a_container_takes_the_columns_that_the_run_keeps(made: Run, tmp_path: Path) -> None:
    data = made.config.data.data
    call = ["encode", str(made.folder), data, "--out", str(tmp_path / "c.sdz")]
    for more in ([], ["--keep", "host"]):
        assert main([*call, *more]) == 0
        out = tmp_path / "back.parquet"
        assert main(["decode", str(made.folder), call[-1], "--out", str(out)]) == 0
        assert pq.read_table(out).column("host").equals(pq.read_table(data).column("host"))


def test_fit_reads_the_columns_that_are_named(tmp_path: Path) -> None:
    pq.write_table(frame(40), tmp_path / "x.parquet")
    call = ["fit", str(tmp_path / "x.parquet"), "--out", str(tmp_path / "run")]
    more = ["--likelihood", "poisson", "--features", "6", "--budget", "3", "--iterations", "3"]
    named = ["--columns", "net", "cpu", "--keep", "host"]
    assert main([*call, *more, *named, "--importance-samples", "2"]) == 0
    run = Run.open(tmp_path / "run")
    assert run.columns.names == ("net", "cpu")
    assert run.dataset.train.columns == ("net", "cpu")
    settings = ["fit", "--config", str(tmp_path / "run/config.yaml")]
    assert main([*settings, "--out", str(tmp_path / "again"), "--importance-samples", "2"]) == 0
    assert Run.open(tmp_path / "again").config == run.config


def test_fit_of_an_array_or_of_swapped_arguments_says_what_it_takes(tmp_path: Path) -> None:
    for wrong in (np.zeros((3, 2)), SMALL, None):
        with pytest.raises(
            ConfigError, match="data must be a DataConfig, or the name or path of a data set"
        ):
            fit(wrong, out=tmp_path / "run")  # type: ignore[arg-type]


def test_the_command_line_says_drift_once(
    made: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = frame(20)
    far = table.set_column(1, "cpu", pa.array([1000] * 20))
    pq.write_table(far, tmp_path / "far.parquet")
    path, codes = str(tmp_path / "far.parquet"), str(tmp_path / "c.parquet")
    assert main(["encode", str(made.folder), path, "--out", codes]) == 0
    lines = [line for line in capfd.readouterr().err.splitlines() if "far outside" in line]
    assert len(lines) == 1
    assert lines[0].startswith("sdlgm: note:")
    assert "20 of 60 values" in lines[0]
    assert "column cpu" in lines[0]
    with pytest.warns(SDLGMWarning, match="far outside"):
        made.load_rows(path)


def test_a_file_without_a_header_is_so_in_later_commands_too(
    in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(0).poisson(3, (30, 2))
    np.savetxt("x.csv", values, "%d", ",")
    call = "fit x.csv --out run --likelihood poisson --features 6 --budget 3 --iterations 3"
    assert main([*call.split(), "--importance-samples", "2"]) == 1
    assert "--no-header" in capfd.readouterr().err
    assert main([*call.split(), "--importance-samples", "2", "--no-header"]) == 0
    assert main("compress run x.csv --out x.sdl".split()) == 0
    assert main("decompress run x.sdl --out y.csv".split()) == 0
    assert Path("y.csv").read_text() == Path("x.csv").read_text()


def test_frames_and_arrays_are_matched_like_files(made: Run) -> None:
    pd = pytest.importorskip("pandas")
    table = frame(10, seed=4)
    wanted = np.stack([table.column(name) for name in ("cpu", "ram", "net")], 1)
    index = [f"i{row}" for row in range(10)]
    frames = [table, table.to_pandas(), table.to_pandas().set_index(pd.Index(index))]
    for each in (*frames, wanted):
        rows, _, kept, _ = made.load_rows(each)
        assert np.array_equal(rows.values.numpy(), wanted)
        assert isinstance(each, np.ndarray) == (kept is None)
    with pytest.raises(DataError, match="lacks columns .* trained on: ram"):
        made.load_rows(table.drop_columns(["ram"]))
    twice = pd.DataFrame(np.ones((2, 2)), columns=["cpu", "cpu"])
    with pytest.raises(DataError, match="several columns named cpu"):
        made.load_rows(twice)
    with pytest.raises(DataError, match="must be an array, an Arrow table or a data frame"):
        made.load_rows([[1, 2, 3]])


def test_a_run_of_0_1_matches_by_position(made: Run, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    run = untrained_run(folder, made.config.data, likelihood="poisson")
    (folder / "columns.json").unlink()
    run = Run.open(folder)
    assert run.columns.names is None
    assert run.load_rows(made.config.data.data).rows.n_inputs == 3
