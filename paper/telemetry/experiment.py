"""Server metrics as sparse codes: bytes, errors and anomalies on the NAB data.

    python -m paper telemetry                              # two seeds, all budgets
    python -m paper telemetry --profile short              # fewer iterations, budgets and seeds
    python -m paper telemetry --images docs/images         # images into another folder

The data are those of github.com/numenta/NAB: the folder ``nab`` of ``$SDLGM_DATA``, or a download
(extra ``data``). The extras ``report`` and ``codec`` are required.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paper.results import Numbers, ResultCache
from paper.running import Say, check_seeds, profile_named, say_on_stderr, torch_threads
from paper.telemetry import methods
from paper.telemetry.amplitude_page import AmplitudePage
from paper.telemetry.amplitudes import amplitude_numbers
from paper.telemetry.anomalies import (
    anomaly_windows,
    bound_scores,
    forest_scores,
    per_series,
    trivial_scores,
)
from paper.telemetry.codes import BATCH, code_numbers
from paper.telemetry.methods import Point, cut
from paper.telemetry.page import Page
from paper.telemetry.profiles import LENGTH, PROFILES, Profile
from sdlgm.data import Series, load_telemetry
from sdlgm.report import require_report

__all__ = ["reproduce"]


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    images: Path | str | None = None,
    say: Say = say_on_stderr,
) -> Path:
    """Compute what is missing; write the results, their tables and two images.

    The codes of atoms and amplitudes come first; their page is written before the models are
    trained.

    Parameters
    ----------
    out
        Folder of the results. Its folder ``PROFILE`` keeps one file per part and seed, from which
        an experiment that was stopped continues.
    profile
        ``"full"``, ``"short"`` or ``"smoke"``.
    seeds
        Number of seeds, counted from 0. Default: that of the profile.
    images
        Folder of the images. Default: ``out``.
    say
        Receives a line of progress for each part and seed.

    Raises
    ------
    SDLGMError
        If the profile is unknown, the extra ``report`` is not installed, or the data are not
        available.
    """
    out = Path(out)
    size = profile_named(profile, PROFILES)
    if seeds is not None:
        size = dataclasses.replace(size, seeds=check_seeds(seeds))
    require_report("The experiment's images")
    series = load_telemetry()
    test = cut(series, "test", LENGTH)
    page = Page(
        f"17 metrics, first 60 % of each for training, {len(test.values)} test windows of "
        f"{LENGTH} samples without overlap; {size.iterations} iterations of batch {BATCH}",
        size.seeds,
    )
    parts = _Parts(ResultCache(out / profile), size, say)
    options = "" if profile == "full" else f" --profile {profile}"
    options += "" if seeds is None else f" --seeds {seeds}"
    command = f"python -m paper telemetry{options}"
    with torch_threads(1):
        sparse = [_atoms(parts, series, seed) for seed in range(size.seeds)]
        _write_amplitudes(out, command, parts, series, np.array(sparse[0]["atoms"]))
        _add_codes(page, parts, series, sparse)
        _add_anomalies(page, parts, series)
    return page.write(out, Path(images or out), command)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Returns the parts of the experiment, stored or computed, and reports a line for each."""

    cache: ResultCache
    size: Profile
    say: Say

    def get(self, name: str, seed: int, compute: Callable[[], Numbers], **settings: Any) -> Numbers:
        """Return the numbers of a part, computing them if they are not stored."""
        settings = {"stride": self.size.stride, **settings}
        numbers, stored = self.cache.get(name, seed, settings, compute)
        spent = "done before" if stored else f"{numbers['seconds']} s"
        self.say(f"{name}, seed {seed}: {spent}")
        return {key: value for key, value in numbers.items() if key != "seconds"}


def _write_amplitudes(
    out: Path, command: str, parts: _Parts, series: tuple[Series, ...], atoms: NDArray[np.float64]
) -> None:
    """Write the page of atoms and amplitudes, which does not depend on the trained models."""
    size = parts.size
    train, past = cut(series, "train", size.stride), cut(series, "train", LENGTH)
    test = cut(series, "test", LENGTH)
    grid = {"budgets": size.sparsities, "steps": size.steps}
    lean = parts.get(
        "lean-omp",
        0,
        functools.partial(methods.lean_omp_curve, past, test, atoms, size.sparsities, size.steps),
        **grid,
    )
    usual = parts.get(
        "omp",
        0,
        lambda: {
            "points": [
                dataclasses.asdict(point)
                for point in methods.omp_curve(past, test, atoms, size.sparsities, size.steps)
            ]
        },
        **grid,
    )
    most = max(size.sparsities)
    ours = [
        parts.get(
            f"amplitudes-{weight:g}",
            0,
            functools.partial(amplitude_numbers, train, past, test, weight=weight, most=most),
            most=most,
        )
        for weight in size.finer_weights[::-1]
    ]
    page = AmplitudePage(
        f"17 metrics, first 60 % of each for training, {len(test.values)} test windows of "
        f"{LENGTH} samples without overlap"
    )
    page.add(ours, {"OMP, mean and scale sent": usual, "OMP, only the mean sent": lean})
    page.write(out, command)


def _atoms(parts: _Parts, series: tuple[Series, ...], seed: int) -> Numbers:
    """Return the atoms of a learned dictionary, and errors with real coefficients."""
    size = parts.size
    train, test = cut(series, "train", size.stride), cut(series, "test", LENGTH)
    return parts.get(
        "atoms",
        seed,
        functools.partial(methods.sparse_numbers, train, test, seed, size.atoms, size.sparsities),
        budgets=size.sparsities,
    )


def _add_codes(
    page: Page, parts: _Parts, series: tuple[Series, ...], sparse: list[Numbers]
) -> None:
    """Add bytes and errors of the codes and of the baselines to the page."""
    size, seeds = parts.size, range(parts.size.seeds)
    train, past = cut(series, "train", size.stride), cut(series, "train", LENGTH)
    test = cut(series, "test", LENGTH)
    dictionary = np.array(sparse[0]["atoms"])
    baselines = parts.get(
        "baselines",
        0,
        functools.partial(
            methods.baseline_curves, train, past, test, dictionary, size.sparsities, size.steps
        ),
        steps=size.steps,
    )
    codes: dict[int, list[Numbers]] = {budget: [] for budget in size.budgets}
    for seed in seeds:
        for budget in reversed(size.budgets):
            weights = size.weights if budget in size.budgets[-3:] else size.weights[:1]
            compute = functools.partial(
                code_numbers,
                train,
                past,
                test,
                budget=budget,
                seed=seed,
                iterations=size.iterations,
                features=size.features,
                weights=weights,
            )
            stored = {"budget": budget, "iterations": size.iterations, "trades": weights}
            codes[budget].append(parts.get(f"ours-{budget}", seed, compute, **stored))
    rates = {f"ours, L0 = {b}": _mean_points(codes[b]) for b in reversed(size.budgets[-3:])}
    rates |= {name: [Point(**point) for point in points] for name, points in baselines.items()}
    page.rates(rates)
    page.lossless(methods.lossless(series))
    page.codes(size.budgets[-1], size.features, codes[size.budgets[-1]])
    omp, pca = (
        dict(zip(size.sparsities, zip(*(one[name] for one in sparse), strict=True), strict=True))
        for name in ("omp", "pca")
    )
    page.budgets(codes, omp, pca)


def _add_anomalies(page: Page, parts: _Parts, series: tuple[Series, ...]) -> None:
    """Add the average precision of the anomaly scores to the page."""
    size = parts.size
    train, past, test, labels = anomaly_windows(series, size)
    scores: dict[str, list[Any]] = {}
    for seed in range(size.seeds):
        found = parts.get(
            "bounds",
            seed,
            functools.partial(bound_scores, train, past, test, seed, size.iterations, size.draws),
            iterations=size.iterations,
            scored=size.scored,
            draws=size.draws,
        )
        found |= parts.get(
            "forests",
            seed,
            functools.partial(forest_scores, train, past, test, seed, size.trees),
            scored=size.scored,
            trees=size.trees,
        )
        found |= trivial_scores(past, test) if seed == 0 else {}
        for name, value in found.items():
            scores.setdefault(name, []).append(value)
    normalised = {
        name: [per_series(s, past, test) for s in found] for name, found in scores.items()
    }
    raw = {name: [np.array(s[1]) for s in found] for name, found in scores.items()}
    normal_only = [one.name for n, one in enumerate(series) if not labels[test.metric == n].any()]
    page.anomalies(labels, normalised, raw, normal_only, size.scored)


def _mean_points(codes: list[Numbers]) -> list[Point]:
    """Return the points of bytes and error, averaged over the seeds."""
    columns = zip(*(one["points"] for one in codes), strict=True)
    return [
        Point(
            float(np.mean([point["bytes"] for point in column])),
            float(np.mean([point["error"] for point in column])),
            f"weight {column[0]['trade']:g}",
        )
        for column in columns
    ]
