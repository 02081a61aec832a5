"""Compare the ways to choose one code from a posterior, for trained models on test rows.

    sdlgm fit mnist --preset plain --out runs/mnist
    sdlgm fit mnist --preset plain --groups 1 --iterations 5000 --out runs/mnist_g1
    python -m paper.studies.code_choices runs/mnist runs/mnist_g1  # docs/results/code_choices.*

Takes a few minutes per run on one core; numbers in the folder --cache are not computed again. For
each method: the negative log-likelihood of the bits given the code, the length of the code under
the prior, their sum, the mean squared error between decoded means and grey values, and the seconds
to choose all codes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paper.results import ResultCache, row, write_tables
from sdlgm.data import Rows
from sdlgm.inference import BATCH, encode_batches
from sdlgm.models import SDLGM, model_sha256
from sdlgm.random import generator
from sdlgm.training import Run

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
LIMITS = (None, 20, 10, 5)
METHODS: dict[str, dict[str, Any]] = {
    "sample": {"code": "sample"},
    "mode": {"code": "mode"},
    "mean": {"code": "mean"},
    "best of 4": {"code": "best", "candidates": 4},
    "best of 16": {"code": "best", "candidates": 16},
    "best of 64": {"code": "best", "candidates": 64},
}
OTHER = "best of 16, by reconstruction alone"
METRICS = (
    "reconstruction", "prior_bits", "joint", "active_features_mean", "mean_squared_error",
)  # fmt: skip
COLUMNS = (
    "code", "max_active", "-log p(x given z), nats", "-log2 p(z), bits",
    "**-log p(x, z), nats**", "active features", "squared error", "seconds",
)  # fmt: skip


@torch.no_grad()
def by_reconstruction(model: SDLGM, rows: Rows, seed: int) -> Iterator[Tensor]:
    """Yield the codes with the smallest -log p(x | z) among 16 candidates."""
    bits, noise = generator(seed, "evaluation bits"), generator(seed, "evaluation codes")
    for x in rows.batches(BATCH, bits):
        posterior = model.posterior(x)
        candidates = [posterior.mode, posterior.rounded_mean]
        candidates += [posterior.sample(generator=noise) for _ in range(14)]
        losses = torch.stack([-model.data_distribution(codes).log_prob(x) for codes in candidates])
        stacked, winner = torch.stack(candidates), losses.argmin(0)
        yield stacked[winner, torch.arange(len(x))]


@torch.no_grad()
def measure(model: SDLGM, rows: Rows, batches: Iterator[Tensor], seed: int) -> dict[str, float]:
    """Return the metrics of codes, averaged over rows with the bits that were encoded."""
    started = time.monotonic()
    codes = torch.cat(list(batches))
    seconds = time.monotonic() - started
    grey, prior, bits = rows.grey().split(BATCH), model.prior(), generator(seed, "evaluation bits")
    sums = torch.zeros(4, dtype=torch.float64)
    for x, pixels, z in zip(rows.batches(BATCH, bits), grey, codes.split(BATCH), strict=True):
        decoded = model.data_distribution(z)
        error = (decoded.mean - pixels).square().mean(-1)
        parts = (-decoded.log_prob(x), -prior.log_prob(z), (z > 0).sum(-1), error)
        sums += torch.stack([part.double().sum() for part in parts])
    reconstruction, prior_nats, active, error = (sums / len(rows)).tolist()
    return {
        "reconstruction": reconstruction,
        "prior_bits": prior_nats / torch.log(torch.tensor(2.0)).item(),
        "joint": reconstruction + prior_nats,
        "active_features_mean": active,
        "mean_squared_error": error,
        "encoding_seconds": round(seconds, 2),
    }


def table(
    run: Run, cache: ResultCache, seed: int
) -> Iterator[tuple[str, int | None, dict[str, Any]]]:
    """Yield method, limit and numbers, measuring what is missing."""
    model, rows = run.model, run.dataset.test
    for limit in LIMITS:
        for name in [*METHODS, OTHER] if limit is None else METHODS:
            options = {**METHODS.get(name, {}), "max_active": limit}
            settings = {"name": name, **options, "model": model_sha256(run.model)}
            batches = (
                by_reconstruction(model, rows, seed)
                if name == OTHER
                else encode_batches(model, rows, seed=seed, **options)
            )

            def compute(batches: Iterator[Tensor] = batches) -> dict[str, float]:
                return measure(model, rows, batches, seed)

            label = f"{run.folder.name} {name} {limit}".replace(" ", "-").replace(",", "")
            numbers, _ = cache.get(label, seed, settings, compute)
            print(run.folder.name, name, limit, numbers, flush=True)
            yield name, limit, numbers


def main() -> None:
    """Read the command line, measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of trained runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--cache", type=Path, default=Path("runs/code_choices"))
    options = parser.parse_args()
    found, pages = [], []
    for folder in options.runs:
        run = Run.open(folder)
        known, config = run.metrics, run.config.model
        title = f"K = {config.features}, L0 = {config.budget}, {config.groups} groups"
        lines = [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
        for name, limit, numbers in table(run, ResultCache(options.cache), options.seed):
            a, b, c, d, e = (numbers[metric] for metric in METRICS)
            cap = limit or "-"
            lines.append(
                f"| {name} | {cap} | {a:.2f} | {b:.1f} | **{c:.2f}** | {d:.1f} | {e:.4f} "
                f"| {numbers['encoding_seconds']:.1f} |"
            )
            for metric in (*METRICS, "encoding_seconds"):
                found.append(
                    row(
                        name,
                        [numbers[metric]],
                        [options.seed],
                        dataset=known["data"],
                        family=title,
                        protocol=f"test split, {known['binarisation']} binarisation, "
                        f"{known['iterations']} iterations",
                        metric=metric,
                        max_active=limit,
                        model_sha256=model_sha256(run.model),
                    )
                )
        for metric in ("negative_elbo", "nll_bound", "reconstruction", "importance_samples"):
            found.append(
                row(
                    "model",
                    [known[metric]],
                    [known["evaluation_seed"]],
                    dataset=known["data"],
                    family=title,
                    protocol="evaluated at the end of the training",
                    metric=metric,
                    model_sha256=model_sha256(run.model),
                )
            )
        pages.append(
            f"### {title}\n\n{known['data']}, {known['n_samples']:,} test rows, "
            f"{known['iterations']:,} iterations, seed {known['seed']}. The model's own bounds: "
            f"negative ELBO {known['negative_elbo']:.2f}, NLL bound "
            f"(M = {known['importance_samples']}) {known['nll_bound']:.2f} nats.\n\n"
            + "\n".join(lines)
        )
    command = (
        f"python -m paper.studies.code_choices {' '.join(f'runs/{f.name}' for f in options.runs)}"
    )
    path = options.out / "code_choices.json"
    write_tables(path, "code_choices", command, found, "\n\n".join(pages))
    print(path.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
