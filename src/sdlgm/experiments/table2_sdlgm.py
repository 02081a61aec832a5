"""The rows of the multi-label experiment that are ours: SDLGM-Dis, -Gen and -Con.

Three rows are the library's form (exact presence, members on folds, inputs as bins). Three are the
paper's own (relaxed draws at a temperature, plain ReLU, z-scores, one network), as far as it tells:
it names neither the networks of section IV.B nor how a relaxed code becomes a likelihood of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from sdlgm.estimators import SDLGMClassifier
from sdlgm.experiments.table2_methods import FINE, Method, Profile, Size, own, thresholds

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
OURS: dict[str, Any] = {
    "inputs": "bins",
    "threshold": "smoothed",
    "members": 20,
    "hidden": (128,),
    "dropout": 0.5,
    "input_dropout": 0.7,
    "elbo_weight": 0.03,
}
# How long to train depends on how many rows and how rare labels are: it is what is chosen.
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
SLOTS = [{"slots": slots} for slots in (2, 10, 50)]  # what the paper chose for its three sets
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
        chosen = {**fixed, **settings}
        chosen["epochs"] = profile.much(chosen["epochs"])
        return SDLGMClassifier(variant, random_state=seed, progress=False, **chosen)

    return make


def _ours(variant: Variant, short: str) -> Method:
    return Method(
        f"SDLGM-{short}, exact presence; p > t, or its own smoothed thresholds",
        "ours",
        _maker(variant, OURS),
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
        f"SDLGM-{short}, the paper's form: relaxed, temperature 3; p > 0.05 n",
        "paper",
        _maker(variant, PAPER),
        SLOTS,
        grid,
        PUBLISHED[variant],
        random=True,
        ranks=False,
    )


METHODS: dict[str, Method] = {
    "sdlgm-dis": _ours("discriminative", "Dis"),
    "sdlgm-gen": _ours("generative", "Gen"),
    "sdlgm-con": _ours("conditional", "Con"),
    "sdlgm-dis-paper": _paper("discriminative", "Dis"),
    "sdlgm-gen-paper": _paper("generative", "Gen"),
    "sdlgm-con-paper": _paper("conditional", "Con"),
}
