"""Figures 3 and 4 of the paper: reconstructions from codes, a map of codes, and open slots.

Two models are trained, or loaded from the folder of the results: the preset ``plain``, and the
paper's model with its relaxed objective. The digits are evenly spaced over the test split; none is
chosen by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from paper.figures import page as drawing
from paper.figures.comparisons import (
    Digits,
    ModelView,
    measure_baselines,
    take_digits,
    view_model,
)
from paper.figures.data import map_in_the_plane, require_map
from paper.figures.tables import (
    Numbers,
    Tables,
    baseline_table,
    describe,
    figure_rows,
    markdown,
    model_table,
)
from paper.results import write_tables
from paper.running import (
    Say,
    check_seeds,
    choose,
    measure_all,
    plan_runs,
    profile_named,
    say_on_stderr,
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
    """Number of test digits in figure 4 and in all numbers except the bounds (the whole split)."""
    shown: int
    """Number of test digits in figure 3."""
    importance_samples: int


PROFILES = {
    "full": Profile("mnist", 10_000, 3000, 12, 100),
    "smoke": Profile("mnist-5k", 200, 600, 12, 5),
}


@dataclass(frozen=True)
class Model:
    """A model of the figures and its objective."""

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
    """Train what is missing; write figure3.png, figure4.png and figures.json, .md and .html.

    Parameters
    ----------
    out
        Folder of the results. Its folder ``runs`` keeps the trainings; a training that was stopped
        continues from its last checkpoint.
    profile
        ``"full"`` (MNIST, 10,000 iterations, 3,000 test digits) or ``"smoke"``.
    seeds
        Number of trainings of each model, with seeds from 0. Default: 1. The figures show seed 0;
        the numbers are means over the seeds.
    only
        Models to show: ``default`` or ``paper-relaxed``.
    say
        Receives a line of progress for each training.

    Raises
    ------
    SDLGMError
        If a profile or model is unknown, the extra ``report`` is not installed (checked before
        anything is trained), or ``out`` holds runs with other settings.
    """
    out = Path(out)
    size, chosen = profile_named(profile, PROFILES), choose(only, MODELS, "model")
    number = 1 if seeds is None else check_seeds(seeds)
    require_report("The page of figures")
    require_map()
    dataset = load_data(_data(size))
    digits = take_digits(dataset, size.digits, size.shown)
    views: dict[str, list[ModelView]] = {model: [] for model in chosen}

    def measure(model: str, seed: int) -> str:
        run = _trained(out / "runs" / f"{model}-{seed}", MODELS[model], size, seed)
        views[model].append(view_model(run, digits))
        return f"{model}, seed {seed}: negative ELBO {run.metrics['negative_elbo']:.2f} nats"

    measure_all(measure, plan_runs(chosen, lambda model: range(number)), str, say=say)
    baselines = measure_baselines(dataset, digits)
    command = f"python -m paper figures --profile {profile} --seeds {number}"
    command += f" --only {' '.join(chosen)}" if len(chosen) < len(MODELS) else ""
    numbers = {model: [view.numbers for view in found] for model, found in views.items()}
    tables = Tables(numbers, baselines)
    families = {model: MODELS[model].family for model in chosen}
    description = describe(
        size.data, size.iterations, len(digits.bits), number, size.importance_samples
    )
    rows = figure_rows(tables, families, size.data, description, size.importance_samples)
    first = {model: found[0] for model, found in views.items()}
    pictures = [_figure3(out, first, digits), _figure4(out, first, digits, baselines)]
    drawing.write_figures_page(
        out / "figures.html",
        pictures,
        [model_table(tables), baseline_table(tables)],
        description,
        command,
    )
    return write_tables(
        out / "figures.json", "figures", command, rows, markdown(tables, description)
    )


def _data(size: Profile) -> DataConfig:
    return DataConfig(size.data, binarisation="dynamic")


def _trained(folder: Path, model: Model, size: Profile, seed: int) -> Run:
    """Return a finished run with these settings; train or resume it if necessary."""
    training = preset(
        "plain",
        iterations=size.iterations,
        objective=model.objective,
        seed=seed,
    )[1]
    wanted = RunConfig(_data(size), model.config, training)
    samples = size.importance_samples
    if not (folder / "config.yaml").exists():
        return fit(
            wanted.data, wanted.model, wanted.training, out=folder, importance_samples=samples
        )
    run = Run.open(folder)
    # A run records the device that it was trained on, which is none of these settings.
    device = run.config.training.accelerator
    if run.config != replace(wanted, training=replace(training, accelerator=device)):
        raise SDLGMError(
            f"{folder} holds a run with other settings (another --profile?). Choose another --out, "
            "or delete that folder."
        )
    if not (folder / "metrics.json").exists():
        return resume(folder, importance_samples=samples)
    return run


def _figure3(out: Path, views: dict[str, ModelView], digits: Digits) -> drawing.Picture:
    def images(values: Tensor) -> Any:
        return values[digits.shown].view(-1, *digits.shape).double().numpy()

    strips = [
        drawing.Strip("test digit", "grey values", images(digits.grey)),
        drawing.Strip("bits drawn from it", "encoded and evaluated", images(digits.bits)),
    ]
    for name, view in views.items():
        title, metrics = MODELS[name].title, view.run.metrics
        if view.run.config.training.objective == "paper":
            note = f"relaxed objective {metrics['relaxed_objective']:.1f} nats: not a bound"
            relaxed = images(view.decoded.relaxed)
            strips.append(drawing.Strip(f"{title}: relaxed sample", note, relaxed))
        note = f"negative ELBO {metrics['negative_elbo']:.1f} nats: a bound"
        codes = images(view.decoded.hard)
        strips.append(drawing.Strip(f"{title}: discrete code", note, codes, is_code=True))
    png = _save(drawing.draw_strips(strips), out / "figure3.png")
    return drawing.Picture(
        "Figure 3: digits and their reconstructions",
        png,
        "rows of digits and of their reconstructions",
        f"{len(digits.shown)} test digits, evenly spaced over the split, not chosen by hand. Blue "
        "rows show the mean pixels decoded from discrete codes (counts, one draw). The grey row of "
        "a relaxed sample was decoded from the real numbers that the paper's objective evaluates.",
    )


def _figure4(
    out: Path, views: dict[str, ModelView], digits: Digits, baselines: dict[str, Numbers]
) -> drawing.Picture:
    columns, accuracies = [], {}
    for name, view in views.items():
        title, numbers, slots = MODELS[name].title, view.numbers, view.slots
        accuracies[f"codes, {title}"] = numbers["neighbours_codes"]
        accuracies[f"expected counts, {title}"] = numbers["neighbours_expected"]
        columns.append(
            drawing.Column(
                title=title,
                plane=map_in_the_plane(view.decoded.codes),
                map_note=f"t-SNE of {len(digits.bits):,} discrete codes, {MODELS[name].family}",
                drawn=slots.drawn,
                exact=slots.exact,
                binomial=slots.binomial,
                prior=slots.prior,
                slots_note=f"variance {numbers['variance_ratio']:.2f} of the Binomial's, "
                f"total variation {numbers['tv_exact']:.2f}",
                rounded=slots.rounded,
                logits_note=f"variance {numbers['variance_between']:.2f} of the Binomial's, "
                f"total variation {numbers['tv_logits']:.2f}",
            )
        )
    for name, found in baselines.items():
        if "neighbours" in found:
            accuracies[name] = found["neighbours"]
    first = next(iter(views))
    gates = f"All gates: {MODELS[first].title}", views[first].slots.gate_logits.ravel()
    figure = drawing.draw_codes(
        columns,
        digits.labels.numpy(),
        ("Pixels", map_in_the_plane(digits.bits), "t-SNE of the bits"),
        gates,
        accuracies,
    )
    return drawing.Picture(
        "Figure 4: a map of the codes, and the numbers of slots they open",
        _save(figure, out / "figure4.png"),
        "maps of codes coloured by digit, and histograms of open slots and sparsity logits",
        "Maps: each number marks where its class is densest. Open slots: the bars show one code "
        "per digit, the solid line the exact distribution. Sparsity logits: histogram with bins "
        "one slot wide (with 40 gates, of the logit of their mean).",
    )


def _save(content: bytes, path: Path) -> bytes:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return content
