"""The same rows in other units, or with an offset, give the same predictions and codes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers import no_warning
from sdlgm.errors import DataError, ModelFileError, SDLGMWarning
from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer
from sdlgm.hub import load

Array = NDArray[np.float64]

QUICK: dict[str, Any] = {"epochs": 25, "random_state": 0}
MAKERS: dict[str, Callable[[], Any]] = {
    "standard": lambda: _classifier("standard"),
    "quantile": lambda: _classifier("quantile"),
    "bins": lambda: _classifier("bins"),
    "generative": lambda: _classifier("standard", variant="generative"),
    "counter": lambda: SDLGMCounter(hidden=(16,), batch_size=32, **QUICK),
    "transformer": lambda: SDLGMTransformer(
        12, 4, encoder_hidden=(16,), sparsity_hidden=(8,), batch_size=32, **QUICK
    ),
}
"""Estimators of all kinds."""


def _classifier(inputs: Any, **changes: Any) -> SDLGMClassifier:
    return SDLGMClassifier(
        inputs=inputs, hidden=(16,), members=2, folds=2, batch_size=32, min_labels=0, **QUICK,
        **changes,
    )  # fmt: skip


def rows(seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Whole numbers that a large offset does not change, and labels that depend on them."""
    x = np.random.default_rng(seed).integers(0, 4096, size=(128, 3)).astype(np.float64)
    return x, (x > 2048).astype(np.int64)


def results(make: Callable[[], Any], x: Array, y: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return predictions or codes of a fitted estimator, and their probabilities or means."""
    model = make().fit(x, y)
    if isinstance(model, SDLGMTransformer):
        codes = model.transform(x)
        means = model.inverse_transform(codes).astype(np.float64)
        return codes, (means - x.min(0)) / np.ptp(x, axis=0)
    return model.predict(x), model.predict_proba(x)


STRETCHED = np.array([2.0**-20, 1, 2.0**20])


@functools.cache
def unchanged(name: str, stretched: bool = False) -> tuple[Array, Array]:
    """Results for the rows in their own units, or in three different ones."""
    x, y = rows()
    return results(MAKERS[name], x * STRETCHED if stretched else x, y)


@pytest.mark.parametrize("name", MAKERS)
@given(st.lists(st.integers(-90, 60), min_size=3, max_size=3), st.sampled_from([0.0, 2.0**31]))
@settings(max_examples=3, deadline=None)
def test_powers_of_two_and_exact_offsets_change_no_bit(
    name: str, powers: list[int], offset: float
) -> None:
    x, y = rows()
    one = unchanged(name, stretched=True)
    other = results(MAKERS[name], x * STRETCHED * 2.0 ** np.array(powers), y)
    np.testing.assert_array_equal(one[0], other[0])
    if name == "transformer":
        np.testing.assert_allclose(one[1], other[1], atol=1e-6)
    else:
        np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("unit", "offset"),
    [(1e-9, 0.0), (1e-12, 0.0), (1.0, 273.15), (1.0, 1.7e9), (60.0, 1.7e9), (1e6, -1e12)],
)
def test_units_and_offsets_do_not_matter(name: str, unit: float, offset: float) -> None:
    x, y = rows()
    one, other = unchanged(name), results(MAKERS[name], x * unit + offset, y)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_allclose(one[1], other[1], atol=1e-3)


def test_a_sparse_table_may_have_any_unit() -> None:
    x, y = rows()
    table = sp.csr_array(np.where(x > 1000, x, 0))
    one = results(MAKERS["standard"], table, y)
    other = results(MAKERS["standard"], table * 2.0**-40, y)
    np.testing.assert_array_equal(one[1], other[1])
    metres = results(MAKERS["standard"], table * 1e-9, y)
    np.testing.assert_allclose(one[1], metres[1], atol=1e-3)


@pytest.mark.parametrize("inputs", ["standard", "quantile", "bins"])
def test_wavelengths_in_metres_are_as_good_as_in_nanometres(inputs: str) -> None:
    nanometres, _ = rows(1)
    nanometres = 400 + nanometres / 10
    y = (nanometres[:, :2] > 600).astype(np.int64)
    model = _classifier(inputs).set_params(epochs=80, learning_rate=1e-2)
    scores = [model.fit(x, y).score(x, y) for x in (nanometres, nanometres * 1e-9)]
    assert scores[0] == scores[1] > 0.85


PLACES = np.arange(128)
SECONDS = (1_700_000_000 + PLACES)[:, None]
PARTS = np.stack([PLACES < 40, PLACES > 90], 1).astype(np.int64)


@pytest.mark.parametrize("name", ["standard", "quantile", "bins", "counter"])
def test_unix_seconds_one_apart_can_be_learned(name: str) -> None:
    model = MAKERS[name]().set_params(epochs=80, learning_rate=1e-2)
    assert model.fit(SECONDS, PARTS).score(SECONDS, PARTS) > 0.9


def test_unix_seconds_one_apart_come_back_from_codes() -> None:
    model = MAKERS["transformer"]().set_params(epochs=60, learning_rate=1e-2)
    back = model.fit(SECONDS).inverse_transform(model.transform(SECONDS))
    assert back.dtype == np.float64
    assert np.corrcoef(back[:, 0], PLACES)[0, 1] > 0.75
    centred = SECONDS - 1_700_000_000
    near = model.fit(centred).inverse_transform(model.transform(centred))
    np.testing.assert_allclose(back - 1_700_000_000, near, atol=0.02)


@pytest.mark.parametrize("name", MAKERS)
def test_constant_columns_are_named_once(name: str) -> None:
    x, y = rows()
    table = pd.DataFrame(np.c_[x, np.full(len(x), 1.7e9)], columns=["a", "b", "c", "sensor"])
    with pytest.warns(SDLGMWarning, match="1 of 4 columns are constant, column 'sensor'") as caught:
        MAKERS[name]().fit(table, y)
    assert sum("constant" in str(warning.message) for warning in caught) == 1


def test_sparse_constant_columns_are_named() -> None:
    x, y = rows()
    table = sp.csr_array(np.c_[x, np.zeros(len(x)), np.full(len(x), 3.0)])
    with pytest.warns(SDLGMWarning, match="2 of 5 columns are constant, columns 3, 4"):
        _classifier("standard").fit(table, y)


def test_a_column_in_a_tiny_unit_is_not_constant(recwarn: pytest.WarningsRecorder) -> None:
    x, y = rows()
    for name in ("standard", "counter", "transformer"):
        MAKERS[name]().fit(x * 1e-30, y)
    assert not [warning for warning in recwarn.list if "constant" in str(warning.message)]


def test_columns_of_tiny_numbers_are_encoded_but_not_compared() -> None:
    x, _ = rows()
    settings = {"scaling": "common", "turns": 4, "epochs": 1}
    plain = MAKERS["transformer"]().set_params(**settings).fit(x)
    tiny = MAKERS["transformer"]().set_params(**settings).fit(x * 2.0**-700)
    codes = tiny.transform(x * 2.0**-700)
    np.testing.assert_array_equal(codes, plain.transform(x))
    decoded = tiny.inverse_transform(codes) * 2.0**700
    np.testing.assert_allclose(decoded, plain.inverse_transform(codes), rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match=r"deviate by .*e-20\d at most.*power of ten"):
        tiny.nearest(x * 2.0**-700, codes)


def test_numbers_beyond_single_precision_are_refused_with_the_cure() -> None:
    x, _ = rows()
    with pytest.raises(DataError, match=r"beyond 3\.4e38\).*another unit"):
        MAKERS["transformer"]().fit(x * 1e150)


def test_later_batches_on_another_scale_are_counted() -> None:
    x, _ = rows()
    frame = pd.DataFrame(x, columns=["metres", "b", "c"])
    model = MAKERS["transformer"]().partial_fit(frame.iloc[:64])
    with no_warning():
        model.partial_fit(frame.iloc[64:])
    later = frame.iloc[64:].assign(metres=1e9 + frame.metres[64:])
    with pytest.warns(SDLGMWarning, match="X: 64 of 192 values .* in column metres:") as caught:
        model.partial_fit(later)
    assert len(caught) == 1
    with pytest.warns(SDLGMWarning, match="X: 64 of 192 values .* in column metres:"):
        model.transform(later)


@pytest.mark.parametrize("name", MAKERS)
def test_rows_in_another_unit_are_counted_once_in_every_prediction(
    name: str, tmp_path: Path
) -> None:
    x, y = rows()
    frame = pd.DataFrame(x, columns=["metres", "b", "c"])
    model = MAKERS[name]().fit(frame, y)
    model.save(tmp_path / "model")
    later = frame.assign(metres=1000 * frame.metres + 1e5)
    for each in (model, load(tmp_path / "model")):
        methods = [each.predict, each.predict_proba] if name != "transformer" else [each.transform]
        methods.append(lambda table, each=each: each.score(table, y))
        for method in methods:
            with no_warning():
                method(frame)
            with pytest.warns(
                SDLGMWarning, match=r"X: [\d,]+ of [\d,]+ values .* in column metres:"
            ) as caught:
                method(later)
            assert len(caught) == 1
            assert caught[0].filename == __file__


def test_sparse_rows_in_another_unit_are_counted() -> None:
    x, y = rows()
    table = sp.csr_array(np.maximum(x, 0))
    model = _classifier("standard").fit(table, y)
    with no_warning():
        model.predict(table)
    far = table.copy()
    far.data[:3] = 1e5
    with pytest.warns(SDLGMWarning, match="X: 3 of 384 values"):
        model.predict(far)


def test_images_on_another_grey_scale_are_counted() -> None:
    source = np.random.default_rng(0)
    images = source.random((30, 6, 12)).astype(np.float32)
    counts = source.multinomial(2, [0.3, 0.3, 0.4], size=30)[:, :2]
    counter = SDLGMCounter(
        "columns", image_columns=2, channels=(3, 3), epochs=2, random_state=0
    ).fit(images, counts)
    counter.predict(np.concatenate([images, images], axis=2))  # twice the columns
    with pytest.warns(SDLGMWarning, match=r"X: [\d,]+ of 2,160 values .* trained on: \S+ to 25"):
        counter.predict(255 * images)


@pytest.mark.parametrize("name", ["standard", "counter", "transformer"])
def test_a_forged_range_is_refused(name: str, tmp_path: Path) -> None:
    x, y = rows()
    model = MAKERS[name]().fit(x, y)
    for wrong in (np.zeros((2, 4)), np.full((2, 3), np.nan), np.zeros((2, 3), np.int8), "x"):
        model._limits = wrong
        with pytest.raises(ModelFileError, match="range of its columns"):
            model.save(tmp_path / "model")


@pytest.mark.parametrize("name", MAKERS)
def test_scaling_in_double_precision_is_saved(name: str, tmp_path: Path) -> None:
    x, y = rows()
    x = x * 0.1 + 1.7e9
    model = MAKERS[name]().fit(x, y)
    model.save(tmp_path / "model")
    method = "transform" if name == "transformer" else "predict_proba"
    found = getattr(load(tmp_path / "model"), method)(x)
    np.testing.assert_array_equal(found, getattr(model, method)(x))
