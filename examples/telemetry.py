"""Server metrics as sparse codes: bytes, errors and anomalies on the NAB data (docs/telemetry.md).

    python examples/telemetry.py                    # what is missing is computed, then written
    python examples/telemetry.py --profile smoke --out /tmp/telemetry     # that it runs

Each number is kept when it is there (in OUT/cells), so a run that was killed goes on. Needs the data
of github.com/numenta/NAB: the folder nab/ under $SDLGM_DATA, or a network and the extra ``data``.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from sklearn.decomposition import PCA, sparse_encode
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score, precision_recall_curve

from sdlgm import SDLGM, ModelConfig, TrainingConfig, load_model, save_model
from sdlgm.codec import decode_codes, describe, read_codes, refine_codes, refit_prior, write_codes
from sdlgm.data import Rows, Series, load_telemetry, sliding_windows
from sdlgm.experiments import telemetry_rivals as rivals
from sdlgm.experiments.results import (
    Cells,
    row,
    say_on_stderr,
    spread,
    write_markdown,
    write_results,
)
from sdlgm.experiments.telemetry_rivals import Point, Windows
from sdlgm.nn import data_statistics
from sdlgm.objectives import negative_elbo, nll_bound
from sdlgm.random import generator
from sdlgm.storage import atomic_path
from sdlgm.training.loop import train

ROOT = Path(__file__).resolve().parents[1]
FEATURES, ATOMS = 512, 256
STEPS = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
TARGETS = (0.8, 0.6, 0.4)
TRADE = (0.1, 0.3, 1.0, 3.0, 30.0)
"""Nats that one unit of squared error is worth, in units of the metric's training deviation."""
DRAWS = 32


@dataclasses.dataclass(frozen=True)
class Profile:
    """The size of the experiment."""

    iterations: int
    budgets: tuple[int, ...]
    seeds: int
    stride: int
    """Samples between the starts of training windows, and of the windows scored for anomalies."""


PROFILES = {"full": Profile(1500, (1, 2, 4, 8, 16, 32), 1, 4), "smoke": Profile(30, (1, 4), 1, 64)}


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


def trained(rows: Rows, budget: int, seed: int, iterations: int, features: int = FEATURES) -> SDLGM:
    """Return a model of one slot a group, trained on windows."""
    config = ModelConfig(
        features=features,
        budget=budget,
        likelihood="gaussian",
        encoder_hidden=(128,),
        sparsity_hidden=(64,),
        shared_trunk=True,
    )
    model = SDLGM(config, data_statistics(rows.values), generator(seed, "weights"))
    settings = TrainingConfig(iterations=iterations, batch_size=100, learning_rate=2e-3, seed=seed)
    train(model, rows, settings)
    return model


def error_of(model: SDLGM, codes: torch.Tensor, test: Windows) -> float:
    """Normalised RMSE of the windows that codes stand for."""
    return rivals.rmse(test.values, test.mean + test.scale * decode_codes(model, codes).numpy())


def bits_under_prior(model: SDLGM, codes: torch.Tensor) -> float:
    """Mean of -log2 p(z)."""
    return -float(model.prior().log_prob(codes).mean()) / math.log(2)


@torch.no_grad()
def our_numbers(
    aug: Windows, past: Windows, test: Windows, budget: int, seed: int, iterations: int
) -> dict[str, Any]:
    """Train one model, and measure codes as the posterior gives them, and refined ones."""
    model = torch.enable_grad()(trained)(rows_of(aug.shapes), budget, seed, iterations)
    x = [rows_of(part.shapes).values for part in (past, test)]
    start = [model.posterior(part).mode for part in x]
    side = float(test.side_bits(past).mean()) / 8
    found: dict[str, Any] = {
        "mode_error": error_of(model, start[1], test),
        "mode_bytes": bits_under_prior(model, start[1]) / 8 + side,
        "side_bytes": side,
        "parameters": sum(p.numel() for p in model.parameters()),
        "points": [],
    }
    learned = [model.prior_gate_logits.clone(), model.prior_feature_logits.clone()]
    sigma = float(model.decode(start[1][:1]).base_dist.scale.mean())  # type: ignore[attr-defined]
    for trade in TRADE:
        model.prior_gate_logits.copy_(learned[0])
        model.prior_feature_logits.copy_(learned[1])
        weight = [
            torch.from_numpy(2 * sigma**2 * trade * part.scale[:, 0] ** 2).float()
            for part in (past, test)
        ]
        # The frequencies become those of refined training windows.
        codes = refine_codes(model, x[0], start[0], weight=weight[0], sweeps=1)
        refit_prior(model, codes)
        refined = refine_codes(model, x[1], start[1], weight=weight[1], sweeps=2)
        symbols = [_symbols(part, budget) for part in (codes, refined)]
        classes = (past.classes, test.classes)
        bits = rivals.adaptive_bits(*symbols, classes, flat=True).mean()
        point = {
            "trade": trade,
            "error": error_of(model, refined, test),
            "prior_bytes": bits_under_prior(model, refined) / 8 + side,
            "bytes": float(bits) / 8 + side,
            "active": float((refined > 0).sum(-1).float().mean()),
        }
        found["points"].append({**point, **_files(model, refined, test)})
    return found


def _symbols(codes: torch.Tensor, groups: int) -> np.ndarray:
    """Return what each group holds: 0 for nothing, else a feature."""
    held = codes.unflatten(-1, (groups, -1))
    return np.asarray(torch.where(held.any(-1), held.argmax(-1) + 1, 0))


def _files(model: SDLGM, codes: torch.Tensor, test: Windows) -> dict[str, float]:
    """Return bytes a window of real files of these codes; mean and scale are a zstd stream."""
    sent = np.stack([test.levels, test.classes]).astype(np.int16)
    sizes = {
        "zstd_side": rivals.zstd_bytes(np.diff(sent, axis=1, prepend=0).astype("<i2").tobytes())
    }
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, model)
        about = describe(load_model(folder))
        for suffix in ("parquet", "sdz"):
            path = Path(folder) / f"codes.{suffix}"
            write_codes(path, [codes], about)
            back = torch.cat(list(read_codes(path, about)[1]))
            if not torch.equal(back, codes):
                raise RuntimeError(f"{path.name} does not hold the codes that were written.")
            sizes[suffix] = path.stat().st_size
    return {f"{name}_file_bytes": size / len(codes) for name, size in sizes.items()}


def atoms_numbers(
    aug: Windows, test: Windows, budgets: tuple[int, ...], seed: int
) -> dict[str, Any]:
    """Return errors of real coefficients: L0 atoms by OMP, L0 principal components."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        atoms = rivals.dictionary(aug.shapes, ATOMS, seed)
    pca = PCA().fit(aug.shapes)
    found: dict[str, Any] = {"omp": [], "pca": [], "atoms": atoms.tolist()}
    coefficients = pca.transform(test.shapes)
    for budget in budgets:
        code = sparse_encode(test.shapes, atoms, algorithm="omp", n_nonzero_coefs=budget)
        kept = np.where(np.arange(64) < budget, coefficients, 0)
        for name, shape in (("omp", code @ atoms), ("pca", pca.inverse_transform(kept))):
            found[name].append(rivals.rmse(test.values, test.mean + test.scale * shape))
    return found


def curves(aug: Windows, past: Windows, test: Windows, atoms: np.ndarray) -> dict[str, Any]:
    """Return the rivals' points of bytes and error."""
    found = {
        "PCA": rivals.transform_curve(aug, test, STEPS),
        "PCA, mean and scale sent": rivals.transform_curve(aug, test, STEPS, sends_scale=True),
        "DCT": rivals.transform_curve(aug, test, STEPS, fixed=True),
        "DCT, mean and scale sent": rivals.transform_curve(
            aug, test, STEPS, fixed=True, sends_scale=True
        ),
        "OMP, learned dictionary": rivals.omp_curve(
            past, test, atoms, (1, 2, 4, 8, 16, 32), STEPS[:-2]
        ),
        "means of blocks, rounded": rivals.downsample_curve(past, test, STEPS),
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
    text = "\n".join(f"{value:g}" for value in np.concatenate(whole)).encode()
    return {
        "float32, as it is": 256.0,
        "zstd of float32": rivals.zstd_bytes(floats.tobytes()) / n,
        "zstd of float32, byte planes": rivals.zstd_bytes(planes.tobytes()) / n,
        "zstd of decimals as text": rivals.zstd_bytes(text) / n,
        "zstd of changes of scaled decimals": rivals.zstd_bytes(np.concatenate(scaled).tobytes())
        / n,
    }


# --- anomalies ---------------------------------------------------------------------------------


def anomaly_windows(series: tuple[Series, ...], stride: int) -> tuple[Windows, Windows, np.ndarray]:
    """Return training and test windows in asinh of standard units, and the test windows' labels.

    A window is anomalous if half of its samples or more lie in a labelled one.
    """
    parts = [cut(series, part, stride) for part in ("train", "test")]
    labels = [sliding_windows(one.anomalous[one.cut :].astype(float), stride) for one in series]
    squashed = [Windows(np.arcsinh(part.values), part.metric) for part in parts]
    return squashed[0], squashed[1], np.concatenate(labels).mean(1) >= 0.5


@torch.no_grad()
def bound_scores(past: Windows, test: Windows, seed: int, iterations: int) -> dict[str, list[Any]]:
    """Return scores of training and test windows: minus the log-likelihood, by its bounds."""
    model = torch.enable_grad()(trained)(rows_of(past.values), 16, seed, iterations, 256)
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


def forest_scores(past: Windows, test: Windows, seed: int, trees: int) -> dict[str, list[Any]]:
    """Return scores of isolation forests: one of all metrics, and one for each."""
    forest = IsolationForest(n_estimators=trees, random_state=seed).fit(past.values)
    pooled = [(-forest.score_samples(part.values)).tolist() for part in (past, test)]
    own = [np.zeros(len(part.values)) for part in (past, test)]
    for metric in np.unique(past.metric):
        forest = IsolationForest(n_estimators=trees, random_state=seed).fit(past.values[past.metric == metric])
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
        "largest |z|": [np.abs(part.values).max(1).tolist() for part in (past, test)],
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


# --- what is written ---------------------------------------------------------------------------


def mean_points(cells: list[dict[str, Any]], key: str) -> list[Point]:
    """Return our points, means over the seeds."""
    columns = zip(*(cell["points"] for cell in cells), strict=True)
    return [
        Point(
            float(np.mean([p[key] for p in column])),
            float(np.mean([p["error"] for p in column])),
            f"trade {column[0]['trade']:g}",
        )
        for column in columns
    ]


def draw_rates(
    path: Path,
    size: Profile,
    ours: dict[int, list[dict[str, Any]]],
    atoms: list[Any],
    rates: dict[str, list[Point]],
) -> None:
    """Draw error against L0, and against bytes."""
    from sdlgm.report._drawing import ACCENT, CLASSES, INK, WARM, new_figure, png, tidy

    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    lines = {
        "ours, code of the posterior's mode": (
            ACCENT,
            "--",
            [[c["mode_error"] for c in ours[b]] for b in ours],
        ),
        "ours, refined for error": (
            ACCENT,
            "-",
            [[c["points"][-1]["error"] for c in ours[b]] for b in ours],
        ),
        "OMP, L0 atoms, real coefficients": (
            WARM,
            "-",
            list(zip(*(a["omp"] for a in atoms), strict=True)),
        ),
        "PCA, L0 components, real coefficients": (
            INK,
            "-",
            list(zip(*(a["pca"] for a in atoms), strict=True)),
        ),
    }
    for name, (colour, dash, values) in lines.items():
        middle = np.array([np.mean(v) for v in values])
        left.plot(size.budgets, middle, dash, marker="o", ms=4, color=colour, label=name)
        left.fill_between(
            size.budgets,
            [min(v) for v in values],
            [max(v) for v in values],
            color=colour,
            alpha=0.2,
            lw=0,
        )
    left.set_xscale("log", base=2)
    left.set_xticks(size.budgets, [str(b) for b in size.budgets])
    left.set_xlabel("L0: features, atoms or components of a window (64 samples)", color=INK)
    left.set_title("Error by number of active features", loc="left", fontsize=11, color=INK)
    for colour, (name, points) in zip((ACCENT, *CLASSES[1:]), rates.items(), strict=False):
        kept = rivals.envelope(points)
        wide = 2.6 if name.startswith("ours") else 1.4
        right.plot(
            [p.bytes for p in kept],
            [p.error for p in kept],
            color=colour,
            lw=wide,
            marker=".",
            label=name,
        )
    right.set_xlim(0, 16)
    right.set_xlabel("bytes a window, entropy coded, mean and scale included", color=INK)
    right.set_title("Error by bytes", loc="left", fontsize=11, color=INK)
    for axis in (left, right):
        axis.set_ylabel("normalised RMSE, test windows", color=INK)
        axis.set_ylim(0, 1.45)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8)
        tidy(axis)
    _save(path, png(figure, 130, colours=128))


def draw_anomalies(path: Path, labels: np.ndarray, scores: dict[str, list[np.ndarray]]) -> None:
    """Draw precision against recall, the first seed of each method."""
    from sdlgm.report._drawing import ACCENT, CLASSES, INK, SOFT, new_figure, png, tidy

    figure = new_figure(6.6, 4.6)
    axis = figure.subplots()
    for colour, (name, found) in zip((ACCENT, *CLASSES[1:]), scores.items(), strict=False):
        precision, recall, _ = precision_recall_curve(labels, found[0])
        value = spread([average_precision_score(labels, one) for one in found], 3)
        wide = 2.4 if "bound" in name else 1.4
        axis.plot(recall, precision, color=colour, lw=wide, label=f"{name}: {value}")
    axis.axhline(labels.mean(), color=SOFT, ls=":", label=f"chance: {labels.mean():.3f}")
    axis.set_xlabel("recall", color=INK)
    axis.set_ylabel("precision", color=INK)
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.25)
    axis.set_title(
        "Anomalous windows, all test parts pooled; average precision",
        loc="left",
        fontsize=11,
        color=INK,
    )
    axis.legend(frameon=False, fontsize=8)
    tidy(axis)
    _save(path, png(figure, 130, colours=128))


def _save(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def run(out: Path, images: Path, profile: str, say: Callable[[str], None] = say_on_stderr) -> None:
    """Compute what is missing, and write the results."""
    size = PROFILES[profile]
    series = load_telemetry()
    aug, past, test = (
        cut(series, "train", size.stride),
        cut(series, "train", 64),
        cut(series, "test", 64),
    )
    cells = Cells(out / "cells" if profile == "smoke" else ROOT / "runs" / "telemetry")
    common = {"profile": profile, "iterations": size.iterations, "version": 1}

    def cell(
        name: str, seed: int, compute: Callable[[], dict[str, Any]], **more: Any
    ) -> dict[str, Any]:
        numbers, there = cells.get(name, seed, {**common, **more}, compute)
        say(f"{name}, seed {seed}: {'kept' if there else str(numbers['seconds']) + ' s'}")
        return numbers

    seeds = range(size.seeds)
    atoms = [cell("atoms", s, lambda s=s: atoms_numbers(aug, test, size.budgets, s)) for s in seeds]
    found = cell("rivals", 0, lambda: curves(aug, past, test, np.array(atoms[0]["atoms"])))
    rates = {
        name: [Point(**p) for p in points] for name, points in found.items() if name != "seconds"
    }
    raw = lossless(series)
    before, after, labels = anomaly_windows(series, size.stride)
    scores: dict[str, list[Any]] = {}
    for s in seeds:
        parts = cell("bounds", s, lambda s=s: bound_scores(before, after, s, size.iterations))
        parts |= cell("forests", s, lambda s=s: forest_scores(before, after, s, 100))
        parts |= trivial_scores(before, after) if s == 0 else {}
        for name, value in parts.items():
            if name != "seconds":
                scores.setdefault(name, []).append(value)
    ours: dict[int, list[dict[str, Any]]] = {b: [] for b in size.budgets}
    for s in seeds:
        for b in reversed(size.budgets):
            numbers = lambda b=b, s=s: our_numbers(aug, past, test, b, s, size.iterations)  # noqa: E731
            ours[b].append(cell(f"ours-{b}", s, numbers))
    write(out, images, size, series, test, ours, atoms, rates, raw, before, after, labels, scores)


def write(
    out, images, size, series, test, ours, atoms, rates, raw, before, after, labels, scores
) -> None:  # noqa: ANN001, PLR0913
    """Write tables and drawings."""
    largest = size.budgets[-1]
    curve = {f"ours, L0 = {b}": mean_points(ours[b], "bytes") for b in size.budgets[-2:][::-1]}
    rates = {**curve, **rates}
    protocol = (
        f"17 metrics, first 60 % of each for training, {len(test.values)} test windows of 64 samples "
        f"without overlap; {size.iterations} iterations of batch 100"
    )
    rows = []
    lines = [f"{protocol}; seeds 0 to {size.seeds - 1}. Lower is better.", ""]
    lines += [
        f"| bytes a window at a normalised RMSE of | {' | '.join(map(str, TARGETS))} |",
        "|---|" + "---:|" * len(TARGETS),
    ]
    for name, points in rates.items():
        values = [rivals.bytes_at(points, target) for target in TARGETS]
        lines.append(
            f"| {name} | " + " | ".join("-" if v is None else f"{v:.2f}" for v in values) + " |"
        )
        for target, value in zip(TARGETS, values, strict=True):
            if value is not None:
                rows.append(
                    _row(
                        name,
                        value,
                        f"bytes a window at normalised RMSE {target}",
                        protocol,
                        size.seeds if "ours" in name else 1,
                    )
                )
    lines += [
        "",
        "Dash: the curve does not reach that error. Without any loss:",
        "",
        "| | bytes a window |",
        "|---|---:|",
    ]
    for name, value in raw.items():
        lines.append(f"| {name} | {value:.2f} |")
        rows.append(_row(name, value, "bytes a window, lossless", protocol, 1))
    lines += [
        "",
        f"Ours, L0 = {largest}, K = {FEATURES}, in bytes a window, mean and scale included (the limit of those: {ours[largest][0]['side_bytes']:.2f}); mean over seeds:",
        "",
        "| nats a squared error | normalised RMSE | active features | fitted prior's entropy | adaptive, scale as context | .sdz file and zstd stream | Parquet file and zstd stream |",
        "|---:|" + "---:|" * 6,
    ]
    for column in zip(*(c["points"] for c in ours[largest]), strict=True):
        m = {k: float(np.mean([p[k] for p in column])) for k in column[0]}
        lines.append(
            f"| {m['trade']:g} | {m['error']:.3f} | {m['active']:.2f} | {m['prior_bytes']:.2f} | {m['bytes']:.2f} | {m['sdz_file_bytes'] + m['zstd_side_file_bytes']:.2f} | {m['parquet_file_bytes'] + m['zstd_side_file_bytes']:.2f} |"
        )
        for key in (
            "error",
            "active",
            "prior_bytes",
            "bytes",
            "sdz_file_bytes",
            "parquet_file_bytes",
        ):
            rows.append(
                _row(
                    f"ours, L0 = {largest}, trade {m['trade']:g}", m[key], key, protocol, size.seeds
                )
            )
    lines += [
        "",
        "Normalised RMSE by L0 (mean ± deviation over seeds; OMP and PCA: real coefficients, nothing rounded but mean and scale):",
        "",
        f"| L0 | {' | '.join(map(str, size.budgets))} |",
        "|---|" + "---:|" * len(size.budgets),
    ]
    table = {
        "ours, mode": [[c["mode_error"] for c in ours[b]] for b in size.budgets],
        "ours, refined for error": [
            [c["points"][-1]["error"] for c in ours[b]] for b in size.budgets
        ],
        "OMP": list(zip(*(a["omp"] for a in atoms), strict=True)),
        "PCA": list(zip(*(a["pca"] for a in atoms), strict=True)),
    }
    for name, values in table.items():
        lines.append(f"| {name} | " + " | ".join(spread(v, 3) for v in values) + " |")
        for b, v in zip(size.budgets, values, strict=True):
            rows.append(
                row(
                    name,
                    v,
                    range(len(v)),
                    dataset="nab",
                    family=f"L0 = {b}",
                    protocol=protocol,
                    metric="normalised RMSE",
                )
            )
    pooled = {name: [per_series(s, before, after) for s in found] for name, found in scores.items()}
    none = [one.name for n, one in enumerate(series) if not labels[after.metric == n].any()]
    lines += [
        "",
        f"Anomalies: {len(labels)} test windows, one every {size.stride} samples, {labels.mean():.1%} of them anomalous. Average precision, higher is better:",
        "",
        "| score | scores normalised by series | as they are |",
        "|---|---:|---:|",
    ]
    for name, found in pooled.items():
        own = [average_precision_score(labels, s) for s in found]
        plain = [average_precision_score(labels, np.array(s[1])) for s in scores[name]]
        lines.append(f"| {name} | {spread(own, 3)} | {spread(plain, 3)} |")
        for values, how in ((own, "normalised by series"), (plain, "as they are")):
            rows.append(
                row(
                    name,
                    values,
                    range(len(values)),
                    dataset="nab",
                    family=how,
                    protocol=protocol,
                    metric="average precision",
                )
            )
    lines += ["", f"Series without an anomalous test window: {', '.join(none)}."]
    write_results(out / "telemetry.json", "telemetry", "python examples/telemetry.py", rows)
    write_markdown(out / "telemetry.md", "\n".join(lines))
    draw_rates(images / "telemetry-rates.png", size, ours, atoms, rates)
    draw_anomalies(images / "telemetry-anomalies.png", labels, pooled)
    print((out / "telemetry.md").read_text())


def _row(method: str, value: float, metric: str, protocol: str, seeds: int) -> dict[str, Any]:
    return row(
        method,
        [value],
        list(range(seeds)),
        dataset="nab",
        family="-",
        protocol=protocol,
        metric=metric,
    )


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
