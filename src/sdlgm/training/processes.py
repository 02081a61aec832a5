"""Several processes that train one model: how they start, connect and end.

Fabric's DDP averages the gradients. We do not use its launchers: they run ``sys.argv`` again, which
is another program in a notebook or a test, or pickle the caller's objects. The folder of a run
holds everything that a training needs. The other processes are therefore started on this folder by
our own command; callbacks, signals and progress stay in the caller's process.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from torch import Tensor
from torch import distributed as dist

from sdlgm.errors import TrainingError

__all__ = ["Group", "connected", "process_group"]

JOIN_SECONDS = 300
"""How long the processes wait for each other at the start, where each loads the data."""


class Group(ClusterEnvironment):
    """Process ``rank`` of ``size`` connected processes on one machine; rank 0 is the caller's.

    For Fabric it is an environment whose processes were started externally.
    """

    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size

    def share(self, batch: Tensor) -> Tensor:
        """Return this process's rows of a batch."""
        rows = len(batch) // self.size
        return batch[self.rank * rows : (self.rank + 1) * rows]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        try:
            dist.all_reduce(values)
        except RuntimeError as error:
            raise _lost(error) from None
        return values

    def from_first(self, value: float) -> float:
        """Return rank 0's value."""
        held = torch.tensor([value], dtype=torch.float64)
        try:
            dist.broadcast(held, 0)
        except RuntimeError as error:
            raise _lost(error) from None
        return held.item()

    # --- interface of Fabric ---------------------------------------------------------------------

    @property
    def creates_processes_externally(self) -> bool:
        """True: Fabric starts no process."""
        return True

    @property
    def main_address(self) -> str:
        """Unused, since the processes are already connected."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Unused, since the processes are already connected."""
        return 0

    @staticmethod
    def detect() -> bool:
        """False: an environment of this kind is passed explicitly."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self.size

    def set_world_size(self, size: int) -> None:
        """Do nothing, since it is known."""

    def global_rank(self) -> int:
        """Return this process's number."""
        return self.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing, since it is known."""

    def local_rank(self) -> int:
        """Return this process's number on its machine."""
        return self.rank

    def node_rank(self) -> int:
        """Return 0, since there is one machine."""
        return 0


@contextlib.contextmanager
def process_group(run: Path, size: int, resumed: bool) -> Iterator[Group]:
    """Start ``size - 1`` processes on a run's folder and connect to them.

    They end with the block, also if it fails.

    Raises
    ------
    TrainingError
        If one of them ends before all are connected; the message quotes its last error.
    """
    with tempfile.TemporaryDirectory(prefix="sdlgm-") as meeting:
        command = [sys.executable, "-m", "sdlgm.training.worker", str(run.absolute()), meeting]
        started = [
            subprocess.Popen(  # noqa: S603
                [*command, str(rank), str(size), str(int(resumed)), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=(Path(meeting) / f"stderr{rank}").open("wb"),
                start_new_session=True,  # only the first process receives Ctrl-C
            )
            for rank in range(1, size)
        ]
        threads = torch.get_num_threads()
        try:
            _await(started, Path(meeting))
            with connected(Path(meeting), 0, size) as group:
                yield group
        except BaseException:
            for process in started:
                process.kill()
            raise
        finally:
            torch.set_num_threads(threads)
            for process in started:
                process.wait()


@contextlib.contextmanager
def connected(meeting: Path, rank: int, size: int) -> Iterator[Group]:
    """Connect this process to the others while the block runs; they find each other by a file."""
    (meeting / f"here{rank}").touch()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")
    torch.set_num_threads(max(1, torch.get_num_threads() // size))
    store = dist.FileStore(str(meeting / "store"), size)  # type: ignore[attr-defined]
    # The timeout is long because the others wait while rank 0 evaluates the bound. If a process
    # dies, its connections close and the others notice at once.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=timedelta(days=1)
    )
    try:
        yield Group(rank, size)
    finally:
        dist.destroy_process_group()


def _await(started: list[subprocess.Popen[bytes]], meeting: Path) -> None:
    """Wait until the processes are about to connect."""
    until = time.monotonic() + JOIN_SECONDS
    while not all((meeting / f"here{rank}").exists() for rank in range(1, len(started) + 1)):
        for rank, process in enumerate(started, 1):
            if process.poll() is not None or time.monotonic() > until:
                said = (meeting / f"stderr{rank}").read_text(errors="replace").strip()
                raise TrainingError(
                    f"Process {rank} of the training did not start"
                    + (f": {said.splitlines()[-1]}" if said else ".")
                )
        time.sleep(0.05)


def _lost(error: RuntimeError) -> TrainingError:
    return TrainingError(
        f"Another process of the training has ended ({str(error).splitlines()[0]}). Continue "
        "from the last checkpoint with: sdlgm resume RUN"
    )
