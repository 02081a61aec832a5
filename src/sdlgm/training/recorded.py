"""Gradient steps on a GPU that are recorded once, as a CUDA graph, and then replayed.

A step of a small model launches hundreds of kernels, each of which takes less time than its launch.
A recorded step is launched as a whole. It has no arguments: data, the rows of the batch, random
numbers, the learning rate and the weight of the KL are read from memory of the GPU, which is
written before each replay. What is written is a function of the step's number, as in a step that is
not recorded, so a training that is resumed visits the same rows with the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from sdlgm.data import Rows, Samples
from sdlgm.gradients import options
from sdlgm.memory import card_bytes
from sdlgm.random import reseed
from sdlgm.training.order import Batches
from sdlgm.training.step import Trainer

__all__ = [
    "DATA_SHARE",
    "Recorder",
    "Replay",
    "ResidentSteps",
    "record",
    "warm_up",
    "why_not_recorded",
    "why_not_resident",
]

DATA_SHARE = 4
"""Data are kept on the GPU if they take at most 1/4 of its memory."""

WARM_UP = 3
"""Steps before the recording, in which libraries choose their algorithms and memory."""

STEPS_AHEAD = 256
"""Steps whose rows are sent to the device at once."""

Replay = Callable[[], Tensor]
"""Repeats what was recorded, and returns its result, which the next call overwrites."""


class Recorder(Protocol):
    """Records a function of no arguments whose random numbers come from known generators."""

    def __call__(self, body: Replay, generators: Sequence[torch.Generator]) -> Replay:
        """Return a function that repeats ``body``; the recording itself has no effect.

        Raises ``RuntimeError`` if ``body`` cannot be recorded.
        """
        ...


def record(body: Replay, generators: Sequence[torch.Generator]) -> Replay:
    """Record ``body`` as a CUDA graph; see :class:`Recorder`."""
    graph = torch.cuda.CUDAGraph()
    for each in generators:
        graph.register_generator_state(each)
    with torch.cuda.graph(graph):
        result = body()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def why_not_resident(trainer: Trainer, rows: Samples) -> str | None:
    """Return why the data of a training cannot stay on the device, or ``None`` if they can."""
    device, processes = trainer.fabric.device, trainer.config.devices
    if device.type != "cuda":
        return "the training does not run on a CUDA GPU"
    if processes != 1:
        return f"{processes} processes share each batch"
    if not isinstance(rows, Rows):
        return "the rows are sparse"
    size, most = rows.values.numel() * rows.values.element_size(), card_bytes(device) // DATA_SHARE
    if size > most:
        return f"the data take {size / 2**30:.1f} GiB, more than {most / 2**30:.1f} of this GPU"
    return None


def why_not_recorded(trainer: Trainer, rows: Samples) -> str | None:
    """Return why a step of a training cannot be recorded, or ``None`` if it can."""
    config = trainer.config
    reason = why_not_resident(trainer, rows)
    if reason:
        return reason
    if config.objective == "rate_distortion":
        return "each step searches for codes, until none changes"
    if str(config.precision).startswith("16"):
        return f"precision = {config.precision!r} adapts the scale of the loss on the host"
    if "control_variate" in options(str(config.estimator)):
        return f"the control variate of {config.estimator!r} treats its first batch differently"
    return None


class ResidentSteps:
    """Gradient steps whose data, random numbers and schedules are all on the device.

    Parameters
    ----------
    trainer
        The model with its objective and optimiser.
    rows, order
        The data, and which of its rows a step visits.
    recorder
        Records the step: :func:`record` for a GPU; ``None`` takes each step anew.
    """

    def __init__(
        self, trainer: Trainer, rows: Rows, order: Batches, recorder: Recorder | None = record
    ) -> None:
        self.trainer, self.order, self.recorder = trainer, order, recorder
        device = trainer.fabric.device
        self.rows = rows.to(device)
        self._bits, self._noise = torch.Generator(device), torch.Generator(device)
        self._index = order.batch(0).to(device)
        self._ahead, self._first = self._index[:0], 0
        self._replay: Replay = self._take

    def prepare(self, step: int) -> str | None:
        """Record the step; return why this failed, if it did. Steps are then taken anew.

        Model and optimiser stay as they are.
        """
        if self.recorder is None:
            return None
        with _unchanged(self.trainer):
            self._write(step)
            warm_up(self._take, self._index.device)
        self.trainer.adam.zero_grad()  # a recorded step has its own gradients
        try:
            self._replay = self.recorder(self._take, (self._bits, self._noise))
        except RuntimeError as error:
            device = self._index.device
            self._bits, self._noise = torch.Generator(device), torch.Generator(device)
            _end_recording(device)
            return f"the step cannot be recorded ({str(error).strip().splitlines()[0]})"
        return None

    def __call__(self, step: int) -> Tensor:
        """Take gradient step ``step``; return its terms, a new tensor."""
        self._write(step)
        return self._replay().clone()

    def _write(self, step: int) -> None:
        """Write what the step reads. Nothing here waits for the device."""
        seed = self.trainer.config.seed
        reseed(self._bits, seed, "bits", step)
        reseed(self._noise, seed, "noise", step)
        self.trainer.objective.set_schedules(step)
        if not self._first <= step < self._first + len(self._ahead):
            steps = range(step, step + STEPS_AHEAD)
            index = torch.stack([self.order.batch(each) for each in steps])
            if self._index.is_cuda:
                index = index.pin_memory()
            self._ahead = index.to(self._index.device, non_blocking=True)
            self._first = step
        self._index.copy_(self._ahead[step - self._first])

    def _take(self) -> Tensor:
        """Take the step that was written."""
        x = self.rows.batch(self._index, self._bits)
        return self.trainer.update(x, self._noise)


@contextmanager
def _unchanged(trainer: Trainer) -> Iterator[None]:
    """Restore objective and optimiser in place after the block.

    The optimiser makes its state in its first step. That state starts at 0.
    """
    adam = trainer.adam
    before = [(tensor, tensor.clone()) for tensor in trainer.objective.state_dict().values()]
    before += [(each, each.clone()) for each in _states(adam)]
    known = {id(tensor) for tensor, _ in before}
    yield
    with torch.no_grad():
        for tensor, value in before:
            tensor.copy_(value)
        for tensor in _states(adam):
            if id(tensor) not in known:
                tensor.zero_()


def _states(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [each for state in optimizer.state.values() for each in state.values()]


def _end_recording(device: torch.device) -> None:
    """Bring torch's own generator out of a recording that failed, by one that does not."""
    if device.type == "cuda":
        with torch.cuda.device(device), torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.zeros(1, device=device)


def warm_up(body: Replay, device: torch.device) -> None:
    """Call ``body`` some times, on a GPU on another stream, as CUDA graphs require."""
    if device.type != "cuda":
        for _ in range(WARM_UP):
            body()
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            body()
    torch.cuda.current_stream(device).wait_stream(stream)
