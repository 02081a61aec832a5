"""What the command line tells people: sentences on standard error, a table on standard output."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["say", "show_metrics"]


def say(text: str) -> None:
    """Print a sentence to standard error."""
    print(text, file=sys.stderr)


def show_metrics(metrics: dict[str, Any], title: str) -> None:
    """Print a table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption="nats per sample, lower is better", title_justify="left")
    for heading in ("number", "value", "what it is"):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    samples = metrics["importance_samples"]
    rows = [
        ("negative_elbo", "bound: hard codes, exact KL"),
        ("nll_bound", f"bound: importance-weighted, M = {samples}"),
        ("relaxed_objective", "NOT a bound: relaxed codes, as in the paper"),
        ("active_features_mean", "mean number of active features"),
        ("active_features_max", "largest number of active features"),
        ("budget", "hard limit L0 of that number"),
        ("n_samples", "held-out samples"),
    ]
    if metrics.get("refine_steps"):
        rows.append(("refine_steps", "steps that fitted each sample's posterior, for the bounds"))
    for name, what in rows:
        value = metrics[name]
        table.add_row(name, f"{value:.2f}" if isinstance(value, float) else str(value), what)
    Console().print(table)
