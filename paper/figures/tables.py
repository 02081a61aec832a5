"""The numbers of figures 3 and 4: rows of the results file, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from paper.results import row, spread
from sdlgm.config import TrainingConfig, preset

__all__ = [
    "METRICS",
    "Numbers",
    "Tables",
    "baseline_table",
    "describe",
    "figure_rows",
    "markdown",
    "model_table",
]

Numbers = dict[str, float]
"""Values by metric."""


class Tables(NamedTuple):
    """All numbers of the experiment."""

    models: Mapping[str, Sequence[Numbers]]
    """For each model, the numbers of each seed."""
    baselines: Mapping[str, Numbers]


class Metric(NamedTuple):
    """The title of a metric and its number of digits."""

    title: str
    digits: int


METRICS = {
    "negative_elbo": Metric("negative ELBO, nats (bound)", 2),
    "nll_bound": Metric("NLL bound, nats (bound)", 2),
    "relaxed_objective": Metric("relaxed objective, nats (not a bound)", 2),
    "active_features_mean": Metric("active features, mean", 2),
    "gate_temperature": Metric("temperature of the gates", 3),
    "feature_temperature": Metric("temperature of the features", 3),
    "reconstruction_codes": Metric("-log p(x given discrete code), nats", 2),
    "reconstruction_relaxed": Metric("-log p(x given relaxed sample), nats", 2),
    "pixel_error_codes": Metric("wrong pixels from discrete codes, fraction", 4),
    "pixel_error_relaxed": Metric("wrong pixels from relaxed samples, fraction", 4),
    "neighbours_codes": Metric("10-nearest-neighbour accuracy of codes", 4),
    "neighbours_expected": Metric("10-nearest-neighbour accuracy of expected counts", 4),
    "open_slots_mean": Metric("open slots, mean", 2),
    "variance_ratio": Metric("variance of open slots over the Binomial's", 3),
    "variance_within": Metric("... within a digit", 3),
    "variance_between": Metric("... between digits (sparsity logits)", 3),
    "tv_exact": Metric("total variation: open slots, Binomial of same mean", 3),
    "tv_drawn": Metric("total variation: drawn open slots, Binomial of same mean", 3),
    "tv_by_chance": Metric("total variation expected from drawing codes", 3),
    "tv_prior": Metric("total variation: open slots, Binomial(L0, 1/2)", 3),
    "tv_logits": Metric("total variation: sparsity logits, Binomial of same mean", 3),
    "minutes": Metric("minutes of training", 1),
}


BASELINE_METRICS = {
    "nll": Metric("-log p(x), nats (bound)", 2),
    "pixel_error": Metric("wrong pixels, fraction", 4),
    "neighbours": Metric("10-nearest-neighbour accuracy", 4),
}


def describe(data: str, iterations: int, digits: int, seeds: int, importance_samples: int) -> str:
    """Describe the data, the training and the units."""
    shape, batch = preset("plain")[0], TrainingConfig().batch_size
    which = "seed 0" if seeds == 1 else f"{seeds} seeds from 0 (figures: seed 0)"
    return (
        f"{data}, dynamic binarisation, K = {shape.features}, L0 = {shape.budget}, "
        f"{iterations:,} iterations of batch {batch}, {which}. Bounds are means over the whole "
        f"test split, the NLL bound with M = {importance_samples}. All other numbers use "
        f"{digits:,} digits, evenly spaced over the split, with one code each. Nats are per "
        "sample, lower is better; accuracies and fractions lie between 0 and 1."
    )


def figure_rows(
    tables: Tables, families: Mapping[str, str], data: str, described: str, importance_samples: int
) -> list[dict[str, Any]]:
    """Return the rows of the results file."""
    rows = []
    for model, by_seed in tables.models.items():
        for name, metric in METRICS.items():
            more = {"importance_samples": importance_samples} if name == "nll_bound" else {}
            rows.append(
                row(
                    model,
                    [numbers[name] for numbers in by_seed],
                    list(range(len(by_seed))),
                    dataset=data,
                    family=families[model],
                    protocol=described,
                    metric=name,
                    title=metric.title,
                    **more,
                )
            )
    for baseline, numbers in tables.baselines.items():
        rows += [
            row(
                baseline,
                [value],
                [0],
                dataset=data,
                family="baseline",
                protocol=described,
                metric=name,
                title=BASELINE_METRICS[name].title,
            )
            for name, value in numbers.items()
        ]
    return rows


def model_table(tables: Tables) -> list[list[str]]:
    """Return all metrics of the models as a table, the head first."""
    body = [
        [metric.title, *(_formatted(by_seed, name) for by_seed in tables.models.values())]
        for name, metric in METRICS.items()
    ]
    return [["metric", *tables.models], *body]


def baseline_table(tables: Tables) -> list[list[str]]:
    """Return the baselines without a code as a table, the head first."""
    body = [
        [
            name,
            *(
                f"{numbers[metric]:.{form.digits}f}" if metric in numbers else ""
                for metric, form in BASELINE_METRICS.items()
            ),
        ]
        for name, numbers in tables.baselines.items()
    ]
    return [["baseline", *(metric.title for metric in BASELINE_METRICS.values())], *body]


def markdown(tables: Tables, described: str) -> str:
    """Return the tables in Markdown."""
    without = (
        "Baselines without a code. *mean digit*: independent pixels with the training mean, so its "
        "nats are a bound. Neighbours by Euclidean distance among the same digits."
    )
    return "\n".join(
        [
            described,
            "",
            *_lines(model_table(tables)),
            "",
            without,
            "",
            *_lines(baseline_table(tables)),
        ]
    )


def _formatted(by_seed: Sequence[Numbers], name: str) -> str:
    return spread([numbers[name] for numbers in by_seed], METRICS[name].digits)


def _lines(table: Sequence[Sequence[str]]) -> list[str]:
    head, *body = table
    rule = f"|---|{'---:|' * (len(head) - 1)}"
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(values)} |" for values in body)]
