"""The sizes of the telemetry experiment."""

from __future__ import annotations

import dataclasses

__all__ = ["LENGTH", "PROFILES", "Profile"]

LENGTH = 64
"""Number of samples of a window."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """The size of the experiment."""

    iterations: int
    budgets: tuple[int, ...]
    """Budgets L0 of the models."""
    seeds: int
    stride: int
    """Number of samples between the starts of training windows."""
    scored: int
    """Number of samples between the starts of test windows that are scored for anomalies."""
    features: int = 1024
    """Number of features K of the models."""
    weights: tuple[float, ...] = (30.0, 10.0, 3.0, 1.0, 0.5, 0.3, 0.2, 0.1)
    """Nats per unit of squared error, in units of the metric's standard deviation in training."""
    finer_weights: tuple[float, ...] = (20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05)
    """The same for codes of atoms and amplitudes."""
    draws: int = 32
    """Number of codes per window in the anomaly scores."""
    sparsities: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Numbers of dictionary atoms and principal components of the baselines."""
    steps: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
    """Quantisation steps of the baselines."""
    atoms: int = 256
    """Size of the learned dictionary."""
    trees: int = 100
    """Number of trees of an isolation forest."""


PROFILES = {
    "full": Profile(3000, (1, 2, 4, 8, 16, 32), 2, 2, 8),
    "short": Profile(800, (1, 4, 16), 1, 4, 16),
    "smoke": Profile(
        30,
        (1, 4),
        1,
        64,
        64,
        features=16,
        weights=(1.0,),
        finer_weights=(1.0, 0.1),
        draws=2,
        sparsities=(1, 4),
        steps=(1.0, 4.0, 16.0),
        atoms=16,
        trees=5,
    ),
}
