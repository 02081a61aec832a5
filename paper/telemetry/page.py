"""Tables and drawings of the telemetry example."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from sklearn.metrics import average_precision_score, precision_recall_curve

from paper.results import row, spread, write_markdown, write_results
from paper.telemetry import methods
from paper.telemetry.methods import Point
from sdlgm.outputs import atomic_path
from sdlgm.report.drawing import ACCENT, CLASSES, INK, SOFT, WARM, new_figure, png, tidy

TARGETS = (0.8, 0.6, 0.4)
LOOKS = {
    "ours, code of the posterior's mode": (ACCENT, "--"),
    "ours, refined for error": (ACCENT, "-"),
    "OMP, real coefficients": (WARM, "-"),
    "PCA, real coefficients": (INK, "-"),
}


class Page:
    """Collects the parts of the results; each method adds one.

    Parameters
    ----------
    about
        Data, split and training, in a sentence.
    seeds
        Number of seeds.
    """

    def __init__(self, about: str, seeds: int) -> None:
        self.about = about
        self.rows: list[dict[str, Any]] = []
        self.lines = [f"{about}; seeds 0 to {seeds - 1}. Lower is better unless said.", ""]
        self.figure = new_figure(11, 4.6)
        self.left, self.right = self.figure.subplots(1, 2)
        self.curve = new_figure(6.8, 4.8)

    def row(self, method: str, values: Any, metric: str, family: str = "-") -> None:
        """Add a row of the results file."""
        self.rows.append(
            row(
                method,
                list(values),
                range(len(values)),
                dataset="nab",
                family=family,
                protocol=self.about,
                metric=metric,
            )
        )

    def table(self, *head: str) -> None:
        """Begin a table."""
        self.lines += [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]

    def say(self, *cells: str) -> None:
        """Add a line to a table."""
        self.lines.append(f"| {' | '.join(cells)} |")

    def rates(self, rates: dict[str, list[Point]]) -> None:
        """Add bytes at equal errors, and the curves."""
        self.table("bytes a window at a normalised RMSE of", *map(str, TARGETS))
        for name, points in rates.items():
            values = [methods.bytes_at(points, target) for target in TARGETS]
            self.say(name, *("-" if v is None else f"{v:.2f}" for v in values))
            for target, value in zip(TARGETS, values, strict=True):
                if value is not None:
                    self.row(name, [value], f"bytes a window at normalised RMSE {target}")
        for colour, (name, points) in zip((ACCENT, *CLASSES[1:]), rates.items(), strict=False):
            kept = methods.envelope(points)
            where = [p.bytes for p in kept], [p.error for p in kept]
            wide = 2.6 if name.startswith("ours") else 1.4
            self.right.plot(*where, color=colour, lw=wide, marker=".", label=name)
        self.right.set_xlim(0, 12)
        self.right.set_xlabel("bytes a window, mean and scale included", color=INK)
        self.right.set_title("Error by bytes", loc="left", fontsize=11, color=INK)
        self.lines += ["", "Means over the seeds; a dash: the curve does not reach that error.", ""]

    def lossless(self, sizes: dict[str, float]) -> None:
        """Add the sizes of the data themselves."""
        self.table("without any loss", "bytes a window")
        for name, value in sizes.items():
            self.say(name, f"{value:.2f}")
            self.row(name, [value], "bytes a window, lossless")
        self.lines.append("")

    def ours(self, budget: int, features: int, cells: list[dict[str, Any]]) -> None:
        """Add what our codes cost, by estimate and as files."""
        stream = cells[0]["points"][0]["zstd_side_file_bytes"]
        self.lines += [
            (
                f"Ours, L0 = {budget}, K = {features}; bytes a window, of which mean and scale "
                f"take {cells[0]['side_bytes']:.2f} (adaptively coded) or {stream:.2f} (as a zstd "
                "stream, in the last two columns). The posterior's mode, under the learned prior: "
                f"normalised RMSE {spread([c['mode_error'] for c in cells], 3)}, "
                f"{spread([c['mode_bytes'] for c in cells], 2)} bytes. Refined codes:"
            ),
            "",
        ]
        self.table(
            "weight of a squared error",
            "normalised RMSE",
            "active features",
            "entropy, refitted prior",
            "adaptive, scale as context",
            ".sdz file",
            "Parquet file",
        )
        for column in zip(*(c["points"] for c in cells), strict=True):
            mean = {key: statistics.fmean(p[key] for p in column) for key in column[0]}
            side = mean["zstd_side_file_bytes"]
            self.say(
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
        self, ours: dict[int, list[dict[str, Any]]], omp: dict[int, Any], pca: dict[int, Any]
    ) -> None:
        """Add errors by number of features, atoms or components."""
        modes = {b: [c["mode_error"] for c in cells] for b, cells in ours.items()}
        refined = {b: [c["points"][0]["error"] for c in cells] for b, cells in ours.items()}
        known = sorted(omp)
        self.table("normalised RMSE at L0 =", *map(str, known))
        for (name, (colour, dash)), values in zip(
            LOOKS.items(), (modes, refined, omp, pca), strict=True
        ):
            self.say(name, *(spread(values[b], 3) if b in values else "-" for b in known))
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
        self.lines += ["", "Mean and scale of the window are known to all four.", ""]

    def anomalies(
        self,
        labels: Any,
        normal: dict[str, list[Any]],
        plain: dict[str, list[Any]],
        none: list[str],
        stride: int,
    ) -> None:
        """Add average precision, and the curves of the first seed."""
        self.lines += [
            (
                f"{len(labels)} test windows, one every {stride} samples, {labels.mean():.1%} of "
                f"them anomalous. Without an anomalous one: {', '.join(none)}."
            ),
            "",
        ]
        self.table("average precision (higher is better)", "normalised by series", "as it is")
        axis = self.curve.subplots()
        for colour, name in zip((ACCENT, *CLASSES[1:]), normal, strict=False):
            values = [
                [float(average_precision_score(labels, one)) for one in found[name]]
                for found in (normal, plain)
            ]
            self.say(name, *(spread(value, 3) for value in values))
            self.row(name, values[0], "average precision", "scores normalised by series")
            self.row(name, values[1], "average precision", "scores as they are")
            precision, recall, _ = precision_recall_curve(labels, normal[name][0])
            wide = 2.4 if "bound" in name else 1.4
            said = f"{name}: {spread(values[0], 3)}"
            axis.plot(recall, precision, color=colour, lw=wide, label=said)
        axis.axhline(labels.mean(), color=SOFT, ls=":", label=f"chance: {labels.mean():.3f}")
        axis.set_xlabel("recall", color=INK)
        axis.set_ylabel("precision", color=INK)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.25)
        title = "Anomalous windows, all series; average precision"
        axis.set_title(title, loc="left", fontsize=11, color=INK)
        axis.legend(frameon=False, fontsize=8)
        tidy(axis)

    def write(self, out: Path, images: Path, command: str) -> None:
        """Write all there is."""
        for axis in (self.left, self.right):
            axis.set_ylabel("normalised RMSE, test windows", color=INK)
            axis.set_ylim(0, 1.45)
            axis.grid(alpha=0.25)
            axis.legend(frameon=False, fontsize=8)
            tidy(axis)
        write_results(out / "telemetry.json", "telemetry", command, self.rows)
        write_markdown(out / "telemetry.md", "\n".join(self.lines))
        for name, figure in (("rates", self.figure), ("anomalies", self.curve)):
            with atomic_path(images / f"telemetry-{name}.png") as temporary:
                temporary.write_bytes(png(figure, 130, colours=128))
        print((out / "telemetry.md").read_text())
