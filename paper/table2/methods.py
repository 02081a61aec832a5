"""The methods of the multi-label experiment: estimators, their settings and their decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.baselines import ConstantLabels, ForestLabels, LinearLabels, MLPLabels
from sdlgm.baselines.linear_labels import label_distribution
from sdlgm.estimators.thresholds import apply_counts, apply_threshold

__all__ = ["METHODS", "PROFILES", "Answers", "Decision", "Method", "Profile", "Size"]


@dataclass(frozen=True)
class Profile:
    """The size of an experiment."""

    rows: int | None
    """Most rows of training and of test data; ``None`` for all."""
    seeds: int
    ranking_seeds: int
    """Seeds of the random methods on the two large sets."""
    scale: float
    """Share of trees, epochs and iterations."""
    settings: int | None
    """Most settings that a method chooses from."""

    def much(self, number: int) -> int:
        """Scale a number of trees, epochs or iterations."""
        return max(1, round(self.scale * number))


PROFILES = {
    "full": Profile(None, 5, 1, 1.0, None),
    "smoke": Profile(60, 1, 1, 0.05, 2),
}


@dataclass(frozen=True)
class Size:
    """What a decision may know of the training data."""

    labels: int
    """K."""
    most: int
    """Labels of the training row that has most: the budget L0."""


class Answers:
    """What a fitted estimator says of some rows, asked once."""

    def __init__(self, estimator: Any, rows: Any) -> None:
        self.estimator, self.rows = estimator, rows
        self._known: dict[str, NDArray[np.float64]] = {}

    def ask(self, name: str) -> NDArray[np.float64]:
        """Return the outcome of ``predict_proba``, ``decision_function`` or the like."""
        if name not in self._known:
            self._known[name] = getattr(self.estimator, name)(self.rows)
        return self._known[name]


@dataclass(frozen=True)
class Decision:
    """A way from answers to labels that can be chosen."""

    name: str
    labels: Callable[[Answers], NDArray[Any]]
    """Returns 0 or 1, ``(n, K)``."""


@dataclass(frozen=True)
class Method:
    """One row of the tables: a factory, and what is chosen by cross-validation.

    To add one, put it into :data:`METHODS`: the selection, the tables and the figures take all
    that are there.
    """

    title: str
    family: str
    make: Callable[[Mapping[str, Any], Profile, int], Any]
    """From one of the settings, the profile and a seed to an estimator, not fitted."""
    settings: Sequence[Mapping[str, Any]]
    decisions: Callable[[Size], list[Decision]]
    published: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Micro-F1 and macro-F1 in the paper, in per cent, by data set."""
    random: bool = False
    """Whether a seed matters."""
    presence: bool = True
    """Whether ``predict_proba`` means the chance that a label is there."""
    aim: str | None = None
    """A setting that is given the aim, ``"micro"`` or ``"macro"``: of an estimator that chooses its
    own threshold in ``fit``, and is then fitted for each aim. With :func:`own` as its decision and
    a single setting nothing is left to cross-validate."""
    ranks: bool = True
    """Whether it takes part in the ranking of the large sets."""
    ranking_settings: Sequence[Mapping[str, Any]] | None = None
    """Settings there; default: the same."""


def thresholds(values: Iterable[float], clip: bool) -> Callable[[Size], list[Decision]]:
    """Return decisions ``predict_proba > value``; with at least one label and at most L0."""
    each = [float(value) for value in values]

    def make(size: Size) -> list[Decision]:
        low, high = (1, size.most) if clip else (0, None)

        def above(value: float) -> Decision:
            return Decision(
                f"p > {value:.4g}",
                lambda a: apply_threshold(a.ask("predict_proba"), value, low, high),
            )

        return [above(value) for value in each]

    return make


def own(size: Size) -> list[Decision]:
    """Return the one decision that the estimator itself makes."""
    return [Decision("its own", lambda a: a.ask("predict"))]


def _shares(size: Size) -> list[Decision]:
    return thresholds([n / size.labels for n in range(1, 11)], clip=False)(size)


def _supports(size: Size) -> list[Decision]:
    def scaled(scale: float) -> Decision:
        return Decision(
            f"sparsemax({scale:g} z) > 0",
            lambda a: apply_threshold(
                label_distribution("sparsemax", scale * a.ask("decision_function")), 0, 0
            ),
        )

    return [scaled(scale) for scale in np.arange(1, 5.5, 0.5)]


def _frequent(size: Size) -> list[Decision]:
    def first(number: int) -> Decision:
        return Decision(
            f"{number} most frequent",
            lambda a: apply_counts(a.ask("predict_proba"), number),
        )

    return [first(number) for number in range(1, size.labels + 1)]


def _linear(loss: Any) -> Callable[[Mapping[str, Any], Profile, int], Any]:
    def make(settings: Mapping[str, Any], profile: Profile, seed: int) -> Any:
        return LinearLabels(loss, l2=settings["l2"], max_iter=profile.much(100))

    return make


def _forest(kind: Any, **fixed: Any) -> Callable[[Mapping[str, Any], Profile, int], Any]:
    def make(settings: Mapping[str, Any], profile: Profile, seed: int) -> Any:
        chosen = {"n_estimators": 300, **fixed, **settings}
        chosen["n_estimators"] = profile.much(chosen["n_estimators"])
        return ForestLabels(kind, random_state=seed, **chosen)

    return make


def _network(settings: Mapping[str, Any], profile: Profile, seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer

    chosen = {**settings}
    quantiles = chosen.pop("inputs") == "quantile"
    network = MLPLabels(random_state=seed, **{**chosen, "epochs": profile.much(chosen["epochs"])})
    if not quantiles:
        return network
    ranks = QuantileTransformer(
        n_quantiles=100, output_distribution="normal", random_state=seed, subsample=None
    )
    return make_pipeline(ranks, network)


LAMBDAS = [{"l2": 10.0**-power} for power in range(10)]
FINE = np.arange(0.04, 0.62, 0.02)
TREES = [{"min_samples_leaf": leaf} for leaf in (1, 3)]
# Leaves of several rows: each leaf holds K numbers, which are gigabytes of single-row leaves.
FEW_TREES = [{"n_estimators": 50, "min_samples_leaf": leaf} for leaf in (3, 10)]
NETWORKS = [
    {"inputs": inputs, "alpha": alpha, "epochs": 60}
    for inputs in ("z-scores", "quantile")
    for alpha in (0.1, 1.0)
]
LARGE_NETWORKS = [
    {"inputs": "as they are", "alpha": alpha, "epochs": 10, "members": 1, "batch_size": 128}
    for alpha in (1e-2, 1e-1)
]

METHODS: dict[str, Method] = {
    "constant": Method(
        "constant: the k most frequent labels",
        "baseline",
        lambda s, p, seed: ConstantLabels(1),
        [{}],
        _frequent,
    ),
    "all": Method(
        "all labels",
        "baseline",
        lambda s, p, seed: ConstantLabels("all"),
        [{}],
        own,
        ranks=False,
    ),
    "logistic": Method(
        "Logistic, p > 0.05 n",
        "linear",
        _linear("logistic"),
        LAMBDAS,
        thresholds(np.arange(0.05, 0.525, 0.05), clip=False),
        {"birds": (45.78, 33.77), "emotions": (66.75, 68.56), "cal500": (48.88, 24.49)},
        ranking_settings=[{"l2": 10.0**-power} for power in (2, 3, 4, 5)],
    ),
    "softmax": Method(
        "Softmax, p > n / K",
        "linear",
        _linear("softmax"),
        LAMBDAS,
        _shares,
        {"birds": (48.67, 37.06), "emotions": (67.34, 67.51), "cal500": (47.46, 23.51)},
        presence=False,
        ranking_settings=[{"l2": 10.0**-power} for power in (2, 3, 4, 5)],
    ),
    "sparsemax": Method(
        "Sparsemax, scores times 1 ... 5",
        "linear",
        _linear("sparsemax"),
        LAMBDAS,
        _supports,
        {"birds": (49.44, 39.13), "emotions": (66.38, 66.07), "cal500": (48.47, 26.20)},
        presence=False,
        ranks=False,
    ),
    "logistic-clipped": Method(
        "Logistic, p > t, at least 1 and at most L0 labels",
        "linear",
        _linear("logistic"),
        LAMBDAS,
        thresholds(FINE, clip=True),
        ranks=False,
    ),
    "random-forest": Method(
        "random forest, p > t, at least 1 and at most L0 labels",
        "trees",
        _forest("random"),
        TREES,
        thresholds(FINE, clip=True),
        random=True,
        ranking_settings=FEW_TREES,
    ),
    "extra-trees": Method(
        "extra trees, p > t, at least 1 and at most L0 labels",
        "trees",
        _forest("extra"),
        TREES,
        thresholds(FINE, clip=True),
        random=True,
        ranking_settings=FEW_TREES,
    ),
    "mlp": Method(
        "MLP under binary cross-entropy, three averaged, p > t, at least 1 and at most L0 labels",
        "network",
        _network,
        NETWORKS,
        thresholds(FINE, clip=True),
        random=True,
        ranking_settings=LARGE_NETWORKS,
    ),
}
