"""The log of a training: one JSON object per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdlgm.errors import ModelFileError
from sdlgm.limits import check, parse_json, read_bytes
from sdlgm.outputs import atomic_path, writing
from sdlgm.training.tracking import Tracker

__all__ = ["Log", "read_log"]


class Log:
    """Appends lines to a file, or only to memory.

    Parameters
    ----------
    path
        The file; ``None`` keeps the lines in memory.
    keep_until
        Later steps are dropped from an existing file. A training that is killed leaves lines after
        its last checkpoint; when it resumes, these steps are logged a second time.
    tracker
        Receives each new line, too.
    """

    def __init__(
        self, path: Path | None, keep_until: int = 0, tracker: Tracker | None = None
    ) -> None:
        self.path, self.tracker = path, tracker
        self.lines = []  # type: list[dict[str, Any]]
        self.latest: dict[str, float] = {}
        if path:
            if path.is_file() and keep_until:
                self.lines = [line for line in read_log(path) if line["step"] <= keep_until]
            with atomic_path(path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in self.lines))

    def write(self, line: dict[str, Any]) -> None:
        """Add a line."""
        self.lines.append(line)
        prefix = "validation_" if line["event"] == "validation" else ""
        for name in ("objective", "negative_elbo", "active_features"):
            if name in line:
                self.latest[prefix + name] = line[name]
        if self.path:
            with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self.tracker:
            self.tracker.write(line)


def read_log(path: Path | str) -> list[dict[str, Any]]:
    """Read a log; skip lines that were cut short when the training was killed.

    Raises
    ------
    ModelFileError
        If the file cannot be read or exceeds a limit of :mod:`sdlgm.limits`.
    """
    lines = []
    texts = read_bytes(path, "log_bytes").splitlines()
    check("values", len(texts), f"The number of lines of {path}")
    for text in texts:
        try:
            line = parse_json(text, str(path))
        except ModelFileError:
            continue
        if isinstance(line, dict) and type(line.get("step")) is int:
            lines.append(line)
    return lines
