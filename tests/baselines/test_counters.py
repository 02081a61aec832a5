"""The baselines share the interface of the counter, and have the distributions they name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sdlgm.baselines import ConstantCounter, ForestCounter, PoissonCounter, SoftmaxCounter
from sdlgm.baselines.counters import IndependentPoisson, IndependentSoftmax
from sdlgm.errors import ConfigError, DataError, SDLGMError
from sdlgm.estimators import SDLGMCounter
from sdlgm.estimators.counting import BaseCounter
from sdlgm.objectives.counts import CountDistribution as Family
from sdlgm.objectives.counts import TiedSlots, UntiedSlots

QUICK = {"hidden": (32,), "epochs": 40, "batch_size": 20, "random_state": 0}
COUNTERS = {
    "constant": ConstantCounter(),
    "random": ForestCounter(n_estimators=10, random_state=0),
    "extra": ForestCounter("extra", n_estimators=10, random_state=0),
    "poisson": PoissonCounter(**QUICK),
    "softmax": SoftmaxCounter(**QUICK),
    "sdlgm": SDLGMCounter(**QUICK),
}


@pytest.fixture(scope="module")
def table() -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(0)
    y = source.multinomial(4, [0.25] * 4, size=300)[:, :3]
    return y @ source.normal(size=(3, 6)) + 0.05 * source.normal(size=(300, 6)), y


@pytest.mark.parametrize("name", COUNTERS)
def test_all_counters_share_one_interface(name: str, table: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = table
    counter: BaseCounter = clone(COUNTERS[name])
    with pytest.raises(SDLGMError, match="not fitted yet"):
        counter.predict_mean(X)
    counter.fit(X[:200], y[:200])
    mean, whole = counter.predict_mean(X[200:]), counter.predict(X[200:])
    assert mean.shape == whole.shape == (100, 3)
    assert (mean.dtype, whole.dtype) == (np.float64, np.int64)
    assert (whole >= 0).all()
    assert counter.score(X[200:], y[200:]) == (whole == y[200:]).all(1).mean()
    constant = ((y[:200].mean(0) - y[200:]) ** 2).mean()
    error = ((mean - y[200:]) ** 2).mean()
    assert error == pytest.approx(constant) if name == "constant" else error < 0.6 * constant
    again = clone(counter).fit(X[:200], y[:200]).predict_mean(X[200:])
    np.testing.assert_array_equal(again, mean)
    with pytest.raises(DataError, match="is expecting 6 features"):
        counter.predict(X[:, :2])
    with pytest.raises(DataError, match="negative"):
        counter.fit(X, -y)


@pytest.mark.parametrize("name", ["constant", "poisson", "softmax", "sdlgm"])
def test_probabilities_of_presence_and_of_the_sum_are_valid(
    name: str, table: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = table
    counter = clone(COUNTERS[name]).fit(X, y)
    present, total = counter.predict_proba(X), counter.predict_total(X)
    assert present.shape == y.shape
    assert total.shape == (300, 5)
    np.testing.assert_allclose(total.sum(1), 1, atol=1e-5)
    assert ((present >= 0) & (present <= 1)).all()
    if name != "constant":
        assert present[y > 0].mean() > present[y == 0].mean() + 0.4


@pytest.mark.parametrize(
    "family", [TiedSlots(3, 4), IndependentPoisson(3, 4), IndependentSoftmax(3, 4)]
)
def test_averaged_distributions_have_the_average_mean(
    family: Family, generator: torch.Generator
) -> None:
    outputs = torch.randn(6, 5, *family.outputs, generator=generator)
    expected = torch.stack([family.mean(part) for part in outputs]).mean(0)
    torch.testing.assert_close(family.mean(family.average(outputs)), expected)
    torch.testing.assert_close(family.mean(family.average(outputs[:1])), family.mean(outputs[0]))


@pytest.mark.parametrize("family", [TiedSlots(2, 3), UntiedSlots(2, 3)])
def test_distributions_with_a_budget_sum_to_one_within_it(
    family: Family, generator: torch.Generator
) -> None:
    outputs = torch.randn(4, *family.outputs, generator=generator)
    codes = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    codes = codes[codes.sum(1) <= 3]
    probs = torch.stack([family.log_prob(outputs, z.expand(4, 2)).exp() for z in codes])
    torch.testing.assert_close(probs.sum(0), torch.ones(4))
    torch.testing.assert_close(torch.einsum("cn,ck->nk", probs, codes), family.mean(outputs))
    torch.testing.assert_close(
        torch.einsum("cn,ck->nk", probs, (codes > 0).float()), family.presence(outputs)
    )


@pytest.mark.parametrize("family", [IndependentPoisson(2, 3), IndependentSoftmax(2, 3)])
def test_distributions_without_a_budget_sum_to_one_beyond_it(
    family: Family, generator: torch.Generator
) -> None:
    outputs = torch.randn(4, *family.outputs, generator=generator)
    largest = 3 if isinstance(family, IndependentSoftmax) else 40
    codes = torch.cartesian_prod(*[torch.arange(largest + 1.0)] * 2)
    probs = torch.stack([family.log_prob(outputs, z.expand(4, 2)).exp() for z in codes])
    torch.testing.assert_close(probs.sum(0), torch.ones(4))
    torch.testing.assert_close(torch.einsum("cn,ck->nk", probs, codes), family.mean(outputs))
    torch.testing.assert_close(
        torch.einsum("cn,ck->nk", probs, (codes > 0).float()), family.presence(outputs)
    )
    sums = codes.sum(1).clamp_max(3).long()
    total = torch.stack([probs[sums == n].sum(0) for n in range(4)], dim=1)
    torch.testing.assert_close(total, family.total(outputs))
    best = codes[probs.argmax(0)]
    torch.testing.assert_close(best, family.mode(outputs))


def test_bad_settings_are_refused(table: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = table
    with pytest.raises(ConfigError, match="'random' or 'extra', got 'rotation'"):
        ForestCounter("rotation").fit(X, y)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no slots for columns"):
        PoissonCounter("columns").fit(X, y)
    with pytest.raises(ConfigError, match="no slots to tie"):
        PoissonCounter(tied=True).fit(X, y)
    with pytest.raises(DataError, match="more than budget = 2"):
        ConstantCounter(budget=2).fit(X, y)
