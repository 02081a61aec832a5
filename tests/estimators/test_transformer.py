"""The transformer keeps its budget, is reproducible, and treats weights as repetitions."""

from __future__ import annotations

import pickle
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sdlgm import inference
from sdlgm.data import Rows
from sdlgm.errors import ConfigError, DataError, SDLGMWarning, TrainingError
from sdlgm.estimators import SDLGMTransformer, coding
from sdlgm.inference.evaluation import evaluate

QUICK: dict[str, Any] = {
    "n_components": 12, "budget": 4, "encoder_hidden": (16,), "sparsity_hidden": (8,),
    "epochs": 10, "batch_size": 30, "random_state": 3,
}  # fmt: skip


def make(**settings: Any) -> SDLGMTransformer:
    return SDLGMTransformer(**{**QUICK, **settings})


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """Three clusters, of columns on very different scales."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 5)) * 3
    rows = centres[rng.integers(3, size=120)] + rng.normal(size=(120, 5)) * 0.3
    return (rows * [1, 10, 0.01, 1, 100] + [0, 50, 0, 3, 0]).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(table: np.ndarray) -> SDLGMTransformer:
    return make(epochs=100, learning_rate=1e-2, random_state=4).fit(table)


def same(one: SDLGMTransformer, other: SDLGMTransformer) -> bool:
    pairs = zip(one.model_.state_dict().values(), other.model_.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_codes_keep_the_budget_and_decode_to_the_clusters(
    fitted: SDLGMTransformer, table: np.ndarray
) -> None:
    codes = fitted.transform(table)
    assert codes.shape == (120, 12)
    assert codes.dtype == np.int32
    assert codes.min() >= 0
    assert codes.sum(1).max() <= 4
    residual = (table - fitted.inverse_transform(codes)) / table.std(0)
    assert residual.var() < 0.2
    np.testing.assert_allclose(fitted.feature_usage_, (codes > 0).mean(0))
    assert fitted.n_iter_ == 400


@pytest.mark.parametrize("code", ["sample", "mode", "mean", "best"])
@pytest.mark.parametrize("most", [1, 2])
def test_max_active_holds_after_fit(
    code: str, most: int, fitted: SDLGMTransformer, table: np.ndarray
) -> None:
    capped = pickle.loads(pickle.dumps(fitted)).set_params(code=code, max_active=most)  # noqa: S301
    codes = capped.transform(table)
    assert (codes > 0).sum(1).max() == most
    np.testing.assert_array_equal(codes, capped.transform(table))
    capped.set_params(sparse_output=True)
    sparse = capped.transform(table)
    assert isinstance(sparse, sp.csr_array)
    np.testing.assert_array_equal(sparse.toarray(), codes)
    np.testing.assert_array_equal(capped.inverse_transform(sparse), capped.inverse_transform(codes))


def test_two_fits_are_bit_identical_and_use_no_global_state(table: np.ndarray) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    one, other = make().fit(table), make().fit(table)
    one.sample(3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert same(one, other)
    assert one.history_ == other.history_
    assert not same(one, make(random_state=4).fit(table))
    assert make(random_state=None).fit(table).seed_ != make(random_state=None).fit(table).seed_
    states = [np.random.RandomState(7) for _ in range(2)]
    assert same(*(make(random_state=state).fit(table) for state in states))


def test_weights_equal_repetitions_and_the_order_of_rows_does_not_matter(table: np.ndarray) -> None:
    one_batch = {"epochs": 40, "batch_size": 512}  # 40 steps for any number of rows
    rng = np.random.default_rng(1)
    weights = rng.integers(0, 4, size=len(table))
    weighted = make(**one_batch).fit(table, sample_weight=weights)
    repeated = make(**one_batch).fit(rng.permutation(table.repeat(weights, axis=0)))
    assert same(weighted, repeated)
    np.testing.assert_allclose(weighted.feature_usage_, repeated.feature_usage_)
    assert same(weighted, make(**one_batch).fit(table, sample_weight=weights / 7))
    assert same(
        weighted, make(**one_batch).fit(table[weights > 0], sample_weight=weights[weights > 0])
    )
    assert not same(weighted, make(**one_batch).fit(table))
    share = weights / weights.sum()
    first, last = weights.copy(), weights.copy()
    first[60:], last[:60] = 0, 0
    parts = [weighted.score(table, sample_weight=part) for part in (first, last)]
    whole = share[:60].sum() * parts[0] + share[60:].sum() * parts[1]
    assert weighted.score(table, sample_weight=weights) == pytest.approx(whole)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "poisson", "categorical"])
def test_sparse_rows_give_the_same_model_as_dense_rows(likelihood: str) -> None:
    rng = np.random.default_rng(2)
    X = (rng.poisson(0.4, size=(60, 6))).astype(np.float32)
    if likelihood == "bernoulli":
        X = np.minimum(X, 1) * rng.random(X.shape, np.float32)
    dense = make(likelihood=likelihood).fit(X)
    for kind in (sp.csr_array, sp.csc_matrix):
        sparse = make(likelihood=likelihood).fit(kind(X))
        assert same(dense, sparse)
        np.testing.assert_array_equal(dense.transform(X), sparse.transform(kind(X)))
        assert dense.score(X) == sparse.score(kind(X))
    drawn = dense.sample(50)
    assert drawn.shape == (50, 6)
    if likelihood == "bernoulli":
        assert set(np.unique(drawn)) <= {0, 1}
    elif likelihood != "gaussian":
        assert (drawn >= 0).all()
        assert (drawn % 1 == 0).all()


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operation returned."""

    largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


def test_sparse_rows_become_dense_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit, codes and scores of 20,000 x 2,000 numbers hold about 1,000 dense rows at once."""
    rows, columns = 20_000, 2_000
    X = sp.random_array((rows, columns), density=1e-3, format="csr", dtype=np.float32, rng=0)
    made: list[int] = []
    dense = type(X).toarray

    def toarray(self: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        made.append(self.shape[0] * self.shape[1])
        return dense(self, *args, **kwargs)

    for kind in (sp.csr_array, sp.csc_array, sp.coo_array):
        monkeypatch.setattr(kind, "toarray", toarray)  # todense() calls it, too
    model = make(epochs=1, batch_size=1000, objective="elbo", code="mode")
    with LargestTensor() as seen:
        model.fit(X)
        codes = model.transform(X)
        model.score(X[:3_000])
    assert codes.shape == (rows, 12)
    assert len(made) > 40
    assert max(made) <= 2**21
    assert 1000 * columns <= seen.largest <= 2**21


def test_samples_have_the_moments_of_the_data(fitted: SDLGMTransformer, table: np.ndarray) -> None:
    drawn = fitted.sample(4000)
    assert (abs(drawn.mean(0) - table.mean(0)) < 0.3 * table.std(0)).all()
    assert (abs(drawn.std(0) / table.std(0) - 1) < 0.4).all()
    np.testing.assert_array_equal(drawn, fitted.sample(4000))
    assert not np.array_equal(drawn, fitted.sample(4000, random_state=9))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_score_is_minus_the_negative_elbo_of_evaluate(likelihood: str) -> None:
    grey = np.random.default_rng(3).random((80, 6), np.float32)
    model = make(likelihood=likelihood).fit(grey)
    rows = Rows(torch.from_numpy(grey), dynamic=likelihood == "bernoulli")
    found = evaluate(model.model_, rows, seed=3, batch_size=80, importance_samples=1)
    assert model.score(grey) == pytest.approx(-found.negative_elbo, rel=1e-6)


def test_the_units_of_columns_do_not_matter(table: np.ndarray) -> None:
    one, other = make().fit(table), make().fit(table * 256 - 1024)  # powers of 2, to keep the bits
    assert (one.transform(table) == other.transform(table * 256 - 1024)).mean() > 0.98
    assert one.score(table) == pytest.approx(
        other.score(table * 256 - 1024) + 5 * np.log(256), abs=0.1
    )


def test_partial_fit_continues_training(table: np.ndarray) -> None:
    model = make(kl_warmup=0.0).partial_fit(table)
    assert model.n_iter_ == 4  # 120 rows, 30 a step
    start = model.score(table)
    for _ in range(40):
        model.partial_fit(table)
    assert model.n_iter_ == 164
    assert len(model.history_) == 41
    assert model.score(table) > start + 1
    shift = model.model_.input_shift.clone()
    with pytest.warns(SDLGMWarning, match=r"13 of 35 .* column 0 \(1\), 2 \(7\), 3 \(5\), counted"):
        model.partial_fit(table[:7] + 5)
    assert model.n_iter_ == 165
    assert torch.equal(model.model_.input_shift, shift)
    one, other = (make().partial_fit(table) for _ in range(2))
    other = pickle.loads(pickle.dumps(other))  # noqa: S301
    assert same(one.partial_fit(table[:50]), other.partial_fit(table[:50]))
    with pytest.raises(DataError, match="features"):
        model.partial_fit(table[:, :3])
    assert make().fit(table).partial_fit(table).n_iter_ == 44


@pytest.mark.parametrize("first", [True, False])
def test_interruption_undoes_fit_and_partial_fit(
    first: bool, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdlgm.training.step import Trainer

    model = make().fit(table)
    before = [tensor.clone() for tensor in model.model_.state_dict().values()]
    take = Trainer.step

    def stop(self: Trainer, x: torch.Tensor, step: int) -> torch.Tensor:
        if step in (2, 42):
            signal.raise_signal(signal.SIGINT)
        return take(self, x, step)

    monkeypatch.setattr(Trainer, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table) if first else model.partial_fit(table)
    if first:
        with pytest.raises(NotFittedError, match="not fitted yet"):
            model.transform(table)
        return
    after = model.model_.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert model.n_iter_ == 40


def test_no_epochs_are_the_500_steps_of_the_preset(table: np.ndarray) -> None:
    default = SDLGMTransformer()
    assert [default._configs(rows)[1].iterations for rows in (10, 120, 10**6)] == [500] * 3
    assert make(epochs=3, batch_size=50)._configs(120)[1].iterations == 9
    weight = np.r_[np.ones(50), np.zeros(70)]
    assert make(epochs=3, batch_size=50).fit(table, sample_weight=weight).n_iter_ == 3


def test_numpy_integers_are_accepted(table: np.ndarray) -> None:
    whole = {"n_components": np.int64(12), "budget": np.int32(4), "encoder_hidden": (np.int64(16),)}
    assert same(make().fit(table), make(**whole, random_state=np.int64(3)).fit(table))


def test_names_of_frames_are_kept(table: np.ndarray) -> None:
    frame = pd.DataFrame(table, columns=list("abcde"))
    model = make().fit(frame)
    assert list(model.feature_names_in_) == list("abcde")
    names = model.get_feature_names_out()
    assert names[0] == "sdlgmtransformer0"
    codes = model.transform(frame)
    named = model.set_output(transform="pandas").transform(frame)
    assert list(named.columns) == list(names)
    np.testing.assert_array_equal(named, codes)
    np.testing.assert_array_equal(model.inverse_transform(named), model.inverse_transform(codes))
    assert isinstance(model.set_output(transform="polars").transform(frame), pl.DataFrame)
    mixed = ColumnTransformer([("code", make(), ["a", "b"])], remainder="passthrough")
    assert mixed.fit_transform(frame).shape == (120, 12 + 3)
    for kind in (pl.DataFrame, torch.from_numpy):
        assert same(model, make().fit(kind(table)))


def test_a_search_with_several_jobs_gives_the_same_scores(table: np.ndarray) -> None:
    grid = {"sdlgmtransformer__budget": np.array([2, 4])}
    found = [
        GridSearchCV(make_pipeline(make()), grid, cv=2, n_jobs=jobs).fit(table) for jobs in (1, 2)
    ]
    scores = [search.cv_results_["mean_test_score"].tolist() for search in found]
    assert scores[0] == scores[1]
    assert np.isfinite(scores[0]).all()
    best = found[1].best_estimator_[-1]
    assert same(best, clone(best).fit(table))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"groups": 5}, "groups = 5 does not divide"),
        ({"epochs": 0}, "epochs must be a positive integer or None, got 0"),
        ({"encoder_hidden": 5}, "encoder_hidden = 5 does not fit"),
        ({"code": "median"}, "got 'median'"),
        ({"max_active": 0}, "max_active must be at least 1"),
        ({"random_state": "a"}, "random_state must be"),
        ({"likelihood": "cauchy"}, "likelihood = 'cauchy'"),
    ],
)
def test_parameters_are_checked_before_training(
    settings: dict[str, Any], message: str, table: np.ndarray
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings).fit(table)


def test_bad_data_are_refused(fitted: SDLGMTransformer, table: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"values from .* likelihood needs bits"):
        make(likelihood="bernoulli").fit(table)
    with pytest.raises(DataError, match="non-negative integers"):
        make(likelihood="poisson").fit(table)
    with pytest.raises(DataError, match="sample_weight must be 120"):
        make().fit(table, sample_weight=np.ones(3))
    with pytest.raises(DataError, match="have 3 columns, but the model has 12 features"):
        fitted.inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ConfigError, match="n_samples"):
        fitted.sample(0)
    with pytest.raises(TrainingError, match="learning_rate"):
        make(learning_rate=1e30).fit(table)


def test_a_budget_that_does_not_divide_the_features_gets_fewer_groups_with_a_warning() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.warns(SDLGMWarning, match="50 is not a multiple of budget = 8.*2 groups"):
        model = SDLGMTransformer(n_components=50, budget=8, epochs=1, random_state=0).fit(X)
    assert model.model_.groups == 2
    assert SDLGMTransformer(n_components=48, budget=8)._configs(40)[0].groups == 8


@pytest.mark.parametrize("decoder_hidden", [(), (16,)])
def test_search_methods_are_those_of_the_model(decoder_hidden) -> None:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 4)), columns=list("abcd"))
    model = SDLGMTransformer(12, 4, decoder_hidden=decoder_hidden, epochs=2, random_state=0).fit(X)
    codes = model.transform(X)
    rows = torch.tensor(X.to_numpy())
    found = model.scores(X[:5], sp.csr_array(codes))
    assert found.shape == (5, 60)
    np.testing.assert_allclose(found, inference.scores(model.model_, rows[:5], codes), rtol=1e-5)
    distance = np.square(X.to_numpy()[:5, None] - model.inverse_transform(codes)).sum(-1)
    np.testing.assert_allclose(found, -distance, rtol=1e-4)
    for options, top in (({}, None), ({"positive": True}, 7), ({"metric": "posterior"}, 12)):
        asked = model.query_weights(X[:5], top=top, **options)
        expected = inference.query_weights(model.model_, rows[:5], top=top, **options)
        np.testing.assert_allclose(asked.toarray(), expected.toarray(), atol=1e-5)
        stored = model.document_weights(codes, **options)
        expected = inference.document_weights(model.model_, codes, **options)
        assert np.array_equal(stored.toarray(), expected.toarray())
    assert np.array_equal(model.document_weights(codes).toarray(), codes)
    for method in (model.query_weights, lambda given: model.scores(given, codes)):
        with pytest.raises(DataError, match="feature names"):
            method(X[["b", "a", "c", "d"]])
    with pytest.raises(DataError, match="The codes have 11 columns"):
        model.document_weights(codes[:, 1:])
    with pytest.raises(NotFittedError):
        SDLGMTransformer().query_weights(X)


def test_prefixes_are_fitted_saved_and_cut(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    model = SDLGMTransformer(12, 4, prefixes=(1, 2), turns=3, epochs=1, random_state=0).fit(X)
    assert model.history_[0]["distortion_1"] > model.history_[0]["distortion_2"]
    codes = model.transform(X)
    short = model.prefix_codes(sp.csr_array(codes), 2)
    assert np.array_equal(model.prefix_codes(codes, 2), short.toarray())
    assert short.sum(1).max() == 2
    rows, found = model.nearest(X[:5], short, 3)
    np.testing.assert_allclose(found[:, 0], model.scores(X[:5], short).max(1), rtol=1e-5)
    assert rows.shape == (5, 3)
    asked = model.query_weights(X[:5], prefix=2)
    assert asked[:, [*range(6, 12)]].count_nonzero() == 0
    model.save(tmp_path / "model")
    back = SDLGMTransformer.load(tmp_path / "model")
    assert back.get_params() == model.get_params()
    assert np.array_equal(back.prefix_codes(back.transform(X), 2), short.toarray())
    model.partial_fit(X)
    assert model.prefix_codes(model.transform(X), 1).sum(1).max() == 1


def test_a_very_large_dense_array_of_codes_names_sparse_output(
    fitted: SDLGMTransformer, table: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fitted.transform(table)
    monkeypatch.setattr(coding, "MUCH", 100)
    monkeypatch.setattr(coding, "BLOCK", 7)
    with pytest.warns(SDLGMWarning, match=r"dense array\. With sparse_output=True"):
        assert np.array_equal(fitted.transform(table), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"levels": 2, "level_hidden": (8,), "prior_hidden": (8,)},
        {"prior": "mixture", "mixture_components": 3},
        {"prior": "autoregressive", "prior_hidden": (8,)},
    ],
)
def test_structured_codes_are_fitted_saved_and_sampled(
    settings: dict[str, object], tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).normal(size=(120, 6)) @ np.ones((6, 6))
    model = SDLGMTransformer(12, 4, epochs=2, random_state=0, **settings).fit(rows)
    codes = model.transform(rows)
    assert codes.shape == (120, 12)
    assert (codes.sum(1) <= 4).all()
    assert model.inverse_transform(codes).shape == rows.shape
    assert np.isfinite(model.score(rows))
    assert model.sample(3).shape == (3, 6)
    model.save(tmp_path / "model")
    back = SDLGMTransformer.load(tmp_path / "model")
    assert back.get_params() == model.get_params()
    np.testing.assert_array_equal(back.transform(rows), codes)
