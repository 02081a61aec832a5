"""The tables of the codes of atoms and amplitudes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from paper.results import Numbers, write_tables
from paper.telemetry.methods import Point
from paper.telemetry.tables import Tables

TARGETS = (0.8, 0.6, 0.4, 0.2)
COLUMNS = {
    "trade": ("weight of the squared error", "g"),
    "features": ("features K", "g"),
    "error": ("normalised RMSE", ".3f"),
    "active": ("active features", ".2f"),
    "prior_bytes": ("entropy, fitted prior", ".2f"),
    "bytes": ("adaptive", ".2f"),
    "stream_file_bytes": ("stream", ".2f"),
    "sdz": (".sdz file", ".2f"),
    "parquet": ("Parquet file", ".2f"),
}


class AmplitudePage(Tables):
    """Collects the tables.

    Parameters
    ----------
    description
        Data and split.
    """

    def __init__(self, description: str) -> None:
        super().__init__(description, f"{description}. Lower is better.")

    def add(self, ours: list[Numbers], others: Mapping[str, Numbers]) -> None:
        """Add the bytes at equal errors, and the points of our codes."""
        points = [_with_side(point) for point in ours]
        name = "ours, atoms and amplitudes"
        curves = {f"{name}, adaptive": _curve(points, "bytes")}
        curves[f"{name}, entropy of the prior"] = _curve(points, "prior_bytes")
        curves[f"{name}, stream of means and codes"] = _curve(points, "stream_file_bytes")
        curves[f"{name}, .sdz file and zstd of the means"] = _curve(points, "sdz")
        curves |= {
            other: [Point(**point) for point in found["points"]] for other, found in others.items()
        }
        self.bytes_at(curves, TARGETS)
        self.lines += [
            "",
            (
                "Bytes include the means of the windows, which take "
                f"{points[0]['side_bytes']:.2f} (adaptively coded) or "
                f"{points[0]['zstd_side_file_bytes']:.2f} (by zstd, beside the "
                "files). The stream was written with the model's prior, and decoded."
            ),
            "",
        ]
        self.table(*(title for title, _ in COLUMNS.values()))
        for point in points:
            self.line(*(f"{point[key]:{form}}" for key, (_, form) in COLUMNS.items()))
            for key in point:
                self.row(name, [point[key]], key, f"weight {point['trade']:g}")

    def write(self, out: Path, command: str) -> Path:
        """Write the results file and the tables; return the results file."""
        path, text = out / "telemetry_amplitudes.json", "\n".join(self.lines)
        return write_tables(path, "telemetry_amplitudes", command, self.rows, text)


def _with_side(point: Mapping[str, float]) -> dict[str, float]:
    """Add the sizes of the files with their stream of means."""
    side = point["zstd_side_file_bytes"]
    return {**point, **{k: point[f"{k}_file_bytes"] + side for k in ("sdz", "parquet")}}


def _curve(points: list[dict[str, float]], key: str) -> list[Point]:
    return [Point(point[key], point["error"], f"weight {point['trade']:g}") for point in points]
