"""The discrete bound on MNIST: the preset ``best``, its curve, its rivals, budgets and features.

Every number of a bound is of hard codes and the exact KL. The evaluations along a training are of
test rows and choose nothing: no training is stopped, tuned or picked by them.
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
from paper.results import (
    Cells,
    Found,
    Numbers,
    Say,
    check_seeds,
    choose,
    in_processes,
    say_on_stderr,
    write_markdown,
    write_results,
)
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

__all__ = ["reproduce"]

ALIVE = 1e-3
"""A feature is alive if more than this share of the test rows use it."""
SHOWN, USERS = 80, 100
"""Features of the picture, and codes over which a feature's effect is averaged."""


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    say: Say = say_on_stderr,
) -> Path:
    """Train what is missing and write bound.json, bound.md and the pictures.

    Parameters
    ----------
    out
        Folder of the results, and of one file a (case, seed) in ``cells-PROFILE``: what was
        stopped goes on after the last of them, and within a training after its last checkpoint.
    profile
        ``"full"`` or ``"smoke"``.
    seeds
        Number of seeds of the headline, counted from 0. Default: of the profile.
    only
        Cases to run; others that are done already are reported, too.
    jobs
        Processes at a time, one thread each.
    say
        Takes a line of progress for each case.

    Raises
    ------
    SDLGMError
        If a profile or a case is unknown, ``jobs`` is not positive, or the extra ``report`` is not
        installed. Data that are not to be had are said and left out.
    """
    out = Path(out)
    (profile,) = choose([profile], PROFILES, "profile")
    require_report("The experiment's pictures")
    size = PROFILES[profile]
    if seeds is not None:
        size = dataclasses.replace(size, seeds=check_seeds(seeds))
    known = cases(size)
    chosen = choose(only, known, "case")
    plan = [(name, seed) for name in chosen for seed in range(known[name].seeds)]
    plan.sort(key=lambda cell: cell[1])
    done = in_processes(functools.partial(_cell, out, profile, size), plan, jobs)
    for place, (name, seed, found) in enumerate(done, 1):
        if isinstance(found, str):
            say(f"[{place}/{len(plan)}] {name} was left out: {found}")
            continue
        say(
            f"[{place}/{len(plan)}] {name}, seed {seed}: negative ELBO "
            f"{found['negative_elbo']:.2f}, bound {found['nll_bound']:.2f}, "
            f"{found['active_features_mean']:.1f} active, {found['alive']} alive "
            f"({found['minutes']:.1f} min)"
        )
    return _write(out, profile, size)


# --- cells ------------------------------------------------------------------------------------


def _cell(
    out: Path, profile: str, size: Size, name: str, seed: int
) -> tuple[str, int, Numbers | str]:
    """Train one case with one seed and measure it; or say why it cannot be."""
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
        numbers, _ = Cells(out / f"cells-{profile}").get(name, seed, case.settings(size), compute)
    except DataError as error:
        return name, seed, str(error)
    return name, seed, numbers


def _close(case: Case, model: SDLGM, rows: Rows) -> list[Numbers]:
    """Measure with more codes, at the encoder's posteriors and at refined ones."""
    if not case.close_samples:
        return []
    measure = functools.partial(evaluate, model, rows, importance_samples=case.close_samples)
    return [dataclasses.asdict(measure(refine_steps=steps)) for steps in (0, case.refine_steps)]


def _trained(
    case: Case, dataset: Dataset, size: Size, seed: int, folder: Path
) -> tuple[SDLGM, Result]:
    """Train, from the folder's checkpoint if there is one."""
    training = dataclasses.replace(case.training, seed=seed)
    rows, test = dataset.train, dataset.test
    model = SDLGM(case.model, data_statistics(rows.grey()), generator(seed, "weights"))
    few = test.subset(torch.arange(0, len(test), max(1, len(test) // size.rows)))
    resumes = (folder / CHECKPOINT).is_file()
    result = train(model, rows, training, validation=few, folder=folder, resume=resumes)
    return model, result


def _curve(result: Result) -> list[tuple[int, float, float]]:
    """Return (step, minutes, negative ELBO on the test rows) of each evaluation."""
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
    """Draw the bits and one code of each row."""
    noise = generator(0, "evaluation codes")
    model.eval()
    return [
        (x, model(x).sample(generator=noise))
        for x in rows.batches(500, generator(0, "evaluation bits"))
    ]


def _folder(out: Path, profile: str, name: str, seed: int) -> Path:
    return out / f"models-{profile}" / f"{name}-{seed}"


# --- files ------------------------------------------------------------------------------------


def _write(out: Path, profile: str, size: Size) -> Path:
    """Write the files of all cells that are done, whatever was asked for this time."""
    cells, found = Cells(out / f"cells-{profile}"), Found()
    known = cases(size)
    for name, case in known.items():
        for seed in cells.seeds(name):
            numbers = cells.read(name, seed, case.settings(size))
            if numbers is not None:
                found.setdefault(name, {})[seed] = numbers
    command = f"python -m paper bound --profile {profile}"
    write_results(out / "bound.json", "bound", command, table_rows(found, known))
    write_markdown(out / "bound.md", markdown(found, known, size))
    lines = {
        f"{known[name].title}, {known[name].training.iterations:,} iterations": [
            numbers["curve"] for numbers in found[name].values()
        ]
        for name in ("best", "best-sparse", "categorical", "default", "categorical-short")
        if name in found
    }
    if lines:
        paper = ("the paper's 99.05, which is no bound", 99.05) if size.data == "mnist" else None
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
    return out / "bound.json"


def _draw_features(out: Path, profile: str, case: Case) -> None:
    """Draw what each of the most used features adds to the pixels of the codes that hold it."""
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
    """Mean of the pixels' probabilities of codes that hold a feature, less those without it."""
    users = codes[codes[:, feature] > 0][:USERS]
    without = users.clone()
    without[:, feature] = 0
    return (model.data_distribution(users).mean - model.data_distribution(without).mean).mean(0)


def _save(content: bytes, path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
