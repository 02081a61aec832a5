"""Encode files on Ray Data: each actor has its own model and takes some of the files."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sdlgm.data.drift import Drift
from sdlgm.errors import ConfigError, DataError, OutputError
from sdlgm.scale.arrow_encoder import ArrowEncoder
from sdlgm.scale.parquet_files import Task, encode_file

__all__ = ["encode_files"]

ANSWER_SECONDS = 5.0
"""How long to wait for an answer from ``RAY_ADDRESS``; Ray itself waits for minutes."""
OBJECT_STORE_BYTES = 100 * 2**20
"""Size for a Ray started here; only names and numbers of rows pass through the store."""


class _FileEncoder:
    """An actor that loads the model once and encodes the files it gets."""

    def __init__(self, encoder: ArrowEncoder) -> None:
        self.encoder = encoder
        encoder.model  # noqa: B018 (loads the model before the first file comes)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        task = Task(row["source"], row["target"], row["rows"], row["name"])
        drift, rows, problem, output = self.encoder.new_drift(), 0, "", False
        try:
            rows = sum(encode_file(self.encoder, task, drift))
        except (DataError, OutputError) as error:
            problem, output = str(error), isinstance(error, OutputError)
        return {"rows": rows, "error": problem, "output": output, "drift": drift.counts()}


def encode_files(
    encoder: ArrowEncoder, tasks: Sequence[Task], drift: Drift | None = None
) -> Iterator[int]:
    """Encode files on Ray; yield the number of rows of each finished file.

    ``drift`` counts values far outside of the training range.

    A running Ray is used (after ``ray.init``, or at ``RAY_ADDRESS``). Otherwise one is started on
    this machine, without dashboard and usage reports.

    Raises
    ------
    ConfigError
        If Ray is not installed, or no Ray answers at ``RAY_ADDRESS``.
    DataError, OutputError
        As :func:`~sdlgm.scale.parquet_files.encode_file`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # By default workers have the lowest priority; on a busy machine they would hardly run.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError(
            'The engine "ray" needs Ray: pip install "sdlgm[scale]". The engine "local" needs no '
            "other package."
        ) from None
    ours = not ray.is_initialized()
    if ours:
        _start(ray)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # Actors on all CPUs would leave none for the scheduler, and the job would hang.
        actors = max(1, min(len(tasks), int(ray.cluster_resources().get("CPU", 2)) - 1))
        # The actors of a running Ray have another working directory.
        rows = [
            {
                "source": str(Path(task.source).absolute()),
                "target": str(Path(task.target).absolute()),
                "rows": task.rows,
                "name": task.name,
            }
            for task in tasks
        ]
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _FileEncoder,  # type: ignore[arg-type]
            fn_constructor_args=(encoder,),
            num_cpus=1,
            concurrency=actors,
        )
        for done in data.iter_rows():
            if done["error"]:
                raise (OutputError if done["output"] else DataError)(done["error"])
            if drift is not None:
                drift.merge(list(done["drift"]))
            yield done["rows"]
    finally:
        if ours:
            ray.shutdown()


def _start(ray: Any) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _check_answer(address)
        try:
            ray.init(**quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise _unreachable(address, first) from None
        return
    ray.init(
        num_cpus=max(2, os.cpu_count() or 1),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        **quiet,
    )


def _check_answer(address: str) -> None:
    """Raise :class:`ConfigError` unless something that speaks gRPC answers at an address soon.

    A gRPC server sends its settings, the first frame of HTTP/2, to everyone who connects.
    """
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        return  # such as "auto" or "local", which Ray looks up
    try:
        with socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS) as probe:
            probe.settimeout(ANSWER_SECONDS)
            probe.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            if not probe.recv(9) and not os.environ.get("RAY_USE_TLS"):
                raise ConnectionError("the connection was closed")
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error) or type(error).__name__) from None


def _unreachable(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"No Ray answers at RAY_ADDRESS = {address} ({why:.200}). Correct it, unset it to start "
        "Ray on this machine, or use the engine local."
    )
