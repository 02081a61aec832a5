"""Folders that hold a model without the settings of its training, as from the Hub."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from sdlgm.config import DataConfig, TrainingConfig, from_dict
from sdlgm.data import BUILT_IN, Columns, Dataset
from sdlgm.errors import ConfigError, DataError, ModelFileError
from sdlgm.folders import ESTIMATOR, METRICS, holds_estimator, holds_metrics, holds_model
from sdlgm.models import SDLGM, load_model
from sdlgm.storage import read_json
from sdlgm.training.run_config import RunConfig
from sdlgm.training.runs import Run

__all__ = ["ModelFolder"]

_UNKNOWN = "unknown data"


class ModelFolder(Run):
    """A model without ``config.yaml`` and ``log.jsonl``, for commands that read runs.

    What is known of its data is in ``metrics.json`` and ``columns.json``, if they are there: the
    name of the data, their binarisation, and the columns. ``config.training`` has no meaning.
    """

    has_settings = False

    @classmethod
    def open(cls, folder: Path | str) -> ModelFolder:
        """Open a folder with a model.

        Raises
        ------
        ModelFileError
            If the folder holds no model, or its files do not belong together.
        """
        folder = Path(folder)
        if not holds_model(folder):
            raise ModelFileError(_holds_none(folder))
        model = load_model(folder)
        found = _metrics(folder) or {}
        about = {
            "data": found.get("data") or _UNKNOWN,
            "binarisation": found.get("binarisation"),
        }
        try:
            data = from_dict(DataConfig, about)
        except ConfigError as error:
            raise ModelFileError(f"{folder / 'metrics.json'} is damaged: {error}") from None
        opened = cls(folder, RunConfig(data, model.config, TrainingConfig()))
        vars(opened)["_loaded"] = model
        return opened

    @functools.cached_property
    def model(self) -> SDLGM:
        """The model, loaded when the folder was opened."""
        model: SDLGM = vars(self)["_loaded"]
        self._check_model(model)
        return model

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The built-in set that the model was trained on.

        Raises
        ------
        DataError
            If it was trained on something else, or on unknown data.
        """
        if self.config.data.data not in BUILT_IN:
            raise DataError(
                f"{self.folder} holds a model without its data ({self.config.data.data}). Name "
                "data: --data FILE."
            )
        return super().dataset

    @functools.cached_property
    def columns(self) -> Columns:
        """Names, types and ranges of the columns of the training data, as far as recorded."""
        return Columns.read(self.folder) or Columns(names=_estimator_names(self.folder))

    @property
    def metrics(self) -> dict[str, Any]:
        """The held-out numbers of ``metrics.json``.

        Raises
        ------
        ModelFileError
            If there are none.
        """
        found = _metrics(self.folder)
        if found is None:
            raise ModelFileError(
                f"{self.folder} holds a model without the numbers of its run (metrics.json). "
                "Measure it with sdlgm evaluate, or fetch the whole run."
            )
        return found


def _holds_none(folder: Path) -> str:
    if holds_estimator(folder):
        found = read_json(folder / ESTIMATOR)
        name = found.get("class") if isinstance(found, dict) else None
        return (
            f"{folder} holds no run and no model but an estimator ({str(name)[:80]}): load it in "
            "Python with sdlgm.load."
        )
    if not folder.exists():
        return f"{folder} holds no run: it does not exist. Start one: sdlgm fit DATA --out {folder}"
    return (
        f"{folder} holds no run: there is no config.yaml, and no model (config.json). Start one: "
        f"sdlgm fit DATA --out {folder}"
    )


def _metrics(folder: Path) -> dict[str, Any] | None:
    path = folder / METRICS
    if not holds_metrics(folder):
        return None
    found = read_json(path)
    if not isinstance(found, dict):
        raise ModelFileError(f"{path} is damaged: it does not map names to numbers.")
    return found


def _estimator_names(folder: Path) -> tuple[str, ...] | None:
    """Return the names of the columns that a transformer in the folder was fitted on."""
    match read_json(folder / ESTIMATOR) if holds_estimator(folder) else None:
        case {"fitted": {"feature_names_in_": {"strings": [_, _, [*names]]}}}:
            return tuple(str(name) for name in names)
    return None
