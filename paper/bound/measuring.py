"""Run the cases of a bound experiment: train, measure, and keep numbers and models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from paper.bound.cases import PROFILES, Case, Size
from paper.results import Finished, Numbers, ResultCache
from paper.running import Say, check_seeds, choose, measure_all, plan_runs, profile_named
from sdlgm.config import DataConfig
from sdlgm.data import Dataset, Rows, load_data
from sdlgm.errors import DataError
from sdlgm.inference.evaluation import evaluate
from sdlgm.models import SDLGM, load_model, save_model
from sdlgm.nn import data_statistics
from sdlgm.outputs import atomic_path
from sdlgm.random import generator
from sdlgm.report import require_report
from sdlgm.training.checkpoint import FILE as CHECKPOINT
from sdlgm.training.model_training import Result, train

__all__ = [
    "ALIVE",
    "Cases",
    "codes_of",
    "load_case",
    "run_cases",
    "write_picture",
]

ALIVE = 1e-3
"""A feature is alive if more than this fraction of the test rows use it."""
Cases = Callable[[Size], Mapping[str, Case]]
"""Returns the cases of an experiment of some size, by name."""


def run_cases(
    cases: Cases,
    out: Path,
    profile: str,
    *,
    seeds: int | None,
    only: Sequence[str] | None,
    jobs: int,
    say: Say,
) -> tuple[Size, Mapping[str, Case], Finished]:
    """Train and measure what is missing; return the size, all cases, and the finished numbers.

    The other parameters are those of :func:`paper.bound.experiment.reproduce`.

    Raises
    ------
    SDLGMError
        If a profile or a case is unknown, ``seeds`` or ``jobs`` is not positive, or the extra
        ``report``, which draws the pictures, is not installed.
    """
    size = profile_named(profile, PROFILES)
    require_report("The experiment's pictures")
    if seeds is not None:
        size = dataclasses.replace(size, seeds=check_seeds(seeds))
    known = cases(size)
    plan = plan_runs(choose(only, known, "case"), lambda name: range(known[name].seeds))
    measure = functools.partial(_measured, cases, out, profile, size)
    measure_all(measure, plan, _progress_line, say=say, jobs=jobs)
    found = _cache(out, profile).finished(known, lambda name, seed: known[name].settings(size))
    return size, known, found


def _cache(out: Path, profile: str) -> ResultCache:
    """Return the folder that keeps one file for each case and seed."""
    return ResultCache(out / f"cells-{profile}")


def _progress_line(result: tuple[str, int, Numbers | str]) -> str:
    """Describe what :func:`_measured` returned."""
    name, seed, numbers = result
    if isinstance(numbers, str):
        return f"{name} was left out: {numbers}"
    return (
        f"{name}, seed {seed}: negative ELBO {numbers['negative_elbo']:.2f}, bound "
        f"{numbers['nll_bound']:.2f}, {numbers['active_features_mean']:.1f} active, "
        f"{numbers['alive']} alive ({numbers['minutes']:.1f} min)"
    )


def _measured(
    cases: Cases, out: Path, profile: str, size: Size, name: str, seed: int
) -> tuple[str, int, Numbers | str]:
    """Return the numbers of a case and a seed, or the reason why its data are not available.

    Train and measure it if its numbers are not stored.
    """
    case = cases(size)[name]

    def compute() -> Numbers:
        dataset = load_data(DataConfig(case.data, binarisation="dynamic"), "bernoulli")
        model, result = _trained(
            case, dataset, size, seed, out / "work" / f"{profile}-{name}-{seed}"
        )
        save_model(_folder(out, profile, name, seed), model)
        numbers = evaluate(model, dataset.test, importance_samples=case.importance_samples)
        codes = torch.cat([codes for _, codes in codes_of(model, dataset.test)])
        return {
            **dataclasses.asdict(numbers),
            "close": _close(case, model, dataset.test) if seed == 0 else [],
            "alive": int(((codes > 0).double().mean(0) > ALIVE).sum()),
            "minutes": result.seconds / 60,
            "training_objective": result.history[-1 if "objective" in result.history[-1] else -2][
                "objective"
            ],
            "curve": _curve(result),
        }

    try:
        numbers, _ = _cache(out, profile).get(name, seed, case.settings(size), compute)
    except DataError as error:
        return name, seed, str(error)
    return name, seed, numbers


def _close(case: Case, model: SDLGM, rows: Rows) -> list[Numbers]:
    """Evaluate with more codes, with the encoder's posteriors and with refined ones."""
    if not case.close_samples:
        return []
    measure = functools.partial(evaluate, model, rows, importance_samples=case.close_samples)
    return [dataclasses.asdict(measure(refine_steps=steps)) for steps in (0, case.refine_steps)]


def _trained(
    case: Case, dataset: Dataset, size: Size, seed: int, folder: Path
) -> tuple[SDLGM, Result]:
    """Train, from the folder's checkpoint if it has one."""
    training = dataclasses.replace(case.training, seed=seed)
    rows, test = dataset.train, dataset.test
    model = SDLGM(case.model, data_statistics(rows.grey()), generator(seed, "weights"))
    subset = test.subset(torch.arange(0, len(test), max(1, len(test) // size.rows)))
    resumes = (folder / CHECKPOINT).is_file()
    result = train(model, rows, training, validation=subset, folder=folder, resume=resumes)
    return model, result


def _curve(result: Result) -> list[tuple[int, float, float]]:
    """Return (step, minutes, negative ELBO on the test rows) for each evaluation."""
    lines = [line for line in result.history if line["event"] == "train"]
    steps, seconds = (
        [0, *(line["step"] for line in lines)],
        [0, *(line["seconds"] for line in lines)],
    )
    return [
        (line["step"], float(np.interp(line["step"], steps, seconds)) / 60, line["negative_elbo"])
        for line in result.history
        if line["event"] == "validation"
    ]


@torch.no_grad()
def codes_of(model: SDLGM, rows: Rows) -> list[tuple[Tensor, Tensor]]:
    """Draw the bits of each row and one code for them."""
    noise = generator(0, "evaluation codes")
    model.eval()
    return [
        (x, model(x).sample(generator=noise))
        for x in rows.batches(500, generator(0, "evaluation bits"))
    ]


def _folder(out: Path, profile: str, name: str, seed: int) -> Path:
    return out / f"models-{profile}" / f"{name}-{seed}"


def load_case(out: Path, profile: str, name: str, seed: int) -> SDLGM:
    """Return the trained model of a case that is finished."""
    return load_model(_folder(out, profile, name, seed))


def write_picture(content: bytes, path: Path) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
