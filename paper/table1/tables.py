"""Rows and tables of Table I."""

from __future__ import annotations

import statistics
from typing import Any

from paper.results import Finished, Numbers, row, spread
from paper.table1.methods import Method, Profile, methods

__all__ = ["markdown", "table_rows"]

METRICS = {
    "nll_bound": "bound of -log p(x): hard codes; nats per sample, lower is better",
    "negative_elbo": "bound: hard codes, exact KL; nats per sample, lower is better",
    "relaxed_objective": "relaxed samples, discrete KL; nats per sample; NOT a bound",
    "training_objective": "training objective, mean over the last 200 iterations; nats per sample",
    "active_features_mean": "features present in a code",
    "active_features_max": "largest number of features present in a code",
    "gate_temperature": "at the end of the training",
    "feature_temperature": "at the end of the training",
    "learning_rate": "of Adam",
    "training_seconds": "wall time of the training on one thread",
}


def table_rows(found: Finished, protocol: str, size: Profile) -> list[dict[str, Any]]:
    """Return the rows of the results file, one per method and metric."""
    known, rows = methods(protocol), []
    for name, by_seed in found.items():
        method, runs = known[name], list(by_seed.values())
        for metric, unit in METRICS.items():
            rows.append(
                row(
                    name,
                    [float(numbers[metric]) for numbers in runs],
                    list(by_seed),
                    dataset=f"{size.source}, test split, {method.binarisation} binarisation",
                    family=method.family,
                    protocol=protocol,
                    metric=metric,
                    published=method.published.get(metric),
                    title=method.title,
                    unit=unit,
                    iterations=size.iterations,
                    importance_samples=runs[0]["importance_samples"],
                    rows_of_bound=runs[0]["bound_rows"],
                    validation=[numbers["validation"] for numbers in runs]
                    if metric == "negative_elbo" and protocol == "jang"
                    else None,
                )
            )
    return rows


def markdown(found: Finished, protocol: str, size: Profile) -> str:
    """Return the table in Markdown."""
    return "\n".join((_jang if protocol == "jang" else _paper)(found, size))


def _jang(found: Finished, size: Profile) -> list[str]:
    description = (
        f"Protocol of Jang et al. 2017 on {size.source}: one linear layer each way (784-200-784, "
        "784-(20x10)-784), bits drawn once for training, validation and test, 5/6 of the training "
        f"digits for {size.iterations:,} iterations of batch 100 and 1/6 to choose Adam's rate (of "
        f"{', '.join(f'{rate:g}' for rate in size.rates)}, by {size.selection:,} iterations of "
        "seed 0) and the weights that are kept. *Bound* is the importance-weighted bound with "
        f"{size.importance_samples:,} hard codes on {size.bound_rows:,} test digits; *ELBO* the "
        "negative ELBO of hard codes; nats per sample, lower is better; with more than one seed, "
        "mean ± standard deviation."
    )
    head = (
        "| latent | estimator | bound | published | difference | negative ELBO | active features "
        "| rate | best iteration | still falling | minutes | seeds |"
    )
    lines = [
        description,
        "",
        head,
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    known = methods("jang")
    for name, by_seed in sorted(found.items(), key=lambda item: known[item[0]].family):
        method, runs = known[name], list(by_seed.values())
        mean = statistics.fmean(numbers["nll_bound"] for numbers in runs)
        published = method.published.get("nll_bound")
        compared = ("", "")
        if published is not None:
            compared = (f"{published:.1f}", f"{mean - published:+.1f}")
        lines.append(
            f"| {method.family} | `{method.title}` | **{_mean(runs, 'nll_bound')}** "
            f"| {compared[0]} "
            f"| {compared[1]} | {_mean(runs, 'negative_elbo')} "
            f"| {_mean(runs, 'active_features_mean')} | {runs[0]['learning_rate']:g} "
            f"| {runs[0]['best_step']:,} | {_falling(runs[0]['validation']):.2f} "
            f"| {statistics.fmean(n['training_seconds'] for n in runs) / 60:.1f} | {len(runs)} |"
        )
    note = (
        "*Still falling*: decrease of the negative ELBO of the held-out digits over the last "
        "quarter of the training, in nats, first seed."
    )
    return [*lines, "", note]


def _paper(found: Finished, size: Profile) -> list[str]:
    description = (
        f"The paper's protocol on {size.source}: networks [512, 384, 256], batch 100, "
        f"{size.iterations:,} iterations, Adam. *Relaxed objective* is the paper's number and "
        "**is not a bound**. For the same weights and test digits, the table also gives the "
        f"negative ELBO and the bound with {size.importance_samples:,} hard codes (on "
        f"{size.bound_rows:,} of the test digits, evenly spaced). Nats per sample, lower is "
        "better; mean ± standard deviation over seeds. *Training* is the mean of the objective "
        "over the last 200 iterations."
    )
    head = (
        "| method | relaxed objective, test | training | published test / training "
        "| negative ELBO (bound) | bound, M samples | active features "
        "| temperature, gate / feature | binarisation | rate | minutes | seeds |"
    )
    lines = [
        description,
        "",
        head,
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    known: dict[str, Method] = methods("paper")
    for name, by_seed in found.items():
        method, runs = known[name], list(by_seed.values())
        published = "".join(
            f"{method.published[metric]:.2f}{end}"
            for metric, end in (("relaxed_objective", " / "), ("training_objective", ""))
            if method.published
        )
        lines.append(
            f"| {method.title} (`{name}`) | {_mean(runs, 'relaxed_objective', 2)} "
            f"| {_mean(runs, 'training_objective', 2)} | {published} "
            f"| **{_mean(runs, 'negative_elbo')}** | **{_mean(runs, 'nll_bound')}** "
            f"| {_mean(runs, 'active_features_mean')} | {_mean(runs, 'gate_temperature', 2)} / "
            f"{_mean(runs, 'feature_temperature', 2)} | {method.binarisation} "
            f"| {runs[0]['learning_rate']:g} "
            f"| {statistics.fmean(n['training_seconds'] for n in runs) / 60:.1f} | {len(runs)} |"
        )
    return lines


def _mean(runs: list[Numbers], metric: str, digits: int = 1) -> str:
    """Format the mean of a metric over the seeds and its standard deviation."""
    return spread([float(numbers[metric]) for numbers in runs], digits)


def _falling(curve: list[list[float]]) -> float:
    """Return the decrease from three quarters of the steps to the last one (nats)."""
    steps = curve[-1][0]
    before = [value for step, value in curve if step <= 0.75 * steps] or [curve[0][1]]
    return before[-1] - curve[-1][1]
