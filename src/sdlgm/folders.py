"""What a folder holds: a run, a model, an estimator; told by the files that describe them."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "ESTIMATOR",
    "METRICS",
    "MODEL",
    "SETTINGS",
    "holds_estimator",
    "holds_metrics",
    "holds_model",
    "holds_run",
]

SETTINGS = "config.yaml"
"""The settings of a run."""
MODEL = "config.json"
"""The description of a model."""
ESTIMATOR = "estimator.json"
"""The description of an estimator."""

METRICS = "metrics.json"
"""The numbers that were measured after training."""


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds a run, finished or not; a finished one holds a model, too."""
    return (folder / SETTINGS).is_file()


def holds_model(folder: Path) -> bool:
    """Return whether a folder holds a model: of a run, of a saved transformer, or alone."""
    return (folder / MODEL).is_file()


def holds_metrics(folder: Path) -> bool:
    """Return whether a folder holds measured numbers, the last file that a run writes."""
    return (folder / METRICS).is_file()


def holds_estimator(folder: Path) -> bool:
    """Return whether a folder holds a saved estimator; a transformer's holds a model, too."""
    return (folder / ESTIMATOR).is_file()
