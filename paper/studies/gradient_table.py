"""Compare every gradient estimator with the exact gradient by enumeration.

    python -m paper.studies.gradient_table                       # writes docs/results/gradients.*
    python -m paper.studies.gradient_table --draws 2000 --seed 1 --out runs/gradients

Takes about a minute on one core. For each family of codes, there are five random posteriors
(standard normal logits) with five random losses (two layers, tanh), the same for all estimators.
The table reports mean and covariance of --draws draws. "Unbiased" means that all coordinates of all
means lie within 4.8 standard errors of the exact gradient.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paper.results import row, write_tables
from sdlgm.gradients import ControlVariate, estimators, multi_sample, options
from sdlgm.gradients.checking import (
    FAMILIES,
    GradientCheck,
    check_gradient,
    curved_loss,
    random_posterior,
)
from sdlgm.random import generator

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
POSTERIORS = 5
LIMIT = 4.8
COLUMNS = (
    "estimator", "family", "unbiased", "largest z", "relative bias", "relative std",
    "cosine, mean", "cosine, smallest", "decoder calls",
)  # fmt: skip


def settings(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield labels and settings of an estimator."""
    own = options(name)
    if "samples" in own:
        samples = 2 if multi_sample(name) else 4
        yield f"{name}, {samples} samples", {"samples": samples}
    elif "slope" in own:
        for slope in (1.0, 2.0):
            yield f"{name}, slope {slope:g}", {"slope": slope}
    elif "gate_temperature" in own:
        for value in (1.0, 0.5):
            both = {"gate_temperature": value, "feature_temperature": value}
            yield f"{name}, temperatures {value:g}", both
    else:
        yield name, {}
    if "control_variate" in own:
        yield f"{name}, constant control variate", {"control_variate": ControlVariate}


def measure(
    name: str, label: str, extra: dict[str, Any], family: str, seed: int, draws: int
) -> list[GradientCheck]:
    """Check an estimator on the posteriors and losses of a family."""
    found = []
    shape = FAMILIES[family]
    for number in range(POSTERIORS):
        source = generator(seed, family, number)
        posterior, loss = random_posterior(shape, source), curved_loss(shape.features, source)
        own = dict(extra)
        if "control_variate" in own:
            # Untrained, so it predicts the mean loss of the other draws.
            own["control_variate"] = ControlVariate(shape.features, shape.groups)
        noise = generator(seed, f"{label} {family}", number)
        found.append(check_gradient(name, posterior, loss, draws, generator=noise, **own))
    return found


def main() -> None:
    """Read the command line, measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=20_000, help="draws of each gradient")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder of gradients.json and .md"
    )
    requested = parser.parse_args()
    command = (
        f"python -m paper.studies.gradient_table --draws {requested.draws} --seed {requested.seed}"
    )
    protocol = f"{POSTERIORS} random posteriors and losses, {requested.draws:,} draws of each"
    rows, lines = [], [f"| {' | '.join(COLUMNS)} |", "|---|---|---|" + "---:|" * (len(COLUMNS) - 3)]
    for name in estimators():
        for label, extra in settings(name):
            for family in FAMILIES:
                found = measure(name, label, extra, family, requested.seed, requested.draws)
                columns = {key: [asdict(f)[key] for f in found] for key in asdict(found[0])}
                columns["max_z"] = [max(columns["max_z"])]
                for metric, values in columns.items():
                    rows.append(
                        row(
                            label,
                            values,
                            [requested.seed],
                            dataset="random losses",
                            family=family,
                            protocol=protocol,
                            metric=metric,
                        )
                    )
                mean = {key: statistics.fmean(values) for key, values in columns.items()}
                lines.append(
                    f"| {label} | {family} | {'yes' if mean['max_z'] < LIMIT else 'no'} "
                    f"| {mean['max_z']:.1f} | {mean['relative_bias']:.3f} "
                    f"| {mean['relative_std']:.2f} | {mean['cosine']:.3f} "
                    f"| {min(columns['cosine']):.3f} | {mean['decoder_calls']:g} |"
                )
                print(lines[-1], flush=True)
    path = requested.out / "gradients.json"
    write_tables(path, "gradients", command, rows, "\n".join(lines))


if __name__ == "__main__":
    main()
