"""Compare bits per code of a run's test data: ``.sdz`` files, their limit, and other formats.

    python -m paper.studies.code_sizes runs/mnist                 # writes docs/results/code_sizes.*
    python -m paper.studies.code_sizes runs/mnist --out runs/sizes

Codes are drawn with seed 0 (``sample``) or are the most probable ones (``mode``). The compressed
images are the bits that were encoded. All files are read back and compared; only the sizes of the
two CSR rows are computed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from paper.results import row, write_tables
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
CODES: tuple[Literal["sample", "mode"], ...] = ("sample", "mode")


def bits_under_prior(model: SDLGM, codes: torch.Tensor) -> float:
    """Return the mean of -log2 p(z)."""
    with torch.no_grad():
        prior = model.double().prior()
        bits = -prior.log_prob(codes.double()).mean().item() / math.log(2)
    model.float()
    return bits


def bits_under_frequencies(model: SDLGM, codes: torch.Tensor) -> float:
    """Return bits per code under multinomials of the measured frequencies."""
    groups, slots = model.groups, model.config.budget // model.groups
    counts = codes.unflatten(1, (groups, -1))
    all_counts = torch.cat([counts, slots - counts.sum(-1, keepdim=True)], -1).double()
    found = torch.from_numpy(slot_counts(codes.numpy().astype(np.int32), groups, slots)).double()
    frequencies = found / found.sum(-1, keepdim=True)
    orders = math.lgamma(slots + 1) - torch.lgamma(all_counts + 1).sum(-1)
    return -(orders + torch.xlogy(all_counts, frequencies).sum(-1)).sum(
        -1
    ).mean().item() / math.log(2)


def csr(model: SDLGM, codes: torch.Tensor) -> dict[str, float]:
    """Return bits per code as compressed sparse rows, in packed bits and in whole bytes."""
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
    """Yield formats, bits per code, and codes per second of writing and of reading."""
    batches, description = codes.split(BATCH), describe(model)

    def written(path: Path) -> None:
        write_codes(path, batches, description)

    def read(path: Path) -> torch.Tensor:
        return torch.cat(list(read_codes(path, description)[1]))

    with tempfile.TemporaryDirectory() as folder:
        for name, suffix in (("sdz, the whole file", "sdz"), ("Parquet with zstd", "parquet")):
            path = Path(folder) / f"codes.{suffix}"
            writing = median_seconds(written, path)
            reading = median_seconds(read, path)
            if not torch.equal(read(path), codes):
                raise SystemExit(f"{name}: the file does not contain the codes that were written.")
            size = 8 * path.stat().st_size / len(codes)
            yield name, size, len(codes) / writing, len(codes) / reading


def payload(model: SDLGM, codes: torch.Tensor) -> float:
    """Return bits per code of the coded symbols, without tables, digests and index."""
    counts, slots = codes.numpy().astype(np.int32), model.config.budget // model.groups
    stack = Stack()
    CodeCoder(rounded(slot_counts(counts, model.groups, slots)), slots).push(stack, counts)
    return stack.bits / len(codes)


def median_seconds(action: Callable[[Path], object], path: Path) -> float:
    """Return the median time of a few calls, in seconds."""
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        action(path)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure(run: Run) -> Iterator[dict[str, Any]]:
    """Yield the rows of the results file."""
    model, rows, config = run.model, run.dataset.test, run.config.model
    labels: dict[str, Any] = {
        "dataset": run.dataset.name,
        "protocol": f"{len(rows):,} test codes, {run.config.training.iterations:,} iterations, K = "
        f"{config.features}, L0 = {config.budget}, {model.groups} groups",
    }
    for code in CODES:
        codes = model.encode(rows, code, seed=SEED)
        limit = bits_under_prior(model, codes)

        def line(method: str, value: float, limit: float = limit, **more: Any) -> dict[str, Any]:
            family = f"code = {code}"  # noqa: B023 (called in this iteration)
            over = value / limit - 1
            return row(
                method, [value], [SEED], family=family, metric="bits per code", over_limit=over,
                **labels, **more,
            )  # fmt: skip

        yield line("limit: -log2 p(z) under the model's prior", limit)
        yield line(
            "-log2 p(z) under the measured frequencies", bits_under_frequencies(model, codes)
        )
        yield line("sdz, the coded symbols only", payload(model, codes))
        for name, size, write, read in files(model, codes):
            yield line(name, size, codes_per_second=[round(write), round(read)])
        for name, value in csr(model, codes).items():
            yield line(name, value)
        if code == "sample":
            bits = torch.cat(list(rows.batches(BATCH, generator(SEED, "evaluation bits"))))
            yield line("raw image, 1 bit per pixel", float(bits.shape[1]))
            for compressed in sizes(bits.numpy().astype(np.uint8), ("zlib 9", "zstd 19")):
                what = "each image" if compressed.single else "all images together"
                yield line(f"{compressed.name} of the image bits, {what}", compressed.bits)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| format | code | bits per code | over the limit | written, codes/s | read, codes/s |",
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
    """Read the command line, measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="Folder of a trained run.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the results.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = list(measure(Run.open(options.run)))
    command = "python -m paper.studies.code_sizes RUN"
    write_tables(options.out / "code_sizes.json", "code_sizes", command, rows, table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
