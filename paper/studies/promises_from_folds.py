"""How often promises from folds hold for a classifier that is fitted to all rows; prints JSON.

    python -m paper.studies.promises_from_folds --repetitions 100

With ``held_out="folds"`` no bound is exact: thresholds are chosen for fits to a part of the rows
and used with a fit to all. A repetition draws the rows that logistic regressions are fitted to and
promise on; the other rows of the set check the promise. With ``held_out="split"`` the bound is
exact, but the other rows, being a sample, do not always show it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from paper.guarantees.promises import all_rows
from sdlgm.estimators import BudgetedClassifier
from sdlgm.estimators.guarantees import (
    FalsePositivesAtMost,
    Guarantee,
    HeldOut,
    RankedLabels,
    RecallAtLeast,
    UnreachableError,
)

PROMISES: tuple[tuple[type[Guarantee], float], ...] = (
    (RecallAtLeast, 0.8),
    (FalsePositivesAtMost, 1.5),
)


def measure(
    x: Any, y: Any, guarantee: Guarantee, rows: int, most: int, seed: int
) -> tuple[float, float] | None:
    """Return the level on the other rows and their mean set size, ``None`` if refused."""
    order = np.random.default_rng(seed).permutation(len(y))
    fitted, other = order[:rows], order[rows:]
    model = BudgetedClassifier(
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1)),
        threshold=guarantee,
        max_labels=most,
        min_labels=1,
        random_state=seed,
    )
    try:
        model.fit(x[fitted], y[fitted])
    except UnreachableError:
        return None
    ranked = RankedLabels(model.predict_proba(x[other]), y[other], 1, most)
    threshold = np.array([model.threshold_], np.float64)
    return guarantee.measure(ranked, float(threshold[0])), float(ranked.sizes(threshold).mean())


def main() -> None:
    """Read the command line and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default="yeast")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--max-labels", type=int, default=11)
    parser.add_argument("--repetitions", type=int, default=100)
    options = parser.parse_args()
    x, y = all_rows(options.set)
    results: dict[str, Any] = {}
    ways: tuple[HeldOut, ...] = ("folds", "split")
    for kind, level in PROMISES:
        for way in ways:
            guarantee = kind(level, 0.95, way)
            found = [
                measure(x, y, guarantee, options.rows, options.max_labels, seed)
                for seed in range(options.repetitions)
            ]
            given = [one for one in found if one is not None]
            sign = 1 if guarantee.better == "highest" else -1
            results[f"{kind.__name__}({level:g}), {way}"] = {
                "kept": sum(sign * (reached - level) >= 0 for reached, _ in given),
                "refused": len(found) - len(given),
                "reached": round(statistics.fmean(one[0] for one in given), 3) if given else None,
                "labels_a_row": round(statistics.fmean(o[1] for o in given), 2) if given else None,
            }
    print(json.dumps({**vars(options), "promises": results}, indent=2))


if __name__ == "__main__":
    main()
