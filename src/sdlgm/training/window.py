"""The steps between two lines of the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sdlgm.config import TrainingConfig
from sdlgm.errors import TrainingError
from sdlgm.models import SDLGM
from sdlgm.training.step import TERMS, kl_weight, learning_rate

__all__ = ["Window"]

RELAXED = ("gumbel_softmax", "st_gumbel_softmax", "slope_annealed_st")


class Window:
    """Terms of the steps since the last line of the log, read from the device once a line.

    Parameters
    ----------
    start
        Number of steps taken before.
    """

    def __init__(self, start: int) -> None:
        self.start, self.terms = start, []  # type: int, list[Tensor]

    def add(self, terms: Tensor) -> None:
        """Add what a step returned."""
        self.terms.append(terms)

    def check(self, model: SDLGM, kept: Path | None = None) -> None:
        """Raise :class:`TrainingError` at the first step with a term that is not finite.

        ``kept`` is the folder of a checkpoint that the message can name.
        """
        bad = ~torch.isfinite(torch.stack(self.terms)) if self.terms else torch.zeros(0)
        if bool(bad.any()):
            row, column = (int(i) for i in bad.nonzero()[0])
            name = (*TERMS, "active_features")[column]
            value = float(self.terms[row][column])
            what = f"Step {self.start + row + 1}: the term {name} is {value}."
        else:
            names = [n for n, p in model.named_parameters() if bool(p.isnan().any())]
            if not names:
                return
            what = f"By step {self.start + len(self.terms)} the weights {names[0]} became NaN."
        raise TrainingError(
            f"{what} Try a lower learning_rate (--learning-rate), or a gradient_clip "
            "(--gradient-clip) of for example 10."
            + (f" The last good checkpoint stays in {kept}." if kept else "")
        )

    def line(
        self, model: SDLGM, config: TrainingConfig, step: int, seconds: float
    ) -> dict[str, Any]:
        """Return the line of the log after ``step`` steps: means of the terms, and settings."""
        reconstruction, kl_gates, kl_features, active = (
            torch.stack(self.terms).double().mean(0).tolist()
        )
        line = {
            "event": "train",
            "step": step,
            "objective": reconstruction + kl_gates + kl_features,
            "reconstruction": reconstruction,
            "kl_gates": kl_gates,
            "kl_features": kl_features,
            "kl_weight": kl_weight(config, step - 1),
            "learning_rate": learning_rate(config, step - 1),
            "seconds": round(seconds, 3),
        }
        if config.estimator in RELAXED:
            line["gate_temperature"] = model.gate_temperature.item()
            line["feature_temperature"] = model.feature_temperature.item()
        if config.estimator != "gumbel_softmax":  # which decodes no codes
            line["active_features"] = active
        return line
