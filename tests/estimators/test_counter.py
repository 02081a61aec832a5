"""The counter as a user of scikit-learn sees it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from paper.counts.methods import METHODS, PROFILES
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from sdlgm.baselines import ConstantCounter, PoissonCounter, SoftmaxCounter
from sdlgm.errors import ConfigError, DataError, SDLGMError, TrainingError
from sdlgm.estimators import SDLGMCounter
from sdlgm.estimators.augmentation import Augmentation
from sdlgm.estimators.counter import ENCODER_DEFAULTS

QUICK = {"hidden": (32,), "epochs": 40, "batch_size": 20, "random_state": 0}


def rows(n: int = 300, classes: int = 3, budget: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Counts, and rows that are noisy mixtures of them."""
    source = np.random.default_rng(0)
    y = source.multinomial(budget, [1 / (classes + 1)] * (classes + 1), size=n)[:, :classes]
    mixture = source.normal(size=(classes, 6))
    return y @ mixture + 0.05 * source.normal(size=(n, 6)), y


def bars(n: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images whose 8 x 8 columns are empty or hold a horizontal or a vertical bar."""
    source = np.random.default_rng(seed)
    kinds = source.integers(0, 3, size=(n, columns))
    images = np.zeros((n, 8, 8 * columns), np.uint8)
    for i, j in np.ndindex(n, columns):
        part = images[i, :, 8 * j : 8 * (j + 1)]
        if kinds[i, j] == 0:
            part[source.integers(2, 6), 1:7] = 200
        elif kinds[i, j] == 1:
            part[1:7, source.integers(2, 6)] = 200
    return images, np.stack([(kinds == k).sum(1) for k in range(2)], axis=1)


@pytest.mark.parametrize("tied", [True, False])
def test_it_learns_to_count_from_rows(tied: bool) -> None:
    X, y = rows()
    settings = {**QUICK, "learning_rate": 5e-3}
    counter = SDLGMCounter(tied=tied, **settings).fit(X[:200], y[:200])
    assert counter.budget_ == 4
    assert counter.score(X[200:], y[200:]) > 0.8
    whole, mean = counter.predict(X), counter.predict_mean(X)
    assert whole.dtype == np.int64
    assert whole.shape == mean.shape == y.shape
    assert (whole.sum(1) <= 4).all()
    assert ((mean - y)[200:] ** 2).mean() < 0.4 * y.var(0).mean()
    assert counter.history_[-1]["loss"] < counter.history_[0]["loss"]


@pytest.mark.parametrize("tied", [True, False])
def test_probabilities_are_consistent(tied: bool) -> None:
    X, y = rows()
    counter = SDLGMCounter(tied=tied, budget=6, **{**QUICK, "epochs": 3}).fit(X, y)
    present, total = counter.predict_proba(X), counter.predict_total(X)
    assert present.shape == y.shape
    assert total.shape == (len(X), 7)
    np.testing.assert_allclose(total.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(total @ np.arange(7), counter.predict_mean(X).sum(1), atol=1e-4)
    assert ((present >= 0) & (present <= 1)).all()
    assert (present <= counter.predict_mean(X) + 1e-6).all()


@pytest.fixture(scope="module")
def column_counter() -> SDLGMCounter:
    return SDLGMCounter(
        "columns", image_columns=3, channels=(8, 8), epochs=15, batch_size=20, learning_rate=5e-3,
        shift=1, rotation=0, test_shift=0, random_state=0,
    ).fit(*bars(300, 3))  # fmt: skip


def test_the_defaults_of_the_column_encoder_are_the_settings_of_the_published_table() -> None:
    made = METHODS["columns"].make(PROFILES["full"], 0)
    default = SDLGMCounter("columns", random_state=0)
    for counter in (made, default):
        assert isinstance(counter, SDLGMCounter)
    assert [made._setting(name) for name in ENCODER_DEFAULTS["columns"]] == [
        default._setting(name) for name in ENCODER_DEFAULTS["columns"]
    ]
    others = set(default.get_params()) - set(ENCODER_DEFAULTS["columns"])
    assert {n: made.get_params()[n] for n in others} == {n: default.get_params()[n] for n in others}


def test_numpy_integers_are_accepted() -> None:
    X, y = rows(40)
    whole = {"hidden": (np.int64(8),), "epochs": np.int64(2), "budget": np.int64(4)}
    counter = SDLGMCounter(random_state=np.int64(0), **whole).fit(X, y)
    same = SDLGMCounter(random_state=0, hidden=(8,), epochs=2, budget=4).fit(X, y)
    np.testing.assert_array_equal(counter.predict_mean(X), same.predict_mean(X))


@pytest.mark.parametrize("columns", [1, 3, 7])
def test_the_column_encoder_counts_any_number_of_columns(
    column_counter: SDLGMCounter, columns: int
) -> None:
    X, y = bars(60, columns, seed=1)
    assert column_counter.score(X, y) > 0.9
    assert column_counter.predict_total(X).shape == (60, columns + 1)
    assert column_counter.predict(X).sum(1).max() <= columns


def test_the_order_of_columns_does_not_matter_to_the_column_encoder(
    column_counter: SDLGMCounter,
) -> None:
    X, _ = bars(20, 3, seed=2)
    turned = np.concatenate([X[:, :, 8:], X[:, :, :8]], axis=2)
    np.testing.assert_allclose(
        column_counter.predict_mean(turned), column_counter.predict_mean(X), atol=1e-5
    )


def test_a_prediction_depends_on_its_own_image_alone(column_counter: SDLGMCounter) -> None:
    X, _ = bars(20, 3, seed=3)
    together = column_counter.predict_mean(X)
    alone = np.concatenate([column_counter.predict_mean(x[None]) for x in X])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_convolutions_of_the_whole_image_learn_to_count() -> None:
    X, y = bars(400, 2)
    settings = {"channels": (8, 8), "epochs": 20, "batch_size": 20, "learning_rate": 5e-3}
    counter = SDLGMCounter(
        "conv", image_columns=2, shuffle_columns=True, random_state=0, **settings
    )
    assert counter.fit(X[:300], y[:300]).score(X[300:], y[300:]) > 0.8


@pytest.mark.parametrize("encoder", ["mlp", "conv", "columns"])
def test_two_fits_with_one_random_state_are_bit_identical(encoder: str) -> None:
    X, y = bars(60, 2)
    before = torch.get_rng_state()
    settings = {"image_columns": 2, "channels": (4, 4), "shift": 1.0, "rotation": 5.0}
    counter = SDLGMCounter(encoder, shuffle_columns=True, **settings, **{**QUICK, "epochs": 2})
    first, again = counter.fit(X, y).predict_mean(X), clone(counter).fit(X, y).predict_mean(X)
    np.testing.assert_array_equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    other = clone(counter).set_params(random_state=1).fit(X, y).predict_mean(X)
    assert not np.array_equal(first, other)


def test_averaging_over_orders_makes_predictions_almost_invariant() -> None:
    X, y = bars(60, 2)
    turned = np.concatenate([X[:, :, 8:], X[:, :, :8]], axis=2)

    def difference(orders: int) -> float:
        settings = {**QUICK, "epochs": 3, "image_columns": 2}
        counter = SDLGMCounter(test_orders=orders, **settings).fit(X, y)
        return float(np.abs(counter.predict_mean(turned) - counter.predict_mean(X)).max())

    assert difference(200) < 0.2 * difference(1)


@pytest.mark.parametrize("columns", [3, 5])
def test_averaging_over_shifts_averages_expected_counts(
    column_counter: SDLGMCounter, columns: int
) -> None:
    X, _ = bars(20, columns, seed=4)
    parts = X.reshape(20, 8, columns, 8).transpose(0, 2, 1, 3)
    expected = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            moved = np.zeros_like(parts)
            for i, j in np.ndindex(8, 8):
                if 0 <= i + down < 8 and 0 <= j + right < 8:
                    moved[:, :, i + down, j + right] = parts[:, :, i, j]
            images = moved.transpose(0, 2, 1, 3).reshape(X.shape)
            expected.append(column_counter.predict_mean(images))
    averaging = copy.copy(column_counter).set_params(test_shift=1)
    found = averaging.predict_mean(X)
    np.testing.assert_allclose(found, np.mean(expected, axis=0), atol=1e-5)
    total = averaging.predict_total(X)
    np.testing.assert_allclose(total @ np.arange(columns + 1), found.sum(1), atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_averaging_over_shifts_works_for_whole_images(tied: bool) -> None:
    X, y = bars(40, 2)
    counter = SDLGMCounter(tied=tied, test_shift=1, **{**QUICK, "epochs": 2}).fit(X, y)
    averaged = counter.predict_mean(X)
    counter.set_params(test_shift=0)
    padded = np.pad(X, ((0, 0), (1, 1), (1, 1)))
    expected = [
        counter.predict_mean(padded[:, down : down + 8, right : right + 16])
        for down in range(3)
        for right in range(3)
    ]
    np.testing.assert_allclose(averaged, np.mean(expected, axis=0), atol=1e-5)


def test_parameters_are_stored_and_cloned() -> None:
    counter = SDLGMCounter("columns", image_columns=3, epochs=7)
    assert counter.get_params()["epochs"] == 7
    assert clone(counter).get_params() == counter.get_params()


def test_it_can_be_cross_validated() -> None:
    scores = cross_val_score(SDLGMCounter(budget=4, **{**QUICK, "epochs": 5}), *rows(60), cv=2)
    assert scores.shape == (2,)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_early_stopping_keeps_the_best_epoch() -> None:
    X, y = rows(80)
    y = np.random.default_rng(1).permutation(y)  # unrelated to X
    settings = {**QUICK, "epochs": 200, "learning_rate": 1e-2}
    counter = SDLGMCounter(validation_fraction=0.3, patience=4, **settings).fit(X, y)
    losses = [line["validation_loss"] for line in counter.history_]
    assert len(losses) < 200
    assert len(losses) == losses.index(min(losses)) + 5


def test_rows_that_say_nothing_are_not_learned_by_heart() -> None:
    X, y = rows(200)
    y = np.random.default_rng(1).permutation(y)  # unrelated to X
    settings = {**QUICK, "epochs": 60, "learning_rate": 1e-2, "hidden": (128, 128)}
    whole, held_out = (
        SDLGMCounter(validation_fraction=share, **settings).fit(X[:100], y[:100])
        for share in (0.0, None)
    )
    first, second = (
        ((counter.predict_mean(X[100:]) - y[100:]) ** 2).mean() for counter in (whole, held_out)
    )
    assert second < 0.9 * first
    assert second < 1.2 * y[100:].var(0).mean()


def test_small_tables_and_images_are_fitted_whole() -> None:
    X, y = rows(49)
    images, counts = bars(60, 2)
    for samples, numbers in ((X, y), (images, counts)):
        counter = SDLGMCounter(**{**QUICK, "epochs": 2}).fit(samples, numbers)
        assert "validation_loss" not in counter.history_[0]


def test_bytes_floats_and_flat_rows_are_accepted() -> None:
    X, y = bars(40, 2)
    quick = {**QUICK, "epochs": 2}
    flat = SDLGMCounter(**quick).fit(X.reshape(40, -1) / 255, y)
    assert flat.predict(X.reshape(40, -1) / 255).shape == (40, 2)
    as_bytes = SDLGMCounter(**quick).fit(X, y).predict_mean(X)
    as_floats = SDLGMCounter(**quick).fit(X / 255.0, y).predict_mean(X / 255.0)
    np.testing.assert_allclose(as_bytes, as_floats, atol=1e-3)


# --- augmentation ----------------------------------------------------------------------------


def test_a_shift_of_zero_leaves_images_unchanged(generator: torch.Generator) -> None:
    images = torch.rand(5, 6, 8, generator=generator)
    unmoved = Augmentation(columns=2, shift=1e-9)(images, generator)
    torch.testing.assert_close(unmoved, images, atol=1e-5, rtol=0)


def test_shuffling_keeps_the_columns(generator: torch.Generator) -> None:
    images = torch.rand(20, 4, 9, generator=generator)
    shuffled = Augmentation(columns=3, shuffle=True)(images, generator)

    def parts(image: torch.Tensor) -> list[list[float]]:
        return sorted(part.flatten().tolist() for part in image.chunk(3, dim=1))

    for before, after in zip(images, shuffled, strict=True):
        assert parts(before) == parts(after)
    assert not torch.equal(images, shuffled)


def test_columns_are_shifted_and_rotated_independently_and_stay_whole(
    generator: torch.Generator,
) -> None:
    images = torch.zeros(50, 20, 40)
    images[:, 8:12, 8:12] = 1
    images[:, 8:12, 28:32] = 1
    moved = Augmentation(columns=2, shift=3, rotation=15)(images, generator)
    assert moved.sum((1, 2)).tolist() == pytest.approx([32.0] * 50, abs=1.5)
    left, right = moved.chunk(2, dim=2)
    torch.testing.assert_close(left.sum((1, 2)), torch.full((50,), 16.0), atol=1.0, rtol=0)
    assert ((left - right).abs().sum((1, 2)) > 0.1).all()
    rows_used = moved.sum(2).nonzero()[:, 1]
    assert rows_used.min() >= 8 - 3 - 2
    assert rows_used.max() <= 11 + 3 + 2


def test_distributions_of_large_sums_that_do_not_fit_memory_are_refused_with_the_cure() -> None:
    X, y = rows(40)
    counter = SDLGMCounter(**{**QUICK, "epochs": 1}).fit(X, y * 1_000_000)
    assert counter.predict_mean(X).shape == (40, 3)
    message = r"40 rows of 4,000,001 prob.* take 1.3 GB. Predict up to 33 rows at a time, or count"
    with pytest.raises(ConfigError, match=message):
        counter.predict_total(X)
    constant = ConstantCounter().fit(X, y * 1_000_000)
    with pytest.raises(ConfigError, match=message):
        constant.predict_total(X)
    with pytest.raises(ConfigError, match=r"3 x 4,000,001, more than 1,000,000.*PoissonC"):
        SoftmaxCounter(**QUICK).fit(X, y * 1_000_000)


@pytest.mark.parametrize("tied", [True, False])
def test_distributions_of_sums_are_made_in_parts(
    tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows(40)
    counter = SDLGMCounter(tied=tied, **{**QUICK, "epochs": 1}).fit(X, y)
    whole, sizes = counter.predict_total(X), []
    own = counter.distribution_.total
    monkeypatch.setattr("sdlgm.estimators.counter.TOTALS_AT_ONCE", 70)
    monkeypatch.setattr(
        type(counter.distribution_), "total", lambda _, z: sizes.append(len(z)) or own(z)
    )
    np.testing.assert_allclose(counter.predict_total(X), whole)
    assert sizes == [14, 14, 12]


def test_distributions_of_large_sums_add_up_to_1() -> None:
    X, y = rows(40)
    for kind in (SDLGMCounter, PoissonCounter):
        counter = kind(**{**QUICK, "epochs": 1}).fit(X, y * 50_000)
        np.testing.assert_allclose(counter.predict_total(X[:2]).sum(1), 1, rtol=1e-6)


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[1, 0], [-2, 0]], r"1 entries that are negative, the first \(-2\) at \[1, 0\]"),
        ([[1, 0], [0, 0.5]], r"not whole numbers, the first \(0.5\) at \[1, 1\]. Counts are int"),
        ([[1, 0], [0, np.nan]], r"not whole numbers, the first \(nan\)"),
        ([[1, 0], [2**62, 2**62]], r"2 entries that are above 9,007,.* at \[1, 0\]. Count in"),
        ([[1, 0], [1e300, 0]], r"1 entries that are above 9,007,.* at \[1, 0\]. Count in larger"),
        ([[1, 0], [2, 2]], r"counts of y\[1\] sum to 4, more than budget = 3. Raise budget"),
        ([[1, 0]], "X has 2 samples and y has 1 rows"),
        ([1, 0], r"shape \(n, K\), one column for each class, got \(2,\)"),
        ([["a", "b"], ["c", "d"]], "y must hold integers"),
    ],
)
def test_bad_counts_are_refused(y: list[list[float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SDLGMCounter(budget=3, **QUICK).fit(np.zeros((2, 4)), np.array(y))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(4), r"rows \(n, features\) or images \(n, height, width\), got shape \(4,\)"),
        (np.zeros((2, 3, 4, 5)), r"got shape \(2, 3, 4, 5\)"),
        (np.array([[1.0, np.nan], [0, 0]]), r"not finite, the first \(nan\) at \[0, 1\]"),
        (np.array([["a"], ["b"]]), "X has text in an array, the first 'a'"),
    ],
)
def test_bad_inputs_are_refused(x: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SDLGMCounter(**QUICK).fit(x, [[1], [0]])


def test_predicting_before_fitting_or_for_other_shapes_is_refused(
    column_counter: SDLGMCounter,
) -> None:
    with pytest.raises(SDLGMError, match=r"not fitted yet: call fit\(X, y\) first"):
        SDLGMCounter().predict(np.zeros((2, 3)))
    with pytest.raises(NotFittedError):
        SDLGMCounter("columns").predict_proba(np.zeros((2, 3)))
    X, y = rows(30)
    counter = SDLGMCounter(**{**QUICK, "epochs": 1}).fit(X, y)
    with pytest.raises(DataError, match="X has 5 features, but .* is expecting 6"):
        counter.predict(X[:, :5])
    with pytest.raises(DataError, match="10 x 24; the counter was fitted on columns of 8 x 8"):
        column_counter.predict(np.zeros((2, 10, 24)))
    with pytest.raises(DataError, match="any whole number"):
        column_counter.predict(np.zeros((2, 8, 20)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"encoder": "cnn"}, "'mlp', 'conv', 'columns', got 'cnn'"),
        ({"tied": "both"}, "tied must be True, False or None, got 'both'"),
        ({"encoder": "columns", "tied": True}, "tied=True needs encoder='mlp'"),
        ({"encoder": "columns", "budget": 4}, "image_columns = 5, got budget = 4"),
        ({"image_columns": 3}, "image_columns = 3 does not divide the width of the images, 10"),
        ({"tied": False, "budget": 17}, "for at most 16 slots, but the budget is 17"),
        ({"epochs": 0}, "epochs must be a positive integer, got 0"),
        ({"budget": 2.5}, "budget must be a positive integer or None, got 2.5"),
        ({"random_state": -1}, "random_state must be an integer of 0 or more, .* got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"shift": -1.0}, "shift must be 0 or more"),
        ({"validation_fraction": 1.0}, "validation_fraction must lie in"),
        ({"test_orders": 0}, "test_orders must be a positive integer, got 0"),
        ({"test_orders": 3, "tied": False}, "test_orders = 3 averages over orders of the columns"),
        ({"test_shift": -1}, "test_shift must be an integer of 0 or more, got -1"),
        ({"test_shift": 0.5}, "test_shift must be an integer of 0 or more, got 0.5"),
        ({"patience": 3}, "patience needs held-out samples: set validation_fraction"),
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    X, y = np.zeros((4, 4, 10), np.uint8), np.eye(4, dtype=int)
    shuffle = "image_columns" in wrong
    with pytest.raises(ConfigError, match=message):
        SDLGMCounter(**{"shuffle_columns": shuffle, **QUICK, **wrong}).fit(X, y)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "needing",
    [{"encoder": "conv"}, {"shift": 1.0}, {"shuffle_columns": True}, {"test_shift": 1}],
)
def test_parameters_that_need_images_refuse_rows(needing: dict[str, object]) -> None:
    X, y = rows(20)
    with pytest.raises(ConfigError, match="needs images X of shape"):
        SDLGMCounter(**needing, **QUICK).fit(X, y)  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    X, y = rows(40)
    with pytest.raises(TrainingError, match=r"at step \d+. Lower learning_rate \(now 1e\+30\)"):
        SDLGMCounter(**{**QUICK, "learning_rate": 1e30}).fit(X, y)
