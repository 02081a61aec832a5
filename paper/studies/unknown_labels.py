"""What unknown labels cost: a share of y masked at random, against imputing zeros; prints JSON.

    python -m paper.studies.unknown_labels --share 0.3 --seeds 3

Micro-F1 (per cent) on the rows of each set's split, with the default classifier. The bounds of set
sizes are those of the complete training labels for all methods.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np

from sdlgm.data import load_multilabel
from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.metrics import micro_f1


def measure(name: str, share: float, seed: int) -> dict[str, float]:
    """Return the micro-F1 with all labels, with a share of them unknown, and with zeros there."""
    data = load_multilabel(name)
    masked = data.Y_train.astype(float)
    masked[np.random.default_rng(seed).random(masked.shape) < share] = np.nan
    numbers = data.Y_train.sum(1)
    low, high = int(numbers.min()), int(numbers.max())
    targets = {"complete": data.Y_train, "unknown": masked, "zeros": np.nan_to_num(masked)}
    found = {}
    for way, y in targets.items():
        model = SDLGMClassifier(min_labels=low, max_labels=high, random_state=seed)
        found[way] = 100 * micro_f1(data.Y_test, model.fit(data.X_train, y).predict(data.X_test))
    return found


def main() -> None:
    """Read the command line and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["emotions", "yeast", "scene"])
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.sets:
        found = [measure(name, options.share, seed) for seed in range(options.seeds)]
        results[name] = {
            way: round(statistics.fmean(one[way] for one in found), 2) for way in found[0]
        }
    print(json.dumps({**vars(options), "micro_f1": results}, indent=2))


if __name__ == "__main__":
    main()
