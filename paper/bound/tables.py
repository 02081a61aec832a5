"""The tables of the discrete bound: rows for machines, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paper.bound.cases import Case, Size
from paper.results import Found, Numbers, row, spread

__all__ = ["markdown", "table_rows"]

METRICS = {
    "negative_elbo": "nats, lower is better, a bound",
    "nll_bound": "nats, lower is better, a bound",
    "active_features_mean": "features a code",
    "active_features_max": "features a code",
    "alive": "features",
    "minutes": "minutes on one thread",
}
PARTS = {
    "headline": "The preset beside the categorical latent: the same networks, estimator and rate",
    "long": "The longest training",
    "short": "The paper's budget of {short:,} iterations of batch 100",
    "networks": "The paper's plain networks, {short:,} iterations",
    "budget": "Budgets L0 at K = 200, {short:,} iterations",
    "data": "The default untouched on other data, {short:,} iterations",
}
CLOSE = (
    "The same weights, measured with more samples",
    "The same weights; each row's posterior fitted to it by {steps} gradient steps",
)
SAMPLES, REFINED = "-close", "-refined"
"""Endings of the names of cases that were measured again."""
ABOUT = (
    "Negative ELBO (hard codes, exact KL, one code a sample) and the importance-weighted bound: "
    "nats a sample, lower is better, both bounds; dynamically binarised, batch 100, the last "
    "weights, the whole test split. Alive: used by more than 0.1 % of its rows. Minutes: wall time "
    "of one thread. ± is the standard deviation over seeds."
)
HEAD = (
    "| latent | data | seeds | iterations | minutes | negative ELBO | NLL bound (samples) "
    "| active, mean | active, largest | alive |"
)
RULE = "|---|---|---|---:|---:|---:|---:|---:|---:|---:|"


def table_rows(found: Found, known: Mapping[str, Case]) -> list[dict[str, Any]]:
    """Return a row for each case, measurement and metric, and each case's curves."""
    measured = [("", found), *((SAMPLES, one) for one in _close(found))]
    rows = []
    for ending, cases in measured:
        for name, by_seed in cases.items():
            case, seeds, first = known[name], list(by_seed), by_seed[min(by_seed)]
            for metric, unit in METRICS.items():
                rows.append(
                    row(
                        name + ending + REFINED * bool(first["refine_steps"]),
                        [by_seed[seed][metric] for seed in seeds],
                        seeds,
                        dataset=case.data,
                        family=case.title,
                        protocol="dynamic binarisation, whole test split",
                        metric=metric,
                        published=None,
                        unit=unit,
                        iterations=case.training.iterations,
                        importance_samples=first["importance_samples"],
                        refine_steps=first["refine_steps"],
                        per_seed=[by_seed[seed][metric] for seed in seeds],
                        curves=[by_seed[seed]["curve"] for seed in seeds]
                        if metric == "negative_elbo" and not ending
                        else None,
                    )
                )
    return rows


def _close(found: Found) -> list[Found]:
    """Return the closer measurements: at the encoder's posteriors, and at refined ones."""
    return [
        {
            name: {seed: one | one["close"][place] for seed, one in by_seed.items() if one["close"]}
            for name, by_seed in found.items()
            if any(one["close"] for one in by_seed.values())
        }
        for place in (0, 1)
    ]


def markdown(found: Found, known: Mapping[str, Case], size: Size) -> str:
    """Return the tables of all parts of which something is done."""
    text = [ABOUT]
    for part, title in PARTS.items():
        names = [name for name in found if part in known[name].parts]
        if names:
            spelled = title.format(short=size.short)
            lines = [_line(known[name], found[name]) for name in names]
            text.append("\n".join([f"### {spelled}", "", HEAD, RULE, *lines]))
    for title, close in zip(CLOSE, _close(found), strict=True):
        lines = [_line(known[name], by_seed) for name, by_seed in close.items()]
        if lines:
            spelled = title.format(steps=size.refine_steps)
            text.append("\n".join([f"### {spelled}", "", HEAD, RULE, *lines]))
    return "\n\n".join(text)


def _line(case: Case, by_seed: Mapping[int, Numbers]) -> str:
    numbers = by_seed.values()

    def over(metric: str, digits: int) -> str:
        return spread(_take(numbers, metric), digits)

    cells = [
        case.title,
        case.data,
        ", ".join(map(str, by_seed)),
        f"{case.training.iterations:,}",
        over("minutes", 1),
        f"**{over('negative_elbo', 2)}**",
        f"{over('nll_bound', 2)} ({next(iter(numbers))['importance_samples']:,})",
        over("active_features_mean", 1),
        f"{max(_take(numbers, 'active_features_max')):.0f}",
        over("alive", 0),
    ]
    return f"| {' | '.join(cells)} |"


def _take(numbers: Iterable[Numbers], metric: str) -> list[float]:
    return [float(one[metric]) for one in numbers]
