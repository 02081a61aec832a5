"""A run on a small table of telemetry, and files of such rows."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import SMALL
from sdlgm.config import TrainingConfig
from sdlgm.scale import ray_engine
from sdlgm.training import Run, fit

COLUMNS = [f"x{place}" for place in range(6)]


def telemetry(rows: int, seed: int = 0) -> pa.Table:
    """Two names and six columns of numbers that a few causes explain."""
    source = np.random.default_rng(seed)
    values = (source.random((rows, 3)) < 0.4) @ source.normal(size=(3, 6))
    values = (values + 0.1 * source.normal(size=(rows, 6))).astype(np.float32)
    table = pa.table(dict(zip(COLUMNS, values.T, strict=True)))
    table = table.add_column(0, "time", pa.array(np.arange(rows)))
    return table.add_column(0, "host", pa.array([f"h{row % 7}" for row in range(rows)]))


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, with all others of it.

    Ray's actors have process groups of their own. They outlive the process that started them for
    some seconds, and may finish a file meanwhile.
    """
    while living := _session(process.pid):
        for each in living:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.01)
    process.wait()


def _session(leader: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,stat="], capture_output=True, text=True).stdout
    found = []
    for pid, state in (line.split() for line in listed.splitlines()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not state.startswith("Z") and os.getsid(int(pid)) == leader:
                found.append(int(pid))
    return found


@pytest.fixture(scope="session")
def scale_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A short training. Do not write into its folder."""
    folder = tmp_path_factory.mktemp("scale")
    table = telemetry(600).select(COLUMNS)
    pq.write_table(table, folder / "train.parquet")
    import dataclasses

    return fit(
        str(folder / "train.parquet"),
        dataclasses.replace(SMALL, likelihood="gaussian"),
        TrainingConfig(iterations=300, batch_size=50, learning_rate=5e-3),
        out=folder / "run",
        importance_samples=2,
        progress=False,
    )


@pytest.fixture(scope="session")
def _ray_ends() -> Iterator[None]:
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.fixture
def running_ray(_ray_ends: None) -> None:
    """A Ray that the library finds running, in another folder than that of a test.

    It is there for later tests, too: a Ray takes some ten seconds to start.
    """
    ray = pytest.importorskip("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray_engine._start(ray)


@pytest.fixture
def no_ray() -> None:
    """No Ray is running, so that the library starts one."""
    pytest.importorskip("ray").shutdown()


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Three files in two folders, one of several row groups, one empty; columns in two orders."""
    folder = tmp_path / "lake"
    (folder / "day=2").mkdir(parents=True)
    pq.write_table(telemetry(5000, 1), folder / "a.parquet", row_group_size=700)
    pq.write_table(
        telemetry(2500, 2).select([*COLUMNS[::-1], "time", "host"]), folder / "day=2/b.parquet"
    )
    pq.write_table(telemetry(0, 3), folder / "empty.parquet")
    (folder / "_SUCCESS").touch()
    return folder
