"""Static MNIST: the published bits where the files are there, else bits that are drawn once."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import sdlgm
from sdlgm.config import DataConfig, ModelConfig, TrainingConfig
from sdlgm.data import Dataset, Rows, load_data, named, static_mnist
from sdlgm.errors import DataError, SDLGMWarning
from sdlgm.training import Run

SIZES = {"train": 6, "valid": 3, "test": 4}
STATIC = DataConfig("mnist-static")


def text(bits: np.ndarray, end: str = "\n") -> bytes:
    return "".join(" ".join(map(str, row)) + end for row in bits).encode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the published files, empty, and a small MNIST to draw bits from."""
    monkeypatch.setattr(static_mnist, "ROWS", SIZES)
    monkeypatch.setenv("SDLGM_DATA", str(tmp_path))
    source = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (13, 784), generator=source, dtype=torch.uint8)
    rows = Rows(grey, maximum=255.0, labels=torch.arange(13))
    mnist = Dataset(
        "mnist", rows.subset(torch.arange(9)), rows.subset(torch.arange(9, 13)), (28, 28)
    )
    monkeypatch.setattr(named, "_idx", lambda name: mnist)
    (tmp_path / "mnist-static").mkdir()
    return tmp_path / "mnist-static"


@pytest.fixture
def bits(folder: Path) -> dict[str, np.ndarray]:
    """The published files, and their bits."""
    source = np.random.default_rng(0)
    found = {part: source.integers(0, 2, (n, 784), np.uint8) for part, n in SIZES.items()}
    for part, values in found.items():
        end = {"train": "\n", "valid": " \n", "test": "\r\n"}[part]
        (folder / f"binarized_mnist_{part}.amat").write_bytes(text(values, end))
    return found


def test_the_published_bits_are_read_where_they_are(bits: dict[str, np.ndarray]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_data(STATIC)
    np.testing.assert_array_equal(data.train.values, bits["train"])
    np.testing.assert_array_equal(data.test.values, bits["test"])
    assert data.validation is not None
    np.testing.assert_array_equal(data.validation.values, bits["valid"])
    assert (data.image_shape, data.source) == ((28, 28), "binarized_mnist_*.amat")
    assert not data.train.dynamic


def test_without_them_bits_are_drawn_once_in_the_same_split(folder: Path) -> None:
    with pytest.warns(SDLGMWarning, match="are not the published bits.*binarized_mnist_train.amat"):
        data = load_data(STATIC)
    assert data.source == "drawn from MNIST with seed 0"
    assert data.validation is not None
    parts = (data.train, data.validation, data.test)
    assert [len(rows) for rows in parts] == list(SIZES.values())
    assert [rows.labels.tolist() for rows in parts] == [  # type: ignore[union-attr]
        [0, 1, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11, 12],
    ]  # fmt: skip
    assert all(set(rows.values.unique().tolist()) == {0, 1} for rows in parts)
    with pytest.warns(SDLGMWarning):
        again = load_data(DataConfig("mnist-static", split_seed=5))
    assert torch.equal(again.train.values, data.train.values)
    assert torch.equal(again.test.values, data.test.values)


def test_half_of_the_files_are_refused(bits: dict[str, np.ndarray], folder: Path) -> None:
    (folder / "binarized_mnist_valid.amat").unlink()
    with pytest.raises(DataError, match=r"only some of the files.*Add binarized_mnist_valid\.amat"):
        load_data(STATIC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "test.amat has 3 lines, but 4 images are expected"),
        (lambda rows: [*rows, rows[0]], "test.amat has 5 lines"),
        (lambda rows: [], "test.amat has 0 lines"),
        (lambda rows: [*rows[:2], rows[2][:-2], rows[3]], "line 3: there are 783 bits, but .* 784"),
        (lambda rows: [*rows[:2], b"", *rows[3:]], "line 3: there are 0 bits"),
        (lambda rows: [rows[0], b"2" + rows[1][1:], *rows[2:]], "line 2: there is '2', but only 0"),
        (lambda rows: [*rows[:3], rows[3] + b" x"], "line 4: there is 'x'"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(
    change, message: str, bits: dict[str, np.ndarray], folder: Path
) -> None:
    path = folder / "binarized_mnist_test.amat"
    lines = change(path.read_bytes().splitlines())
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(DataError, match=message):
        load_data(STATIC)


def test_a_run_records_its_bits_validates_on_its_own_rows_and_refuses_others(
    folder: Path, tmp_path: Path
) -> None:
    model = ModelConfig(features=4, budget=2, encoder_hidden=(4,), sparsity_hidden=(4,))
    training = TrainingConfig(iterations=4, batch_size=2, validation_fraction=0.1, evaluate_every=2)
    with pytest.warns(SDLGMWarning) as said:
        run = sdlgm.fit(
            STATIC, model, training, out=tmp_path / "run", importance_samples=1, progress=False
        )
    assert sum("drawn once from MNIST" in str(each.message) for each in said) == 1
    assert run.metrics["data_source"] == "drawn from MNIST with seed 0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = Run.open(tmp_path / "run")
        assert len(opened.load_rows(split="train").rows) == 6  # none was held out of them
    for part, number in SIZES.items():
        values = np.zeros((number, 784), np.uint8)
        (folder / f"binarized_mnist_{part}.amat").write_bytes(text(values))
    with pytest.raises(DataError, match=r"was trained on mnist-static \(drawn from MNIST with"):
        _ = Run.open(tmp_path / "run").dataset
