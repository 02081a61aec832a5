"""Rows and tables of the paper's Table I."""

from __future__ import annotations

import statistics
from typing import Any

from paper.results import Found, Numbers, row, spread
from paper.table1.methods import Method, Profile, methods

__all__ = ["markdown", "table_rows"]

METRICS = {
    "nll_bound": "bound of -log p(x) by hard codes, nats per sample, lower is better",
    "negative_elbo": "bound: hard codes, exact KL; nats per sample, lower is better",
    "relaxed_objective": "relaxed samples, discrete KL; nats per sample; NOT a bound",
    "training_objective": "what is minimised, mean over the last 200 iterations; nats per sample",
    "active_features_mean": "features present in a code",
    "active_features_max": "largest number of features present in a code",
    "gate_temperature": "at the end of the training",
    "feature_temperature": "at the end of the training",
    "learning_rate": "of Adam",
    "training_seconds": "wall time of the training on one thread",
}


def table_rows(found: Found, protocol: str, size: Profile) -> list[dict[str, Any]]:
    """Return the rows of the results file, one a method and metric."""
    known, rows = methods(protocol), []
    for name, by_seed in found.items():
        method, cells = known[name], list(by_seed.values())
        for metric, unit in METRICS.items():
            rows.append(
                row(
                    name,
                    [float(numbers[metric]) for numbers in cells],
                    list(by_seed),
                    dataset=f"{size.source}, test split, {method.binarisation} binarisation",
                    family=method.family,
                    protocol=protocol,
                    metric=metric,
                    published=method.published.get(metric),
                    title=method.title,
                    unit=unit,
                    iterations=size.iterations,
                    importance_samples=cells[0]["importance_samples"],
                    rows_of_bound=cells[0]["bound_rows"],
                    validation=[numbers["validation"] for numbers in cells]
                    if metric == "negative_elbo" and protocol == "jang"
                    else None,
                )
            )
    return rows


def markdown(found: Found, protocol: str, size: Profile) -> str:
    """Return the table for people."""
    return "\n".join((_jang if protocol == "jang" else _paper)(found, size))


def _jang(found: Found, size: Profile) -> list[str]:
    about = (
        f"Protocol of Jang et al. 2017 on {size.source}: one linear layer each way (784-200-784, "
        "784-(20x10)-784), bits drawn once for training, validation and test, 5/6 of the training "
        f"digits for {size.iterations:,} iterations of batch 100 and 1/6 to choose Adam's rate (of "
        f"{', '.join(f'{rate:g}' for rate in size.rates)}, by {size.selection:,} iterations of "
        "seed 0) and the weights that are kept. *Bound* is the importance-weighted bound of "
        f"{size.importance_samples:,} hard codes on {size.bound_rows:,} test digits; *ELBO* the "
        "negative ELBO of hard codes; nats per sample, lower is better; with more than one seed, "
        "mean ± standard deviation."
    )
    head = (
        "| latent | estimator | bound | published | difference | negative ELBO | active features "
        "| rate | best iteration | still falling | minutes | seeds |"
    )
    lines = [
        about,
        "",
        head,
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    known = methods("jang")
    for name, by_seed in sorted(found.items(), key=lambda item: known[item[0]].family):
        method, cells = known[name], list(by_seed.values())
        mean = statistics.fmean(numbers["nll_bound"] for numbers in cells)
        published = method.published.get("nll_bound")
        told = ("", "") if published is None else (f"{published:.1f}", f"{mean - published:+.1f}")
        lines.append(
            f"| {method.family} | `{method.title}` | **{_mean(cells, 'nll_bound')}** | {told[0]} "
            f"| {told[1]} | {_mean(cells, 'negative_elbo')} "
            f"| {_mean(cells, 'active_features_mean')} | {cells[0]['learning_rate']:g} "
            f"| {cells[0]['best_step']:,} | {_falling(cells[0]['validation']):.2f} "
            f"| {statistics.fmean(n['training_seconds'] for n in cells) / 60:.1f} | {len(cells)} |"
        )
    note = (
        "*Still falling*: by how many nats the negative ELBO of the held-out digits fell over the "
        "last quarter of the training of the first seed."
    )
    return [*lines, "", note]


def _paper(found: Found, size: Profile) -> list[str]:
    about = (
        f"The paper's protocol on {size.source}: networks [512, 384, 256], batch 100, "
        f"{size.iterations:,} iterations, Adam. *Relaxed objective* is the paper's number: **it is "
        "no bound**. Beside it, of the same weights and on the same test digits, the negative ELBO "
        f"and the bound of {size.importance_samples:,} hard codes (on {size.bound_rows:,} of the "
        "test digits, evenly spaced). Nats per sample, lower is better; mean ± standard deviation "
        "over seeds. *Training* is the mean of the objective over the last 200 iterations."
    )
    head = (
        "| method | relaxed objective, test | training | published test / training "
        "| negative ELBO (bound) | bound, M samples | active features "
        "| temperature, gate / feature | binarisation | rate | minutes | seeds |"
    )
    lines = [
        about,
        "",
        head,
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    known: dict[str, Method] = methods("paper")
    for name, by_seed in found.items():
        method, cells = known[name], list(by_seed.values())
        published = "".join(
            f"{method.published[metric]:.2f}{end}"
            for metric, end in (("relaxed_objective", " / "), ("training_objective", ""))
            if method.published
        )
        lines.append(
            f"| {method.title} (`{name}`) | {_mean(cells, 'relaxed_objective', 2)} "
            f"| {_mean(cells, 'training_objective', 2)} | {published} "
            f"| **{_mean(cells, 'negative_elbo')}** | **{_mean(cells, 'nll_bound')}** "
            f"| {_mean(cells, 'active_features_mean')} | {_mean(cells, 'gate_temperature', 2)} / "
            f"{_mean(cells, 'feature_temperature', 2)} | {method.binarisation} "
            f"| {cells[0]['learning_rate']:g} "
            f"| {statistics.fmean(n['training_seconds'] for n in cells) / 60:.1f} | {len(cells)} |"
        )
    return lines


def _mean(cells: list[Numbers], metric: str, digits: int = 1) -> str:
    """Spell the mean of a metric over seeds, and its deviation."""
    return spread([float(numbers[metric]) for numbers in cells], digits)


def _falling(curve: list[list[float]]) -> float:
    """How much the last value is below that at three quarters of the steps (nats)."""
    steps = curve[-1][0]
    before = [value for step, value in curve if step <= 0.75 * steps] or [curve[0][1]]
    return before[-1] - curve[-1][1]
