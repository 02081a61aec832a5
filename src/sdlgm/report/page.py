"""Write one self-contained HTML page about a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import torch

from sdlgm.config import Accelerator, to_dict
from sdlgm.distributions import Grouped, grouped_gated_multinomial
from sdlgm.environment import device_of, neutral, placed
from sdlgm.inference import BATCH, encode_batches
from sdlgm.limits import reading
from sdlgm.outputs import check_output
from sdlgm.progress import progress_bar
from sdlgm.random import generator
from sdlgm.report.rendering import render_page, require_report
from sdlgm.training import Run

__all__ = ["FeatureUse", "feature_use", "write_report"]

SHOWN = 30
"""Number of samples whose reconstructions are drawn."""


@dataclasses.dataclass(frozen=True)
class FeatureUse:
    """How often the features are used."""

    present: torch.Tensor
    """Share of samples in which each feature is present, shape ``(K,)``."""

    @property
    def dead(self) -> list[int]:
        """Features that no sample uses."""
        return [int(k) for k in (self.present == 0).nonzero().flatten()]


def feature_use(codes: torch.Tensor) -> FeatureUse:
    """Measure the use of each feature in codes of shape ``(n, K)``."""
    return FeatureUse((codes > 0).double().mean(0))


@neutral()
@torch.no_grad()
def write_report(
    run: Run,
    out: Path | str | None = None,
    data: Path | str | None = None,
    *,
    accelerator: Accelerator = "auto",
    progress: bool = False,
) -> Path:
    """Write the HTML report of a finished run, atomically; return its path.

    Parameters
    ----------
    run
        The run.
    out
        File to write. Default: ``report.html`` in the folder of the run.
    data
        The data to draw. Default: the test rows of the run's own data, which must be unchanged.
    accelerator
        Device to encode on.
    progress
        Whether to show a progress bar on standard error.

    Raises
    ------
    SDLGMError
        If the extra ``report`` (matplotlib, jinja2) is not installed.
    ConfigError, OutputError
        If ``out`` is a part of the run, or cannot be written.
    ModelFileError, DataError
        If the run is not finished or its data cannot be loaded.
    """
    require_report("The report")
    from sdlgm.report import figures

    out = check_output(run.folder / "report.html" if out is None else out, [run.folder])

    model, metrics = run.model, run.metrics
    encoder = placed(model, device_of(accelerator))
    rows, _, _, shape = run.load_rows(data)
    with progress_bar("encoding", len(rows), progress) as update:
        parts = []
        for part in encode_batches(encoder, rows):
            parts.append(part)
            update(sum(map(len, parts)), {})
    codes = torch.cat(parts)
    use = feature_use(codes)
    shown = torch.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).long()
    original = torch.cat(list(rows.batches(BATCH, generator(0, "evaluation bits"))))[shown]
    decoded = model.decode(codes[shown])
    configs = (run.config.data, run.config.model, run.config.training)
    drawings: dict[str, Callable[[], str]] = {
        "reconstructions": lambda: figures.reconstructions(original, decoded, shape),
        "budget": lambda: figures.budget_use(codes, model.prior(), _starting_prior(run)),
        "usage": lambda: figures.usage(use.present, model.groups),
    }
    if run.has_settings:
        drawings["curve"] = lambda: figures.curve(run.log, run.config.training.objective)
    pictures = {}
    with progress_bar("drawing", len(drawings), progress) as update:
        for name, draw in drawings.items():
            pictures[name] = draw()
            update(len(pictures), {})
    with reading(run.folder / "metrics.json"):
        return render_page(
            out,
            Path(__file__).with_name("page.html.jinja"),
            run=run,
            metrics=metrics,
            shape=shape,
            dead=use.dead,
            alive=len(use.present) - len(use.dead),
            settings=to_dict(*(configs if run.has_settings else configs[1:2])),
            pictures=pictures,
        )


def _starting_prior(run: Run) -> Grouped:
    """Return the prior before training: L ~ Binomial(L0, lambda0), all features equally likely."""
    config, groups = run.config.model, run.model.groups
    odds = math.log(config.prior_gate / (1 - config.prior_gate))
    gates = torch.full((groups,), odds if config.gates == "learned" else math.inf)
    return grouped_gated_multinomial(config.budget, gates, torch.zeros(config.features))
