"""The methods of the multi-label experiment: estimators, their settings and decision rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdlgm.baselines import ConstantLabels, ForestLabels, LinearLabels, MLPLabels
from sdlgm.baselines.linear_labels import label_distribution
from sdlgm.estimators.thresholds import apply_counts, apply_threshold

__all__ = ["METHODS", "PROFILES", "Decision", "Method", "Predictions", "Profile", "Size"]


@dataclass(frozen=True)
class Profile:
    """The size of an experiment."""

    rows: int | None
    """Maximum number of training and of test rows; ``None`` for all."""
    seeds: int
    ranking_seeds: int
    """Number of seeds of the random methods on the two large data sets."""
    scale: float
    """Factor on the numbers of trees, epochs and iterations."""
    settings: int | None
    """Maximum number of settings that a method chooses from."""

    def scaled(self, number: int) -> int:
        """Scale a number of trees, epochs or iterations."""
        return max(1, round(self.scale * number))


PROFILES = {
    "full": Profile(None, 5, 1, 1.0, None),
    "smoke": Profile(60, 1, 1, 0.05, 2),
}


@dataclass(frozen=True)
class Size:
    """What a decision rule may know about the training data."""

    labels: int
    """K."""
    most: int
    """Largest number of labels of a training row: the budget L0."""


class Predictions:
    """Predictions of a fitted estimator for some rows, each computed once."""

    def __init__(self, estimator: Any, rows: Any) -> None:
        self.estimator, self.rows = estimator, rows
        self._known: dict[str, NDArray[np.float64]] = {}

    def get(self, name: str) -> NDArray[np.float64]:
        """Return the result of a method, such as ``predict_proba`` or ``decision_function``."""
        if name not in self._known:
            self._known[name] = getattr(self.estimator, name)(self.rows)
        return self._known[name]


@dataclass(frozen=True)
class Decision:
    """A rule that turns predictions into labels."""

    name: str
    labels: Callable[[Predictions], NDArray[Any]]
    """Returns 0 or 1, ``(n, K)``."""


@dataclass(frozen=True)
class Method:
    """One row of the tables: a factory, and the settings that cross-validation chooses from.

    To add a method, add it to :data:`METHODS`.
    """

    title: str
    family: str
    make: Callable[[Mapping[str, Any], Profile, int], Any]
    """Returns an unfitted estimator for one of the settings, a profile and a seed."""
    settings: Sequence[Mapping[str, Any]]
    decisions: Callable[[Size], list[Decision]]
    published: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Published micro-F1 and macro-F1, in per cent, by data set."""
    random: bool = False
    """Whether the result depends on the seed."""
    presence: bool = True
    """Whether ``predict_proba`` returns the probability that a label is present."""
    aim: str | None = None
    """Name of the parameter that receives the aim, ``"micro"`` or ``"macro"``, of an estimator that
    chooses its own threshold in ``fit``; it is fitted once per aim. With :func:`own` as its
    decision rule and a single setting, nothing is cross-validated."""
    ranks: bool = True
    """Whether the method is used on the large data sets."""
    ranking_settings: Sequence[Mapping[str, Any]] | None = None
    """Settings on the large data sets. Default: the same."""


def thresholds(values: Iterable[float], clip: bool) -> Callable[[Size], list[Decision]]:
    """Return the rules ``predict_proba > value``; ``clip`` keeps 1 to L0 labels per row."""
    each = [float(value) for value in values]

    def make(size: Size) -> list[Decision]:
        low, high = (1, size.most) if clip else (0, None)

        def above(value: float) -> Decision:
            return Decision(
                f"p > {value:.4g}",
                lambda p: apply_threshold(p.get("predict_proba"), value, low, high),
            )

        return [above(value) for value in each]

    return make


def own(size: Size) -> list[Decision]:
    """Return the rule that uses the estimator's own ``predict``."""
    return [Decision("its own", lambda p: p.get("predict"))]


def _shares(size: Size) -> list[Decision]:
    return thresholds([n / size.labels for n in range(1, 11)], clip=False)(size)


def _supports(size: Size) -> list[Decision]:
    def scaled(scale: float) -> Decision:
        return Decision(
            f"sparsemax({scale:g} z) > 0",
            lambda p: apply_threshold(
                label_distribution("sparsemax", scale * p.get("decision_function")), 0, 0
            ),
        )

    return [scaled(scale) for scale in np.arange(1, 5.5, 0.5)]


def _frequent(size: Size) -> list[Decision]:
    def first(number: int) -> Decision:
        return Decision(
            f"{number} most frequent",
            lambda p: apply_counts(p.get("predict_proba"), number),
        )

    return [first(number) for number in range(1, size.labels + 1)]


def _linear(loss: Any) -> Callable[[Mapping[str, Any], Profile, int], Any]:
    def make(settings: Mapping[str, Any], profile: Profile, seed: int) -> Any:
        return LinearLabels(loss, l2=settings["l2"], max_iter=profile.scaled(100))

    return make


def _forest(kind: Any, **fixed: Any) -> Callable[[Mapping[str, Any], Profile, int], Any]:
    def make(settings: Mapping[str, Any], profile: Profile, seed: int) -> Any:
        chosen = {"n_estimators": 300, **fixed, **settings}
        chosen["n_estimators"] = profile.scaled(chosen["n_estimators"])
        return ForestLabels(kind, random_state=seed, **chosen)

    return make


def _network(settings: Mapping[str, Any], profile: Profile, seed: int) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer

    chosen = {**settings}
    quantiles = chosen.pop("inputs") == "quantile"
    network = MLPLabels(random_state=seed, **{**chosen, "epochs": profile.scaled(chosen["epochs"])})
    if not quantiles:
        return network
    ranks = QuantileTransformer(
        n_quantiles=100, output_distribution="normal", random_state=seed, subsample=None
    )
    return make_pipeline(ranks, network)


LAMBDAS = [{"l2": 10.0**-power} for power in range(10)]
FINE = np.arange(0.04, 0.62, 0.02)
TREES = [{"min_samples_leaf": leaf} for leaf in (1, 3)]
# Leaves hold several rows: each leaf stores K numbers, and single-row leaves need gigabytes.
FEW_TREES = [{"n_estimators": 50, "min_samples_leaf": leaf} for leaf in (3, 10)]
NETWORKS = [
    {"inputs": inputs, "alpha": alpha, "epochs": 60}
    for inputs in ("z-scores", "quantile")
    for alpha in (0.1, 1.0)
]
LARGE_NETWORKS = [
    {"inputs": "raw", "alpha": alpha, "epochs": 10, "members": 1, "batch_size": 128}
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
