"""Compare bits per image of lossless compression with the bound and with other compressors.

    python -m paper.studies.lossless runs/mnist                  # writes docs/results/lossless.*
    python -m paper.studies.lossless runs/mnist --out runs/lossless

Takes about two minutes. The images are the run's test images, binarised once with seed 0. All
compressed data are decompressed and compared.
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

from paper.results import row, write_tables
from paper.studies.compressors import NAMES, sizes
from sdlgm.codec import compress_file, decompress_file, drawn_rows
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.random import generator
from sdlgm.training import Run

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SEED, DRAWS = 0, 10
PUBLISHED = 0.19


def bound(run: Run, values: torch.Tensor) -> float:
    """Return the negative ELBO in bits per image, averaged over several draws of each code."""
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

    yield line(f"bound: negative ELBO, mean of {DRAWS} codes per image", limit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.sdl"
        started = time.perf_counter()
        found = compress_file(run.model, rows, path, seed=SEED)
        middle = time.perf_counter()
        restored = decompress_file(run.model, path)
        ended = time.perf_counter()
    if not torch.equal(restored, values):
        raise SystemExit("The decompressed images differ from the original ones.")
    seconds = (middle - started, ended - middle)
    yield line(
        "sdl, without initial bits",
        found.payload_bits / len(values),
        initial_bits=found.initial_bits,
        seconds_there_and_back=seconds,
    )
    yield line("sdl, the whole file", found.file_bits / len(values), sum(seconds))
    for size in sizes(values.numpy().astype(np.uint8), NAMES):
        unit = "each image" if size.single else "all images together"
        yield line(f"{size.name}, {unit}", size.bits, size.seconds)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| method | bits per image | per pixel | over the bound | seconds for both directions |",
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
    """Read the command line, measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="Folder of a trained run.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the results.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(measure(Run.open(options.run)))
    command = "python -m paper.studies.lossless RUN"
    write_tables(options.out / "lossless.json", "lossless", command, rows, table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
