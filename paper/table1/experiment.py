"""Density estimation side by side: the paper's Table I, under two protocols.

``jang``
    That of Jang, Gu, Poole (ICLR 2017), whose numbers the paper copies: one linear layer each way,
    bits drawn once, hard codes at evaluation, the bound of 1,000 samples on the test digits, the
    rate chosen on held-out training digits.
``paper``
    The paper's own: networks of three hidden layers, 10,000 iterations of batch 100, training
    objective averaged over the last 200 of them; its *relaxed objective*, which is no bound, and
    beside it the two bounds of the same weights.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from paper.results import (
    Cells,
    Found,
    Say,
    choose,
    in_processes,
    say_on_stderr,
    write_markdown,
    write_results,
)
from paper.table1.methods import (
    PROFILES,
    PROTOCOLS,
    Method,
    Profile,
    methods,
    seeds_of,
)
from paper.table1.tables import markdown, table_rows
from sdlgm.config import DataConfig, TrainingConfig
from sdlgm.data import Dataset, Rows, load_data
from sdlgm.inference.evaluation import evaluate
from sdlgm.models import SDLGM
from sdlgm.nn import data_statistics
from sdlgm.random import generator
from sdlgm.training.checkpoint import FILE as CHECKPOINT
from sdlgm.training.model_training import Result, train

__all__ = ["reproduce"]

HELD_OUT = 1 / 6
"""Share of the training digits that choose the rate and the iteration (10,000 of 60,000)."""


def reproduce(
    out: Path | str,
    *,
    protocol: str = "jang",
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    say: Say = say_on_stderr,
) -> Path:
    """Run what is missing of the table and write table1_PROTOCOL.json and .md.

    Parameters
    ----------
    out
        Folder of the results, and of one file a (method, seed) in ``cells``: a run that was
        stopped goes on after the last of them, and within a training after its last checkpoint.
    protocol
        ``"jang"`` or ``"paper"``.
    profile
        ``"full"`` or ``"smoke"``.
    seeds
        Number of seeds, counted from 0. Default: of the method and the profile.
    only
        Methods to run; others that are done already are reported, too.
    jobs
        Processes at a time, one thread each.
    say
        Takes a line of progress for each cell.

    Raises
    ------
    SDLGMError
        If a protocol, a profile or a method is unknown, or the data are not to be had.
    """
    out = Path(out)
    (protocol,) = choose([protocol], PROTOCOLS, "protocol")
    (profile,) = choose([profile], ("full", "smoke"), "profile")
    size, known = PROFILES[protocol, profile], methods(protocol)
    chosen = choose(only, known, "method")
    plan = [(name, seed) for name in chosen for seed in seeds_of(known[name], size, seeds)]
    plan.sort(key=lambda cell: cell[1])
    if protocol == "jang":
        rates = [(name, rate) for name in chosen for rate in size.rates]
        tried = in_processes(functools.partial(_rate_cell, out, profile), rates, jobs)
        for place, (name, rate, value) in enumerate(tried, 1):
            say(f"rates [{place}/{len(rates)}] {name}, {rate:g}: {value:.2f} nats on held-out rows")
    done = in_processes(functools.partial(_cell, out, protocol, profile), plan, jobs)
    for place, (name, seed, numbers) in enumerate(done, 1):
        say(
            f"[{place}/{len(plan)}] {name}, seed {seed}: negative ELBO "
            f"{numbers['negative_elbo']:.2f}, bound {numbers['nll_bound']:.2f}, relaxed objective "
            f"{numbers['relaxed_objective']:.2f} ({numbers['seconds'] / 60:.1f} min)"
        )
    return _write(out, protocol, profile, size)


# --- cells ------------------------------------------------------------------------------------


def _rate_cell(out: Path, profile: str, name: str, rate: float) -> tuple[str, float, float]:
    """Train for a short while at one rate; the validation bound tells how good it is."""
    method, size = methods("jang")[name], PROFILES["jang", profile]
    training = dataclasses.replace(
        method.training, iterations=size.selection, learning_rate=rate, seed=0
    )

    def compute() -> dict[str, Any]:
        dataset = _dataset(method, size)
        rows, held = dataset.train.split(HELD_OUT, seed=0)
        _, result = _trained(method, training, rows, held, dataset, out / "work" / f"{name}-{rate}")
        return {"negative_elbo": _curve(result)[-1][1]}

    settings = {**method.settings(size), "training": dataclasses.asdict(training)}
    numbers, _ = Cells(out / f"rates-{profile}").get(f"{name}-{rate:g}", 0, settings, compute)
    return name, rate, numbers["negative_elbo"]


def _cell(
    out: Path, protocol: str, profile: str, name: str, seed: int
) -> tuple[str, int, dict[str, Any]]:
    """Train one method with one seed and measure it on the test rows."""
    method, size = methods(protocol)[name], PROFILES[protocol, profile]
    training = dataclasses.replace(method.training, iterations=size.iterations, seed=seed)
    if protocol == "jang":
        tried = {rate: _rate_cell(out, profile, name, rate)[2] for rate in size.rates}
        best = min(tried, key=tried.__getitem__)
        every = max(1, size.iterations // 40)
        training = dataclasses.replace(
            training,
            learning_rate=best,
            validation_fraction=HELD_OUT,
            evaluate_every=every,
            patience=40,  # never stops, but keeps the best weights
        )

    def compute() -> dict[str, Any]:
        dataset = _dataset(method, size)
        rows, held = dataset.train, None
        if protocol == "jang":
            rows, held = rows.split(HELD_OUT, seed=0)
        folder = out / "work" / f"{protocol}-{name}-{seed}"
        model, result = _trained(method, training, rows, held, dataset, folder)
        return {**_measure(model, dataset, size), **_told(result, training, model)}

    numbers, _ = Cells(out / f"{protocol}-{profile}").get(
        name, seed, method.settings(size), compute
    )
    return name, seed, numbers


def _dataset(method: Method, size: Profile) -> Dataset:
    return load_data(DataConfig(size.source, binarisation=method.binarisation), "bernoulli")


def _trained(
    method: Method,
    training: TrainingConfig,
    rows: Rows,
    held: Rows | None,
    dataset: Dataset,
    folder: Path,
) -> tuple[SDLGM, Result]:
    """Train, from the folder's checkpoint if there is one; the folder goes when all is done."""
    statistics = data_statistics(rows.grey())
    model = SDLGM(method.model, statistics, generator(training.seed, "weights"))
    result = train(
        model,
        rows,
        training,
        validation=held,
        folder=folder,
        resume=(folder / CHECKPOINT).is_file(),
    )
    shutil.rmtree(folder)
    return model, result


def _measure(model: SDLGM, dataset: Dataset, size: Profile) -> dict[str, Any]:
    """Measure the three numbers on the test rows; the bound on some of them, where so set."""
    test = dataset.test
    few = test.subset(torch.arange(0, len(test), max(1, len(test) // size.bound_rows)))
    bound = evaluate(model, few, importance_samples=size.importance_samples)
    whole = bound if len(few) == len(test) else evaluate(model, test, importance_samples=1)
    return {
        **dataclasses.asdict(whole),
        "nll_bound": bound.nll_bound,
        "importance_samples": size.importance_samples,
        "bound_rows": len(few),
    }


def _told(result: Result, training: TrainingConfig, model: SDLGM) -> dict[str, Any]:
    """Return what the log of the training tells."""
    last = [line for line in result.history if line["event"] == "train"][-2:]
    return {
        "training_objective": sum(line["objective"] for line in last) / len(last),
        "validation": _curve(result),
        "best_step": result.best_step,
        "learning_rate": training.learning_rate,
        "training_seconds": round(result.seconds, 1),
        "gate_temperature": model.gate_temperature.item(),
        "feature_temperature": model.feature_temperature.item(),
    }


def _curve(result: Result) -> list[tuple[int, float]]:
    """Return (step, negative ELBO on the held-out rows) of each evaluation."""
    return [
        (line["step"], line["negative_elbo"])
        for line in result.history
        if line["event"] == "validation"
    ]


# --- files ------------------------------------------------------------------------------------


def _write(out: Path, protocol: str, profile: str, size: Profile) -> Path:
    """Write the files of all cells that are done, whatever was asked for this time."""
    cells = Cells(out / f"{protocol}-{profile}")
    found: Found = {}
    for name, method in methods(protocol).items():
        for seed in cells.seeds(name):
            numbers = cells.read(name, seed, method.settings(size))
            if numbers is not None:
                found.setdefault(name, {})[seed] = numbers
    spelled = f"python -m paper table1 --protocol {protocol} --profile {profile}"
    path = out / f"table1_{protocol}.json"
    write_results(path, "table1", spelled, table_rows(found, protocol, size))
    write_markdown(path.with_suffix(".md"), markdown(found, protocol, size))
    return path
