"""A progress bar on standard error, for anything that takes over two seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

__all__ = ["Update", "progress_bar"]

Update = Callable[[int, Mapping[str, float]], None]
"""Takes the number of units done and numbers to show beside the bar."""


@contextlib.contextmanager
def progress_bar(what: str, total: int, enabled: bool = True) -> Iterator[Update]:
    """Show a bar while the block runs; yields the function that moves it.

    Nothing is written to standard output, and nothing but the final state where standard error is
    no terminal.
    """
    if not enabled:
        yield lambda done, numbers: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(what, total=total, numbers="")

        def update(done: int, numbers: Mapping[str, float]) -> None:
            shown = "  ".join(f"{name} {value:.2f}" for name, value in numbers.items())
            bar.update(task, completed=done, numbers=shown)

        yield update
