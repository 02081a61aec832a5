"""The same work on Ray Data: files are shared out among actors, each with a model of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from sdlgm.errors import ConfigError, DataError
from sdlgm.scale.arrow_encoder import Encoder
from sdlgm.scale.parquet_files import Task, encode_file

__all__ = ["encode_files"]

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a Ray that is started here: only names and numbers of rows pass through it."""


class _FileEncoder:
    """An actor: loads the model once, then encodes the files that it is given."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        encoder.saved  # noqa: B018 (loads the model before the first file comes)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        task = Task(row["source"], row["target"], row["rows"])
        try:
            return {"rows": sum(encode_file(self.encoder, task)), "error": ""}
        except DataError as error:
            return {"rows": 0, "error": str(error)}


def encode_files(encoder: Encoder, tasks: Sequence[Task]) -> Iterator[int]:
    """Encode files on Ray; yield the number of rows of each file that is done.

    A Ray that is there (``ray.init`` before, or ``RAY_ADDRESS``) is used, else one is started on
    this machine: without dashboard, and reporting nothing.

    Raises
    ------
    ConfigError
        If Ray is not installed.
    DataError
        As :func:`~sdlgm.scale.parquet_files.encode_file`.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Else workers run at the lowest priority, and on a busy machine hardly at all.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ConfigError(
            'The engine "ray" needs Ray: pip install "sdlgm[scale]". The engine "local" needs '
            "nothing."
        ) from None
    ours = not ray.is_initialized()
    if ours:
        _start(ray)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # An actor on every CPU leaves none to hand it its work, and the job hangs.
        actors = max(1, min(len(tasks), int(ray.cluster_resources().get("CPU", 2)) - 1))
        rows = [task._asdict() for task in tasks]
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _FileEncoder,  # type: ignore[arg-type]
            fn_constructor_args=(encoder,),
            num_cpus=1,
            concurrency=actors,
        )
        for done in data.iter_rows():
            if done["error"]:
                raise DataError(done["error"])
            yield done["rows"]
    finally:
        if ours:
            ray.shutdown()


def _start(ray: Any) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    ray.init(
        num_cpus=max(2, os.cpu_count() or 1),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        **quiet,
    )
