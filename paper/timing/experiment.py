"""Seconds per training step, compared with baselines such as a plain Gumbel-Softmax VAE.

Absolute times depend on the machine and its load. The experiment therefore compares ratios of
steps that were taken one directly after the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from paper.machine import as_text, machine
from paper.results import row, write_tables
from paper.running import Say, profile_named, say_on_stderr, torch_threads
from paper.timing.models import (
    Autoencoder,
    BaselineModel,
    GaussianVAE,
    GumbelSoftmaxVAE,
    TopKAutoencoder,
)
from sdlgm.config import Activation, ModelConfig, preset
from sdlgm.errors import SDLGMError
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.random import generator
from sdlgm.training.step import Trainer

__all__ = ["MODELS", "PROFILES", "Measured", "Size", "measure", "reproduce"]

INPUTS, BATCH, ON_PROBABILITY = 784, 100, 0.13
"""Bits per sample, samples per batch, and the probability that a bit is on."""
PUBLISHED = 0.013 / 0.009
"""Published ratio of the seconds per iteration."""

Step = Callable[[Tensor, int], Tensor]
"""Takes a gradient step on a batch; the second argument counts the steps."""


@dataclass(frozen=True)
class Size:
    """The size of the experiment."""

    rounds: int = 400
    """Number of rounds. In each round, every model takes one step."""
    warmup: int = 20
    """Number of rounds before the measured ones."""
    hidden: tuple[int, ...] = (512, 384, 256)
    """Widths of the encoder's hidden layers, which the decoder mirrors."""


PROFILES = {"full": Size(), "smoke": Size(rounds=5, warmup=1, hidden=(32, 16))}


@dataclass(frozen=True)
class TimedModel:
    """A model whose training step is timed."""

    title: str
    ratios: Mapping[str, str] = field(default_factory=dict)
    """Names of its ratios, and the baseline with the same networks that each is relative to."""
    model: ModelConfig | None = None
    """Settings of an SDLGM, or ``None`` for a baseline."""
    network: type[BaselineModel] | None = None
    """Class of a baseline, or ``None`` for an SDLGM."""
    objective: Literal["elbo", "paper"] = "elbo"
    activation: Activation = "gelu"
    normalisation: Literal["layer", "none"] = "layer"
    published: float | None = None


PLAIN: dict[str, Any] = {"activation": "relu", "normalisation": "none"}
"""The paper's networks."""

BASELINES = {
    "gumbel-softmax": "",
    "autoencoder": "_over_autoencoder",
    "gaussian": "_over_gaussian",
    "top-k": "_over_top_k",
}
"""Baselines with LayerNorm and GELU, and the suffixes of the ratios to them."""


def _ours(title: str, name: str, **settings: Any) -> TimedModel:
    """Return an SDLGM with the default objective, compared with all baselines."""
    ratios = {f"ratio_{name}{suffix}": baseline for baseline, suffix in BASELINES.items()}
    return TimedModel(f"SDLGM, {title}", ratios, preset("plain", **settings)[0])


MODELS = {
    "gumbel-softmax": TimedModel(
        "Gumbel-Softmax VAE, 20 x 10, LayerNorm and GELU", network=GumbelSoftmaxVAE
    ),
    "autoencoder": TimedModel("autoencoder without noise, 200", network=Autoencoder),
    "gaussian": TimedModel("Gaussian VAE, 200", network=GaussianVAE),
    "top-k": TimedModel("top-k autoencoder, 40 of 200", network=TopKAutoencoder),
    "default": _ours("default (40 groups, ReinMax)", "default"),
    "default-shared-trunk": _ours(
        "default with a shared trunk", "default_shared_trunk", shared_trunk=True
    ),
    "default-one-group": _ours("default with one group", "default_one_group", groups=1),
    "default-one-group-shared-trunk": _ours(
        "one group, shared trunk", "default_one_group_shared_trunk", groups=1, shared_trunk=True
    ),
    "gumbel-softmax-plain": TimedModel(
        "Gumbel-Softmax VAE, 20 x 10, the paper's plain networks",
        network=GumbelSoftmaxVAE,
        **PLAIN,
    ),
    "relaxed": TimedModel(
        "SDLGM, the paper's relaxed objective and plain networks (one group)",
        {"ratio_relaxed": "gumbel-softmax-plain"},
        preset("plain", groups=1, prior="fixed", **PLAIN)[0],
        objective="paper",
        published=PUBLISHED,
        **PLAIN,
    ),
}
"""All models that are timed, in the order of a round."""


def _step(timed: TimedModel, size: Size) -> Step:
    """Make a model and return its training step."""
    if timed.network is not None:
        return timed.network(INPUTS, size.hidden, timed.activation, timed.normalisation).step
    config = timed.model or preset("plain")[0]
    settings = {**asdict(config), "encoder_hidden": size.hidden}
    statistics_ = DataStatistics(torch.full((INPUTS,), ON_PROBABILITY), torch.ones(INPUTS), 2)
    model = SDLGM(preset("plain", **settings)[0], statistics_, generator(0, "weights"))
    return Trainer(model, preset("plain", objective=timed.objective, accelerator="cpu")[1]).step


@dataclass(frozen=True)
class Measured:
    """The seconds of each model in each round."""

    wall: dict[str, list[float]]
    """Wall time in seconds, by model."""
    cpu: dict[str, list[float]]
    """Processor time in seconds, by model. It excludes the time of other programs."""
    threads: int
    size: Size

    def ratios(self, clock: Literal["wall", "cpu"] = "wall") -> dict[str, list[float]]:
        """Return the ratios of each model's step to its baselines' steps in the same round."""
        seconds = getattr(self, clock)
        return {
            ratio: [a / b for a, b in zip(seconds[name], seconds[baseline], strict=True)]
            for name, timed in MODELS.items()
            for ratio, baseline in timed.ratios.items()
        }

    def summary(self) -> dict[str, Any]:
        """Return the median of each ratio, times in ms, the settings and the machine."""
        found: dict[str, Any] = {k: statistics.median(v) for k, v in self.ratios().items()}
        found["cpu_time"] = {k: statistics.median(v) for k, v in self.ratios("cpu").items()}
        found["ratio_quartiles"] = {k: _quartiles(v) for k, v in self.ratios().items()}
        found["milliseconds"] = {
            name: {
                "median": 1e3 * statistics.median(wall),
                "quartiles": [1e3 * q for q in _quartiles(wall)],
                "cpu_median": 1e3 * statistics.median(self.cpu[name]),
                "title": MODELS[name].title,
                "baselines": dict(MODELS[name].ratios),
            }
            for name, wall in self.wall.items()
        }
        found["settings"] = {
            **asdict(self.size), "batch": BATCH, "inputs": INPUTS, "threads": self.threads
        }  # fmt: skip
        found["machine"] = machine()
        return found


def measure(
    size: Size, *, threads: int = 1, say: Callable[[str], None] = lambda text: None
) -> Measured:
    """Time the training steps of all models in turns: A B C A B C ...

    A step is a forward pass, a backward pass and an update by Adam; for an SDLGM it is
    :meth:`sdlgm.training.step.Trainer.step`. Reading and binarising data, logging and checkpoints
    are not included.

    Raises
    ------
    SDLGMError
        If ``threads`` is not positive, or there are fewer than two rounds.
    """
    if threads < 1:
        raise SDLGMError(f"threads must be a positive integer, got {threads}.")
    if size.rounds < 2:
        raise SDLGMError(f"rounds must be at least 2, got {size.rounds}.")
    source = generator(0, "bits")
    with torch_threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the baselines use torch's global generator
        batches = [
            torch.bernoulli(torch.full((BATCH, INPUTS), ON_PROBABILITY), generator=source)
            for _ in range(8)
        ]
        steps = {name: _step(timed, size) for name, timed in MODELS.items()}
        wall: dict[str, list[float]] = {name: [] for name in steps}
        cpu: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(size.warmup + size.rounds):
            for name, step in steps.items():
                clocks = time.perf_counter(), time.process_time()
                step(batches[number % len(batches)], number)
                if number >= size.warmup:
                    wall[name].append(time.perf_counter() - clocks[0])
                    cpu[name].append(time.process_time() - clocks[1])
            if (number + 1) % 100 == 0:
                say(f"round {number + 1} of {size.warmup + size.rounds}")
    return Measured(wall, cpu, threads, size)


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    say: Say = say_on_stderr,
) -> Path:
    """Measure on one thread; write timing.json and timing.md.

    Parameters
    ----------
    out
        Folder of the results.
    profile
        ``"full"`` (the paper's networks, 400 rounds) or ``"smoke"``.
    say
        Receives lines of progress.

    Raises
    ------
    SDLGMError
        If the profile is unknown.
    """
    measured = measure(profile_named(profile, PROFILES), say=say)
    command = f"python -m paper timing --profile {profile}"
    return write_tables(
        Path(out) / "timing.json", "timing", command, _rows(measured), _markdown(measured)
    )


def _rows(measured: Measured) -> list[dict[str, Any]]:
    found = measured.summary()
    protocol = (
        f"one step on {BATCH} x {INPUTS} random bits, hidden layers {list(measured.size.hidden)}, "
        f"{measured.threads} thread, {measured.size.rounds} rounds in turns; {as_text(machine())}"
    )
    rows = []
    for name, timed in MODELS.items():
        family = "baseline" if timed.model is None else "K = 200, L0 = 40"
        labels: dict[str, Any] = {"dataset": "bits", "family": family, "protocol": protocol}
        labels["title"] = timed.title
        times = found["milliseconds"][name]
        rows.append(
            row(name, [times["median"]], [0], metric="milliseconds (median)", **labels)
            | {"quartiles": times["quartiles"]}
        )
        rows += [
            row(
                name,
                [found[ratio]],
                [0],
                metric=ratio,
                published=timed.published,
                quartiles=found["ratio_quartiles"][ratio],
                cpu_time=found["cpu_time"][ratio],
                **labels,
            )
            for ratio in timed.ratios
        ]
    return rows


def _markdown(measured: Measured) -> str:
    found = measured.summary()
    description = (
        f"Milliseconds per training step (batch {BATCH}, {INPUTS} bits, hidden layers "
        f"{list(measured.size.hidden)}, {measured.threads} thread), and the ratio to the step of a "
        f"baseline in the same round: medians and quartiles of {measured.size.rounds} rounds. "
        f"{as_text(machine())}."
    )
    lines = [
        description,
        "",
        "| model | ms | baseline | ratio | quartiles | ratio of processor time | paper |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for name, timed in MODELS.items():
        start = f"| {timed.title} | {found['milliseconds'][name]['median']:.2f} "
        if not timed.ratios:
            lines.append(start + "| | | | | |")
        published = "" if timed.published is None else f"{timed.published:.2f}"
        for ratio, baseline in timed.ratios.items():
            low, high = found["ratio_quartiles"][ratio]
            lines.append(
                f"{start}| {MODELS[baseline].title} | **{found[ratio]:.3f}** | {low:.3f} - "
                f"{high:.3f} | {found['cpu_time'][ratio]:.3f} | {published} |"
            )
    return "\n".join(lines)


def _quartiles(values: Sequence[float]) -> list[float]:
    first, _, third = statistics.quantiles(values, n=4)
    return [first, third]
