"""The command line, as a user meets it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from sdlgm.cli import main
from sdlgm.codec import drawn_rows, read_codes
from sdlgm.config import DataConfig, ModelConfig, TrainingConfig
from sdlgm.errors import DataError
from sdlgm.models import model_sha256
from sdlgm.training import Run

KEYS = {
    "negative_elbo", "nll_bound", "importance_samples", "relaxed_objective", "reconstruction",
    "kl_gates", "kl_features", "active_features_mean", "active_features_max", "budget", "n_samples",
    "refine_steps",
}  # fmt: skip
FIT = "--features 6 --budget 3 --encoder-hidden [8] --sparsity-hidden [4] --iterations 20"


def call(text: str, *more: object) -> int:
    return main([*text.split(), *map(str, more)])


def test_evaluate_prints_one_json_object_and_nothing_else(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (
        call("evaluate --data digits --split test --importance-samples 10 --json", run.folder) == 0
    )
    found = json.loads(capfd.readouterr().out)
    assert set(found) == KEYS
    assert found["negative_elbo"] == run.metrics["negative_elbo"]


def test_evaluate_prints_a_table_for_people(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate --importance-samples 3", run.folder) == 0
    out = capfd.readouterr().out
    assert "lower is better" in out
    assert "NOT a bound" in " ".join(out.split())
    assert "refine_steps" not in out
    assert call("evaluate --importance-samples 3 --refine-steps 2", run.folder) == 0
    assert "refine_steps" in capfd.readouterr().out


def test_a_preset_sets_defaults_and_options_override_them(in_tmp: Path) -> None:
    assert call(f"fit digits --out made {FIT} --preset best") == 0
    config = Run.open("made").config
    assert config.model.residual
    assert config.model.encoder_hidden == (8,)
    assert (config.training.iterations, config.training.weight_decay) == (20, 0.06)
    assert call(f"fit digits --out plain {FIT} --preset plain") == 0
    assert not Run.open("plain").config.model.joint_gates
    assert call(f"fit digits --out paper {FIT} --preset paper") == 0
    assert Run.open("paper").config.training.objective == "paper"
    with pytest.raises(SystemExit):
        call("fit digits --out other --preset beast")


def test_from_data_to_codes_and_back(
    run: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(f"encode {run.folder} digits --out codes.parquet --split test") == 0
    assert call(f"decode {run.folder} codes.parquet --out out.npy") == 0
    assert np.load("out.npy").shape == (len(run.dataset.test), 64)
    assert call(f"encode {run.folder} digits --out all.parquet --code mode") == 0
    assert call(f"encode {run.folder} digits --out all.parquet --code best --max-active 2") == 0
    assert call(f"decode {run.folder} all.parquet --out out.csv") == 0
    assert len(Path("out.csv").read_text().splitlines()) == 1 + 1797
    assert next(read_codes("all.parquet")[1]).count_nonzero(-1).max() == 2
    assert call(f"report {run.folder} --out page.html") == 0
    assert Path("page.html").stat().st_size > 10_000
    assert capfd.readouterr().out == ""
    assert call(f"info {run.folder}") == 0
    assert model_sha256(run.model)[:12] in capfd.readouterr().out


def test_the_compact_format_and_its_salvage(
    run: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(f"encode {run.folder} digits --out codes.parquet") == 0
    assert call(f"encode {run.folder} digits --out codes --format sdz") == 0
    assert Path("codes").stat().st_size < Path("codes.parquet").stat().st_size
    for name in ("codes", "codes.parquet"):
        assert call(f"decode {run.folder} {name} --out {name}.npy") == 0
    assert np.array_equal(np.load("codes.npy"), np.load("codes.parquet.npy"))
    content = bytearray(Path("codes").read_bytes())
    content[len(content) // 2] ^= 1
    Path("codes").write_bytes(content)
    capfd.readouterr()
    assert call(f"decode {run.folder} codes --out out.npy") == 1
    assert "codes is damaged: block 0 (rows 0 to 1,796" in capfd.readouterr().err
    assert not Path("out.npy").exists()
    assert call(f"decode {run.folder} codes --out out.npy --salvage") == 0
    assert (
        "block 0 (rows 0 to 1,796, counted from 0) is damaged; its rows are NaN"
        in capfd.readouterr().err
    )
    assert np.isnan(np.load("out.npy")).all()
    assert call(f"encode {run.folder} digits --out c.sdz --format parquet") == 1
    assert "ends in .sdz, but the format asked for is parquet" in capfd.readouterr().err


def test_lossless_there_and_back(run: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(f"compress {run.folder} digits --out x.sdl --split test") == 0
    assert f"{len(run.dataset.test)} rows" in capfd.readouterr().err
    assert call(f"decompress {run.folder} x.sdl --out out.npy") == 0
    assert np.array_equal(np.load("out.npy"), drawn_rows(run.dataset.test).numpy())


def test_fit_on_a_table(in_tmp: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).normal(size=(80, 4))
    np.save("table.npy", values)
    assert (
        call(f"fit table.npy --out run --likelihood gaussian {FIT} --validation_fraction=0.1") == 0
    )
    assert yaml.safe_load(Path("run/config.yaml").read_text())["binarisation"] == "none"
    capfd.readouterr()
    assert call("evaluate run --split all --importance-samples 2 --json") == 0
    assert json.loads(capfd.readouterr().out)["n_samples"] == 80
    assert call("fit --config run/config.yaml --out again") == 0
    assert (
        Path("again/model.safetensors").read_bytes() == Path("run/model.safetensors").read_bytes()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit mnsit --out r", "No data set is named 'mnsit'. Did you mean 'mnist'?"),
        ("fit digits", "Name the out"),
        ("fit --out r", "Name the data"),
        ("fit digits --out r --groups 7", "groups = 7 does not divide both"),
        ("fit digits --out r --objective paper --estimator reinmax", "fixes estimator"),
        ("fit digits --out r --estimator nope", "There is no estimator 'nope'"),
        ("fit none.csv --out r", "none.csv does not exist"),
        ("evaluate r", "r holds no run"),
        ("resume r", "sdlgm fit DATA --out r"),
        ("decode r c.parquet --out o.npy", "holds no finished model"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(
    text: str, message: str, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(text) == 1
    err = capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (in_tmp / "r" / "model.safetensors").exists()


def test_a_nan_in_the_data_is_found_before_training(
    in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    values = np.ones((30, 4))
    values[7, 2] = np.nan
    np.save("table.npy", values)
    assert call(f"fit table.npy --out run --likelihood gaussian {FIT}") == 1
    err = capfd.readouterr().err
    assert "table.npy has 1 value that is not finite, the first (nan) in row 7, column 2" in err


def test_wrong_widths_codes_and_models(
    run: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    np.save("narrow.npy", np.ones((5, 3)))
    assert call(f"encode {run.folder} narrow.npy --out c.parquet") == 1
    assert "has 3 columns, but the model was trained on 64" in capfd.readouterr().err
    assert call(f"encode {run.folder} digits --out c.parquet") == 0
    content = bytearray(Path("c.parquet").read_bytes())
    content[60] ^= 255
    Path("c.parquet").write_bytes(content)
    capfd.readouterr()
    assert call(f"decode {run.folder} c.parquet --out out.npy") == 1
    assert "is damaged" in capfd.readouterr().err
    assert not Path("out.npy").exists()
    shutil.copytree(run.folder, "copy")
    path = Path("copy/model.safetensors")
    path.write_bytes(path.read_bytes()[:-50])
    assert call("evaluate copy") == 1
    assert "damaged or cut short" in capfd.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "",
        "fit",
        "resume",
        "evaluate",
        "encode",
        "decode",
        "compress",
        "decompress",
        "report",
        "info",
    ],
)
def test_help_has_examples(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        call(f"{command} --help")
    out = capfd.readouterr().out
    assert done.value.code == 0
    assert "example" in out
    assert "sdlgm" in out
    assert "_" not in "".join(word for word in out.split() if word.startswith("--"))


def test_the_help_of_fit_fits_a_screen_and_help_all_shows_every_setting(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        call("fit --help")
    short = capfd.readouterr().out
    assert len(short.splitlines()) <= 45
    with pytest.raises(SystemExit):
        call("fit --help-all")
    long = capfd.readouterr().out
    for config in (DataConfig, ModelConfig, TrainingConfig):
        for field in dataclasses.fields(config):
            name = field.name if field.name == "data" else "--" + field.name.replace("_", "-")
            assert name in long


def test_every_command_that_writes_takes_out(capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "encode", "decode", "compress", "decompress", "export", "report"):
        with pytest.raises(SystemExit):
            call(f"{command} --help")
        assert "--out" in capfd.readouterr().out


def test_an_empty_input_is_not_the_current_folder(
    run: Run, in_tmp: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = str(run.folder)
    for call, name in (
        (["fit", "", "--out", "run"], "DATA"),
        (["encode", folder, " ", "--out", "codes.parquet"], "DATA"),
        (["compress", "", "digits", "--out", "x.sdl"], "RUN"),
        (["evaluate", folder, "--data", ""], "DATA"),
        (["decode", folder, "", "--out", "x"], "CODES"),
        (["decompress", folder, "", "--out", "x"], "FILE"),
        (["info", ""], "RUN"),
    ):
        assert main(call) == 1
        assert f"{name} is empty. Is a shell variable unset?" in capfd.readouterr().err
    with pytest.raises(DataError, match="data is empty"):
        run.load_rows("")
    assert not list(in_tmp.iterdir())


def test_abbreviated_options_are_refused(in_tmp: Path) -> None:
    with pytest.raises(SystemExit):
        call("fit digits --out r --like gaussian")


def test_an_unexpected_error_is_reported_as_a_bug_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Run, "open", lambda folder: 1 / 0)
    assert call("info", run.folder) == 1
    err = capfd.readouterr().err
    assert "This is a bug in sdlgm: ZeroDivisionError" in err
    assert "Traceback" not in err
    monkeypatch.setenv("SDLGM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        call("info", run.folder)


def test_a_closed_pipe_is_not_an_error_message(run: Run) -> None:
    program = [sys.executable, "-m", "sdlgm", "info", str(run.folder)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_wrong_options_are_usage_errors(capfd: pytest.CaptureFixture[str]) -> None:
    for text in ("fit digits --out r --activation gelo", "fit digits --out r --budgets 3", "nope"):
        with pytest.raises(SystemExit) as done:
            call(text)
        assert done.value.code == 2
    assert "gelo" in capfd.readouterr().err


def test_unknown_keys_in_a_config_file_are_errors(in_tmp: Path) -> None:
    Path("c.yaml").write_text("budgets: 3\n")
    with pytest.raises(SystemExit):
        call("fit digits --out r --config c.yaml")


def test_the_command_is_installed_and_knows_its_version() -> None:
    import sdlgm

    program = Path(sys.executable).parent / "sdlgm"
    out = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout
    assert out.strip() == f"sdlgm {sdlgm.__version__}"
