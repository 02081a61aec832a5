"""Fit and predict with very many labels; print seconds and peak memory as JSON.

    python -m paper.studies.many_labels --labels 100000 --rows 20000

Rows are sparse: each label switches on a few inputs, so that the labels can be learned.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import numpy as np
import scipy.sparse as sp

from sdlgm.estimators import SDLGMClassifier


def synthetic(
    rows: int, labels: int, labels_a_row: int, features: int, seed: int
) -> tuple[sp.csr_array, sp.csr_array]:
    """Return sparse inputs ``(rows, features)`` and labels ``(rows, labels)``.

    Label k has a frequency proportional to 1 / (k + 100) and switches on 3 inputs.
    """
    source = np.random.default_rng(seed)
    frequency = 1 / (np.arange(labels) + 100.0)
    frequency /= frequency.sum()
    drawn = source.choice(labels, size=(rows, 2 * labels_a_row), p=frequency)
    columns = [np.unique(line[np.sort(np.unique(line, return_index=True)[1])][:labels_a_row])
               for line in drawn]  # fmt: skip
    starts = np.concatenate([[0], np.cumsum([len(line) for line in columns])])
    indices = np.concatenate(columns)
    Y = sp.csr_array(  # noqa: N806
        (np.ones(len(indices), np.int8), indices, starts), shape=(rows, labels)
    )
    places = np.random.default_rng(0).integers(0, features, size=(labels, 3))
    ones = np.ones(3 * labels, np.float32)
    signs = sp.csr_array((ones, (np.repeat(np.arange(labels), 3), places.ravel())),
                         shape=(labels, features))  # fmt: skip
    X = sp.csr_array(Y.astype(np.float32) @ signs)  # noqa: N806
    X.data[:] = 1
    return X, Y


def peak() -> float:
    """Return the peak resident memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Fit and predict; return times, memory and precision."""
    X, Y = synthetic(args.rows, args.labels, args.labels_a_row, args.features, args.seed)  # noqa: N806
    test_X, test_Y = synthetic(  # noqa: N806
        1000, args.labels, args.labels_a_row, args.features, args.seed + 1
    )
    before = peak()
    model = SDLGMClassifier(
        members=1,
        hidden=(args.hidden,),
        inputs="none",
        dropout=0.0,
        input_dropout=0.0,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        weight_decay=0.0,
        random_state=args.seed,
        progress=args.progress,
    )
    start = time.perf_counter()
    model.fit(X, Y)
    fitted = time.perf_counter() - start
    start = time.perf_counter()
    predicted = model.predict(test_X)
    seconds = time.perf_counter() - start
    top, _ = model.top_k(test_X, 5)
    dense = np.array([test_Y[[i]].toarray().ravel()[line] for i, line in enumerate(top)])
    number = np.diff(sp.csr_array(predicted).indptr)
    return {
        **vars(args),
        "fit_seconds_per_1000_rows_and_epoch": round(1000 * fitted / args.rows / args.epochs, 2),
        "fit_seconds": round(fitted, 1),
        "predict_seconds_per_1000_rows": round(seconds, 2),
        "peak_gb": round(peak(), 2),
        "peak_gb_before_fit": round(before, 2),
        "test_precision_at": {k: round(float(dense[:, :k].mean()), 3) for k in (1, 3, 5)},
        "empty": int((number < 1).sum()),
        "over_budget": int((number > model.max_labels_).sum()),
        "max_labels": model.max_labels_,
        "first_and_last_loss": [round(model.history_[i]["loss"], 2) for i in (0, -1)],
    }


def main() -> None:
    """Read the command line and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--labels-a-row", type=int, default=30)
    parser.add_argument("--features", type=int, default=2_000)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--progress", action="store_true")
    print(json.dumps(measure(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
