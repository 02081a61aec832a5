"""A process that trains along with another: ``python -m sdlgm.training.worker`` (internal)."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

from sdlgm.errors import SDLGMWarning
from sdlgm.progress import silenced
from sdlgm.training.processes import connected
from sdlgm.training.runs import Run, train_in_group

__all__ = ["main"]


def main(run: str, meeting: str, rank: str, size: str, resumed: str, parent: str) -> None:
    """Join the training of a run; only the first process writes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process decides when to stop
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    warnings.simplefilter("ignore", SDLGMWarning)  # the first process says them
    opened = Run.open(run)
    with silenced():
        opened.dataset  # noqa: B018 (loads the data before the others wait)
        with connected(Path(meeting), int(rank), int(size)) as group:
            train_in_group(opened, group, resumed == "1")


def _end_with(parent: int) -> None:
    """End this process when the first one has ended, even while this one is waiting for it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
