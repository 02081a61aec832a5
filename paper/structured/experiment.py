"""Structured codes on MNIST: bounds by length of training and against active features.

All bounds are evaluated with hard codes and the exact KL. The evaluations during a training use
test rows and decide nothing: no training is stopped, tuned or selected by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from paper.bound import pictures as drawing
from paper.bound.cases import Case
from paper.bound.measuring import run_cases, write_picture
from paper.bound.tables import markdown, table_rows
from paper.results import Finished, write_tables
from paper.running import Say, say_on_stderr
from paper.structured.cases import cases

__all__ = ["reproduce"]

PARTS = {
    "headline": "The preset best",
    "short": "The paper's budget of {short:,} iterations of batch 100",
    "sparsity": "Fewer active features: a smaller budget, or a slot cost; {short:,} iterations",
}


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    jobs: int = 1,
    say: Say = say_on_stderr,
) -> Path:
    """Train what is missing; write structured_bound.json, structured_bound.md and a picture.

    Parameters
    ----------
    out
        Folder of the results. As for :func:`paper.bound.experiment.reproduce`, an experiment that
        was stopped continues.
    profile
        ``"full"`` or ``"smoke"``.
    seeds
        Number of seeds of the headline and of the short training, counted from 0. Default: that of
        the profile.
    only
        Cases to run. The files report all finished cases.
    jobs
        Number of processes, with one thread each.
    say
        Receives a line of progress for each case and seed.

    Raises
    ------
    SDLGMError
        If a profile or a case is unknown, ``jobs`` is not positive, or the extra ``report`` is not
        installed.
    """
    out = Path(out)
    size, known, found = run_cases(cases, out, profile, seeds=seeds, only=only, jobs=jobs, say=say)
    points = _points(found, known)
    if len(points) > 1:
        write_picture(drawing.draw_activity(points), out / "structured_activity.png")
    return write_tables(
        out / "structured_bound.json",
        "structured",
        f"python -m paper structured --profile {profile}",
        table_rows(found, known),
        markdown(found, known, size, PARTS),
    )


def _points(found: Finished, known: Mapping[str, Case]) -> list[tuple[float, float]]:
    """Return (mean active features, negative ELBO) of seed 0 of the sweep over sparsity."""
    return sorted(
        (found[name][0]["active_features_mean"], found[name][0]["negative_elbo"])
        for name, case in known.items()
        if "sparsity" in case.parts and 0 in found.get(name, {})
    )
