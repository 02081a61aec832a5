"""What the parts of the benchmark of a GPU share: their size, their clock, and recording."""

from __future__ import annotations

import functools
import gc
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from paper.timing.experiment import BATCH, INPUTS

from benchmarks._rounds import Clocks, in_turns
from sdlgm.data import Rows
from sdlgm.environment import accelerator_of
from sdlgm.random import generator
from sdlgm.training.recorded import record, warm_up

__all__ = ["PROFILES", "Bench", "Call", "Size"]

Call = Callable[[], Any]


@dataclass(frozen=True)
class Size:
    """The size of the benchmark."""

    batches: tuple[int, ...] = (BATCH, 4096)
    hidden: tuple[int, ...] = (512, 384, 256)
    """Widths of the encoder's hidden layers of all contenders but `best`."""
    train_rows: int = 60_000
    """Rows of random grey values, of which a whole step draws its batch."""
    features: tuple[int, ...] = (200, 1_000, 10_000, 100_000)
    budgets: tuple[int, ...] = (10, 50)
    latent_batch: int = 128
    rounds: int = 10
    block_seconds: float = 0.05
    """About how long one call is repeated in a round."""
    data: tuple[str, ...] = ("mnist",)
    """Data sets to train on; the first one with available files is used."""
    iterations: int = 30_000
    every: int = 500
    """Iterations between two evaluations."""
    target: float = 99.05
    """Negative ELBO of the test rows, in nats, that the training is timed to."""
    importance_samples: int = 100
    encode_batches: tuple[int, ...] = (1_000, 10_000)
    fit_seconds: float = 45.0
    """Seconds without which the whole fit is not started, as it cannot be cut short."""


PROFILES = {
    "full": Size(),
    "smoke": Size(
        batches=(4,),
        hidden=(16, 8),
        train_rows=50,
        features=(12, 40),
        budgets=(2,),
        latent_batch=4,
        rounds=2,
        block_seconds=0.001,
        data=("digits",),
        iterations=6,
        every=2,
        target=60.0,
        importance_samples=2,
        encode_batches=(50,),
        fit_seconds=0.0,
    ),
}


class Bench:
    """What all parts share: the size, the device, its clock, and the time that is left."""

    def __init__(self, size: Size, device: torch.device, seconds: float) -> None:
        self.size, self.device = size, device
        self.on_gpu = device.type == "cuda"
        self.accelerator = accelerator_of(device)
        self._end = time.perf_counter() + seconds

    @functools.cached_property
    def rows(self) -> Rows:
        """Random grey values, whose bits are drawn anew at each visit."""
        shape = (self.size.train_rows, INPUTS)
        grey = torch.rand(shape, generator=generator(0, "grey values"))
        return Rows((255 * grey).byte(), 255.0, dynamic=True)

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._end - time.perf_counter()

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(text, file=sys.stderr, flush=True)

    def wait(self) -> None:
        """Wait until the device is done."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def measure(self, calls: Mapping[str, Call]) -> Clocks:
        """Return the wall seconds of each call in each round; calls take turns in blocks."""
        numbers, blocks = {}, {}
        for name, call in calls.items():
            for _ in range(2):  # the second call shows how long one takes
                self.wait()
                started = time.perf_counter()
                call()
                self.wait()
            once = time.perf_counter() - started
            number = numbers[name] = max(1, min(100, int(self.size.block_seconds / once)))
            blocks[name] = self._block(call, number)
        wall, _ = in_turns(blocks, self.size.rounds, warmup=1)
        return {name: [each / numbers[name] for each in wall[name]] for name in calls}

    def _block(self, call: Call, number: int) -> Call:
        def block() -> None:
            for _ in range(number):
                call()
            self.wait()

        return block

    def recorded(self, body: Call, sources: Sequence[torch.Generator] = ()) -> Call | None:
        """Return a call that replays ``body``; ``None`` without a GPU, or if it is not possible."""
        if not self.on_gpu:
            return None
        warm_up(body, self.device)
        try:
            return record(body, sources)
        except RuntimeError as error:
            self.say(f"cannot be recorded: {error}")
            return None

    def free(self) -> None:
        """Give back what earlier calls and recordings took of the GPU's memory."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def peak_megabytes(self, call: Call) -> float | None:
        """Return the peak of the memory that a call takes on the GPU (10^6 bytes), else ``None``.

        What is there before the call, such as weights, does not count.
        """
        if not self.on_gpu:
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        call()
        self.wait()
        return (torch.cuda.max_memory_allocated(self.device) - before) / 1e6
