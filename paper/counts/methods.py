"""The methods of the counting experiment, and its profiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sdlgm.baselines import ConstantCounter, ForestCounter, PoissonCounter, SoftmaxCounter
from sdlgm.data.digit_columns import EMPTY
from sdlgm.estimators import SDLGMCounter
from sdlgm.estimators.counting import BaseCounter

__all__ = ["COLUMNS", "METHODS", "PROFILES", "Method", "Profile"]

COLUMNS = 5
"""Number of columns of a training image."""


@dataclass(frozen=True)
class Profile:
    """The size of an experiment."""

    source: str
    train: int
    test: int
    seeds: int
    scale: float
    """Factor on the numbers of epochs and trees."""

    def scaled(self, number: int) -> int:
        """Scale a number of epochs or trees."""
        return max(1, round(self.scale * number))


PROFILES = {
    "full": Profile("mnist", 5000, 1000, 5, 1.0),
    "smoke": Profile("mnist-5k", 200, 100, 1, 0.05),
}


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    title: str
    family: str
    make: Callable[[Profile, int], BaseCounter]
    published: float | None = None
    """MSE in the paper."""
    empty: float = EMPTY
    """Probability that a column of its images is empty."""

    def settings(self, profile: Profile, seed: int) -> dict[str, Any]:
        """Return everything that the numbers of a seed depend on."""
        parameters = self.make(profile, seed).get_params()
        return {**asdict(profile), **parameters, "empty": self.empty}


# The counts of an image do not depend on the order of its columns, nor on small shifts.
MLP: dict[str, Any] = {"epochs": 40, "batch_size": 50, "learning_rate": 2e-3}
AUGMENTED: dict[str, Any] = {"shuffle_columns": True, "shift": 1.0, "rotation": 5.0}


def _network(
    kind: Callable[..., BaseCounter], encoder: str, **settings: Any
) -> Callable[[Profile, int], BaseCounter]:
    def make(profile: Profile, seed: int) -> BaseCounter:
        epochs = profile.scaled(settings["epochs"])
        chosen = {**settings, "epochs": epochs, "image_columns": COLUMNS}
        return kind(encoder, random_state=seed, **chosen)

    return make


def _forest(kind: str) -> Callable[[Profile, int], BaseCounter]:
    def make(profile: Profile, seed: int) -> BaseCounter:
        return ForestCounter(
            kind,  # type: ignore[arg-type]
            n_estimators=profile.scaled(100),
            max_features="sqrt",
            random_state=seed,
        )

    return make


METHODS: dict[str, Method] = {
    "constant": Method("constant (training mean)", "baseline", lambda p, s: ConstantCounter()),
    "random-forest": Method(
        "random forest, 100 trees, sqrt(D) features per split", "baseline", _forest("random"), 0.16
    ),
    "extra-trees": Method(
        "extra trees, 100 trees, sqrt(D) features per split", "baseline", _forest("extra")
    ),
    "mlp": Method(
        "SDLGMCounter, MLP, tied slots (the paper's setting)",
        "multinomial",
        _network(SDLGMCounter, "mlp", tied=True, **{**MLP, "epochs": 15}),
        0.05,
    ),
    "mlp-changed": Method(
        "SDLGMCounter, MLP, tied slots, columns shuffled, shifted and rotated; mean of 30 orders",
        "multinomial",
        _network(SDLGMCounter, "mlp", tied=True, test_orders=30, **MLP, **AUGMENTED),
        0.05,
    ),
    "mlp-untied": Method(
        "SDLGMCounter, MLP, untied slots, same augmentation, one order",
        "Poisson-multinomial",
        _network(SDLGMCounter, "mlp", tied=False, **MLP, **AUGMENTED),
    ),
    "mlp-poisson": Method(
        "independent Poisson heads, MLP, same augmentation",
        "Poisson",
        _network(PoissonCounter, "mlp", test_orders=30, **MLP, **AUGMENTED),
    ),
    "mlp-softmax": Method(
        "softmax over 0..5 for each class, MLP, same augmentation",
        "categorical",
        _network(SoftmaxCounter, "mlp", test_orders=30, **MLP, **AUGMENTED),
    ),
    "conv": Method(
        "SDLGMCounter, convolutions over the whole image, tied slots, same augmentation",
        "multinomial",
        _network(SDLGMCounter, "conv", tied=True, epochs=15, learning_rate=3e-3, **AUGMENTED),
    ),
    "mlp-columns": Method(
        "SDLGMCounter, MLP of one hidden layer shared by the columns, untied slots",
        "Poisson-multinomial",
        _network(
            SDLGMCounter,
            "columns",
            channels=(),
            epochs=30,
            batch_size=50,
            learning_rate=3e-3,
            shift=1.0,
            rotation=5.0,
            test_shift=0,
        ),
    ),
    "columns": Method(
        "SDLGMCounter, convolutions shared by the columns, untied slots, shifted and rotated; "
        "mean of 9 shifts",
        "Poisson-multinomial",
        _network(
            SDLGMCounter,
            "columns",
            epochs=22,
            batch_size=50,
            learning_rate=3e-3,
            shift=2.0,
            rotation=10.0,
            test_shift=1,
        ),
    ),
}
# The paper does not state how many columns are empty. With half of them empty, the random forest
# has the error that the paper reports for it, so its methods can be compared with ours there.
METHODS |= {
    f"{name}-half": dataclasses.replace(
        METHODS[name], title=f"half of the columns empty: {METHODS[name].title}", empty=0.5
    )
    for name in ("constant", "random-forest", "mlp", "mlp-changed", "columns")
}
