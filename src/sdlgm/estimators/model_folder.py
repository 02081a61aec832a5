"""An estimator whose network is an SDLGM: its folder is one of a model, and it reads runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

from torch import nn

from sdlgm.errors import ModelFileError
from sdlgm.estimators.saving import Saved, describe_folder
from sdlgm.models import SDLGM, load_model, save_model
from sdlgm.storage import digest
from sdlgm.training import Run

__all__ = ["SavedModelFolder"]


class SavedModelFolder(Saved):
    """``save`` and ``load`` of an estimator with an :class:`~sdlgm.models.SDLGM` in ``model_``."""

    model_: SDLGM
    seed_: int
    n_features_in_: int
    n_iter_: int
    history_: list[dict[str, Any]]
    _network_attributes = ("model_",)

    def save(self, folder: Path | str, *, overwrite: bool = False) -> str:
        """Write the fitted estimator into a folder, each file atomically; return its hash.

        Its model stands in files of its own, those of :func:`~sdlgm.models.save_model`, so that the
        folder serves wherever one of a model does. The optimiser's moments are not kept.

        Parameters
        ----------
        folder
            Where to; it is made if there is none.
        overwrite
            Whether a model or estimator that is there may be replaced.

        Raises
        ------
        EstimatorNotFittedError
            If it is not fitted yet.
        ConfigError
            If the folder holds a run, or anything saved and ``overwrite`` is false.
        ModelFileError
            If a parameter is of a type that cannot be saved.
        """
        sha = super().save(folder, overwrite=overwrite)
        save_model(folder, self.model_)
        return sha

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read an estimator that :meth:`save` wrote, or the model of a run of ``sdlgm fit``.

        Of a run the parameters are those of its settings that this class has, and there is no
        ``feature_usage_``. Nothing in the files is executed.

        Raises
        ------
        ModelFileError
            If a file is missing, damaged, of a newer format or another class, or does not hold
            what it should.
        """
        folder = Path(folder)
        if not (folder / "estimator.json").is_file() and (folder / "config.json").is_file():
            return cls._of_run(folder)
        estimator = super().load(folder)
        model = load_model(folder)
        expected = describe_folder(folder)["network"]
        if expected != {"dict": {"model_digest": digest(model.state_dict())}}:
            raise ModelFileError(
                f"{folder / 'model.safetensors'} does not belong to {folder / 'estimator.json'}: "
                "one of them was changed. Restore both from a copy."
            )
        estimator.model_ = model
        return estimator

    @classmethod
    def _of_run(cls, folder: Path) -> Self:
        model = load_model(folder)
        settings = dataclasses.asdict(model.config)
        seed, steps = 0, 0
        if (folder / "config.yaml").is_file():  # not of a model alone, or from the Hub
            training = Run.open(folder).config.training
            settings |= dataclasses.asdict(training)
            seed, steps = training.seed, training.iterations
        known = cls().get_params()  # type: ignore[attr-defined]  # scikit-learn's
        params = {name: value for name, value in settings.items() if name in known}
        estimator = cls(**params | {"random_state": seed})
        estimator.model_, estimator.seed_ = model, seed
        estimator.n_features_in_ = model.n_inputs
        estimator.history_, estimator.n_iter_ = [], steps
        return estimator

    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        # Its weights go to files of their own.
        return {"model_digest": digest(self.model_.state_dict())}, nn.Module()

    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        return nn.Module()
