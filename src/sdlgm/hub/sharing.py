"""Load and share models and estimators: from a folder, and from and to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdlgm.config import to_dict
from sdlgm.data.columns import FILE as COLUMNS
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, ModelFileError
from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer
from sdlgm.estimators import load as load_estimator
from sdlgm.folders import holds_estimator, holds_run
from sdlgm.hub.card import Card
from sdlgm.hub.transfer import download, upload
from sdlgm.models import SDLGM, load_model, model_sha256, save_model
from sdlgm.training import Run

__all__ = ["load", "push_to_hub"]

Estimator = SDLGMClassifier | SDLGMCounter | SDLGMTransformer

_LOADING = """\
import sdlgm

model = sdlgm.load("{{repo_id}}")
{use}"""
_MODEL_USE = """\
codes = model.encode(x)  # counts (n, K) of samples (n, D)
decoded = model.decode(codes)  # (n, D)"""
_ESTIMATORS: dict[str, tuple[str, str, str]] = {
    "SDLGMClassifier": (
        "It predicts sets of labels, with at most a fixed number of labels for each sample.",
        "tabular-classification",
        "predicted = model.predict(X)",
    ),
    "SDLGMCounter": (
        "It predicts how many objects of each class a sample holds, at most a budget in total.",
        "tabular-regression",
        "predicted = model.predict(X)",
    ),
    "SDLGMTransformer": (
        "It encodes rows as sparse counts of features under a hard budget, and decodes them.",
        "feature-extraction",
        "codes = model.transform(X)",
    ),
}
"""For each class: what it does, the Hub's name for the task, and a line of Python to use it."""


@neutral()
def load(
    source: Path | str, *, revision: str | None = None, token: str | None = None
) -> SDLGM | Estimator:
    """Load a model or an estimator from a folder or from the Hugging Face Hub.

    A folder that :func:`~sdlgm.training.fit` or :func:`~sdlgm.models.save_model` wrote gives a
    model; a folder that ``estimator.save`` wrote gives the estimator. Nothing in the files is
    executed.

    Parameters
    ----------
    source
        A folder; otherwise ``"user/name"`` on the Hub.
    revision, token
        Branch, tag or commit, and access token, on the Hub: see :func:`~sdlgm.hub.download`.

    Raises
    ------
    HubError
        If there is no such folder and the Hub does not have it or cannot be reached.
    ModelFileError
        If a file is missing, damaged, of a newer format, or does not hold what it should.

    Examples
    --------
    ``sdlgm.load("runs/digits").encode(x)`` and ``sdlgm.load("me/labels").predict(X)``.
    """
    folder = download(source, revision=revision, token=token)
    if holds_estimator(folder):
        return load_estimator(folder)
    return load_model(folder)


@neutral()
def push_to_hub(
    source: SDLGM | Estimator | Run | Path | str,
    repo_id: str,
    *,
    metrics: Mapping[str, float] | None = None,
    units: str | None = None,
    measured_on: str | None = None,
    license: str | None = None,  # noqa: A002 (the Hub's name)
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Push a model, a fitted estimator or a run with its model card; return the commit's address.

    Parameters
    ----------
    source
        What to push, or its folder. A folder is loaded first, so nothing damaged is pushed. The
        card of a run has the numbers that were measured after training.
    repo_id, private, revision, token
        See :func:`~sdlgm.hub.upload`.
    metrics, units, measured_on, license
        Content of the card, see :class:`~sdlgm.hub.Card`. A run has its own metrics.

    Raises
    ------
    HubError
        If the Hub cannot be reached or refuses.
    ModelFileError
        If files are missing or damaged, or the metrics of a run belong to another model.
    ConfigError
        If a metric is not a finite number, or metrics are given for a run.
    EstimatorNotFittedError
        If an estimator is not fitted.
    """
    given: dict[str, Any] = {
        "metrics": metrics or {},
        "units": units,
        "measured_on": measured_on,
        "license": license,
    }
    target: dict[str, Any] = {
        "repo_id": repo_id,
        "private": private,
        "revision": revision,
        "token": token,
    }
    if isinstance(source, Path | str):
        source = Run.open(source) if holds_run(Path(source)) else load(source)
    if isinstance(source, Run):
        if metrics or units or measured_on:
            raise ConfigError(
                "A run has its own metrics: leave out metrics, units and measured_on, or push "
                "run.model."
            )
        names = ["model.safetensors", "config.json", "metrics.json"]
        names += [COLUMNS] if (source.folder / COLUMNS).is_file() else []
        return upload(source.folder, names, _card_of_run(source, license), **target)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(source, SDLGM):
            card = _card_of_model(source, save_model(folder, source), **given)
        else:
            card = _card_of_estimator(source, source.save(folder), **given)
        names = sorted(path.name for path in Path(folder).iterdir())
        return upload(folder, names, card, **target)


def _card_of_model(
    model: SDLGM, sha256: str, facts: Mapping[str, object] | None = None, **given: Any
) -> Card:
    config = model.config
    return Card(
        kind="SDLGM",
        what=(
            f"It encodes a sample of {model.n_inputs} numbers as counts of K = {config.features} "
            f"features under a hard budget: at most L0 = {config.budget} in total."
        ),
        loading=_LOADING.format(use=_MODEL_USE),
        sha256=sha256,
        facts={"inputs": model.n_inputs, **to_dict(config), **(facts or {})},
        task="feature-extraction",
        **given,
    )


def _card_of_estimator(estimator: Estimator, sha256: str, **given: Any) -> Card:
    name = type(estimator).__name__
    what, task, use = _ESTIMATORS[name]
    numbers = {k: v for k, v in vars(estimator).items() if k.endswith("_") and type(v) is int}
    return Card(
        kind=name,
        what=what,
        loading=_LOADING.format(use=use),
        sha256=sha256,
        facts=numbers | estimator.get_params(deep=False),
        task=task,
        **given,
    )


def _card_of_run(run: Run, license: str | None) -> Card:  # noqa: A002
    measured, sha256 = run.metrics, model_sha256(run.model)
    if measured.get("model_sha256") != sha256:
        raise ModelFileError(
            f"{run.folder / 'metrics.json'} was measured on another model than the one in the "
            "folder. Restore both from a copy."
        )
    numbers = ("negative_elbo", "nll_bound", "relaxed_objective", "active_features_mean",
               "active_features_max")  # fmt: skip
    facts = ("iterations", "kept_iteration", "objective", "seed")
    return _card_of_model(
        run.model,
        sha256,
        facts={name: measured[name] for name in facts},
        metrics={name: measured[name] for name in numbers},
        units=f"the first three in {measured['units']}; active features per code",
        measured_on=(
            f"{measured['data']}, {measured['split']} split ({measured['n_samples']} rows, "
            f"binarisation {measured['binarisation']}), one code per sample, nll_bound of "
            f"{measured['importance_samples']} codes, seed {measured['evaluation_seed']}"
        ),
        license=license,
        source="measured by sdlgm after training",
    )
