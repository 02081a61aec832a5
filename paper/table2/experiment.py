"""Multi-label classification: section IV.B, Table II and figure 5 of the paper.

Birds and Emotions have an official split. CAL500 has none: it is measured with five folds, and
with its first 400 rows as training rows. In two large sets, Bibtex and Delicious, labels are
ranked, and the budget is the number of labels that are shown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paper.results import Numbers, ResultCache, write_tables
from paper.running import (
    Say,
    check_seeds,
    choose,
    profile_named,
    say_on_stderr,
)
from paper.table2 import methods, variants
from paper.table2.methods import PROFILES, Method, Profile, Size
from paper.table2.page import write_labels_page, write_sparsity_figure
from paper.table2.protocol import (
    in_fresh_process,
    measure,
    measure_ranking,
    select,
    select_ranking,
)
from paper.table2.tables import Measurement, markdown, page_tables, result_rows
from sdlgm.data import MultilabelDataset, load_multilabel

__all__ = ["reproduce"]

METHODS: dict[str, Method] = {**methods.METHODS, **variants.METHODS}
FOLDS = tuple(f"fold-{fold}" for fold in range(5))


@dataclass(frozen=True)
class Task:
    """A data set with its splits: a group of columns of the table."""

    name: str
    splits: tuple[str, ...]
    """The numbers are means over the splits."""
    ranking: bool = False


TASKS = {
    "birds": Task("birds", ("official",)),
    "emotions": Task("emotions", ("official",)),
    "cal500": Task("cal500", ("first-400",)),
    "cal500-folds": Task("cal500", FOLDS),
    "bibtex": Task("bibtex", ("official",), ranking=True),
    "delicious": Task("delicious", ("official",), ranking=True),
}
FIGURE = ("birds", "emotions", "cal500")
"""The data sets of figure 5."""


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    say: Say = say_on_stderr,
) -> Path:
    """Run what is missing of the experiment; write table2.json, .md, .html and figure5.png.

    Parameters
    ----------
    out
        Folder of the results. Its folder ``cells`` keeps one file per choice and measurement, from
        which an experiment that was stopped continues.
    profile
        ``"full"`` or ``"smoke"``, with 60 rows per data set, few trees and few epochs.
    seeds
        Number of seeds of the random methods, counted from 0. Settings are chosen with seed 0 and
        used with all seeds.
    only
        Methods, data sets (``birds``, ``emotions``, ``cal500``, ``cal500-folds``, ``bibtex``,
        ``delicious``), or both. The files report everything that is finished.
    say
        Receives a line of progress for each choice and measurement.

    Raises
    ------
    SDLGMError
        If a profile, method or data set is unknown, or the data are not available.
    """
    out = Path(out)
    size = profile_named(profile, PROFILES)
    if seeds is not None:
        number = check_seeds(seeds)
        size = replace(size, seeds=number, ranking_seeds=min(number, size.ranking_seeds))
    chosen = choose(only, [*METHODS, *TASKS], "method or set")
    methods = [method for method in METHODS if method in chosen] or list(METHODS)
    tasks = [task for task in TASKS if task in chosen] or list(TASKS)
    cache = ResultCache(out / "cells")
    plan = [
        (task, method)
        for task in tasks
        for method in methods
        if METHODS[method].ranks or not TASKS[task].ranking
    ]
    for place, (task, method) in enumerate(plan, 1):
        for line in _run(cache, task, method, size):
            say(f"[{place}/{len(plan)}] {line}")
    found = list(_finished(cache, size))
    command = f"python -m paper table2 --profile {profile}"
    numbers = {
        name: np.asarray(_load(name, TASKS[name].splits[0], size).Y_train.sum(1))
        for name in FIGURE
        if any(one.task.startswith(name) for one in found)
    }
    if numbers:
        write_sparsity_figure(out / "figure5.png", numbers)
    write_labels_page(out / "table2.html", numbers, page_tables(found, METHODS), command)
    return write_tables(
        out / "table2.json",
        "table2",
        command,
        result_rows(found, METHODS),
        markdown(found, METHODS),
    )


def _run(cache: ResultCache, task: str, method: str, size: Profile) -> Iterator[str]:
    """Choose settings and measure a method on a data set; yield a line of progress for each."""
    made = METHODS[method]
    ranking = TASKS[task].ranking
    number = size.ranking_seeds if ranking else size.seeds
    for split in TASKS[task].splits:
        known = _settings(task, split, method, size)
        key = f"{task}.{split}.{method}"
        choice, stored = cache.get(
            f"{key}.choice", 0, known, functools.partial(_choose, task, split, method, size)
        )
        yield f"{key}, choice: {_spent(choice, stored)}"
        for seed in range(number if made.random else 1):
            numbers, stored = cache.get(
                key,
                seed,
                {**known, "choice": _without_time(choice)},
                functools.partial(_measured, task, split, method, size, choice, seed),
            )
            text = (
                f"P@1 {numbers['precision_at_1']:.2f}"
                if ranking
                else f"micro {numbers['micro']['micro_f1']:.2f}, macro (harmonic) "
                f"{numbers['macro']['macro_f1_harmonic']:.2f}"
            )
            yield f"{key}, seed {seed}: {text} ({_spent(numbers, stored)})"


def _choose(task: str, split: str, method: str, size: Profile) -> dict[str, Any]:
    data = _load(TASKS[task].name, split, size)
    return (select_ranking if TASKS[task].ranking else select)(METHODS[method], data, size)


def _measured(
    task: str, split: str, method: str, size: Profile, choice: dict[str, Any], seed: int
) -> dict[str, Any]:
    if TASKS[task].ranking:
        return in_fresh_process(_ranking_measured, task, split, method, size, choice, seed)
    return measure(METHODS[method], _load(TASKS[task].name, split, size), size, choice, seed)


def _ranking_measured(
    task: str, split: str, method: str, size: Profile, choice: dict[str, Any], seed: int
) -> dict[str, Any]:
    data = _load(TASKS[task].name, split, size)
    return measure_ranking(METHODS[method], data, size, choice, seed)


def _finished(cache: ResultCache, size: Profile) -> Iterator[Measurement]:
    """Yield all finished measurements of a profile, including those not requested this time.

    For a data set with several splits, only the seeds that are finished on all of them.
    """
    for task, description in TASKS.items():
        for method, made in METHODS.items():
            done = {
                split: _of_split(cache, task, split, method, size) for split in description.splits
            }
            for seed in range(100 if made.random else 1):
                if all(seed in by_seed for by_seed in done.values()):
                    yield from (by_seed[seed] for by_seed in done.values())


def _of_split(
    cache: ResultCache, task: str, split: str, method: str, size: Profile
) -> dict[int, Measurement]:
    """Return the finished measurements of a method on one split, by seed."""
    known = _settings(task, split, method, size)
    key = f"{task}.{split}.{method}"
    choice = cache.read(f"{key}.choice", 0, known)
    if choice is None:
        return {}
    found = {}
    for seed in cache.seeds(key) if METHODS[method].random else (0,):
        numbers = cache.read(key, seed, {**known, "choice": _without_time(choice)})
        if numbers is not None:
            ranking = TASKS[task].ranking
            found[seed] = Measurement(task, split, ranking, method, seed, choice, numbers)
    return found


def _settings(task: str, split: str, method: str, size: Profile) -> dict[str, Any]:
    """Return everything that a choice depends on. A measurement also depends on the choice."""
    made = METHODS[method]
    ranking = TASKS[task].ranking
    given = made.ranking_settings if ranking and made.ranking_settings else made.settings
    estimator = made.make(given[0], size, 0)
    parameters = estimator.get_params()
    return {
        "set": TASKS[task].name,
        "split": split,
        "rows": size.rows,
        "scale": size.scale,
        "settings": [dict(setting) for setting in given][: size.settings],
        "estimator": {k: v for k, v in parameters.items() if _plain(v)},
        "decisions": [] if ranking else [d.name for d in made.decisions(Size(20, 5))],
    }


def _plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)


def _without_time(choice: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in choice.items() if name != "seconds"}


def _spent(numbers: Numbers, stored: bool) -> str:
    return "done before" if stored else f"{numbers['seconds']} s"


@functools.lru_cache(maxsize=8)
def _load(name: str, split: str, size: Profile) -> MultilabelDataset:
    """Load a data set; small ones without rows that have no label, and standardised."""
    large = any(task.ranking for task in TASKS.values() if task.name == name)
    data = load_multilabel(name, split, drop_unlabelled=not large, standardise=not large)
    if size.rows is None:
        return data
    return replace(
        data,
        X_train=data.X_train[: size.rows],
        Y_train=data.Y_train[: size.rows],
        X_test=data.X_test[: size.rows],
        Y_test=data.Y_test[: size.rows],
    )
