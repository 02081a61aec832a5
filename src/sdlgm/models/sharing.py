"""A model to the Hugging Face Hub and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sdlgm.config import to_dict
from sdlgm.hub import Card, download, upload
from sdlgm.models.saving import SavedModel, load_model

__all__ = ["from_pretrained", "push_to_hub"]

_LOADING = """\
from sdlgm import from_pretrained

saved = from_pretrained("{repo_id}")  # the model, and its hash
posterior = saved.model.posterior(x)  # of samples (n, D), torch.float32
codes = posterior.mode  # counts (n, K)
decoded = saved.model.decode(codes).mean  # (n, D)"""


def from_pretrained(
    source: Path | str, *, revision: str | None = None, token: str | None = None
) -> SavedModel:
    """Load a model from a folder (of a run, or of ``save_model``) or from the Hugging Face Hub.

    Parameters
    ----------
    source, revision, token
        See :func:`~sdlgm.hub.download`.

    Raises
    ------
    HubError
        If it cannot be had from the Hub.
    ModelFileError
        If what is there is damaged or no model, see :func:`~sdlgm.models.load_model`.
    """
    return load_model(download(source, revision=revision, token=token))


def push_to_hub(
    folder: Path | str,
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
    """Push a saved model with a model card; return the address of the commit.

    Of a run, :meth:`sdlgm.training.Run.push_to_hub` fills in the numbers that it measured.

    Parameters
    ----------
    folder
        Where ``save_model`` wrote it. It is loaded first, so that nothing damaged is pushed.
    repo_id, private, revision, token
        See :func:`~sdlgm.hub.upload`.
    metrics, units, measured_on, license
        What the card tells, see :class:`~sdlgm.hub.Card`.

    Raises
    ------
    HubError
        If the Hub cannot be reached or refuses.
    ModelFileError
        If the folder holds no model, or a damaged one.
    ConfigError
        If a metric is no finite number.
    """
    card = model_card(
        load_model(folder),
        metrics=metrics or {}, units=units, measured_on=measured_on, license=license,
    )  # fmt: skip
    names = ("model.safetensors", "config.json")
    return upload(folder, names, card, repo_id, private=private, revision=revision, token=token)


def model_card(
    saved: SavedModel,
    *,
    metrics: Mapping[str, float],
    units: str | None,
    measured_on: str | None,
    license: str | None,  # noqa: A002
    facts: Mapping[str, object] | None = None,
    **source: str,
) -> Card:
    """Return the card of a model; ``facts`` are added to its own settings."""
    config = saved.model.config
    return Card(
        kind="SDLGM",
        what=(
            f"It encodes a sample of {saved.model.n_inputs} numbers as counts of K = "
            f"{config.features} features under a hard budget: at most L0 = {config.budget} in all."
        ),
        loading=_LOADING,
        sha256=saved.sha256,
        facts={"inputs": saved.model.n_inputs, **to_dict(config), **(facts or {})},
        metrics=metrics,
        units=units,
        measured_on=measured_on,
        task="feature-extraction",
        license=license,
        **source,
    )
