"""Server metrics as sparse codes: bytes, errors and anomalies on the NAB data (docs/telemetry.md).

    python -m paper telemetry                    # what is missing is computed, then written
    python -m paper telemetry --profile short    # fewer iterations, budgets and seeds
    python -m paper telemetry --profile smoke --out /tmp/telemetry     # that it runs

Each number is kept when it is there (in runs/telemetry), so a run that was killed goes on. Needs
the data of github.com/numenta/NAB: the folder nab/ under $SDLGM_DATA, or a network and the extra
"data"; and the extras "report" and "codec".
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA, sparse_encode
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning

from paper.results import Cells, say_on_stderr
from paper.telemetry import methods
from paper.telemetry.methods import Point, Windows
from paper.telemetry.page import Page
from sdlgm import SDLGM, ModelConfig, TrainingConfig
from sdlgm.codec import describe, read_codes, write_codes
from sdlgm.data import Rows, Series, load_telemetry, sliding_windows
from sdlgm.inference import refit_decoder, refit_prior, search_codes
from sdlgm.nn import data_statistics
from sdlgm.objectives.bounds import negative_elbo, nll_bound
from sdlgm.random import generator
from sdlgm.training.model_training import train

ROOT = Path(__file__).resolve().parents[2]
LENGTH, FEATURES, ATOMS, BATCH, TREES = 64, 1024, 256, 100, 100
STEPS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
TRADE = (30.0, 10.0, 3.0, 1.0, 0.5, 0.3, 0.2, 0.1)
"""Nats that one unit of squared error is worth, in units of the metric's training deviation."""
TURNS, SWEEPS = (12, 6), 4
"""Turns at the first and at each later weight; sweeps of the search for codes to send."""
IMPORTANCE, RIDGE = 0.5, 10.0
"""Power of a window's variance that it counts with in the decoder's fit; penalty of that fit."""
DRAWS = 32


@dataclasses.dataclass(frozen=True)
class Profile:
    """The size of the experiment."""

    iterations: int
    budgets: tuple[int, ...]
    seeds: int
    stride: int
    """Samples between the starts of training windows."""
    scored: int
    """Samples between the starts of test windows that are scored for anomalies."""


PROFILES = {
    "full": Profile(3000, (1, 2, 4, 8, 16, 32), 2, 2, 8),
    "short": Profile(800, (1, 4, 16), 1, 4, 16),
    "smoke": Profile(30, (1, 4), 1, 64, 64),
}
BUDGETS = (1, 2, 4, 8, 16, 32)
"""Numbers of atoms and components of the methods."""


def cut(series: tuple[Series, ...], part: str, stride: int) -> Windows:
    """Return the windows of a part (``"train"`` or ``"test"``) of all series."""
    found, metric = [], []
    for number, one in enumerate(series):
        values = one.standard[: one.cut] if part == "train" else one.standard[one.cut :]
        found.append(sliding_windows(values, stride))
        metric += [number] * len(found[-1])
    return Windows(np.concatenate(found), np.array(metric))


def rows_of(values: np.ndarray) -> Rows:
    """Return windows as rows of a model's data."""
    return Rows(torch.from_numpy(values).float())


def trained(
    rows: Rows,
    budget: int,
    seed: int,
    iterations: int,
    features: int,
    hidden: tuple[int, ...] = (128,),
) -> SDLGM:
    """Return a model of one slot a group, trained on windows."""
    config = ModelConfig(
        features=features,
        budget=budget,
        likelihood="gaussian",
        encoder_hidden=hidden,
        sparsity_hidden=(64,),
        shared_trunk=True,
    )
    model = SDLGM(config, data_statistics(rows.values), generator(seed, "weights"))
    settings = TrainingConfig(
        iterations=iterations, batch_size=BATCH, learning_rate=2e-3, seed=seed
    )
    train(model, rows, settings)
    return model


def error_of(model: SDLGM, codes: torch.Tensor, test: Windows) -> float:
    """Normalised RMSE of the windows that codes stand for."""
    return methods.rmse(test.values, test.mean + test.scale * model.decode(codes).numpy())


def bits_under_prior(model: SDLGM, codes: torch.Tensor) -> float:
    """Mean of -log2 p(z)."""
    return -float(model.prior().log_prob(codes).mean()) / math.log(2)


@torch.no_grad()
def our_numbers(
    aug: Windows,
    past: Windows,
    test: Windows,
    *,
    budget: int,
    seed: int,
    iterations: int,
    trades: tuple[float, ...],
) -> dict[str, Any]:
    """Train one model, and measure its codes: the posterior's, and those of the refitted model.

    From the largest weight of error to the least, codes of the training windows, decoder and prior
    are fitted to each other in turns. Codes to send are then searched for from nothing.
    """
    rows = rows_of(aug.shapes)
    model = torch.enable_grad()(trained)(rows, budget, seed, iterations, FEATURES, ())
    x = [rows_of(part.shapes).values for part in (past, test)]
    modes = model.posterior(x[1]).mode
    side = float(test.side_bits(past).mean()) / 8
    found: dict[str, Any] = {
        "mode_error": error_of(model, modes, test),
        "mode_bytes": bits_under_prior(model, modes) / 8 + side,
        "side_bytes": side,
        "parameters": sum(p.numel() for p in model.parameters()),
        "points": [],
    }
    codes = model.posterior(rows.values).mode
    unit = _one_scale(model)
    importance = torch.from_numpy(aug.scale[:, 0] ** (2 * IMPORTANCE)).float()
    for number, trade in enumerate(trades):
        weights = [
            torch.from_numpy(2 * unit**2 * trade * part.scale[:, 0] ** 2).float()
            for part in (aug, past, test)
        ]
        for turn in range(TURNS[number > 0]):
            if number or turn:
                codes = search_codes(model, rows.values, codes, weight=weights[0], sweeps=1)
            refit_decoder(model, rows.values, codes, weight=importance, ridge=RIDGE)
            refit_prior(model, codes)
        closed = (torch.zeros(len(part), FEATURES) for part in x)
        sent = [
            search_codes(model, *part, weight=weight, sweeps=SWEEPS)
            for *part, weight in zip(x, closed, weights[1:], strict=True)
        ]
        bits = methods.adaptive_bits(
            *(_symbols(part, budget) for part in sent), (past.classes, test.classes), flat=True
        )
        point = {
            "trade": trade,
            "error": error_of(model, sent[1], test),
            "prior_bytes": bits_under_prior(model, sent[1]) / 8 + side,
            "bytes": float(bits.mean()) / 8 + side,
            "active": float((sent[1] > 0).sum(-1).float().mean()),
        }
        found["points"].append({**point, **_files(model, sent[1], test)})
    return found


def _one_scale(model: SDLGM) -> float:
    """Give all positions of a window one scale, so that their errors count alike; return it."""
    model.likelihood.unit.fill_(float(model.likelihood.unit.mean()))
    scale = float(model.data_distribution(torch.zeros(1, FEATURES)).base_dist.scale.mean())  # type: ignore[attr-defined]
    model.likelihood.rho.fill_(math.log(math.expm1(scale / float(model.likelihood.unit[0]))))
    return float(model.data_distribution(torch.zeros(1, FEATURES)).base_dist.scale[0, 0])  # type: ignore[attr-defined]


def _symbols(codes: torch.Tensor, groups: int) -> np.ndarray:
    """Return what each group holds: 0 for nothing, else a feature."""
    held = codes.unflatten(-1, (groups, -1))
    return np.asarray(torch.where(held.any(-1), held.argmax(-1) + 1, 0))


def _files(model: SDLGM, codes: torch.Tensor, test: Windows) -> dict[str, float]:
    """Return bytes a window of real files of these codes; mean and scale are a zstd stream."""
    sent = np.stack([test.levels, test.classes]).astype(np.int16)
    sizes = {
        "zstd_side": methods.zstd_bytes(np.diff(sent, axis=1, prepend=0).astype("<i2").tobytes())
    }
    with tempfile.TemporaryDirectory() as folder:
        about = describe(model)
        for suffix in ("parquet", "sdz"):
            path = Path(folder) / f"codes.{suffix}"
            write_codes(path, [codes], about)
            back = torch.cat(list(read_codes(path, about)[1]))
            if not torch.equal(back, codes):
                raise RuntimeError(f"{path.name} does not hold the codes that were written.")
            sizes[suffix] = path.stat().st_size
    return {f"{name}_file_bytes": size / len(codes) for name, size in sizes.items()}


def atoms_numbers(aug: Windows, test: Windows, seed: int) -> dict[str, Any]:
    """Return errors of real coefficients: L0 atoms by OMP, L0 principal components."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        atoms = methods.dictionary(aug.shapes, ATOMS, seed)
    pca = PCA().fit(aug.shapes)
    found: dict[str, Any] = {"omp": [], "pca": [], "atoms": atoms.tolist()}
    coefficients = pca.transform(test.shapes)
    for budget in BUDGETS:
        code = sparse_encode(test.shapes, atoms, algorithm="omp", n_nonzero_coefs=budget)
        kept = np.where(np.arange(64) < budget, coefficients, 0)
        for name, shape in (("omp", code @ atoms), ("pca", pca.inverse_transform(kept))):
            found[name].append(methods.rmse(test.values, test.mean + test.scale * shape))
    return found


def curves(aug: Windows, past: Windows, test: Windows, atoms: np.ndarray) -> dict[str, Any]:
    """Return the rivals' points of bytes and error."""
    found = {
        "PCA": methods.transform_curve(aug, test, STEPS),
        "PCA, mean and scale sent": methods.transform_curve(aug, test, STEPS, sends_scale=True),
        "DCT": methods.transform_curve(aug, test, STEPS, fixed=True),
        "DCT, mean and scale sent": methods.transform_curve(
            aug, test, STEPS, fixed=True, sends_scale=True
        ),
        "OMP, learned dictionary": methods.omp_curve(past, test, atoms, BUDGETS, STEPS),
        "means of blocks, rounded": methods.downsample_curve(past, test, STEPS),
    }
    return {name: [dataclasses.asdict(p) for p in points] for name, points in found.items()}


def lossless(series: tuple[Series, ...]) -> dict[str, float]:
    """Return bytes a window of the test parts as they are, in one zstd stream each."""
    whole = [one.values[one.cut :] for one in series]
    whole = [values[: len(values) // 64 * 64] for values in whole]
    n = sum(map(len, whole)) / 64
    floats = np.concatenate(whole).astype("<f4")
    planes = floats.view(np.uint8).reshape(-1, 4).T
    scaled = []
    for values in whole:  # the fewest decimals, up to six, that say them all
        digits = next((d for d in range(6) if np.allclose(values, values.round(d), 1e-9, 1e-9)), 6)
        scaled.append(np.diff(np.round(values * 10**digits).astype("<i8"), prepend=0))
    text = "\n".join(f"{value:.12g}" for value in np.concatenate(whole)).encode()
    return {
        "float32, as it is": 256.0,
        "zstd of float32": methods.zstd_bytes(floats.tobytes()) / n,
        "zstd of float32, byte planes": methods.zstd_bytes(planes.tobytes()) / n,
        "zstd of decimals as text": methods.zstd_bytes(text) / n,
        "zstd of changes of scaled decimals": methods.zstd_bytes(np.concatenate(scaled).tobytes())
        / n,
    }


# --- anomalies ---------------------------------------------------------------------------------


def anomaly_windows(
    series: tuple[Series, ...], size: Profile
) -> tuple[Windows, Windows, Windows, np.ndarray]:
    """Return windows to train on, to normalise scores by, and to score, and the labels of these.

    All are asinh of standard units. A window is anomalous if half of its samples or more lie in a
    labelled one.
    """
    cuts = (("train", size.stride), ("train", 2 * size.scored), ("test", size.scored))
    parts = [cut(series, *one) for one in cuts]
    labels = [
        sliding_windows(one.anomalous[one.cut :].astype(float), size.scored).mean(1)
        for one in series
    ]
    aug, past, test = (Windows(np.arcsinh(part.values), part.metric) for part in parts)
    return aug, past, test, np.concatenate(labels) >= 0.5


@torch.no_grad()
def bound_scores(
    aug: Windows, past: Windows, test: Windows, seed: int, iterations: int
) -> dict[str, list[Any]]:
    """Return scores of training and test windows: minus the log-likelihood, by its bounds."""
    model = torch.enable_grad()(trained)(rows_of(aug.values), 16, seed, iterations, 256)
    found: dict[str, list[Any]] = {"NLL bound, M = 32": [], "negative ELBO, 32 codes": []}
    for part in (past, test):
        noise = generator(seed, "scores")
        blocks = rows_of(part.values).values.split(500)
        bound = torch.cat([nll_bound(model, x, DRAWS, generator=noise) for x in blocks])
        elbo = torch.cat(
            [negative_elbo(model, x, samples=DRAWS, generator=noise).total for x in blocks]
        )
        found["NLL bound, M = 32"].append(bound.tolist())
        found["negative ELBO, 32 codes"].append(elbo.tolist())
    return found


def forest_scores(aug: Windows, past: Windows, test: Windows, seed: int) -> dict[str, list[Any]]:
    """Return scores of isolation forests: one of all metrics, and one for each."""
    forest = IsolationForest(n_estimators=TREES, random_state=seed).fit(aug.values)
    pooled = [(-forest.score_samples(part.values)).tolist() for part in (past, test)]
    own = [np.zeros(len(part.values)) for part in (past, test)]
    for metric in np.unique(aug.metric):
        forest = IsolationForest(n_estimators=TREES, random_state=seed)
        forest.fit(aug.values[aug.metric == metric])
        for scores, part in zip(own, (past, test), strict=True):
            mine = part.metric == metric
            scores[mine] = -forest.score_samples(part.values[mine])
    return {
        "isolation forest": pooled,
        "isolation forest a metric": [scores.tolist() for scores in own],
    }


def trivial_scores(past: Windows, test: Windows) -> dict[str, list[Any]]:
    """Return the largest |z|, and the distance to the training mean."""
    return {
        "largest absolute value": [np.abs(part.values).max(1).tolist() for part in (past, test)],
        "distance to the training mean": [
            np.sqrt(np.mean(np.sinh(part.values) ** 2, 1)).tolist() for part in (past, test)
        ],
    }


def per_series(scores: list[Any], past: Windows, test: Windows) -> np.ndarray:
    """Centre scores on their series' training median, in units of its 95 % quantile above it."""
    before, after = (np.array(part) for part in scores)
    found = np.zeros_like(after)
    for metric in np.unique(test.metric):
        known = before[past.metric == metric]
        middle, high = np.quantile(known, [0.5, 0.95])
        found[test.metric == metric] = (after[test.metric == metric] - middle) / (
            high - middle if high > middle else 1.0
        )
    return found


# --- all of it


def mean_points(cells: list[dict[str, Any]]) -> list[Point]:
    """Return our points, means over the seeds."""
    columns = zip(*(cell["points"] for cell in cells), strict=True)
    return [
        Point(
            float(np.mean([p["bytes"] for p in column])),
            float(np.mean([p["error"] for p in column])),
            f"trade {column[0]['trade']:g}",
        )
        for column in columns
    ]


@dataclasses.dataclass(frozen=True)
class _Parts:
    """Cells that are kept, and the line said for each."""

    cells: Cells
    stride: int
    say: Callable[[str], None]

    def __call__(
        self, name: str, seed: int, compute: Callable[[], dict[str, Any]], **more: Any
    ) -> dict[str, Any]:
        settings = {"stride": self.stride, **more}
        numbers, there = self.cells.get(name, seed, settings, compute)
        self.say(f"{name}, seed {seed}: {'kept' if there else str(numbers['seconds']) + ' s'}")
        return {key: value for key, value in numbers.items() if key != "seconds"}


def run(out: Path, images: Path, profile: str, say: Callable[[str], None] = say_on_stderr) -> None:
    """Compute what is missing, and write the results."""
    size, series = PROFILES[profile], load_telemetry()
    aug, past = cut(series, "train", size.stride), cut(series, "train", LENGTH)
    test = cut(series, "test", LENGTH)
    folder = out if profile == "smoke" else ROOT / "runs" / "telemetry"
    cell, seeds = _Parts(Cells(folder / profile), size.stride, say), range(size.seeds)
    atoms = [
        cell("atoms", s, functools.partial(atoms_numbers, aug, test, s), budgets=BUDGETS)
        for s in seeds
    ]
    compute = functools.partial(curves, aug, past, test, np.array(atoms[0]["atoms"]))
    found = cell("rivals", 0, compute, steps=STEPS)
    ours: dict[int, list[dict[str, Any]]] = {b: [] for b in size.budgets}
    for s in seeds:
        for b in reversed(size.budgets):
            settings: dict[str, Any] = {
                "budget": b,
                "iterations": size.iterations,
                "trades": TRADE if b in size.budgets[-3:] else TRADE[:1],
            }
            compute = functools.partial(our_numbers, aug, past, test, seed=s, **settings)
            ours[b].append(cell(f"ours-{b}", s, compute, **settings))
    whole, before, after, labels = anomaly_windows(series, size)
    scores: dict[str, list[Any]] = {}
    for s in seeds:
        known = {"iterations": size.iterations, "scored": size.scored, "draws": DRAWS}
        compute = functools.partial(bound_scores, whole, before, after, s, size.iterations)
        parts = cell("bounds", s, compute, **known)
        compute = functools.partial(forest_scores, whole, before, after, s)
        parts |= cell("forests", s, compute, scored=size.scored, trees=TREES)
        parts |= trivial_scores(before, after) if s == 0 else {}
        for name, value in parts.items():
            scores.setdefault(name, []).append(value)
    page = Page(
        f"17 metrics, first 60 % of each for training, {len(test.values)} test windows of "
        f"{LENGTH} samples without overlap; {size.iterations} iterations of batch {BATCH}",
        size.seeds,
    )
    mine = {f"ours, L0 = {b}": mean_points(ours[b]) for b in reversed(size.budgets[-3:])}
    page.rates(mine | {name: [Point(**p) for p in points] for name, points in found.items()})
    page.lossless(lossless(series))
    page.ours(size.budgets[-1], FEATURES, ours[size.budgets[-1]])
    omp, pca = (
        dict(zip(BUDGETS, zip(*(a[name] for a in atoms), strict=True), strict=True))
        for name in ("omp", "pca")
    )
    page.budgets(ours, omp, pca)
    normal = {name: [per_series(s, before, after) for s in found] for name, found in scores.items()}
    plain = {name: [np.array(s[1]) for s in found] for name, found in scores.items()}
    none = [one.name for n, one in enumerate(series) if not labels[after.metric == n].any()]
    page.anomalies(labels, normal, plain, none, size.scored)
    extra = "" if profile == "full" else f" --profile {profile}"
    page.write(out, images, f"python -m paper telemetry{extra}")


def main() -> None:
    """Parse the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--profile", choices=PROFILES, default="full")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    images = options.images or (
        options.out if options.profile == "smoke" else ROOT / "docs" / "images"
    )
    torch.set_num_threads(1)
    run(options.out, images, options.profile)


if __name__ == "__main__":
    main()
