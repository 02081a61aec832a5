"""The discrete bound on MNIST: the preset ``best``, baselines, budgets, features and curves.

All bounds are evaluated with hard codes and the exact KL. The evaluations during a training use
test rows and decide nothing: no training is stopped, tuned or selected by them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paper.bound import pictures as drawing
from paper.bound.cases import PROFILES, Case, Size, cases
from paper.bound.tables import markdown, table_rows
from paper.results import Finished, Numbers, ResultCache, write_tables
from paper.running import (
    Say,
    check_seeds,
    choose,
    measure_all,
    plan_runs,
    profile_named,
    say_on_stderr,
)
from sdlgm.config import DataConfig
from sdlgm.data import Dataset, Rows, load_data
from sdlgm.errors import DataError
from sdlgm.inference.evaluation import evaluate
from sdlgm.models import SDLGM, load_model, save_model
from sdlgm.nn import data_statistics
from sdlgm.random import generator
from sdlgm.report import require_report
from sdlgm.storage import atomic_path
from sdlgm.training.checkpoint import FILE as CHECKPOINT
from sdlgm.training.model_training import Result, train

__all__ = ["reproduce"]

ALIVE = 1e-3
"""A feature is alive if more than this fraction of the test rows use it."""
SHOWN, USERS = 80, 100
"""Number of features in the picture, and of codes over which a feature's effect is averaged."""


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    say: Say = say_on_stderr,
) -> Path:
    """Train what is missing; write bound.json, bound.md and the pictures.

    Parameters
    ----------
    out
        Folder of the results. Its folder ``cells-PROFILE`` keeps one file per case and seed, from
        which an experiment that was stopped continues; a training that was stopped continues from
        its last checkpoint.
    profile
        ``"full"`` or ``"smoke"``.
    seeds
        Number of seeds of the headline, counted from 0. Default: that of the profile.
    only
        Cases to run. The files report all finished cases.
    jobs
        Number of processes, with one thread each.
    say
        Receives a line of progress for each case and seed. Cases whose data are not available are
        reported and left out.

    Raises
    ------
    SDLGMError
        If a profile or a case is unknown, ``jobs`` is not positive, or the extra ``report`` is not
        installed.
    """
    out = Path(out)
    size = profile_named(profile, PROFILES)
    require_report("The experiment's pictures")
    if seeds is not None:
        size = dataclasses.replace(size, seeds=check_seeds(seeds))
    known = cases(size)
    plan = plan_runs(choose(only, known, "case"), lambda name: range(known[name].seeds))
    measure = functools.partial(_measured, out, profile, size)
    measure_all(measure, plan, _progress, say=say, jobs=jobs)
    found = _cache(out, profile).finished(known, lambda name, seed: known[name].settings(size))
    _draw(out, profile, size, found)
    command = f"python -m paper bound --profile {profile}"
    return write_tables(
        out / "bound.json",
        "bound",
        command,
        table_rows(found, known),
        markdown(found, known, size),
    )


def _cache(out: Path, profile: str) -> ResultCache:
    return ResultCache(out / f"cells-{profile}")


def _progress(result: tuple[str, int, Numbers | str]) -> str:
    name, seed, numbers = result
    if isinstance(numbers, str):
        return f"{name} was left out: {numbers}"
    return (
        f"{name}, seed {seed}: negative ELBO {numbers['negative_elbo']:.2f}, bound "
        f"{numbers['nll_bound']:.2f}, {numbers['active_features_mean']:.1f} active, "
        f"{numbers['alive']} alive ({numbers['minutes']:.1f} min)"
    )


def _measured(
    out: Path, profile: str, size: Size, name: str, seed: int
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
        codes = torch.cat([codes for _, codes in _codes(model, dataset.test)])
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
def _codes(model: SDLGM, rows: Rows) -> list[tuple[Tensor, Tensor]]:
    """Draw the bits of each row and one code for them."""
    noise = generator(0, "evaluation codes")
    model.eval()
    return [
        (x, model(x).sample(generator=noise))
        for x in rows.batches(500, generator(0, "evaluation bits"))
    ]


def _folder(out: Path, profile: str, name: str, seed: int) -> Path:
    return out / f"models-{profile}" / f"{name}-{seed}"


def _draw(out: Path, profile: str, size: Size, found: Finished) -> None:
    """Draw the curves, the sweep over budgets and the features, as far as they are finished."""
    known = cases(size)
    lines = {
        f"{known[name].title}, {known[name].training.iterations:,} iterations": [
            numbers["curve"] for numbers in found[name].values()
        ]
        for name in ("best", "best-sparse", "categorical", "default", "categorical-short")
        if name in found
    }
    if lines:
        paper = ("the paper's 99.05, not a bound", 99.05) if size.data == "mnist" else None
        _save(drawing.draw_curves(lines, paper), out / "bound_curve.png")
    sweep = [
        (case.model.budget, found[name][0]["negative_elbo"], found[name][0]["active_features_mean"])
        for name, case in known.items()
        if "budget" in case.parts and 0 in found.get(name, {})
    ]
    if len(sweep) > 1:
        _save(drawing.draw_budgets(sorted(sweep)), out / "bound_budget.png")
    if 0 in found.get("best", {}):
        _draw_features(out, profile, known["best"])


def _draw_features(out: Path, profile: str, case: Case) -> None:
    """Draw how each of the most used features changes the pixels of the codes that contain it."""
    model = load_model(_folder(out, profile, "best", 0))
    dataset = load_data(DataConfig(case.data, binarisation="dynamic"), "bernoulli")
    codes = torch.cat([codes for _, codes in _codes(model, dataset.test)])
    shares = (codes > 0).double().mean(0)
    most = shares.argsort(descending=True, stable=True)[:SHOWN].tolist()
    effects = [_effect(model, codes, feature) for feature in most if shares[feature] > 0]
    images: Any = torch.stack(effects).view(len(effects), *(dataset.image_shape or (1, -1)))
    names = [f"{feature}: {shares[feature]:.0%}" for feature in most[: len(effects)]]
    alive = int((shares > ALIVE).sum())
    title = f"{alive} of {len(shares)} features are alive; these are the {len(effects)} most used"
    _save(drawing.draw_features(images.numpy(), names, title), out / "bound_features.png")


@torch.no_grad()
def _effect(model: SDLGM, codes: Tensor, feature: int) -> Tensor:
    """Return how much the mean pixels of codes change when a feature is added."""
    users = codes[codes[:, feature] > 0][:USERS]
    without = users.clone()
    without[:, feature] = 0
    return (model.data_distribution(users).mean - model.data_distribution(without).mean).mean(0)


def _save(content: bytes, path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
