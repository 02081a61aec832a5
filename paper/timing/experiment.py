"""Seconds a training step: the paper's remark on time, beside a plain Gumbel-Softmax VAE.

Absolute times are those of a machine and of what else runs on it. What is compared is the ratio of
two steps that were taken one right after the other, so that both meet the same machine.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from paper.results import (
    Say,
    choose,
    row,
    say_on_stderr,
    write_markdown,
    write_results,
)
from paper.timing.models import (
    Autoencoder,
    GaussianVAE,
    GumbelSoftmaxVAE,
    Rival,
    TopKAutoencoder,
)
from sdlgm.config import Activation, ModelConfig, preset
from sdlgm.errors import SDLGMError
from sdlgm.models import SDLGM
from sdlgm.nn import DataStatistics
from sdlgm.random import generator
from sdlgm.training.step import Trainer

__all__ = ["CONTENDERS", "PROFILES", "Measured", "Size", "measure", "reproduce"]

INPUTS, BATCH, SHARE_ON = 784, 100, 0.13
PUBLISHED = 0.013 / 0.009
"""Ratio of the paper's seconds an iteration."""

Step = Callable[[Tensor, int], Tensor]
"""Takes a gradient step on a batch, and its number."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int = 400
    """Rounds; in each every contender takes one step."""
    warmup: int = 20
    """Rounds before those that count."""
    hidden: tuple[int, ...] = (512, 384, 256)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""


PROFILES = {"full": Size(), "smoke": Size(rounds=5, warmup=1, hidden=(32, 16))}


@dataclass(frozen=True)
class Contender:
    """A model that is timed."""

    title: str
    ratios: Mapping[str, str] = field(default_factory=dict)
    """Names of its ratios, and the contender of the same networks that each divides by."""
    model: ModelConfig | None = None
    """Settings of ours, or ``None`` for a rival."""
    network: type[Rival] | None = None
    """The rival."""
    objective: Literal["elbo", "paper"] = "elbo"
    activation: Activation = "gelu"
    normalisation: Literal["layer", "none"] = "layer"
    published: float | None = None


PLAIN: dict[str, Any] = {"activation": "relu", "normalisation": "none"}
"""The paper's networks."""

RIVALS = {
    "rival": "",
    "autoencoder": "_over_autoencoder",
    "gaussian": "_over_gaussian",
    "top-k": "_over_top_k",
}
"""Rivals with LayerNorm and GELU, and how a ratio to each is called."""


def _ours(title: str, name: str, **settings: Any) -> Contender:
    """One of our models under the default objective, beside all rivals of the same networks."""
    ratios = {f"ratio_{name}{end}": rival for rival, end in RIVALS.items()}
    return Contender(f"SDLGM, {title}", ratios, preset("plain", **settings)[0])


CONTENDERS = {
    "rival": Contender("Gumbel-Softmax VAE, 20 x 10, LayerNorm and GELU", network=GumbelSoftmaxVAE),
    "autoencoder": Contender("autoencoder without noise, 200", network=Autoencoder),
    "gaussian": Contender("Gaussian VAE, 200", network=GaussianVAE),
    "top-k": Contender("top-k autoencoder, 40 of 200", network=TopKAutoencoder),
    "default": _ours("default (40 groups, ReinMax)", "default"),
    "default-shared-trunk": _ours(
        "default with a shared trunk", "default_shared_trunk", shared_trunk=True
    ),
    "default-one-group": _ours("default with one group", "default_one_group", groups=1),
    "default-one-group-shared-trunk": _ours(
        "one group, shared trunk", "default_one_group_shared_trunk", groups=1, shared_trunk=True
    ),
    "rival-plain": Contender(
        "Gumbel-Softmax VAE, 20 x 10, the paper's plain networks",
        network=GumbelSoftmaxVAE,
        **PLAIN,
    ),
    "relaxed": Contender(
        "SDLGM, the paper's relaxed objective and plain networks (one group)",
        {"ratio_relaxed": "rival-plain"},
        preset("plain", groups=1, prior="fixed", **PLAIN)[0],
        objective="paper",
        published=PUBLISHED,
        **PLAIN,
    ),
}
"""All that is timed, in the order of a round."""


def _step(contender: Contender, size: Size) -> Step:
    """Set a contender up."""
    if contender.network is not None:
        about = contender.activation, contender.normalisation
        return contender.network(INPUTS, size.hidden, *about).step
    model_config = contender.model or preset("plain")[0]
    settings = {**asdict(model_config), "encoder_hidden": size.hidden}
    statistics_ = DataStatistics(torch.full((INPUTS,), SHARE_ON), torch.ones(INPUTS), 2)
    model = SDLGM(preset("plain", **settings)[0], statistics_, generator(0, "weights"))
    return Trainer(model, preset("plain", objective=contender.objective)[1]).step


@dataclass(frozen=True)
class Measured:
    """Seconds of each contender in each round, and what they were measured on."""

    wall: dict[str, list[float]]
    """Seconds that passed, by contender."""
    cpu: dict[str, list[float]]
    """Seconds of processor time, by contender: these leave out what other programs took."""
    threads: int
    size: Size

    def ratios(self, clock: Literal["wall", "cpu"] = "wall") -> dict[str, list[float]]:
        """Ratio of each contender's step to its rival's in the same round."""
        seconds = getattr(self, clock)
        return {
            ratio: [a / b for a, b in zip(seconds[name], seconds[rival], strict=True)]
            for name, contender in CONTENDERS.items()
            for ratio, rival in contender.ratios.items()
        }

    def summary(self) -> dict[str, Any]:
        """Return plain values: a key for each ratio (a median), times in ms, settings, machine."""
        found: dict[str, Any] = {k: statistics.median(v) for k, v in self.ratios().items()}
        found["cpu_time"] = {k: statistics.median(v) for k, v in self.ratios("cpu").items()}
        found["ratio_quartiles"] = {k: _quartiles(v) for k, v in self.ratios().items()}
        found["milliseconds"] = {
            name: {
                "median": 1e3 * statistics.median(wall),
                "quartiles": [1e3 * q for q in _quartiles(wall)],
                "cpu_median": 1e3 * statistics.median(self.cpu[name]),
                "title": CONTENDERS[name].title,
                "rivals": dict(CONTENDERS[name].ratios),
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
    """Time a training step of every contender, in turns: A B C A B C ...

    A step is forward pass, backward pass and Adam: of ours all that
    :meth:`sdlgm.training.step.Trainer.step` does. Left out of both are reading and binarising data,
    logs and checkpoints.
    """
    if threads < 1:
        raise SDLGMError(f"threads must be a positive integer, got {threads}.")
    if size.rounds < 2:
        raise SDLGMError(f"rounds must be at least 2, got {size.rounds}.")
    source = generator(0, "bits")
    with _threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the rival draws from torch's global generator, as people do
        batches = [
            torch.bernoulli(torch.full((BATCH, INPUTS), SHARE_ON), generator=source)
            for _ in range(8)
        ]
        steps = {name: _step(contender, size) for name, contender in CONTENDERS.items()}
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
    """Measure on one thread, and write timing.json and timing.md.

    Parameters
    ----------
    out
        Folder of the results.
    profile
        ``"full"`` (the paper's networks, 400 rounds) or ``"smoke"``.
    say
        Takes lines of progress.

    Raises
    ------
    SDLGMError
        If the profile is unknown.
    """
    (name,) = choose([profile], PROFILES, "profile")
    measured = measure(PROFILES[name], say=say)
    out = Path(out)
    command = f"python -m paper timing --profile {profile}"
    write_results(out / "timing.json", "timing", command, _rows(measured))
    write_markdown(out / "timing.md", _markdown(measured))
    return out / "timing.json"


def _rows(measured: Measured) -> list[dict[str, Any]]:
    found = measured.summary()
    protocol = (
        f"one step on {BATCH} x {INPUTS} random bits, hidden layers {list(measured.size.hidden)}, "
        f"{measured.threads} thread, {measured.size.rounds} rounds in turns; {_spell(machine())}"
    )
    rows = []
    for name, contender in CONTENDERS.items():
        family = "rival" if contender.model is None else "K = 200, L0 = 40"
        about: dict[str, Any] = {"dataset": "bits", "family": family, "protocol": protocol}
        about["title"] = contender.title
        times = found["milliseconds"][name]
        rows.append(
            row(name, [times["median"]], [0], metric="milliseconds (median)", **about)
            | {"quartiles": times["quartiles"]}
        )
        rows += [
            row(
                name,
                [found[ratio]],
                [0],
                metric=ratio,
                published=contender.published,
                quartiles=found["ratio_quartiles"][ratio],
                cpu_time=found["cpu_time"][ratio],
                **about,
            )
            for ratio in contender.ratios
        ]
    return rows


def _markdown(measured: Measured) -> str:
    found = measured.summary()
    about = (
        f"Milliseconds a training step (batch {BATCH}, {INPUTS} bits, hidden layers "
        f"{list(measured.size.hidden)}, {measured.threads} thread), and the ratio to the rival's "
        f"step of the same round: medians (quartiles) of {measured.size.rounds} rounds in turns. "
        f"{_spell(machine())}."
    )
    lines = [
        about,
        "",
        "| model | ms | rival | ratio | quartiles | ratio of processor time | paper |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for name, contender in CONTENDERS.items():
        start = f"| {contender.title} | {found['milliseconds'][name]['median']:.2f} "
        if not contender.ratios:
            lines.append(start + "| | | | | |")
        published = "" if contender.published is None else f"{contender.published:.2f}"
        for ratio, rival in contender.ratios.items():
            low, high = found["ratio_quartiles"][ratio]
            lines.append(
                f"{start}| {CONTENDERS[rival].title} | **{found[ratio]:.3f}** | {low:.3f} - "
                f"{high:.3f} | {found['cpu_time'][ratio]:.3f} | {published} |"
            )
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """Say what this is measured on, and how busy it is."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": load,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _spell(found: dict[str, Any]) -> str:
    load = "unknown" if found["load"] is None else f"{found['load']:.1f}"
    return f"{found['processor']}, {found['cores']} cores, load {load}, torch {found['torch']}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _quartiles(values: Sequence[float]) -> list[float]:
    first, _, third = statistics.quantiles(values, n=4)
    return [first, third]


@contextmanager
def _threads(number: int) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
