"""Multi-label classification: the paper's section IV.B, Table II and figure 5.

Birds and Emotions have an official split; CAL500 has none, and is measured by five folds and by
its first 400 rows. Two large sets, Bibtex and Delicious, are ranked: the budget is the number of
labels that are shown.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paper.results import (
    Cells,
    Say,
    check_seeds,
    choose,
    say_on_stderr,
    write_markdown,
    write_results,
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
from paper.table2.tables import Cell, markdown, page_tables, result_rows
from sdlgm.data import MultilabelDataset, load_multilabel

__all__ = ["reproduce"]

METHODS: dict[str, Method] = {**methods.METHODS, **variants.METHODS}
FOLDS = tuple(f"fold-{fold}" for fold in range(5))


@dataclass(frozen=True)
class Task:
    """One set with its splits: a group of columns of the table."""

    name: str
    splits: tuple[str, ...]
    """The numbers are means over them."""
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
"""The sets of figure 5."""


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
        Folder of the results, and of one file a choice and a measurement in ``cells``: a run that
        was stopped goes on after the last of them.
    profile
        ``"full"``, or ``"smoke"``: 60 rows a set, few trees and epochs.
    seeds
        Number of seeds of the methods that draw, counted from 0. The choice of settings is made
        with seed 0 and holds for all.
    only
        Methods, sets (``birds``, ``emotions``, ``cal500``, ``cal500-folds``, ``bibtex``,
        ``delicious``), or both; what is done already is reported, too.
    say
        Takes a line of progress for each cell.

    Raises
    ------
    SDLGMError
        If a profile, method or set is unknown, or the data are not to be had.
    """
    out = Path(out)
    (name,) = choose([profile], PROFILES, "profile")
    size = PROFILES[name]
    if seeds is not None:
        number = check_seeds(seeds)
        size = replace(size, seeds=number, ranking_seeds=min(number, size.ranking_seeds))
    chosen = choose(only, [*METHODS, *TASKS], "method or set")
    methods = [method for method in METHODS if method in chosen] or list(METHODS)
    tasks = [task for task in TASKS if task in chosen] or list(TASKS)
    cells = Cells(out / "cells")
    plan = [
        (task, method)
        for task in tasks
        for method in methods
        if METHODS[method].ranks or not TASKS[task].ranking
    ]
    for place, (task, method) in enumerate(plan, 1):
        for line in _run(cells, task, method, size):
            say(f"[{place}/{len(plan)}] {line}")
    found = list(_found(cells, size))
    spelled = f"python -m paper table2 --profile {profile}"
    write_results(out / "table2.json", "table2", spelled, result_rows(found, METHODS))
    write_markdown(out / "table2.md", markdown(found, METHODS))
    numbers = {
        name: np.asarray(_load(name, TASKS[name].splits[0], size).Y_train.sum(1))
        for name in FIGURE
        if any(cell.task.startswith(name) for cell in found)
    }
    if numbers:
        write_sparsity_figure(out / "figure5.png", numbers)
    write_labels_page(out / "table2.html", numbers, page_tables(found, METHODS), spelled)
    return out / "table2.json"


def _run(cells: Cells, task: str, method: str, size: Profile) -> Iterator[str]:
    """Do what is missing of a method on a set; yield a line a cell."""
    made = METHODS[method]
    ranking = TASKS[task].ranking
    number = size.ranking_seeds if ranking else size.seeds
    for split in TASKS[task].splits:
        known = _settings(task, split, method, size)
        key = f"{task}.{split}.{method}"
        choice, there = cells.get(
            f"{key}.choice", 0, known, functools.partial(_choose, task, split, method, size)
        )
        yield f"{key}, choice: {_spent(choice, there)}"
        for seed in range(number if made.random else 1):
            numbers, there = cells.get(
                key,
                seed,
                {**known, "choice": _without_time(choice)},
                functools.partial(_measure, task, split, method, size, choice, seed),
            )
            text = (
                f"P@1 {numbers['precision_at_1']:.2f}"
                if ranking
                else f"micro {numbers['micro']['micro_f1']:.2f}, macro (harmonic) "
                f"{numbers['macro']['macro_f1_harmonic']:.2f}"
            )
            yield f"{key}, seed {seed}: {text} ({_spent(numbers, there)})"


def _choose(task: str, split: str, method: str, size: Profile) -> dict[str, Any]:
    data = _load(TASKS[task].name, split, size)
    return (select_ranking if TASKS[task].ranking else select)(METHODS[method], data, size)


def _measure(
    task: str, split: str, method: str, size: Profile, choice: dict[str, Any], seed: int
) -> dict[str, Any]:
    if TASKS[task].ranking:
        return in_fresh_process(_measure_here, task, split, method, size, choice, seed)
    return measure(METHODS[method], _load(TASKS[task].name, split, size), size, choice, seed)


def _measure_here(
    task: str, split: str, method: str, size: Profile, choice: dict[str, Any], seed: int
) -> dict[str, Any]:
    data = _load(TASKS[task].name, split, size)
    return measure_ranking(METHODS[method], data, size, choice, seed)


def _found(cells: Cells, size: Profile) -> Iterator[Cell]:
    """Read all finished cells of this size, whatever was asked for this time.

    Of a set with several splits only seeds that are done on all of them count.
    """
    for task, about in TASKS.items():
        for method, made in METHODS.items():
            done = {split: _of_split(cells, task, split, method, size) for split in about.splits}
            for seed in range(100 if made.random else 1):
                if all(seed in by_seed for by_seed in done.values()):
                    yield from (by_seed[seed] for by_seed in done.values())


def _of_split(cells: Cells, task: str, split: str, method: str, size: Profile) -> dict[int, Cell]:
    known = _settings(task, split, method, size)
    key = f"{task}.{split}.{method}"
    choice = cells.read(f"{key}.choice", 0, known)
    if choice is None:
        return {}
    found = {}
    for seed in cells.seeds(key) if METHODS[method].random else (0,):
        numbers = cells.read(key, seed, {**known, "choice": _without_time(choice)})
        if numbers is not None:
            ranking = TASKS[task].ranking
            found[seed] = Cell(task, split, ranking, method, seed, choice, numbers)
    return found


def _settings(task: str, split: str, method: str, size: Profile) -> dict[str, Any]:
    """Return all that a choice depends on; what is measured depends on the choice, too."""
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


def _spent(numbers: dict[str, Any], there: bool) -> str:
    return "done before" if there else f"{numbers['seconds']} s"


@functools.lru_cache(maxsize=8)
def _load(name: str, split: str, size: Profile) -> MultilabelDataset:
    """Load a set as the protocol has it, without rows that have no label; dense sets z-scored."""
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
