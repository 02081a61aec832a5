"""Compare bits per image of lossless compression with the bound and with other compressors.

    python -m paper.studies.lossless runs/default runs/best      # writes docs/results/lossless.*
    python -m paper.studies.lossless runs/best --json runs/lossless.json

Takes about four minutes and ten seconds more for each run. The images are the test images of the
runs, which must be the same, binarised once with seed 0. All compressed data are decompressed and
compared. The table is written beside the JSON file, as ``.md``.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from paper.results import row, write_tables
from paper.studies.compressors import NAMES, Size, sizes
from paper.studies.context_coder import ContextCoder
from paper.studies.jbig import MISSING, available, jbig_sizes
from sdlgm.codec import compress_file, decompress_file, drawn_rows
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.random import generator
from sdlgm.training import Run

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results" / "lossless.json"
SEED, DRAWS = 0, 10
PUBLISHED = 0.19
CONTEXTS = {"10 pixels and the position": (10, True), "20 pixels": (20, False)}

Bits = NDArray[np.uint8]


def bound(run: Run, values: torch.Tensor) -> float:
    """Return the negative ELBO in bits per image, averaged over several draws of each code."""
    noise, total = generator(SEED, "bound"), 0.0
    for _ in range(DRAWS):
        for x in values.split(1000):
            total += negative_elbo(run.model, x, generator=noise).total.double().sum().item()
    return total / DRAWS / len(values) / math.log(2)


def line(
    method: str,
    bits: float,
    limit: float,
    values: Bits | torch.Tensor,
    dataset: str,
    seconds: float | None = None,
    settings: str = "",
    **more: Any,
) -> dict[str, Any]:
    """Return a row of the results file; ``limit`` is what it is compared with."""
    return row(
        method,
        [bits],
        [SEED],
        dataset=dataset,
        family="lossless",
        protocol=f"{len(values):,} test images, binarised with seed {SEED}{settings}",
        metric="bits per image",
        bits_per_pixel=bits / values.shape[1],
        over_bound=bits / limit - 1,
        seconds=None if seconds is None else round(seconds, 1),
        **more,
    )


def measure_run(name: str, run: Run, values: torch.Tensor) -> Iterator[dict[str, Any]]:
    """Yield the rows of one run: its bound and its file, over that bound."""
    limit = bound(run, values.float())
    model, training = run.config.model, run.config.training
    common: dict[str, Any] = {
        "limit": limit,
        "values": values,
        "dataset": run.dataset.name,
        "settings": f"; {training.iterations:,} iterations, {model.levels} levels, {model.prior} "
        f"prior, seed {training.seed}",
    }
    yield line(f"{name}: bound, negative ELBO, mean of {DRAWS} codes per image", limit, **common)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.sdl"
        started = time.perf_counter()
        found = compress_file(run.model, run.dataset.test, path, seed=SEED)
        middle = time.perf_counter()
        restored = decompress_file(run.model, path)
        ended = time.perf_counter()
    if not torch.equal(restored, values):
        raise SystemExit("The decompressed images differ from the original ones.")
    yield line(
        f"{name}: sdl, without initial bits",
        found.payload_bits / len(values),
        **common,
        initial_bits=found.initial_bits,
        seconds_there_and_back=(middle - started, ended - middle),
    )
    bits = found.file_bits / len(values)
    yield line(f"{name}: sdl, the whole file", bits, seconds=ended - started, **common)


def context_sizes(values: Bits, training: Bits, shape: tuple[int, int]) -> Iterator[Size]:
    """Yield the sizes by counts in contexts, from nothing and from those of the training images."""
    images = values.reshape(-1, *shape)
    for what, (pixels, position) in CONTEXTS.items():
        coder = ContextCoder(shape, pixels, position=position)
        known = coder.count(training.reshape(-1, *shape))
        for primed in (None, known):
            started = time.perf_counter()
            content = coder.compress(images, primed)
            if not np.array_equal(coder.decompress(content, len(images), primed), images):
                raise SystemExit("The context coder did not restore its input.")
            seconds = time.perf_counter() - started
            start = "counts of the file alone"
            if primed is not None:
                start = f"counts of {len(training):,} training images to start with"
            bits = 8 * len(content) / len(images)
            yield Size(f"context of {what}, {start}", False, bits, seconds)


def rivals(values: Bits, training: Bits, shape: tuple[int, int]) -> Iterator[tuple[str, Size]]:
    """Yield names and sizes of all other compressors."""
    for size in context_sizes(values, training, shape):
        yield size.name, size
    others = [sizes(values, NAMES, shape[1])]
    if available():
        others.insert(0, jbig_sizes(values, shape[1]))
    for found in others:
        for size in found:
            unit = "each image" if size.single else "all images together"
            yield f"{size.name}, {unit}", size


def measure(runs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the results file."""
    opened = [(_name(path, runs), Run.open(path)) for path in runs]
    first = opened[0][1].dataset
    values, limits = drawn_rows(first.test, SEED), []
    for name, run in opened:
        if not torch.equal(drawn_rows(run.dataset.test, SEED), values):
            raise SystemExit(f"{name} has other test images than {opened[0][0]}.")
        for found in measure_run(name, run, values):
            limits.append(found["value"] / (1 + found["over_bound"]))
            yield found
    bits, training = values.numpy(), drawn_rows(first.train, SEED).numpy()
    if first.image_shape is None or bits.max() > 1:
        raise SystemExit("The other compressors take images of bits.")
    for method, size in rivals(bits, training, first.image_shape):
        yield line(method, size.bits, min(limits), bits, first.name, size.seconds)


def _name(path: Path, runs: Sequence[Path]) -> str:
    """Return the name of a run's folder, or its path if two have the same name."""
    alone = sum(each.name == path.name for each in runs) == 1
    return path.name if alone else str(path)


def table(rows: Sequence[dict[str, Any]]) -> str:
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
    return "\n".join(lines if available() else [*lines, "", MISSING])


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="Folders of trained runs.")
    parser.add_argument("--json", type=Path, default=RESULTS, help="File of the results.")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = list(measure(options.runs))
    command = "python -m paper.studies.lossless " + " ".join(path.name for path in options.runs)
    write_tables(options.json, "lossless", command, rows, table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
