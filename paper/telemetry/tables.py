"""Tables of the telemetry experiment, and the rows of its results files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paper.results import row
from paper.telemetry import methods
from paper.telemetry.methods import Point


class Tables:
    """Collects lines of Markdown, and rows of a results file.

    Parameters
    ----------
    description
        Data, split and training.
    first
        The first line.
    """

    def __init__(self, description: str, first: str) -> None:
        self.description = description
        self.rows: list[dict[str, Any]] = []
        self.lines = [first, ""]

    def row(self, method: str, values: Any, metric: str, family: str = "-") -> None:
        """Add a row of the results file."""
        self.rows.append(
            row(
                method,
                list(values),
                range(len(values)),
                dataset="nab",
                family=family,
                protocol=self.description,
                metric=metric,
            )
        )

    def table(self, *head: str) -> None:
        """Start a table."""
        self.lines += [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]

    def line(self, *values: str) -> None:
        """Add a line to the last table."""
        self.lines.append(f"| {' | '.join(values)} |")

    def bytes_at(self, curves: Mapping[str, list[Point]], targets: Sequence[float]) -> None:
        """Add a table of the bytes of each method at equal errors."""
        self.table("bytes per window at a normalised RMSE of", *map(str, targets))
        for name, points in curves.items():
            values = [methods.bytes_at(points, target) for target in targets]
            self.line(name, *("-" if v is None else f"{v:.2f}" for v in values))
            for target, value in zip(targets, values, strict=True):
                if value is not None:
                    self.row(name, [value], f"bytes per window at normalised RMSE {target}")
