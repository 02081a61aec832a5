"""Estimators on disk: ``estimator.safetensors`` and ``estimator.json``, checked, free of pickle."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from sdlgm.errors import ConfigError, ModelFileError, SDLGMError
from sdlgm.estimators.packing import pack, unpack
from sdlgm.estimators.validation import EstimatorNotFittedError
from sdlgm.models import check_tensors
from sdlgm.storage import read_described, read_description, write_described
from sdlgm.version import __version__

__all__ = ["FORMAT_VERSION", "NAMES", "Saved", "describe_folder"]

FORMAT_VERSION = 1
"""Version of the format on disk; files of a newer one are refused."""
NAMES = ("SDLGMClassifier", "SDLGMCounter", "SDLGMTransformer")
"""Classes that are saved. What a file names is looked up here, and never imported."""
_FILES = ("estimator.safetensors", "estimator.json", "model.safetensors", "config.json")
_NETWORK = "network."
_FITTED = re.compile(r"_?[A-Za-z][A-Za-z0-9_]*")


class Saved:
    """``save`` and ``load`` for an estimator whose fitted part is one network.

    A class says of its network what it takes to make it anew (:meth:`_describe_network`,
    :meth:`_restore_network`); parameters and all other fitted attributes are stored by their
    values.
    """

    _network_attributes: ClassVar[tuple[str, ...]] = ("network_",)
    """Fitted attributes that the two hooks store, the network first."""
    _passing: ClassVar[tuple[str, ...]] = ("_metadata_request", "_adam")
    """Attributes that are not stored: requests of a pipeline, moments of the optimiser."""

    @abstractmethod
    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        """Return the values it takes to make the network anew, and the network."""

    @abstractmethod
    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        """Make the network of these values, set ``_network_attributes``, and return it.

        Its weights are set by the caller. Parameters and other fitted attributes are there.
        """

    def save(self, folder: Path | str, *, overwrite: bool = False) -> str:
        """Write the fitted estimator into a folder, each file atomically; return its hash.

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
            If a parameter or a fitted attribute is of a type that cannot be saved, or a parameter
            that shapes the network was changed after fitting.
        """
        folder = Path(folder)
        about, tensors = self._to_files()
        _check_target(folder, overwrite)
        sha = write_described(folder / _FILES[0], folder / _FILES[1], tensors, about)
        for name in _FILES[2:]:  # of what was there before
            (folder / name).unlink(missing_ok=True)
        return sha

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read an estimator that :meth:`save` wrote; nothing in the files is executed.

        It predicts the same bits (on one machine's CPU, with as many threads), has the same
        parameters, and can be fitted again.

        Raises
        ------
        ModelFileError
            If a file is missing, damaged, of a newer format or another class, or does not hold
            what it should.
        """
        folder = Path(folder)
        about = describe_folder(folder)
        found = about.get("class")
        if found != cls.__name__:
            raise ModelFileError(
                f"{folder} holds a {found!r}, not a {cls.__name__}. "
                + (
                    f"Load it with {found}.load, or with sdlgm.estimators.load for any class."
                    if found in NAMES
                    else "This version of sdlgm does not know that class."
                )
            )
        tensors, _ = read_described(folder / _FILES[0], folder / _FILES[1], about)
        return cls._from_files(about, tensors, str(folder / _FILES[0]))

    def _to_files(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return description and tensors, and make sure that they can be loaded."""
        name = type(self).__name__
        if not hasattr(self, self._network_attributes[0]):
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit before save.")
        params = self.get_params(deep=False)  # type: ignore[attr-defined]  # scikit-learn's
        left_out = {*params, *self._network_attributes, *self._passing}
        fitted = {key: value for key, value in vars(self).items() if key not in left_out}
        values, network = self._describe_network()
        tensors = {_NETWORK + key: value for key, value in network.state_dict().items()}
        about = {
            "format": "sdlgm-estimator",
            "format_version": FORMAT_VERSION,
            "class": name,
            "versions": {"sdlgm": __version__, "torch": str(torch.__version__)},
            "params": {key: pack(params[key], f"params.{key}", tensors) for key in sorted(params)},
            "fitted": {key: pack(fitted[key], f"fitted.{key}", tensors) for key in sorted(fitted)},
            "network": pack(values, "network_values", tensors),
        }
        try:
            self._from_files(about, dict(tensors), "what would be saved")
        except SDLGMError as error:
            raise ModelFileError(
                f"This {name} cannot be saved: its parameters are not those that it was fitted "
                f"with, so that its network could not be made anew ({error}) Set them back, or fit "
                "again."
            ) from error
        return about, tensors

    @classmethod
    def _from_files(cls, about: Mapping[str, Any], tensors: dict[str, Tensor], where: str) -> Self:
        """Make an estimator of a checked description and its tensors, which are used up."""
        params, fitted = (_table(about, name, where) for name in ("params", "fitted"))
        known = cls._get_param_names()  # type: ignore[attr-defined]  # scikit-learn's
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise ModelFileError(f"{where}: {cls.__name__} has no parameters {unknown}.")
        # A parameter that came later than the file keeps its default.
        estimator = cls(**{key: unpack(value, tensors) for key, value in params.items()})
        for key, value in fitted.items():
            if not _FITTED.fullmatch(key) or hasattr(cls, key) or key in known:
                raise ModelFileError(f"{where}: {key!r} is no fitted attribute.")
            setattr(estimator, key, unpack(value, tensors))
        values = unpack(about.get("network"), tensors)
        try:
            network = estimator._restore_network(values)
        except (KeyError, TypeError, AttributeError, RuntimeError, ValueError) as error:
            if isinstance(error, SDLGMError):
                raise
            raise ModelFileError(
                f"{where} does not describe a network of {cls.__name__} ({error!r})."
            ) from error
        expected = {_NETWORK + key: value for key, value in network.state_dict().items()}
        check_tensors(tensors, expected, where)
        network.load_state_dict({key.removeprefix(_NETWORK): tensors[key] for key in tensors})
        network.eval()
        return estimator


def describe_folder(folder: Path) -> dict[str, Any]:
    """Read what a saved estimator says of itself.

    Raises
    ------
    ModelFileError
        If the folder holds none.
    """
    if not (folder / "estimator.json").is_file():
        hint = "Save one: estimator.save(folder)."
        if (folder / "config.json").is_file():
            hint = "It holds a model without one: SDLGMTransformer.load, or sdlgm.load."
        raise ModelFileError(f"{folder} holds no saved estimator (no estimator.json). {hint}")
    return read_description(folder / "estimator.json", "sdlgm-estimator", FORMAT_VERSION)


def _check_target(folder: Path, overwrite: bool) -> None:
    if (folder / "config.yaml").exists():
        raise ConfigError(f"{folder} holds a run. Save into another folder.")
    there = [name for name in _FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ConfigError(
            f"{folder} holds something saved already ({', '.join(there)}). Replace it with "
            "overwrite=True, or save into another folder."
        )


def _table(about: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    values = about.get(name)
    if not isinstance(values, dict):
        raise ModelFileError(f"{where} does not say its {name}.")
    return values
