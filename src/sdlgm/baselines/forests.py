"""Forests of regression trees, for counts and for labels."""

from __future__ import annotations

from typing import Any, Literal

from sdlgm.errors import ConfigError

__all__ = ["ForestKind", "make_forest"]

ForestKind = Literal["random", "extra"]
"""``"random"``: bootstrap, best splits; ``"extra"``: all rows, random splits."""


def make_forest(kind: ForestKind, **parameters: Any) -> Any:
    """Return an unfitted ``RandomForestRegressor`` or ``ExtraTreesRegressor`` of scikit-learn.

    Raises
    ------
    ConfigError
        If there is no such kind.
    """
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

    if kind not in ("random", "extra"):
        raise ConfigError(f"kind must be 'random' or 'extra', got {kind!r}.")
    return (RandomForestRegressor if kind == "random" else ExtraTreesRegressor)(**parameters)
