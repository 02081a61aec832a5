"""Cross-validate SDLGMClassifier on the training rows of a Mulan data set; print its metrics.

    python -m paper.studies.cross_validate_labels emotions inputs=bins epochs=20 threshold=micro

Settings are parameters of the classifier. Test rows are not used.
"""

from __future__ import annotations

import argparse
import ast
import time
from typing import Any

import numpy as np
from scipy.sparse import issparse

from sdlgm.data.label_sets import load_multilabel
from sdlgm.estimators import SDLGMClassifier
from sdlgm.estimators.metrics import macro_f1_harmonic, macro_f1_mean, micro_f1


def setting(text: str) -> tuple[str, Any]:
    """Split ``name=value``; a value that is not a Python literal is a string."""
    name, value = text.split("=", 1)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main() -> None:
    """Read the command line; pool the predictions of five random folds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set")
    parser.add_argument("settings", nargs="*", type=setting)
    parser.add_argument("--partitions", type=int, default=1)
    args = parser.parse_args()
    split = "first-400" if args.set == "cal500" else "official"
    data = load_multilabel(args.set, split, drop_unlabelled=True)
    X, Y = data.X_train, data.Y_train  # noqa: N806
    Y = Y.toarray() if issparse(Y) else Y  # noqa: N806
    metrics, start = [], time.perf_counter()
    for partition in range(args.partitions):
        fold = np.random.default_rng(1000 + partition).permutation(len(Y)) % 5
        chosen, number = np.zeros_like(Y), np.zeros(len(Y))
        proba = np.zeros(Y.shape)
        for part in range(5):
            held = fold == part
            model = SDLGMClassifier(
                progress=False,
                random_state=5 * partition + part,
                **{"min_labels": 1, **dict(args.settings)},
            ).fit(X[~held], Y[~held])
            proba[held], chosen[held] = model.predict_proba(X[held]), model.predict(X[held])
            number[held] = model.predict_counts(X[held])
        safe = np.clip(np.where(Y, proba, 1 - proba), 1e-6, 1)
        metrics.append(
            [
                -np.log(safe).sum(1).mean(),
                100 * micro_f1(Y, chosen),
                100 * macro_f1_harmonic(Y, chosen),
                100 * macro_f1_mean(Y, chosen),
                np.abs(number - Y.sum(1)).mean(),
            ]
        )
    loss, micro, harmonic, mean, error = np.mean(metrics, 0)
    seconds = time.perf_counter() - start
    print(
        f"{args.set} {dict(args.settings)}: nats {loss:.3f}, micro-F1 {micro:.1f}, macro-F1 "
        f"(harmonic) {harmonic:.1f}, (mean) {mean:.1f}, error of predict_counts {error:.3f} "
        f"({seconds:.0f} s)"
    )


if __name__ == "__main__":
    main()
