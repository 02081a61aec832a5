"""The variants of SDLGM in the multi-label experiment: SDLGM-Dis, -Gen and -Con.

Three rows use the library's settings (exact presence probabilities, members trained on folds,
binned inputs). Three use the paper's (relaxed samples at a temperature, plain ReLU, z-scores, one
network). The paper states neither the networks of section IV.B nor how a relaxed code becomes a
likelihood of labels. The last row averages SDLGM-Con with extra trees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from paper.table2.methods import FINE, Method, Profile, Size, own, thresholds
from sdlgm.baselines import ForestLabels
from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.classifier import SMALL_TABLES

__all__ = ["METHODS"]

Variant = Literal["discriminative", "generative", "conditional"]
PUBLISHED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "discriminative": {
        "birds": (50.75, 42.31),
        "emotions": (70.99, 70.86),
        "cal500": (49.58, 20.49),
    },
    "generative": {
        "birds": (49.96, 41.68),
        "emotions": (71.35, 71.07),
        "cal500": (44.22, 20.17),
    },
    "conditional": {
        "birds": (50.67, 43.15),
        "emotions": (71.45, 71.22),
        "cal500": (45.40, 25.74),
    },
}
# The best length of training depends on the number of rows and the rarity of labels.
LENGTHS = [{"epochs": epochs} for epochs in (40, 80)]
PAPER: dict[str, Any] = {
    "label_likelihood": "relaxed",
    "temperature": 3.0,
    "threshold": 0.5,
    "members": 1,
    "hidden": (128,),
    "dropout": 0.0,
    "input_dropout": 0.0,
    "weight_decay": 0.0,
    "batch_size": 100,
    "epochs": 100,
    "elbo_weight": 1.0,
}
BUDGETS = [{"budget": budget} for budget in (2, 10, 50)]
"""The budgets of the paper, for its three data sets."""
LARGE: dict[str, Any] = {
    "inputs": "none",
    "threshold": 0.3,
    "members": 3,
    "hidden": (512,),
    "dropout": 0.5,
    "input_dropout": 0.2,
    "batch_size": 64,
}
LARGE_LENGTHS = [{**LARGE, "epochs": epochs} for epochs in (6, 10)]


def _maker(variant: Variant, fixed: Mapping[str, Any]) -> Callable[..., SDLGMClassifier]:
    def make(settings: Mapping[str, Any], profile: Profile, seed: int) -> SDLGMClassifier:
        # What the published results had: no recalibration, and one training for all kinds of rows.
        training = {"members": 20, "learning_rate": 3e-3, "l2": 0.0}
        chosen = {"calibrated": False, **training, **fixed, **settings}
        chosen["epochs"] = profile.scaled(chosen["epochs"])
        return SDLGMClassifier(variant, min_labels=1, random_state=seed, **chosen)

    return make


def _ours(variant: Variant, short: str) -> Method:
    return Method(
        f"SDLGM-{short}, exact presence; p > t, or its own smoothed thresholds",
        "ours",
        _maker(variant, SMALL_TABLES),
        LENGTHS,
        lambda size: [*thresholds(FINE, clip=True)(size), *own(size)],
        PUBLISHED[variant],
        random=True,
        ranks=variant == "discriminative",
        ranking_settings=LARGE_LENGTHS,
    )


def _paper(variant: Variant, short: str) -> Method:
    def grid(size: Size) -> Any:
        return thresholds(np.arange(0.05, 0.525, 0.05), clip=False)(size)

    return Method(
        f"SDLGM-{short}, the paper's settings: relaxed, temperature 3; p > 0.05 n",
        "paper",
        _maker(variant, PAPER),
        BUDGETS,
        grid,
        PUBLISHED[variant],
        random=True,
        ranks=False,
    )


class _WithTrees:
    """Averages the probabilities of SDLGM-Con and extra trees."""

    def __init__(self, network: SDLGMClassifier, trees: ForestLabels) -> None:
        self.network, self.trees = network, trees

    def fit(self, X: Any, Y: Any) -> Self:  # noqa: N803
        """Fit both estimators."""
        self.network.fit(X, Y)
        self.trees.fit(X, Y)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the mean of both probabilities."""
        return (self.network.predict_proba(X) + self.trees.predict_proba(X)) / 2

    def get_params(self) -> dict[str, Any]:
        """Return the parameters of both estimators."""
        trees = {f"trees_{name}": value for name, value in self.trees.get_params().items()}
        return {**self.network.get_params(), **trees}


def _with_trees(settings: Mapping[str, Any], profile: Profile, seed: int) -> _WithTrees:
    network = _maker("conditional", SMALL_TABLES)({"epochs": settings["epochs"]}, profile, seed)
    trees = ForestLabels(
        "extra",
        n_estimators=profile.scaled(300),
        min_samples_leaf=settings["min_samples_leaf"],
        min_labels=1,
        random_state=seed,
    )
    return _WithTrees(network, trees)


METHODS: dict[str, Method] = {
    "sdlgm-dis": _ours("discriminative", "Dis"),
    "sdlgm-gen": _ours("generative", "Gen"),
    "sdlgm-con": _ours("conditional", "Con"),
    "sdlgm-dis-paper": _paper("discriminative", "Dis"),
    "sdlgm-gen-paper": _paper("generative", "Gen"),
    "sdlgm-con-paper": _paper("conditional", "Con"),
    "sdlgm-con-trees": Method(
        "SDLGM-Con and extra trees averaged, p > t, at least 1 and at most L0 labels",
        "ours and trees",
        _with_trees,
        [{**length, "min_samples_leaf": leaf} for length in LENGTHS for leaf in (1, 3)],
        thresholds(FINE, clip=True),
        random=True,
        ranks=False,
    ),
}
