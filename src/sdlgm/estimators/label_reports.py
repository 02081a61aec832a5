"""Tables about a fitted classifier: one row a label, or one row a feature."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from sdlgm.errors import ConfigError, SDLGMError
from sdlgm.estimators.frames import column_names, columns_of, is_frame, warn_of_other_order
from sdlgm.estimators.metrics import micro_f1
from sdlgm.estimators.parameters import check_integer

if TYPE_CHECKING:
    from sdlgm.estimators.set_prediction import BudgetedPrediction

__all__ = ["feature_importance", "label_table"]


def label_table(classifier: BudgetedPrediction, X: Any, y: Any) -> Any:  # noqa: N803
    """Return a pandas frame with a row for each label; unknown labels do not count.

    Parameters
    ----------
    classifier
        A fitted classifier.
    X, y
        Rows that it was not fitted on, and their labels.

    Raises
    ------
    SDLGMError
        If pandas is not installed.
    """
    frames = _pandas()
    warn_of_other_order(X, y=y)
    proba = classifier.predict_proba(X)
    truth = classifier.read_table(y, len(proba))
    said = classifier.predict_table(X)
    known = ~np.isnan(truth)
    true, said = np.nan_to_num(truth), said * known
    both, support, predicted = (true * said).sum(0), true.sum(0), said.sum(0)
    return frames.DataFrame(
        {
            "precision": _share(both, predicted),
            "recall": _share(both, support),
            "f1": _share(2 * both, support + predicted),
            "support": support.astype(np.int64),
            "predicted": predicted.astype(np.int64),
            "expected": (proba * known).sum(0),
            "threshold": np.broadcast_to(
                classifier.threshold_ if classifier.decision_ == "threshold" else np.nan, len(both)
            ),
        },
        index=frames.Index(classifier.classes_, name="label"),
    )


def feature_importance(
    classifier: BudgetedPrediction,
    X: Any,  # noqa: N803
    y: Any,
    metric: Callable[[Any, Any], float] = micro_f1,
    repeats: int = 5,
    seed: int = 0,
) -> Any:
    """Return a pandas frame with a row for each feature, the most important first.

    The importance of a feature is the loss of a metric if the feature's values are shuffled among
    the rows.

    Parameters
    ----------
    classifier
        A fitted classifier.
    X, y
        Dense rows that it was not fitted on, and their labels.
    metric
        Maps labels and predictions, ``(n, K)`` each, to a number of which more is better.
    repeats
        Number of times that each feature is shuffled.
    seed
        Seed of the shuffles.

    Raises
    ------
    ConfigError
        If X is sparse.
    SDLGMError
        If pandas is not installed.
    """
    from sklearn.inspection import permutation_importance

    frames = _pandas()
    check_integer("repeats", repeats)
    if sp.issparse(X):
        raise ConfigError("Features of sparse rows cannot be shuffled one by one: pass dense rows.")
    warn_of_other_order(X, y=y)
    truth = classifier.read_table(y, len(X))
    found = permutation_importance(
        classifier,
        _as_columns(X, frames),
        truth,
        scoring=lambda model, rows, labels: metric(labels, model.predict_table(rows)),
        n_repeats=repeats,
        random_state=seed,
    )
    names = getattr(classifier, "feature_names_in_", np.arange(classifier.n_features_in_))
    table = {"importance": found.importances_mean, "deviation": found.importances_std}
    frame = frames.DataFrame(table, index=frames.Index(names, name="feature"))
    return frame.sort_values("importance", ascending=False, kind="stable")


def _as_columns(X: Any, frames: Any) -> Any:  # noqa: N803
    """Return rows as an array or a pandas frame, whose columns can be shuffled.

    Raises
    ------
    ConfigError
        If they are texts, which have no columns.
    """
    if is_frame(X):
        if hasattr(X, "iloc"):
            return X
        names: Any = column_names(X, "X")
        columns = (values for values, _ in columns_of(X))
        return frames.DataFrame(dict(zip(names, columns, strict=True)))
    if np.ndim(X) != 2:
        raise ConfigError(
            f"X has shape {np.shape(X)}, but features are columns: pass rows (n, features). Of a "
            "pipeline for texts, pass its last step with the rows that it reads, made dense."
        )
    return np.asarray(X)


def _share(part: Any, whole: Any) -> Any:
    """Return ratios; NaN where there is nothing to count."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError:
        raise SDLGMError("This table is a pandas frame: pip install pandas.") from None
    return pd
