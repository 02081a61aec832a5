"""Tables of the comparison of classifiers: average ranks with a test, the best rivals, metrics."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, studentized_range

from paper.results import Numbers, row

__all__ = ["METRICS", "Found", "Metric", "Rows", "average_ranks", "markdown", "result_rows"]

Folds = Mapping[int, Numbers]
Found = Mapping[str, Mapping[str, Folds]]
"""Numbers by set, method and fold."""
Rows = dict[str, object]


@dataclass(frozen=True)
class Metric:
    """A number of predictions, and which end is better."""

    title: str
    higher: bool


METRICS = {
    "micro_f1": Metric("micro-F1", True),
    "macro_f1": Metric("macro-F1", True),
    "samples_f1": Metric("samples F1", True),
    "subset_accuracy": Metric("subset accuracy", True),
    "lrap": Metric("LRAP", True),
    "nats": Metric("nats a row", False),
    "calibration_error": Metric("calibration error", False),
    "count_error": Metric("error of the number of labels", False),
    "seconds": Metric("processor seconds a fit", False),
}


def result_rows(found: Found) -> Iterator[Rows]:
    """Yield one row of the results file for each set, method and metric."""
    for name, methods in found.items():
        for method, folds in methods.items():
            for metric in METRICS:
                yield row(
                    method, [folds[place][metric] for place in sorted(folds)], sorted(folds),
                    dataset=name, family="label sets", protocol="cross-validation", metric=metric,
                )  # fmt: skip


def markdown(
    found: Found,
    about: str,
    *,
    groups: Mapping[str, Sequence[str]],
    own: str,
    averages: Sequence[str],
) -> str:
    """Return the tables of ranks, of the best rivals, and of each metric.

    Ranks are those of methods that are complete on all sets of a table, and of all methods on the
    sets where all are complete, if there are two or more. A method is complete on a set if none has
    more folds.

    Parameters
    ----------
    found
        What was measured, in the order of the tables.
    about
        What the numbers are.
    groups
        Names of groups of sets, each of which gets a table of ranks.
    own
        The method that is compared with its best rival on each set.
    averages
        Methods that are averages of others, and not among the rivals.
    """
    methods = list(dict.fromkeys(method for each in found.values() for method in each))
    single = [method for method in methods if method not in averages]
    parts = [about]
    for title, sets, among in (
        ("all sets", list(found), methods),
        *((f"{group} sets", [n for n in found if n in names], methods)
          for group, names in groups.items()),
        ("all sets, without averages", list(found), single),
    ):  # fmt: skip
        for chosen in _comparisons(found, sets, among):
            parts += ["", *_rank_table(found, title, *chosen)]
    if own in methods:
        parts += ["", *_rivals(found, own, [name for name in single if name != own])]
    for name, metric in METRICS.items():
        parts += ["", f"### {metric.title}", "", f"| method | {' | '.join(found)} |"]
        parts.append("|---|" + "---:|" * len(found))
        for method in methods:
            cells = (_shown(found, each, method, name) for each in found)
            parts.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(parts)


def _complete(found: Found, name: str, method: str) -> bool:
    folds = {each: len(numbers) for each, numbers in found[name].items()}
    return folds.get(method, 0) == max(folds.values())


def _comparisons(
    found: Found, sets: Sequence[str], methods: Sequence[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield sets and methods without gaps: first all sets, then all methods."""
    some = [m for m in methods if any(_complete(found, name, m) for name in sets)]
    on_all = [m for m in some if all(_complete(found, name, m) for name in sets)]
    if sets and len(on_all) > 1:
        yield list(sets), on_all
    full = [name for name in sets if all(_complete(found, name, m) for m in some)]
    if len(full) > 1 and len(some) > len(on_all):
        yield full, some


def _mean(folds: Folds, metric: str) -> float:
    return statistics.fmean(one[metric] for one in folds.values())


def _shown(found: Found, name: str, method: str, metric: str) -> str:
    """Return a mean; with a star if other methods have more folds, and a dash if there is none."""
    if method not in found[name]:
        return "-"
    star = "" if _complete(found, name, method) else "*"
    return f"{_mean(found[name][method], metric):.2f}{star}"


def average_ranks(
    values: NDArray[np.float64], higher: bool
) -> tuple[NDArray[np.float64], float, float]:
    """Return the average rank of each method, the p-value of Friedman's test, and a distance.

    Average ranks that differ by more than this critical distance of Nemenyi's test differ at the
    level 0.05 (Demsar, "Statistical comparisons of classifiers over multiple data sets", 2006).

    Parameters
    ----------
    values
        One row a data set, one column a method.
    higher
        Whether higher values are better.
    """
    sets, methods = values.shape
    ranks = rankdata(-values if higher else values, axis=1)
    tested = methods > 2 and sets > 1
    p = float(friedmanchisquare(*values.T).pvalue) if tested else float("nan")
    quantile = studentized_range.ppf(0.95, methods, np.inf) / np.sqrt(2)
    return ranks.mean(0), p, float(quantile * np.sqrt(methods * (methods + 1) / (6 * sets)))


def _rank_table(found: Found, title: str, sets: list[str], methods: list[str]) -> Iterator[str]:
    ranks, tests = [], []
    for name, metric in METRICS.items():
        table = np.array(
            [[_mean(found[each][method], name) for method in methods] for each in sets]
        )
        mean, p, distance = average_ranks(table, metric.higher)
        ranks.append(mean)
        tests.append((p, distance))
    yield f"### Average ranks over {len(sets)} sets ({title})"
    folds = {each: max(len(numbers) for numbers in found[each].values()) for each in sets}
    yield f"\nSets (folds): {', '.join(f'{each} ({folds[each]})' for each in sets)}.\n"
    yield f"| method | {' | '.join(metric.title for metric in METRICS.values())} |"
    yield "|---|" + "---:|" * len(METRICS)
    for place, method in enumerate(methods):
        yield f"| {method} | {' | '.join(f'{rank[place]:.1f}' for rank in ranks)} |"
    yield f"| p (Friedman) | {' | '.join(f'{p:.3f}' for p, _ in tests)} |"
    yield f"| critical distance | {' | '.join(f'{d:.1f}' for _, d in tests)} |"


def _rivals(found: Found, own: str, rivals: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table of a method beside the best of its rivals on each set."""
    yield f"### {own} and the best rival on each set, micro-F1"
    yield "\n*Deviation*: of the difference, over the folds.\n"
    yield f"| set | {own} | best rival | its micro-F1 | difference | deviation |"
    yield "|---|---:|---|---:|---:|---:|"
    for name, methods in found.items():
        others = [m for m in rivals if m in methods and _complete(found, name, m)]
        if own not in methods or not _complete(found, name, own) or not others:
            continue
        best = max(others, key=lambda method: _mean(methods[method], "micro_f1"))
        folds = [
            methods[own][place]["micro_f1"] - numbers["micro_f1"]
            for place, numbers in methods[best].items()
        ]
        spread = f"{statistics.stdev(folds):.2f}" if len(folds) > 1 else "-"
        yield (
            f"| {name} | {_mean(methods[own], 'micro_f1'):.2f} | {best} | "
            f"{_mean(methods[best], 'micro_f1'):.2f} | {statistics.fmean(folds):+.2f} | {spread} |"
        )
