"""The methods of Table I under its two protocols, and the profiles of the experiment."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from paper.running import check_seeds
from sdlgm.config import Binarisation, ModelConfig, TrainingConfig, preset

__all__ = ["PROFILES", "PROTOCOLS", "Method", "Profile", "methods"]

PROTOCOLS = ("jang", "paper")


@dataclass(frozen=True)
class Profile:
    """The size of an experiment."""

    source: str
    """Name of the data set."""
    iterations: int
    """Number of gradient steps of a training."""
    selection: int
    """Number of gradient steps of a training that chooses the learning rate (protocol jang)."""
    rates: tuple[float, ...]
    """Learning rates to choose from (protocol jang)."""
    seeds: int
    """Number of seeds of a method."""
    importance_samples: int
    """Number of codes per sample in the importance-weighted bound."""
    bound_rows: int
    """Number of test rows, evenly spaced, on which that bound is measured."""


PROFILES = {
    "jang": {
        "full": Profile("mnist", 20_000, 3_000, (1e-3, 3e-3), 1, 1000, 10_000),
        "smoke": Profile("mnist-5k", 60, 20, (1e-3, 3e-3), 1, 10, 100),
    },
    "paper": {
        "full": Profile("mnist", 10_000, 0, (), 10, 1000, 1000),
        "smoke": Profile("mnist-5k", 200, 0, (), 1, 10, 100),
    },
}
"""Profiles by protocol and name."""


@dataclass(frozen=True)
class Method:
    """One row of the table: a discrete latent, its networks, and its training."""

    title: str
    family: str
    model: ModelConfig
    training: TrainingConfig
    binarisation: Binarisation
    published: dict[str, float] = dataclasses.field(default_factory=dict)
    """The published numbers, by our name of the metric."""
    most_seeds: int | None = None
    """Largest number of seeds, for methods that are only compared with those of the paper."""

    def settings(self, size: Profile) -> dict[str, Any]:
        """Return everything that the numbers depend on, except the seed."""
        return {
            **dataclasses.asdict(size),
            "model": dataclasses.asdict(self.model),
            "training": dataclasses.asdict(self.training),
            "binarisation": self.binarisation,
        }


def methods(protocol: str) -> dict[str, Method]:
    """Return the methods of a protocol by name."""
    return _jang() if protocol == "jang" else _paper()


# --- Jang et al. 2017: one linear layer, fixed bits, hard samples -----------------------------

LINEAR: dict[str, Any] = {
    "features": 200,
    "encoder_hidden": (),
    "sparsity_hidden": (),
    "prior": "fixed",
}
FAMILIES = {
    "categorical": ("20 x 10 categorical", {"budget": 20, "groups": 20, "gates": "open"}),
    "bernoulli": ("200 Bernoulli", {"budget": 200, "groups": 200}),
    "code-40": ("K = 200, L0 = 40, 40 groups", {"budget": 40, "groups": 40}),
    "code-1": ("K = 200, L0 = 40, one group", {"budget": 40, "groups": 1}),
}
PUBLISHED = {
    "score_function": (110.6, 112.2),
    "darn": (128.8, 110.9),
    "muprop": (107.0, 109.7),
    "straight_through": (110.9, 116.0),
    "slope_annealed_st": (107.8, 111.5),
    "gumbel_softmax": (101.5, 105.0),
    "st_gumbel_softmax": (107.8, 111.5),
}
"""Test bound with 1,000 samples of 20 x 10 categorical and 200 Bernoulli (Jang et al., Table 1)."""
OURS = ("reinmax", "reinforce_loo", "vimco")
"""Estimators that are not in the table of 2017."""


def _jang() -> dict[str, Method]:
    plan = [(name, family) for name in PUBLISHED for family in ("categorical", "bernoulli")]
    plan += [("reinmax", family) for family in FAMILIES]
    plan += [(name, family) for name in OURS[1:] for family in ("categorical", "bernoulli")]
    found = {}
    for estimator, family in plan:
        title, latent = FAMILIES[family]
        published = {}
        if estimator in PUBLISHED:
            number = PUBLISHED[estimator][("categorical", "bernoulli").index(family)]
            published = {"nll_bound": number}
        found[f"{estimator}-{family}"] = Method(
            estimator,
            title,
            preset("plain", **LINEAR, **latent)[0],  # type: ignore[arg-type]
            preset(
                "plain",
                estimator=estimator,
                kl_warmup=0.0,
                temperature="annealed",
                temperature_decay=1e-4,
            )[1],
            "fixed",
            published,
        )
    return found


# --- Xu et al. 2021: their networks and budget ------------------------------------------------

PLAIN: dict[str, Any] = {"activation": "relu", "normalisation": "none", "prior": "fixed"}
CATEGORICAL: dict[str, Any] = {"budget": 20, "groups": 20, "gates": "open"}


def _paper() -> dict[str, Method]:
    relaxed = preset("plain", objective="paper", schedule="constant")[1]
    xu = {"relaxed_objective": 99.05, "training_objective": 99.58}
    return {
        "sdlgm": Method(
            "SDLGM, relaxed objective, as described in the paper",
            "K = 200, L0 = 40, one group",
            preset("plain", groups=1, **PLAIN)[0],
            relaxed,
            "dynamic",
            xu,
            most_seeds=2,
        ),
        "sdlgm-gelu": Method(
            "SDLGM, relaxed objective, GELU and a rate of 2e-3, which the paper does not state",
            "K = 200, L0 = 40, one group",
            preset("plain", groups=1, **{**PLAIN, "activation": "gelu"})[0],
            dataclasses.replace(relaxed, learning_rate=2e-3),
            "dynamic",
            xu,
        ),
        "gumbel_softmax": Method(
            "Gumbel-Softmax, relaxed objective, the same networks",
            "20 x 10 categorical",
            preset("plain", **CATEGORICAL, **PLAIN)[0],
            relaxed,
            "dynamic",
            most_seeds=2,
        ),
        "discrete": Method(
            "SDLGM, discrete bound, the same networks",
            "K = 200, L0 = 40, one group",
            preset("plain", groups=1, **PLAIN)[0],
            preset("plain")[1],
            "dynamic",
            most_seeds=1,
        ),
        "default": Method(
            "SDLGM, discrete bound, the preset plain",
            "K = 200, L0 = 40, 40 groups",
            preset("plain")[0],
            preset("plain")[1],
            "dynamic",
            most_seeds=1,
        ),
    }


def seeds_of(method: Method, size: Profile, requested: int | None) -> range:
    """Return the seeds of a method: those requested, or those of the method and the profile.

    Raises
    ------
    SDLGMError
        If the requested number is not positive.
    """
    if requested is not None:
        return range(check_seeds(requested))
    return range(min(size.seeds, method.most_seeds or size.seeds))
