"""Estimators on disk: ``estimator.safetensors`` and ``estimator.json``, checked, without pickle."""

from __future__ import annotations

import dataclasses
import math
import re
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, ModelFileError, SDLGMError
from sdlgm.estimators.drift import check_range
from sdlgm.estimators.guarantees import Guarantee, guarantee_named
from sdlgm.estimators.mixed_columns import MixedColumns
from sdlgm.estimators.validation import EstimatorNotFittedError
from sdlgm.limits import check, is_integer, reading
from sdlgm.migration import migrate_estimator
from sdlgm.models import SDLGM, load_model, load_weights
from sdlgm.models.saving import FILES, check_replaceable, check_savable, write_model
from sdlgm.outputs import atomic_folder, named
from sdlgm.storage import (
    digest,
    read_described,
    read_description,
    read_tensors,
    write_described,
)
from sdlgm.training import Run
from sdlgm.version import __version__

if TYPE_CHECKING:
    from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer

__all__ = [
    "FORMAT_VERSION",
    "NAMES",
    "Saved",
    "SavedModelFolder",
    "describe_folder",
    "load",
    "require_integer",
]

FORMAT_VERSION = 2
"""Version of the format on disk; newer files are refused, older ones migrated."""
NAMES = ("SDLGMClassifier", "SDLGMCounter", "SDLGMTransformer")
"""Classes that can be loaded. A class that a file names is looked up here, never imported."""
_NUMBERS = "biuf"
"""Kinds of numpy types that are stored: bool, signed, unsigned, float."""
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_FILES = ("estimator.safetensors", "estimator.json", *FILES)
_NETWORK = "network."
_FITTED = re.compile(r"_?[A-Za-z][A-Za-z0-9_]*")


class Saved:
    """``save`` and ``load`` for an estimator with one fitted network.

    A class describes how to rebuild its network (:meth:`_describe_network`,
    :meth:`_restore_network`). Parameters and all other fitted attributes are stored by value.
    """

    _network_attributes: ClassVar[tuple[str, ...]] = ("network_",)
    """Fitted attributes that these two methods store, the network first."""
    _not_saved: ClassVar[tuple[str, ...]] = ("_metadata_request", "_adam")
    """Attributes that are not stored: metadata requests, and the state of the optimiser."""

    @abstractmethod
    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        """Return the values that rebuild the network, and the network."""

    @abstractmethod
    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        """Rebuild the network from these values, set ``_network_attributes``, and return it.

        Parameters and other fitted attributes are already set; the caller loads the weights.
        """

    @neutral()
    def save(self, folder: Path | str, *, overwrite: bool = False) -> str:
        """Save the fitted estimator to a folder, all files at one stroke; return its hash.

        A process that is killed leaves the old files or the new ones. A folder that holds other
        files stays, and the complete new files are renamed into it one after another.

        Parameters
        ----------
        folder
            The folder; it is created if it does not exist.
        overwrite
            Whether to replace a model or estimator that the folder holds.

        Raises
        ------
        EstimatorNotFittedError
            If it is not fitted.
        ConfigError
            If the folder holds a run, a saved model or estimator without ``overwrite``, or a file
            of another program that would be replaced.
        ModelFileError
            If a parameter or fitted attribute has a type that cannot be saved, or a parameter
            that shapes the network was changed after fitting.
        """
        folder = named(folder, "The folder")
        description, tensors = self._to_files()
        _check_target(folder, overwrite)
        with atomic_folder(folder, _FILES) as staged:  # removes files of another class, too
            return self._write(staged, tensors, description)

    def _write(self, folder: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> str:
        """Write all files into an empty folder; return the hash."""
        return write_described(folder / _FILES[0], folder / _FILES[1], tensors, description)

    @classmethod
    @neutral()
    def load(cls, folder: Path | str) -> Self:
        """Load an estimator that :meth:`save` wrote; nothing in the files is executed.

        Its predictions are bit-identical (on one machine's CPU, with the same number of threads),
        its parameters are the same, and it can be fitted again.

        Raises
        ------
        ModelFileError
            If a file is missing, damaged, of a newer format or another class, or incomplete.
        """
        folder = Path(folder)
        description = describe_folder(folder)
        found = description.get("class")
        if found != cls.__name__:
            raise ModelFileError(
                f"{folder} holds a {found!r}, not a {cls.__name__}. "
                + (
                    f"Load it with {found}.load or sdlgm.load."
                    if found in NAMES
                    else "This version of sdlgm does not know that class."
                )
            )
        tensors, _ = read_described(folder / _FILES[0], folder / _FILES[1], description)
        with reading(folder):
            description = migrate_estimator(description)
        return cls._from_files(description, tensors, str(folder / _FILES[0]))

    def _to_files(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the description and the tensors, after checking that they can be loaded."""
        name = type(self).__name__
        if not hasattr(self, self._network_attributes[0]):
            raise EstimatorNotFittedError(f"This {name} is not fitted yet: call fit before save.")
        params = self.get_params(deep=False)  # type: ignore[attr-defined]  # scikit-learn's
        left_out = {*params, *self._network_attributes, *self._not_saved}
        fitted = {key: value for key, value in vars(self).items() if key not in left_out}
        values, network = self._describe_network()
        tensors = {_NETWORK + key: value for key, value in network.state_dict().items()}
        description = {
            "format": "sdlgm-estimator",
            "format_version": FORMAT_VERSION,
            "class": name,
            "versions": {"sdlgm": __version__, "torch": str(torch.__version__)},
            "params": {key: pack(params[key], f"params.{key}", tensors) for key in sorted(params)},
            "fitted": {key: pack(fitted[key], f"fitted.{key}", tensors) for key in sorted(fitted)},
            "network": pack(values, "network_values", tensors),
        }
        try:
            self._from_files(description, dict(tensors), "what would be saved")
        except SDLGMError as error:
            raise ModelFileError(
                f"This {name} cannot be saved: its parameters are not those it was fitted with, so "
                f"that its network could not be rebuilt ({error}) Restore them, or fit again."
            ) from error
        return description, tensors

    @classmethod
    def _from_files(
        cls, description: Mapping[str, Any], tensors: dict[str, Tensor], where: str
    ) -> Self:
        """Build an estimator from a checked description and its tensors, which are consumed."""
        with reading(where):
            return cls._build(description, tensors, where)

    @classmethod
    def _build(cls, description: Mapping[str, Any], tensors: dict[str, Tensor], where: str) -> Self:
        params, fitted = (_table(description, name, where) for name in ("params", "fitted"))
        known = cls._get_param_names()  # type: ignore[attr-defined]  # scikit-learn's
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise ModelFileError(f"{where}: {cls.__name__} has no parameters {unknown}.")
        # A parameter that is newer than the file keeps its default.
        estimator = cls(**{key: unpack(value, tensors) for key, value in params.items()})
        for key, value in fitted.items():
            if not _FITTED.fullmatch(key) or hasattr(cls, key) or key in known:
                raise ModelFileError(f"{where}: {key!r} is not a fitted attribute.")
            setattr(estimator, key, unpack(value, tensors))
        estimator._check_fitted_values(where)
        values = unpack(description.get("network"), tensors)

        def new() -> nn.Module:
            try:
                return estimator._restore_network(values)
            except SDLGMError:
                raise
            except Exception as error:
                raise ModelFileError(
                    f"{where} does not describe a network of {cls.__name__} ({error!r})."
                ) from error

        load_weights(new, tensors, where, _NETWORK).eval()
        return estimator

    def _check_fitted_values(self, where: str) -> None:
        """Check fitted attributes from a file that the network or predictions are made with.

        Raises
        ------
        ModelFileError
            If one has another type, or is out of range.
        """
        for name, low in (("n_features_in_", 1), ("seed_", 0), ("n_iter_", 0)):
            require_integer(self, name, where, low=low)
        check("inputs", self.n_features_in_, f"n_features_in_ in {where}")  # type: ignore[attr-defined]


class SavedModelFolder(Saved):
    """``save`` and ``load`` for an estimator with an :class:`~sdlgm.models.SDLGM` in ``model_``."""

    model_: SDLGM
    seed_: int
    n_features_in_: int
    n_iter_: int
    history_: list[dict[str, Any]]
    _network_attributes = ("model_",)

    @neutral()
    def save(self, folder: Path | str, *, overwrite: bool = False) -> str:
        """Save the fitted estimator to a folder, all files at one stroke; return its hash.

        A process that is killed leaves the old files or the new ones. A folder that holds other
        files stays, and the complete new files are renamed into it one after another.

        The folder holds the files of :func:`~sdlgm.models.save_model` as well, so that it can be
        used wherever a model's folder can. The state of the optimiser is not saved.

        Parameters
        ----------
        folder
            The folder; it is created if it does not exist.
        overwrite
            Whether to replace a model or estimator that the folder holds.

        Raises
        ------
        EstimatorNotFittedError
            If it is not fitted.
        ConfigError
            If the folder holds a run, a saved model or estimator without ``overwrite``, or a file
            of another program that would be replaced.
        ModelFileError
            If a parameter has a type that cannot be saved.
        """
        if hasattr(self, "model_"):
            check_savable(self.model_)
        return super().save(folder, overwrite=overwrite)

    def _write(self, folder: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> str:
        write_model(folder, self.model_)
        return super()._write(folder, tensors, description)

    @classmethod
    @neutral()
    def load(cls, folder: Path | str) -> Self:
        """Load an estimator that :meth:`save` wrote, or the model of a run of ``sdlgm fit``.

        For a run, the parameters are the settings of the run that this class has, ``epochs`` is
        ``None``, and there is no ``feature_usage_``. Nothing in the files is executed.

        Raises
        ------
        ModelFileError
            If a file is missing, damaged, of a newer format or another class, or incomplete.
        """
        folder = Path(folder)
        if not (folder / "estimator.json").is_file() and (folder / "config.json").is_file():
            return cls._of_run(folder)
        estimator = super().load(folder)
        model = load_model(folder)
        expected = describe_folder(folder).get("network")
        there, _, _ = read_tensors(folder / "model.safetensors")  # as written, before migration
        if expected != {"dict": {"model_digest": digest(there)}}:
            raise ModelFileError(
                f"{folder / 'model.safetensors'} does not belong to {folder / 'estimator.json'}: "
                "one of them was changed. Restore both from a copy."
            )
        estimator.model_ = model
        return estimator

    @classmethod
    def _of_run(cls, folder: Path) -> Self:
        model = load_model(folder)
        with reading(folder):
            return cls._of_model(folder, model)

    @classmethod
    def _of_model(cls, folder: Path, model: SDLGM) -> Self:
        settings = dataclasses.asdict(model.config)
        seed, steps = 0, 0
        if (folder / "config.yaml").is_file():  # a run, not a model alone or from the Hub
            training = Run.open(folder).config.training
            settings |= dataclasses.asdict(training)
            seed, steps = training.seed, training.iterations
        settings["n_components"] = settings["features"]
        known = cls().get_params()  # type: ignore[attr-defined]  # scikit-learn's
        params = {name: value for name, value in settings.items() if name in known}
        estimator = cls(**params | {"random_state": seed})
        estimator.model_, estimator.seed_ = model, seed
        estimator.n_features_in_ = model.n_inputs
        estimator.history_, estimator.n_iter_ = [], steps
        return estimator

    def _check_fitted_values(self, where: str) -> None:
        super()._check_fitted_values(where)
        check_range(self, self.n_features_in_, where)

    def _describe_network(self) -> tuple[dict[str, Any], nn.Module]:
        # The weights are in the files of the model.
        return {"model_digest": digest(self.model_.state_dict())}, nn.Module()

    def _restore_network(self, values: dict[str, Any]) -> nn.Module:
        return nn.Module()


@neutral()
def load(folder: Path | str) -> SDLGMClassifier | SDLGMCounter | SDLGMTransformer:
    """Load a saved estimator of any class.

    Raises
    ------
    ModelFileError
        If a file is missing, damaged, of a newer format or of an unknown class.
    """
    from sdlgm import estimators  # they import this module

    found = describe_folder(Path(folder)).get("class")
    if not isinstance(found, str) or found not in NAMES:
        raise ModelFileError(
            f"{folder} holds a {found!r}, which this version of sdlgm does not know. Known classes "
            f"are {', '.join(NAMES)}; load a class of your own with its own method load."
        )
    return getattr(estimators, found).load(folder)


def describe_folder(folder: Path) -> dict[str, Any]:
    """Read the description of a saved estimator.

    Raises
    ------
    ModelFileError
        If the folder holds no estimator.
    """
    if not (folder / "estimator.json").is_file():
        hint = "Write one with estimator.save(folder)."
        if (folder / "config.json").is_file():
            hint = "It holds a model: use SDLGMTransformer.load or sdlgm.load."
        raise ModelFileError(f"{folder} holds no saved estimator (no estimator.json). {hint}")
    return read_description(folder / "estimator.json", "sdlgm-estimator", FORMAT_VERSION)


def _check_target(folder: Path, overwrite: bool) -> None:
    if (folder / "config.yaml").exists():
        raise ConfigError(f"{folder} holds a run. Save to another folder.")
    there = [name for name in _FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ConfigError(
            f"{folder} already holds a saved model ({', '.join(there)}). Replace it with "
            "overwrite=True, or save to another folder."
        )
    check_replaceable(folder, there)


def require_integer(
    owner: object, name: str, where: str, low: int = 0, high: float = math.inf
) -> None:
    """Raise :class:`ModelFileError` unless a fitted attribute is an integer in a range."""
    value = getattr(owner, name, None)
    value = value.item() if isinstance(value, np.integer) else value
    if not is_integer(value, low, high):
        raise ModelFileError(f"{where} is damaged: {name} is {str(value)[:80]!r}.")


def _table(description: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    values = description.get(name)
    if not isinstance(values, dict):
        raise ModelFileError(f"{where} does not list its {name}.")
    return values


# --- values as JSON and tensors ---------------------------------------------------------------


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Convert a value to JSON types; its arrays of numbers go into ``tensors``.

    Numbers, strings, ``None``, lists, tuples, dictionaries with keys of strings and integers,
    guarantees, mixed columns, and arrays of numbers or strings can be packed. A type that JSON
    lacks becomes an object with one key that names the type: ``{"tuple": [...]}``, ``{"array":
    [name, type, shape]}`` and so on.

    Parameters
    ----------
    value
        The value to store.
    name
        Its name, for its arrays and the error message.
    tensors
        Dictionary that receives the arrays.

    Raises
    ------
    ModelFileError
        If a value has another type.
    """
    if isinstance(value, np.generic) and value.dtype.kind in _NUMBERS:
        return {"scalar": [value.dtype.name, pack(value.item(), name, tensors)]}
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return str(value)  # also numpy's string type, which compares equal
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}.{place}", tensors) for place, item in enumerate(value)]
        return {"tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {k: pack(v, f"{name}.{k}", tensors) for k, v in value.items()}}
    if isinstance(value, dict) and all(isinstance(key, str | int | np.integer) for key in value):
        pairs = [(str(k) if isinstance(k, str) else int(k), part) for k, part in value.items()]
        return {"pairs": [[k, pack(part, f"{name}.{k}", tensors)] for k, part in pairs]}
    if isinstance(value, np.ndarray):
        return _pack_array(value, name, tensors)
    if isinstance(value, Guarantee):
        own = pack(dataclasses.asdict(value), name, tensors)
        return {"guarantee": [type(value).__name__, own]}
    if isinstance(value, MixedColumns):
        return {"columns": pack(vars(value), name, tensors)}
    raise _unknown(value, name)


def _pack_array(value: NDArray[Any], name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if value.dtype.kind in _NUMBERS:
        try:
            # A copy, which does not change with the original.
            own = np.array(value, value.dtype.newbyteorder("="), order="C")
            tensors[name] = torch.from_numpy(own)
        except TypeError:  # numpy's long doubles
            raise _unknown(value, name) from None
        return {"array": [name, tensors[name].numpy().dtype.name, list(value.shape)]}
    items = value.ravel().tolist()
    if value.dtype.kind in "UO" and all(isinstance(item, str) for item in items):
        kind = "object" if value.dtype.kind == "O" else "str"
        return {"strings": [kind, list(value.shape), items]}
    raise _unknown(value, name)


def _unknown(value: Any, name: str) -> ModelFileError:
    kind = f"{type(value).__name__} of {value.dtype}" if hasattr(value, "dtype") else ""
    return ModelFileError(
        f"{name} cannot be saved: it is a {kind or type(value).__name__}. Only numbers, strings, "
        "None, arrays of numbers or strings, and lists, tuples and dictionaries of these can be."
        + (
            " set_params(random_state=estimator.seed_) gives it the integer that seeded the fit."
            if name == "params.random_state"
            else ""
        )
    )


def unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Restore a value that :func:`pack` converted, taking its arrays out of ``tensors``.

    Raises
    ------
    ModelFileError
        If it is not of the form that :func:`pack` makes, or an array is missing or has another type
        or shape than described.
    """
    if packed is None or isinstance(packed, bool | int | float | str):
        return packed
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    match packed:
        case {"tuple": list(items), **rest} if not rest:
            return tuple(unpack(item, tensors) for item in items)
        case {"dict": dict(items), **rest} if not rest:
            return {key: unpack(item, tensors) for key, item in items.items()}
        case {"pairs": list(pairs), **rest} if not rest and all(map(_is_pair, pairs)):
            return {key: unpack(item, tensors) for key, item in pairs}
    return _unpack_leaf(packed, tensors)


def _unpack_leaf(packed: Any, tensors: dict[str, Tensor]) -> Any:
    """Restore a number that JSON lacks, or an array."""
    match packed:
        case {"float": str(word), **rest} if not rest and word in _SPECIAL:
            return _SPECIAL[word]
        case {"scalar": [str(kind), number], **rest} if not rest:
            value = unpack(number, tensors)
            if isinstance(value, bool | int | float):
                return _dtype(kind, packed).type(value)
        case {"guarantee": [str(name), dict(values)], **rest} if not rest:
            return guarantee_named(name, unpack(values, tensors))
        case {"columns": dict(packed_columns), **rest} if not rest:
            return MixedColumns.restore(unpack(packed_columns, tensors))
        case {"array": [str(name), str(kind), list(shape)], **rest} if not rest:
            return _take(name, _dtype(kind, packed), tuple(shape), tensors)
        case {"strings": ["object" | "str" as kind, list(shape), list(items)], **rest} if not rest:
            if all(isinstance(item, str) for item in items):
                return _strings(kind, shape, items)
    raise ModelFileError(
        f"The file holds {str(packed)[:80]!r}, which is not a value that sdlgm saves."
    )


def _strings(kind: str, shape: list[Any], items: list[str]) -> NDArray[Any]:
    """Return an array of strings; numpy gives each of fixed width that of the longest."""
    if kind == "str":
        size = 4 * len(items) * max(map(len, items), default=0)
        check("text_bytes", size, "The size of an array of fixed-width strings")
    return np.array(items, object if kind == "object" else np.str_).reshape(shape)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str | int)


def _dtype(kind: str, packed: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(kind)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in _NUMBERS:
        raise ModelFileError(
            f"The file holds {str(packed)[:80]!r}, which is not a type of numbers."
        )
    return dtype


def _take(
    name: str, dtype: np.dtype[Any], shape: tuple[Any, ...], tensors: dict[str, Tensor]
) -> NDArray[Any]:
    if name not in tensors:
        raise ModelFileError(f"The tensor {name!r} is missing.")
    values = tensors.pop(name).numpy()
    if values.dtype != dtype or values.shape != shape:
        raise ModelFileError(
            f"The tensor {name!r} is {values.dtype} {values.shape}, not {dtype} {shape}."
        )
    return values
