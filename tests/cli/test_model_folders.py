"""A model as it comes from the Hub serves every command, or a sentence says what is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import sdlgm
from sdlgm.cli import main
from sdlgm.codec import decode_file
from sdlgm.config import DataConfig, ModelConfig, TrainingConfig
from sdlgm.estimators import RecallAtLeast, SDLGMClassifier, SDLGMCounter, SDLGMTransformer
from sdlgm.hub import Card
from sdlgm.hub.transfer import FILES
from sdlgm.models import model_sha256
from sdlgm.training import Run, fit

Fetch = Callable[[Any], Path]


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """Return a folder with the files that a receiver of something pushed gets."""

    def fetch(source: Any) -> Path:
        target = tmp_path / "from-hub"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()

        def upload(folder: Path, names: list[str], card: Card, **_: Any) -> str:
            for name in set(names) & set(FILES):
                shutil.copy(Path(folder) / name, target)
            (target / "README.md").write_text(card.render("me/model"))
            return "address"

        monkeypatch.setattr("sdlgm.hub.sharing.upload", upload)
        sdlgm.push_to_hub(source, "me/model")
        return target

    return fetch


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readings of three named sensors."""
    path = tmp_path_factory.mktemp("table") / "readings.csv"
    values = np.random.default_rng(0).normal(size=(60, 3)).round(3)
    pd.DataFrame(values, columns=["cpu", "ram", "disk"]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def of_table(table: Path) -> Run:
    """A run on the readings."""
    return fit(
        DataConfig(str(table)),
        ModelConfig(likelihood="gaussian", features=6, budget=3, groups=1, encoder_hidden=(8,)),
        TrainingConfig(iterations=30, batch_size=10),
        out=table.parent / "run",
        importance_samples=2,
        progress=False,
    )


def call(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_pushed_run_of_a_built_in_set_gives_the_numbers_of_the_run(
    run: Run, fetched: Fetch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = fetched(run)
    assert not (folder / "config.yaml").exists()
    found = []
    for each in (run.folder, folder):
        assert call("evaluate", each, "--importance-samples", 2, "--json") == 0
        found.append(json.loads(capfd.readouterr().out))
    assert found[0] == found[1]


def test_a_pushed_run_of_a_file_encodes_and_decodes_like_the_run(
    of_table: Run, table: Path, fetched: Fetch, tmp_path: Path
) -> None:
    folder = fetched(of_table)
    other = tmp_path / "other.csv"
    frame = pd.read_csv(table)
    frame[["disk", "cpu", "ram"]].to_csv(other, index=False)
    for name in ("a.parquet", "b.sdz"):
        assert call("encode", folder, other, "--out", tmp_path / name) == 0
        assert call("decode", folder, tmp_path / name, "--out", tmp_path / "back.csv") == 0
        assert call("encode", of_table.folder, table, "--out", tmp_path / f"run-{name}") == 0
        ours, its = (decode_file(of_table.model, tmp_path / each) for each in (name, f"run-{name}"))
        np.testing.assert_array_equal(ours, its)
        assert list(pd.read_csv(tmp_path / "back.csv")) == ["disk", "cpu", "ram"]


def test_columns_that_the_model_does_not_know_are_refused(
    of_table: Run, table: Path, fetched: Fetch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = fetched(of_table)
    other = tmp_path / "other.csv"
    pd.read_csv(table).rename(columns={"cpu": "gpu"}).to_csv(other, index=False)
    assert call("encode", folder, other, "--out", tmp_path / "codes.sdz") == 1
    assert "lacks columns that the model was trained on: cpu" in capfd.readouterr().err


def test_other_data_can_be_evaluated_and_drawn(
    of_table: Run, table: Path, fetched: Fetch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    folder = fetched(of_table)
    assert call("evaluate", folder, "--data", table, "--importance-samples", 2) == 0
    assert call("report", folder, "--data", table, "--out", tmp_path / "page.html") == 0
    page = (tmp_path / "page.html").read_text()
    assert "readings.csv: at most 3 of 6 features" in page
    assert "<h2>Training</h2>" not in page
    assert str(table.parent) not in page
    capfd.readouterr()
    assert call("info", folder) == 0
    shown = capfd.readouterr().out
    for part in ("without the settings of its training", "inputs     3", "K = 6, budget L0 = 3"):
        assert part in shown
    assert "negative_elbo" in shown


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_data_that_nobody_named_are_asked_for(
    command: str, of_table: Run, fetched: Fetch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = fetched(of_table)
    assert call(command, folder) == 1
    said = capfd.readouterr().err
    assert "holds a model without its data (readings.csv). Name data: --data FILE." in said


def test_a_model_without_numbers_serves_all_commands_but_the_report(
    of_table: Run, table: Path, fetched: Fetch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = fetched(of_table.model)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert call("info", folder) == 0
    assert call("evaluate", folder, "--data", table, "--importance-samples", 2) == 0
    assert call("encode", folder, table, "--out", tmp_path / "codes.parquet") == 0
    assert call("decode", folder, tmp_path / "codes.parquet", "--out", tmp_path / "back.npy") == 0
    capfd.readouterr()
    assert call("evaluate", folder) == 1
    assert "without its data (unknown data). Name data: --data FILE" in capfd.readouterr().err
    pytest.importorskip("matplotlib")
    assert call("report", folder, "--data", table) == 1
    assert "without the numbers of its run (metrics.json)" in capfd.readouterr().err
    assert call("resume", folder) == 1
    assert "sdlgm: " in capfd.readouterr().err


def test_a_transformer_serves_the_commands_with_the_names_of_its_columns(
    table: Path, fetched: Fetch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_csv(table)
    made = SDLGMTransformer(6, budget=3, groups=1, epochs=10, random_state=0).fit(frame)
    folder = fetched(made)
    frame[["ram", "disk", "cpu"]].to_csv(tmp_path / "other.csv", index=False)
    assert call("encode", folder, tmp_path / "other.csv", "--out", tmp_path / "codes.sdz") == 0
    decoded = decode_file(made.model_, tmp_path / "codes.sdz")
    np.testing.assert_array_equal(decoded, made.inverse_transform(made.transform(frame)))
    frame[["ram", "cpu"]].to_csv(tmp_path / "other.csv", index=False)
    assert call("encode", folder, tmp_path / "other.csv", "--out", tmp_path / "codes.sdz") == 1
    assert "lacks columns that the model was trained on: disk" in capfd.readouterr().err
    assert call("info", folder) == 0
    shown = capfd.readouterr().out
    for part in (
        "SDLGMTransformer", "columns    3 ('cpu', 'ram', 'disk')", "K = 6, budget L0 = 3, 1 groups",
        "10 epochs, random_state 0", f"hash {model_sha256(made.model_)[:12]}",
    ):  # fmt: skip
        assert part in shown


@pytest.mark.parametrize("command", ["evaluate", "report", "encode", "decode"])
def test_a_classifier_is_named_in_a_sentence(
    command: str, fetched: Fetch, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    x = np.random.default_rng(0).normal(size=(30, 3))
    made = SDLGMClassifier(members=2, folds=2, epochs=1, random_state=0).fit(x, x > 0)
    more = {"encode": [table, "--out", tmp_path / "c.sdz"], "decode": [table, "--out", "c.npy"]}
    assert call(command, fetched(made), *more.get(command, [])) == 1
    assert "estimator" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"threshold": 0.3}, ["threshold  0.3\n", "2 networks, inputs 'standard'"]),
        ({"threshold": "counts"}, ["threshold  none, but 'counts'"]),
        ({"threshold": "per_label"}, [" to ", ", by 'per_label'"]),
        (
            {"threshold": RecallAtLeast(0.1, confidence=None)},
            [", by RecallAtLeast(level=0.1, confidence=None, held_out='split')"],
        ),
    ],
)
def test_a_classifier_is_described(
    settings: dict[str, Any],
    parts: list[str],
    fetched: Fetch,
    table: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    frame = pd.read_csv(table)
    made = SDLGMClassifier(
        members=2, folds=2, epochs=1, inputs="standard", random_state=0, **settings
    )
    folder = fetched(made.fit(frame, (frame > 0).astype(int).add_suffix(" high")))
    assert call("info", folder) == 0
    shown = capfd.readouterr().out
    for part in (
        "SDLGMClassifier", "columns    3 ('cpu', 'ram', 'disk')", "sets       from 0 to 3 labels",
        "labels     3 ('cpu high', 'ram high', 'disk high')", "saved by   sdlgm ",
        f"{(folder / 'estimator.safetensors').stat().st_size:,} bytes", *parts,
    ):  # fmt: skip
        assert part in shown


def test_classes_and_mixed_columns_of_a_classifier_are_described(
    fetched: Fetch, capfd: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"age": [1.0, 2.0] * 20, "colour": ["red", "blue"] * 20})
    made = SDLGMClassifier(members=2, epochs=1, mixed=True, random_state=0)
    assert call("info", fetched(made.fit(frame, ["low", "high"] * 20))) == 0
    shown = capfd.readouterr().out
    assert "classes    2 ('high', 'low'), one for each row" in shown
    assert "columns    2 ('age', 'colour'); mixed, read as 3 columns" in shown


def test_a_counter_is_described(fetched: Fetch, capfd: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(30, 3))
    made = SDLGMCounter(hidden=(4,), epochs=1, random_state=0).fit(x, (x > 0).astype(int))
    assert call("info", fetched(made)) == 0
    shown = capfd.readouterr().out
    for part in (
        "SDLGMCounter", "columns    3 (no names)", "classes    3 (no names)", "at most 3 in all",
        "encoder 'mlp', tied slots",
    ):  # fmt: skip
        assert part in shown


@pytest.mark.parametrize(
    "metrics",
    [
        [],
        {"data": 3},
        {"data": ["digits"]},
        {"binarisation": "sometimes"},
        {"binarisation": {}},
        {"model_sha256": "0"},
        {"negative_elbo": "low", "n_samples": []},
        {"data": "digits", "training_seconds": "long"},
    ],
)
def test_forged_numbers_are_a_sentence(
    metrics: Any, of_table: Run, table: Path, fetched: Fetch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = fetched(of_table.model)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for arguments in (["info"], ["evaluate"], ["report", "--data", table]):
        assert call(arguments[0], folder, *arguments[1:]) in (0, 1)
        said = capfd.readouterr().err
        assert "bug" not in said, said
        assert "Traceback" not in said, said


def test_a_folder_without_a_model_is_a_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", tmp_path) == 1
    assert "holds no run: there is no config.yaml, and no model" in capfd.readouterr().err
    assert call("evaluate", tmp_path / "none") == 1
    assert "none holds no run: it does not exist." in capfd.readouterr().err
