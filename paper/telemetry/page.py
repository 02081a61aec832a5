"""The tables and images of the telemetry experiment."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from sklearn.metrics import average_precision_score, precision_recall_curve

from paper.results import Numbers, spread, write_tables
from paper.telemetry import methods
from paper.telemetry.methods import Point
from paper.telemetry.tables import Tables
from sdlgm.outputs import atomic_path
from sdlgm.report.drawing import ACCENT, CLASSES, INK, SOFT, WARM, new_figure, png, tidy

TARGETS = (0.8, 0.6, 0.4)
STYLES = {
    "ours, code of the posterior's mode": (ACCENT, "--"),
    "ours, refined for error": (ACCENT, "-"),
    "OMP, real coefficients": (WARM, "-"),
    "PCA, real coefficients": (INK, "-"),
}


class Page(Tables):
    """Collects the parts of the results; each method adds one part.

    Parameters
    ----------
    description
        Data, split and training.
    seeds
        Number of seeds.
    """

    def __init__(self, description: str, seeds: int) -> None:
        first = f"{description}; seeds 0 to {seeds - 1}. Lower is better unless stated otherwise."
        super().__init__(description, first)
        self.figure = new_figure(11, 4.6)
        self.left, self.right = self.figure.subplots(1, 2)
        self.curve = new_figure(6.8, 4.8)

    def rates(self, rates: dict[str, list[Point]]) -> None:
        """Add the bytes at equal errors, and the curves."""
        self.bytes_at(rates, TARGETS)
        for colour, (name, points) in zip((ACCENT, *CLASSES[1:]), rates.items(), strict=False):
            kept = methods.envelope(points)
            where = [p.bytes for p in kept], [p.error for p in kept]
            wide = 2.6 if name.startswith("ours") else 1.4
            self.right.plot(*where, color=colour, lw=wide, marker=".", label=name)
        self.right.set_xlim(0, 12)
        self.right.set_xlabel("bytes per window, including mean and scale", color=INK)
        self.right.set_title("Error by bytes", loc="left", fontsize=11, color=INK)
        self.lines += [
            "",
            "Means over the seeds; a dash means that the curve does not reach this error.",
            "",
        ]

    def lossless(self, sizes: dict[str, float]) -> None:
        """Add the sizes after lossless compression."""
        self.table("lossless", "bytes per window")
        for name, value in sizes.items():
            self.line(name, f"{value:.2f}")
            self.row(name, [value], "bytes per window, lossless")
        self.lines.append("")

    def codes(self, budget: int, features: int, codes: list[Numbers]) -> None:
        """Add the bytes of the codes, by estimate and as files."""
        stream = codes[0]["points"][0]["zstd_side_file_bytes"]
        self.lines += [
            (
                f"Ours, L0 = {budget}, K = {features}; bytes per window, including mean and scale, "
                f"which take {codes[0]['side_bytes']:.2f} (adaptively coded) or {stream:.2f} (as a "
                "zstd stream, in the last two columns). The posterior's mode, under the learned "
                f"prior: normalised RMSE {spread([c['mode_error'] for c in codes], 3)}, "
                f"{spread([c['mode_bytes'] for c in codes], 2)} bytes. Refined codes:"
            ),
            "",
        ]
        self.table(
            "weight of the squared error",
            "normalised RMSE",
            "active features",
            "entropy, refitted prior",
            "adaptive, scale as context",
            ".sdz file",
            "Parquet file",
        )
        for column in zip(*(c["points"] for c in codes), strict=True):
            mean = {key: statistics.fmean(p[key] for p in column) for key in column[0]}
            side = mean["zstd_side_file_bytes"]
            self.line(
                f"{mean['trade']:g}",
                f"{mean['error']:.3f}",
                f"{mean['active']:.2f}",
                f"{mean['prior_bytes']:.2f}",
                f"{mean['bytes']:.2f}",
                f"{mean['sdz_file_bytes'] + side:.2f}",
                f"{mean['parquet_file_bytes'] + side:.2f}",
            )
            for key in column[0]:
                family = f"L0 = {budget}, weight {mean['trade']:g}"
                self.row("ours, refined", [p[key] for p in column], key, family)
        self.lines.append("")

    def budgets(
        self, codes: dict[int, list[Numbers]], omp: dict[int, Any], pca: dict[int, Any]
    ) -> None:
        """Add errors by the number of features, atoms or components."""
        modes = {b: [c["mode_error"] for c in found] for b, found in codes.items()}
        refined = {b: [c["points"][0]["error"] for c in found] for b, found in codes.items()}
        known = sorted(omp)
        self.table("normalised RMSE at L0 =", *map(str, known))
        for (name, (colour, dash)), values in zip(
            STYLES.items(), (modes, refined, omp, pca), strict=True
        ):
            self.line(name, *(spread(values[b], 3) if b in values else "-" for b in known))
            for b, value in values.items():
                self.row(name, value, "normalised RMSE", f"L0 = {b}")
            where = list(values)
            middle = [statistics.fmean(values[b]) for b in where]
            self.left.plot(where, middle, dash, marker="o", ms=4, color=colour, label=name)
            ends = [[end(values[b]) for b in where] for end in (min, max)]
            self.left.fill_between(where, *ends, color=colour, alpha=0.2, lw=0)
        self.left.set_xscale("log", base=2)
        self.left.set_xticks(known, [str(b) for b in known])
        self.left.set_xlabel("L0: features, atoms or components of 64 samples", color=INK)
        self.left.set_title("Error by L0", loc="left", fontsize=11, color=INK)
        self.lines += ["", "All four methods know the mean and scale of the window.", ""]

    def anomalies(
        self,
        labels: Any,
        normalised: dict[str, list[Any]],
        raw: dict[str, list[Any]],
        normal_only: list[str],
        stride: int,
    ) -> None:
        """Add the average precision, and the curves of the first seed."""
        self.lines += [
            (
                f"{len(labels)} test windows, one every {stride} samples, {labels.mean():.1%} of "
                f"them anomalous. Series without an anomalous window: {', '.join(normal_only)}."
            ),
            "",
        ]
        self.table("average precision (higher is better)", "normalised by series", "raw")
        axis = self.curve.subplots()
        for colour, name in zip((ACCENT, *CLASSES[1:]), normalised, strict=False):
            values = [
                [float(average_precision_score(labels, one)) for one in found[name]]
                for found in (normalised, raw)
            ]
            self.line(name, *(spread(value, 3) for value in values))
            self.row(name, values[0], "average precision", "scores normalised by series")
            self.row(name, values[1], "average precision", "raw scores")
            precision, recall, _ = precision_recall_curve(labels, normalised[name][0])
            wide = 2.4 if "bound" in name else 1.4
            label = f"{name}: {spread(values[0], 3)}"
            axis.plot(recall, precision, color=colour, lw=wide, label=label)
        axis.axhline(labels.mean(), color=SOFT, ls=":", label=f"chance: {labels.mean():.3f}")
        axis.set_xlabel("recall", color=INK)
        axis.set_ylabel("precision", color=INK)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.25)
        title = "Anomalous windows, all series; average precision"
        axis.set_title(title, loc="left", fontsize=11, color=INK)
        axis.legend(frameon=False, fontsize=8)
        tidy(axis)

    def write(self, out: Path, images: Path, command: str) -> Path:
        """Write the results file, the tables and the images; return the results file."""
        for axis in (self.left, self.right):
            axis.set_ylabel("normalised RMSE, test windows", color=INK)
            axis.set_ylim(0, 1.45)
            axis.grid(alpha=0.25)
            axis.legend(frameon=False, fontsize=8)
            tidy(axis)
        for name, figure in (("rates", self.figure), ("anomalies", self.curve)):
            with atomic_path(images / f"telemetry-{name}.png") as temporary:
                temporary.write_bytes(png(figure, 130, colours=128))
        path = out / "telemetry.json"
        return write_tables(path, "telemetry", command, self.rows, "\n".join(self.lines))
