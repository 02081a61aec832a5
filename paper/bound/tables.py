"""The tables of the discrete bound: rows of the results file, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from paper.bound.cases import Case, Size
from paper.results import Finished, Numbers, row, spread

__all__ = ["markdown", "table_rows"]

METRICS = {
    "negative_elbo": "nats, lower is better, a bound",
    "nll_bound": "nats, lower is better, a bound",
    "active_features_mean": "features per code",
    "active_features_max": "features per code",
    "alive": "features",
    "minutes": "minutes on one thread",
}
PARTS = {
    "headline": "The preset and a categorical latent with the same networks, estimator and rate",
    "long": "The longest training",
    "short": "The paper's budget of {short:,} iterations of batch 100",
    "networks": "The paper's plain networks, {short:,} iterations",
    "budget": "Budgets L0 at K = 200, {short:,} iterations",
    "data": "The default settings on other data, {short:,} iterations",
}
CLOSE = (
    "The same weights, evaluated with more samples",
    "The same weights; each row's posterior fitted to it by {steps} gradient steps",
)
SAMPLES, REFINED = "-close", "-refined"
"""Suffixes of the names of cases in the closer evaluations."""
DESCRIPTION = (
    "Negative ELBO (hard codes, exact KL, one code per sample) and importance-weighted bound: both "
    "are bounds, in nats per sample, lower is better. Dynamic binarisation, batch 100, the last "
    "weights, the whole test split. Alive: features used by more than 0.1 % of its rows. Minutes: "
    "wall time of one thread. ± is the standard deviation over seeds."
)
HEAD = (
    "| latent | data | seeds | iterations | minutes | negative ELBO | NLL bound (samples) "
    "| active, mean | active, largest | alive |"
)
RULE = "|---|---|---|---:|---:|---:|---:|---:|---:|---:|"


def table_rows(found: Finished, known: Mapping[str, Case]) -> list[dict[str, Any]]:
    """Return a row for each case, evaluation and metric, with the curves of the case."""
    measured = [("", found), *((SAMPLES, one) for one in _close(found))]
    rows = []
    for suffix, cases in measured:
        for name, by_seed in cases.items():
            case, seeds, first = known[name], list(by_seed), by_seed[min(by_seed)]
            for metric, unit in METRICS.items():
                rows.append(
                    row(
                        name + suffix + REFINED * bool(first["refine_steps"]),
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
                        if metric == "negative_elbo" and not suffix
                        else None,
                    )
                )
    return rows


def _close(found: Finished) -> list[Finished]:
    """Return the closer evaluations: with the encoder's posteriors, and with refined ones."""
    return [
        {
            name: {seed: one | one["close"][place] for seed, one in by_seed.items() if one["close"]}
            for name, by_seed in found.items()
            if any(one["close"] for one in by_seed.values())
        }
        for place in (0, 1)
    ]


def markdown(
    found: Finished,
    known: Mapping[str, Case],
    size: Size,
    parts: Mapping[str, str] = PARTS,
) -> str:
    """Return the tables of all parts that have finished cases; ``parts`` are their headings."""
    text = [DESCRIPTION]
    for part, title in parts.items():
        names = [name for name in found if part in known[name].parts]
        if names:
            heading = title.format(short=size.short)
            lines = [_line(known[name], found[name]) for name in names]
            text.append("\n".join([f"### {heading}", "", HEAD, RULE, *lines]))
    for title, close in zip(CLOSE, _close(found), strict=True):
        lines = [_line(known[name], by_seed) for name, by_seed in close.items()]
        if lines:
            heading = title.format(steps=size.refine_steps)
            text.append("\n".join([f"### {heading}", "", HEAD, RULE, *lines]))
    return "\n\n".join(text)


def _line(case: Case, by_seed: Mapping[int, Numbers]) -> str:
    numbers = by_seed.values()

    def over(metric: str, digits: int) -> str:
        return spread(_take(numbers, metric), digits)

    values = [
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
    return f"| {' | '.join(values)} |"


def _take(numbers: Iterable[Numbers], metric: str) -> list[float]:
    return [float(one[metric]) for one in numbers]
