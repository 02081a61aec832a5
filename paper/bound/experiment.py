"""The discrete bound on MNIST: the preset ``best``, baselines, budgets, features and curves.

All bounds are evaluated with hard codes and the exact KL. The evaluations during a training use
test rows and decide nothing: no training is stopped, tuned or selected by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paper.bound import pictures as drawing
from paper.bound.cases import Case, Size, cases
from paper.bound.measuring import ALIVE, codes_of, load_case, run_cases, write_picture
from paper.bound.tables import markdown, table_rows
from paper.results import Finished, write_tables
from paper.running import Say, say_on_stderr
from sdlgm.config import DataConfig
from sdlgm.data import load_data
from sdlgm.models import SDLGM

__all__ = ["reproduce"]

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
    size, known, found = run_cases(cases, out, profile, seeds=seeds, only=only, jobs=jobs, say=say)
    _draw(out, profile, size, found)
    command = f"python -m paper bound --profile {profile}"
    return write_tables(
        out / "bound.json",
        "bound",
        command,
        table_rows(found, known),
        markdown(found, known, size),
    )


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
        write_picture(drawing.draw_curves(lines, paper), out / "bound_curve.png")
    sweep = [
        (case.model.budget, found[name][0]["negative_elbo"], found[name][0]["active_features_mean"])
        for name, case in known.items()
        if "budget" in case.parts and 0 in found.get(name, {})
    ]
    if len(sweep) > 1:
        write_picture(drawing.draw_budgets(sorted(sweep)), out / "bound_budget.png")
    if 0 in found.get("best", {}):
        _draw_features(out, profile, known["best"])


def _draw_features(out: Path, profile: str, case: Case) -> None:
    """Draw how each of the most used features changes the pixels of the codes that contain it."""
    model = load_case(out, profile, "best", 0)
    dataset = load_data(DataConfig(case.data, binarisation="dynamic"), "bernoulli")
    codes = torch.cat([codes for _, codes in codes_of(model, dataset.test)])
    shares = (codes > 0).double().mean(0)
    most = shares.argsort(descending=True, stable=True)[:SHOWN].tolist()
    effects = [_effect(model, codes, feature) for feature in most if shares[feature] > 0]
    images: Any = torch.stack(effects).view(len(effects), *(dataset.image_shape or (1, -1)))
    names = [f"{feature}: {shares[feature]:.0%}" for feature in most[: len(effects)]]
    alive = int((shares > ALIVE).sum())
    title = f"{alive} of {len(shares)} features are alive; these are the {len(effects)} most used"
    write_picture(drawing.draw_features(images.numpy(), names, title), out / "bound_features.png")


@torch.no_grad()
def _effect(model: SDLGM, codes: Tensor, feature: int) -> Tensor:
    """Return how much the mean pixels of codes change when a feature is added."""
    users = codes[codes[:, feature] > 0][:USERS]
    without = users.clone()
    without[:, feature] = 0
    return (model.data_distribution(users).mean - model.data_distribution(without).mean).mean(0)
