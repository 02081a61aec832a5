"""Bits per code of a run's test data: the compact container beside its limit and other formats.

    python -m paper.studies.code_sizes runs/mnist                 # writes docs/results/code_sizes.*
    python -m paper.studies.code_sizes runs/mnist --out /tmp/sizes

Seconds after the codes are made. Codes are drawn with seed 0 (``sample``) or most probable ones
(``mode``); what is compressed as an image are the same bits that were encoded. All sizes are read
back and compared, but for the two CSR rows, which are counted.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from paper.results import row, write_markdown, write_results
from paper.studies.compressors import sizes
from sdlgm.codec import describe, read_codes, write_codes
from sdlgm.codec.ans import Stack
from sdlgm.codec.sdz_layout import rounded
from sdlgm.codec.symbols import CodeCoder, slot_counts
from sdlgm.inference import BATCH
from sdlgm.models import SDLGM
from sdlgm.random import generator
from sdlgm.training import Run

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
SEED, REPEATS = 0, 5


def under_the_prior(model: SDLGM, codes: torch.Tensor) -> float:
    """Mean of -log2 p(z), bits."""
    with torch.no_grad():
        prior = model.double().prior()
        bits = -prior.log_prob(codes.double()).mean().item() / math.log(2)
    model.float()
    return bits


def under_the_frequencies(model: SDLGM, codes: torch.Tensor) -> float:
    """The same under the multinomial of the measured frequencies: for one slot, the entropy."""
    groups, slots = model.groups, model.config.budget // model.groups
    counts = codes.unflatten(1, (groups, -1))
    all_counts = torch.cat([counts, slots - counts.sum(-1, keepdim=True)], -1).double()
    found = torch.from_numpy(slot_counts(codes.numpy().astype(np.int32), groups, slots)).double()
    laws = found / found.sum(-1, keepdim=True)
    orders = math.lgamma(slots + 1) - torch.lgamma(all_counts + 1).sum(-1)
    return -(orders + torch.xlogy(all_counts, laws).sum(-1)).sum(-1).mean().item() / math.log(2)


def csr(model: SDLGM, codes: torch.Tensor) -> dict[str, float]:
    """Bits per code as compressed sparse rows, packed to bits and in whole bytes."""
    config = model.config
    active = (codes > 0).sum(-1).double().mean().item()
    slots = config.budget // model.groups
    each = math.ceil(math.log2(config.features)) + math.ceil(math.log2(slots))
    whole = 1 if config.features <= 256 else 2
    return {
        "CSR, packed to bits": math.ceil(math.log2(config.budget + 1)) + active * each,
        "CSR, whole bytes": 8 * (4 + active * (whole + 1)),
    }


def files(model: SDLGM, codes: torch.Tensor) -> Iterator[tuple[str, float, float, float]]:
    """Yield a format, its bits per code, and codes a second of writing and reading."""
    batches = codes.split(BATCH)
    with tempfile.TemporaryDirectory() as folder:
        for name, suffix in (("sdz, the whole file", "sdz"), ("Parquet with zstd", "parquet")):
            path = Path(folder) / f"codes.{suffix}"
            write = median(lambda path=path: write_codes(path, batches, describe(model)))
            read = median(lambda path=path: torch.cat(list(read_codes(path, describe(model))[1])))
            same(torch.equal(torch.cat(list(read_codes(path, describe(model))[1])), codes), name)
            yield name, 8 * path.stat().st_size / len(codes), len(codes) / write, len(codes) / read


def payload(model: SDLGM, codes: torch.Tensor) -> float:
    """Bits per code of the coded symbols alone, without tables, digests and index."""
    counts, slots = codes.numpy().astype(np.int32), model.config.budget // model.groups
    stack = Stack()
    CodeCoder(rounded(slot_counts(counts, model.groups, slots)), slots).push(stack, counts)
    return stack.bits / len(codes)


def same(equal: bool, what: str) -> None:
    """Stop unless what was read is what was written."""
    if not equal:
        raise SystemExit(f"{what}: what was read is not what was written.")


def median(action: Callable[[], Any]) -> float:
    """Seconds, the median of a few."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the rows of the results file."""
    model, rows, config = run.model, run.dataset.test, run.config.model
    about = {
        "dataset": run.dataset.name,
        "protocol": f"{len(rows):,} test codes, {run.config.training.iterations:,} iterations, K = "
        f"{config.features}, L0 = {config.budget}, {model.groups} groups",
    }
    for choice in ("sample", "mode"):
        codes = model.encode(rows, choice, seed=SEED)
        limit = under_the_prior(model, codes)

        def line(method: str, value: float, limit: float = limit, **more: Any) -> dict[str, Any]:
            family = f"code = {choice}"  # noqa: B023 (called in this turn)
            over = value / limit - 1
            return row(
                method, [value], [SEED], family=family, metric="bits per code", over_limit=over,
                **about, **more,
            )  # fmt: skip

        yield line("limit: -log2 p(z) under the model's prior", limit)
        yield line("the same under the measured frequencies", under_the_frequencies(model, codes))
        yield line("sdz, the coded symbols alone", payload(model, codes))
        for name, size, write, read in files(model, codes):
            yield line(name, size, codes_per_second=[round(write), round(read)])
        for name, size in csr(model, codes).items():
            yield line(name, size)
        if choice == "sample":
            bits = torch.cat(list(rows.batches(BATCH, generator(SEED, "evaluation bits"))))
            yield line("raw image, 1 bit a pixel", float(bits.shape[1]))
            for size in sizes(bits.numpy().astype(np.uint8), ("zlib 9", "zstd 19")):
                what = "each image" if size.single else "all images as one"
                yield line(f"{size.name} of the image bits, {what}", size.bits)


def table(rows: list[dict[str, Any]]) -> str:
    """Lay the rows out as Markdown."""
    lines = [
        "| what | code | bits per code | over the limit | written, codes/s | read, codes/s |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for each in rows:
        write, read = each.get("codes_per_second") or ("", "")
        speeds = [f"{speed:,}" if speed else "" for speed in (write, read)]
        lines.append(
            f"| {each['method']} | {each['family'].removeprefix('code = ')} | {each['value']:.2f} "
            f"| {each['over_limit']:+.2%} | {' | '.join(speeds)} |"
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
    write_results(
        options.out / "code_sizes.json",
        "code_sizes",
        "python -m paper.studies.code_sizes RUN",
        rows,
    )
    write_markdown(options.out / "code_sizes.md", table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
