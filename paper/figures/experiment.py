"""The paper's figures 3 and 4: reconstructions from real codes, a map of codes, their open slots.

Two models are trained (or found in the folder of the results): the default one, and the paper's
one with its relaxed objective. Digits are evenly spaced over the test split; none is chosen by eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from paper.figures import page as drawing
from paper.figures.comparisons import Digits, Look, look_at, measure_baselines, take_digits
from paper.figures.data import map_in_the_plane, require_map
from paper.figures.tables import (
    Numbers,
    Tables,
    about,
    baseline_table,
    figure_rows,
    markdown,
    model_table,
)
from paper.results import (
    Say,
    check_seeds,
    choose,
    say_on_stderr,
    write_markdown,
    write_results,
)
from sdlgm.config import DataConfig, ModelConfig, preset
from sdlgm.data import load_data
from sdlgm.errors import SDLGMError
from sdlgm.outputs import atomic_path
from sdlgm.report import require_report
from sdlgm.training import Run, RunConfig, fit, resume

__all__ = ["MODELS", "PROFILES", "Profile", "reproduce"]


@dataclass(frozen=True)
class Profile:
    """The size of the experiment."""

    data: str
    iterations: int
    digits: int
    """Test digits of figure 4 and of all numbers but the bounds, which are of the whole split."""
    shown: int
    """Test digits of figure 3."""
    importance_samples: int


PROFILES = {
    "full": Profile("mnist", 10_000, 3000, 12, 100),
    "smoke": Profile("mnist-5k", 200, 600, 12, 5),
}


@dataclass(frozen=True)
class Model:
    """One of the two models."""

    title: str
    family: str
    config: ModelConfig
    objective: str


MODELS = {
    "default": Model("default", "40 groups of one slot", preset("plain")[0], "elbo"),
    "paper-relaxed": Model(
        "paper's objective",
        "one group of 40 slots",
        preset("plain", groups=1, activation="relu", normalisation="none", prior="fixed")[0],
        "paper",
    ),
}


def reproduce(
    out: Path | str,
    *,
    profile: str = "full",
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    say: Say = say_on_stderr,
) -> Path:
    """Train what is missing and write figure3.png, figure4.png and figures.json, .md and .html.

    Parameters
    ----------
    out
        Folder of the results, and of the runs in ``runs``: a training that was stopped goes on.
    profile
        ``"full"`` (MNIST, 10,000 iterations, 3,000 test digits) or ``"smoke"``.
    seeds
        Number of trainings of each model, with seeds from 0 (default: 1). The figures show seed 0,
        the numbers are means over the seeds.
    only
        Models to show: ``default``, ``paper-relaxed``.
    say
        Takes a line of progress for each training.

    Raises
    ------
    SDLGMError
        If a profile or model is unknown, the extra ``report`` is not installed (said before
        anything is trained), or ``out`` holds runs of other settings.
    """
    out = Path(out)
    (name,) = choose([profile], PROFILES, "profile")
    size, chosen = PROFILES[name], choose(only, MODELS, "model")
    number = 1 if seeds is None else check_seeds(seeds)
    require_report("The page of figures")
    require_map()
    dataset = load_data(_data(size))
    digits = take_digits(dataset, size.digits, size.shown)
    looks: dict[str, list[Look]] = {model: [] for model in chosen}
    plan = [(model, seed) for seed in range(number) for model in chosen]
    for place, (model, seed) in enumerate(plan, 1):
        run = _trained(out / "runs" / f"{model}-{seed}", MODELS[model], size, seed)
        looks[model].append(look_at(run, digits))
        bound = run.metrics["negative_elbo"]
        say(f"[{place}/{len(plan)}] {model}, seed {seed}: negative ELBO {bound:.2f} nats")
    baselines = measure_baselines(dataset, digits)
    command = f"python -m paper figures --profile {profile} --seeds {number}"
    command += f" --only {' '.join(chosen)}" if len(chosen) < len(MODELS) else ""
    numbers = {model: [look.numbers for look in found] for model, found in looks.items()}
    tables = Tables(numbers, baselines)
    families = {model: MODELS[model].family for model in chosen}
    described = about(size.data, size.iterations, len(digits.bits), number, size.importance_samples)
    rows = figure_rows(tables, families, size.data, described, size.importance_samples)
    write_results(out / "figures.json", "figures", command, rows)
    write_markdown(out / "figures.md", markdown(tables, described))
    first = {model: found[0] for model, found in looks.items()}
    pictures = [_figure3(out, first, digits), _figure4(out, first, digits, baselines)]
    drawing.write_figures_page(
        out / "figures.html",
        pictures,
        [model_table(tables), baseline_table(tables)],
        described,
        command,
    )
    return out / "figures.json"


def _data(size: Profile) -> DataConfig:
    return DataConfig(size.data, binarisation="dynamic")


def _trained(folder: Path, model: Model, size: Profile, seed: int) -> Run:
    """Return a finished run of these settings: found, resumed, or trained."""
    training = preset(
        "plain",
        iterations=size.iterations,
        objective=model.objective,  # type: ignore[arg-type]
        seed=seed,
    )[1]
    asked = Run(folder, RunConfig(_data(size), model.config, training))
    samples = size.importance_samples
    if not (folder / "config.yaml").exists():
        config = asked.config
        return fit(
            config.data,
            config.model,
            config.training,
            out=folder,
            importance_samples=samples,
        )
    if Run.open(folder) != asked:
        raise SDLGMError(
            f"{folder} holds a run of other settings (another --profile?). Choose another --out, "
            "or delete that folder."
        )
    if not (folder / "metrics.json").exists():
        return resume(folder, importance_samples=samples)
    return asked


def _figure3(out: Path, looks: dict[str, Look], digits: Digits) -> drawing.Picture:
    def images(values: Tensor) -> Any:
        return values[digits.shown].view(-1, *digits.shape).double().numpy()

    strips = [
        drawing.Strip("test digit", "grey values", images(digits.grey)),
        drawing.Strip("bits drawn from it", "what is encoded and scored", images(digits.bits)),
    ]
    for name, look in looks.items():
        title, metrics = MODELS[name].title, look.run.metrics
        if look.run.config.training.objective == "paper":
            note = f"relaxed objective {metrics['relaxed_objective']:.1f} nats: no bound"
            relaxed = images(look.decoded.relaxed)
            strips.append(drawing.Strip(f"{title}: relaxed sample", note, relaxed))
        note = f"negative ELBO {metrics['negative_elbo']:.1f} nats: a bound"
        codes = images(look.decoded.hard)
        strips.append(drawing.Strip(f"{title}: discrete code", note, codes, is_code=True))
    png = _save(drawing.draw_strips(strips), out / "figure3.png")
    return drawing.Picture(
        "Figure 3: digits, and what their codes decode to",
        png,
        "rows of digits and of their reconstructions",
        f"{len(digits.shown)} test digits evenly spaced over the split, not chosen. Blue rows were "
        "decoded from discrete codes (counts, one draw), the means of the pixels shown; the grey "
        "row of a relaxed sample from the real numbers that the paper's objective scores.",
    )


def _figure4(
    out: Path, looks: dict[str, Look], digits: Digits, baselines: dict[str, Numbers]
) -> drawing.Picture:
    columns, accuracies = [], {}
    for name, look in looks.items():
        title, numbers, slots = MODELS[name].title, look.numbers, look.slots
        accuracies[f"codes, {title}"] = numbers["neighbours_codes"]
        accuracies[f"expected counts, {title}"] = numbers["neighbours_expected"]
        columns.append(
            drawing.Column(
                title=title,
                plane=map_in_the_plane(look.decoded.codes),
                map_note=f"t-SNE of {len(digits.bits):,} discrete codes, {MODELS[name].family}",
                drawn=slots.drawn,
                law=slots.law,
                binomial=slots.binomial,
                prior=slots.prior,
                slots_note=f"variance {numbers['variance_ratio']:.2f} of the Binomial's, "
                f"total variation {numbers['tv_law']:.2f}",
                rounded=slots.rounded,
                logits_note=f"variance {numbers['variance_between']:.2f} of the Binomial's, "
                f"total variation {numbers['tv_logits']:.2f}",
            )
        )
    for name, found in baselines.items():
        if "neighbours" in found:
            accuracies[name] = found["neighbours"]
    first = next(iter(looks))
    gates = f"Gate by gate: {MODELS[first].title}", looks[first].slots.gate_logits.ravel()
    figure = drawing.draw_codes(
        columns,
        digits.labels.numpy(),
        ("Pixels", map_in_the_plane(digits.bits), "t-SNE of the bits themselves"),
        gates,
        accuracies,
    )
    return drawing.Picture(
        "Figure 4: a map of the codes, and how many slots they open",
        _save(figure, out / "figure4.png"),
        "maps of codes coloured by digit, and histograms of open slots and sparsity logits",
        "Maps: a number stands where its class is densest. Open slots: bars are one draw of "
        "each digit's code, the solid line the mean of the digits' own laws. Sparsity logits: "
        "those of the digits on bins one slot wide (of 40 gates, the logit of their mean).",
    )


def _save(content: bytes, path: Path) -> bytes:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return content
