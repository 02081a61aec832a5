"""A run of a Gaussian model depends neither on the units of its columns, nor on their offsets."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdlgm.codec import decode_file, encode_file
from sdlgm.config import DataConfig, ModelConfig, TrainingConfig
from sdlgm.data import Rows
from sdlgm.errors import SDLGMWarning
from sdlgm.export import compare_encoder, export_run
from sdlgm.models import load_model
from sdlgm.training import Run, fit

SHAPE = ModelConfig(
    features=12, budget=4, likelihood="gaussian", encoder_hidden=(16,), sparsity_hidden=(8,)
)
ROWS = np.random.default_rng(0).integers(0, 4096, size=(160, 3)) // 512 * 512.0


def run(folder: Path, x: np.ndarray, **settings: Any) -> Run:
    """Fit 80 % of the rows, 128 of them."""
    folder.mkdir()
    np.save(folder / "rows.npy", x)
    training = TrainingConfig(iterations=200, batch_size=32, learning_rate=1e-2, **settings)
    data = DataConfig(str(folder / "rows.npy"), test_fraction=0.2)
    return fit(data, SHAPE, training, out=folder / "run", importance_samples=2, progress=False)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Fit rows in their own units, once for each setting; do not write into these folders."""

    @functools.cache
    def fitted(**settings: Any) -> Run:
        return run(tmp_path_factory.mktemp("unchanged") / "run", ROWS, **settings)

    return fitted


@pytest.mark.parametrize("estimator", ["reinmax", "gumbel_softmax"])
@pytest.mark.parametrize("power", [-30, 40])
def test_powers_of_two_change_no_bit_of_the_networks(
    estimator: str, power: int, unchanged: Callable[..., Run], tmp_path: Path
) -> None:
    one = unchanged(estimator=estimator)
    other = run(tmp_path / "other", ROWS * 2.0**power, estimator=estimator)
    for name, weights in one.model.named_parameters():
        assert torch.equal(weights, other.model.get_parameter(name)), name
    assert torch.equal(one.model.encode(ROWS), other.model.encode(ROWS * 2.0**power))
    nats = 3 * power * math.log(2)  # the density is one in the units of the data
    assert other.metrics["negative_elbo"] - nats == pytest.approx(
        one.metrics["negative_elbo"], abs=1e-3
    )


@pytest.mark.parametrize(("unit", "offset"), [(1e-9, 0.0), (1.0, 273.15), (60.0, 1.7e9)])
def test_units_and_offsets_do_not_matter(
    unit: float, offset: float, unchanged: Callable[..., Run], tmp_path: Path
) -> None:
    changed = ROWS * unit + offset
    one, other = unchanged(estimator="reinmax"), run(tmp_path / "other", changed)
    codes = one.model.encode(ROWS)
    assert torch.equal(codes, other.model.encode(changed))
    assert other.metrics["negative_elbo"] - 3 * math.log(unit) == pytest.approx(
        one.metrics["negative_elbo"], abs=0.02
    )
    back = (other.model.decode(codes).double() - offset) / unit
    torch.testing.assert_close(back, one.model.decode(codes).double(), atol=2.0, rtol=1e-3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_unix_seconds_are_learned_stored_and_exported(precision: str, tmp_path: Path) -> None:
    seconds = 1_700_000_000 + np.arange(160)[:, None]
    made = run(tmp_path / "one", seconds, precision=precision)
    model = load_model(made.folder)
    back = model.decode(model.encode(seconds))
    assert back.dtype == torch.float64
    assert np.corrcoef(back[:, 0], seconds[:, 0])[0, 1] > 0.8
    encode_file(model, Rows(torch.from_numpy(seconds)), tmp_path / "codes.parquet")
    assert torch.equal(torch.as_tensor(decode_file(model, tmp_path / "codes.parquet")), back)
    centred = run(tmp_path / "other", seconds - 1_700_000_000, precision=precision)
    assert centred.metrics["negative_elbo"] == pytest.approx(
        made.metrics["negative_elbo"], abs=0.05
    )


def test_constant_columns_of_a_table_are_named(tmp_path: Path) -> None:
    with pytest.warns(SDLGMWarning, match=r"1 of 4 columns are constant, column 3 \(counted"):
        run(tmp_path / "one", np.c_[ROWS, np.full(160, 1e-12)])


def test_an_exported_encoder_reads_double_precision_where_it_is_needed(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    seconds = 1_700_000_000 + np.arange(160)[:, None]
    made = run(tmp_path / "one", seconds)
    export_run(made, tmp_path / "encoder.onnx")
    found = compare_encoder(made.model, tmp_path / "encoder.onnx", torch.from_numpy(seconds))
    assert found.presence_difference < 1e-5
    assert found.identical == 1.0
