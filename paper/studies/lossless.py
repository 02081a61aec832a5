"""Bits per image of lossless compression, beside the discrete bound and general compressors.

    python -m paper.studies.lossless runs/mnist                  # writes docs/results/lossless.*
    python -m paper.studies.lossless runs/mnist --out /tmp/lossless

About two minutes. The run's test images, binarised once with seed 0. Everything that is compressed
is decompressed and compared.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paper.results import row, write_markdown, write_results
from paper.studies.compressors import NAMES, sizes
from sdlgm.codec import compress_file, decompress_file, drawn_rows
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.random import generator
from sdlgm.training import Run

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SEED, DRAWS = 0, 10
PUBLISHED = 0.19


def bound(run: Run, values: torch.Tensor) -> float:
    """Negative ELBO in bits per image, the mean over some draws of every code."""
    noise, total = generator(SEED, "bound"), 0.0
    for _ in range(DRAWS):
        for x in values.split(1000):
            total += negative_elbo(run.model, x, generator=noise).total.double().sum().item()
    return total / DRAWS / len(values) / math.log(2)


def measure(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the rows of the results file."""
    rows = run.dataset.test
    values = drawn_rows(rows, SEED)
    limit = bound(run, values.float())

    def line(method: str, bits: float, seconds: float | None = None, **more: Any) -> dict[str, Any]:
        return row(
            method,
            [bits],
            [SEED],
            dataset=run.dataset.name,
            family="lossless",
            protocol=f"{len(values):,} test images, binarised with seed {SEED}, "
            f"{run.config.training.iterations:,} iterations",
            metric="bits per image",
            bits_per_pixel=bits / values.shape[1],
            over_bound=bits / limit - 1,
            seconds=None if seconds is None else round(seconds, 1),
            **more,
        )

    yield line(f"bound: negative ELBO, mean of {DRAWS} codes an image", limit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.sdl"
        started = time.perf_counter()
        found = compress_file(run.model, rows, path, seed=SEED)
        middle = time.perf_counter()
        again = decompress_file(run.model, path)
        ended = time.perf_counter()
    if not torch.equal(again, values):
        raise SystemExit("What was decompressed is not what was compressed.")
    seconds = (middle - started, ended - middle)
    more = {"initial_bits": found.initial_bits, "seconds_there_and_back": seconds}
    yield line("sdl, without initial bits", found.payload_bits / len(values), **more)
    yield line("sdl, the whole file", found.file_bits / len(values), sum(seconds))
    for size in sizes(values.numpy().astype(np.uint8), NAMES):
        what = "each image" if size.single else "all images as one"
        yield line(f"{size.name}, {what}", size.bits, size.seconds)


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows out as Markdown."""
    lines = [
        "| what | bits per image | per pixel | over the bound | seconds there and back |",
        "|---|---:|---:|---:|---:|",
    ]
    for each in rows:
        seconds = "" if each["seconds"] is None else f"{each['seconds']:.1f}"
        lines.append(
            f"| {each['method']} | {each['value']:.2f} | {each['bits_per_pixel']:.3f} "
            f"| {each['over_bound']:+.2%} | {seconds} |"
        )
    lines.append(
        f"| BB-ANS, as published (Townsend et al., ICLR 2019) | {PUBLISHED * 784:.0f} "
        f"| {PUBLISHED:.2f} | | |"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="Folder of a trained run.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the results.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(measure(Run.open(options.run)))
    command = "python -m paper.studies.lossless RUN"
    write_results(options.out / "lossless.json", "lossless", command, rows)
    write_markdown(options.out / "lossless.md", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
