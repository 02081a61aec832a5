"""Bounds of discrete latents: Table I of the paper, under two protocols.

``jang``
    The protocol of Jang, Gu and Poole (ICLR 2017), whose numbers the paper copies: one linear
    layer each way, bits drawn once, hard codes at evaluation, the bound with 1,000 samples on the
    test digits, and a learning rate chosen on held-out training digits.
``paper``
    The paper's own: networks of three hidden layers, 10,000 iterations of batch 100, and the
    training objective averaged over the last 200 of them. Its *relaxed objective* is not a bound,
    so the two bounds of the same weights are reported beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from paper.results import Numbers, ResultCache, write_tables
from paper.running import (
    Say,
    choose,
    measure_all,
    plan_runs,
    profile_named,
    say_on_stderr,
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
"""Fraction of the training digits that chooses the rate and the weights (10,000 of 60,000)."""


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
    """Run what is missing of the table; write table1_PROTOCOL.json and table1_PROTOCOL.md.

    Parameters
    ----------
    out
        Folder of the results. Its folder ``PROTOCOL-PROFILE`` keeps one file per method and seed,
        from which an experiment that was stopped continues; a training that was stopped continues
        from its last checkpoint.
    protocol
        ``"jang"`` or ``"paper"``.
    profile
        ``"full"`` or ``"smoke"``.
    seeds
        Number of seeds, counted from 0. Default: that of the method and the profile.
    only
        Methods to run. The files report all finished methods.
    jobs
        Number of processes, with one thread each.
    say
        Receives a line of progress for each rate, and for each method and seed.

    Raises
    ------
    SDLGMError
        If a protocol, a profile or a method is unknown, or the data are not available.
    """
    out = Path(out)
    (protocol,) = choose([protocol], PROTOCOLS, "protocol")
    size, known = profile_named(profile, PROFILES[protocol]), methods(protocol)
    chosen = choose(only, known, "method")
    plan = plan_runs(chosen, lambda name: seeds_of(known[name], size, seeds))
    if protocol == "jang":
        rates = [(name, rate) for name in chosen for rate in size.rates]
        measure_all(
            functools.partial(_try_rate, out, profile),
            rates,
            lambda tried: "{}, {:g}: {:.2f} nats on held-out rows".format(*tried),
            say=say,
            jobs=jobs,
            prefix="rates ",
        )
    measure = functools.partial(_measured, out, protocol, profile)
    measure_all(measure, plan, _progress, say=say, jobs=jobs)
    found = _cache(out, protocol, profile).finished(
        known, lambda name, seed: known[name].settings(size)
    )
    command = f"python -m paper table1 --protocol {protocol} --profile {profile}"
    return write_tables(
        out / f"table1_{protocol}.json",
        "table1",
        command,
        table_rows(found, protocol, size),
        markdown(found, protocol, size),
    )


def _cache(out: Path, protocol: str, profile: str) -> ResultCache:
    return ResultCache(out / f"{protocol}-{profile}")


def _progress(result: tuple[str, int, Numbers]) -> str:
    name, seed, numbers = result
    return (
        f"{name}, seed {seed}: negative ELBO {numbers['negative_elbo']:.2f}, bound "
        f"{numbers['nll_bound']:.2f}, relaxed objective {numbers['relaxed_objective']:.2f} "
        f"({numbers['seconds'] / 60:.1f} min)"
    )


def _try_rate(out: Path, profile: str, name: str, rate: float) -> tuple[str, float, float]:
    """Train briefly at one learning rate; return the negative ELBO of the held-out rows."""
    method, size = methods("jang")[name], PROFILES["jang"][profile]
    training = dataclasses.replace(
        method.training, iterations=size.selection, learning_rate=rate, seed=0
    )

    def compute() -> Numbers:
        dataset = _dataset(method, size)
        rows, held = dataset.train.split(HELD_OUT, seed=0)
        _, result = _trained(method, training, rows, held, dataset, out / "work" / f"{name}-{rate}")
        return {"negative_elbo": _curve(result)[-1][1]}

    settings = {**method.settings(size), "training": dataclasses.asdict(training)}
    cache = ResultCache(out / f"rates-{profile}")
    numbers, _ = cache.get(f"{name}-{rate:g}", 0, settings, compute)
    return name, rate, numbers["negative_elbo"]


def _measured(
    out: Path, protocol: str, profile: str, name: str, seed: int
) -> tuple[str, int, Numbers]:
    """Return the numbers of a method and a seed; train and measure it if they are not stored."""
    method, size = methods(protocol)[name], PROFILES[protocol][profile]
    training = dataclasses.replace(method.training, iterations=size.iterations, seed=seed)
    if protocol == "jang":
        tried = {rate: _try_rate(out, profile, name, rate)[2] for rate in size.rates}
        best = min(tried, key=tried.__getitem__)
        every = max(1, size.iterations // 40)
        training = dataclasses.replace(
            training,
            learning_rate=best,
            validation_fraction=HELD_OUT,
            evaluate_every=every,
            patience=40,  # never stops early, but keeps the best weights
        )

    def compute() -> Numbers:
        dataset = _dataset(method, size)
        rows, held = dataset.train, None
        if protocol == "jang":
            rows, held = rows.split(HELD_OUT, seed=0)
        folder = out / "work" / f"{protocol}-{name}-{seed}"
        model, result = _trained(method, training, rows, held, dataset, folder)
        return {**_evaluated(model, dataset, size), **_training_log(result, training, model)}

    cache = _cache(out, protocol, profile)
    numbers, _ = cache.get(name, seed, method.settings(size), compute)
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
    """Train, from the folder's checkpoint if it has one; delete the folder at the end."""
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


def _evaluated(model: SDLGM, dataset: Dataset, size: Profile) -> Numbers:
    """Evaluate on the test rows; the importance-weighted bound only on ``size.bound_rows``."""
    test = dataset.test
    subset = test.subset(torch.arange(0, len(test), max(1, len(test) // size.bound_rows)))
    bound = evaluate(model, subset, importance_samples=size.importance_samples)
    whole = bound if len(subset) == len(test) else evaluate(model, test, importance_samples=1)
    return {
        **dataclasses.asdict(whole),
        "nll_bound": bound.nll_bound,
        "importance_samples": size.importance_samples,
        "bound_rows": len(subset),
    }


def _training_log(result: Result, training: TrainingConfig, model: SDLGM) -> dict[str, Any]:
    """Return the objective, the validation curve and the temperatures of a training."""
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
    """Return (step, negative ELBO on the held-out rows) for each evaluation."""
    return [
        (line["step"], line["negative_elbo"])
        for line in result.history
        if line["event"] == "validation"
    ]
