"""``python -m sdlgm`` is the command ``sdlgm``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

__all__ = ["run"]


def run() -> None:
    """Run the command of this process and exit with its status.

    Ctrl-C and SIGTERM end it without a traceback, also while modules are imported.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, _end)
    from sdlgm.cli import run as run_command

    try:
        run_command()
    except KeyboardInterrupt:
        sys.exit(130)


def _end(number: int, frame: Any) -> None:
    """End the process at once, before or after the command has written anything."""
    os.write(2, b"sdlgm: interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    run()
