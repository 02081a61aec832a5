"""What ``sdlgm info`` says of a saved estimator."""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer

__all__ = ["estimator_lines"]


def estimator_lines(folder: Path) -> Iterator[tuple[str, str]]:
    """Load a saved estimator; yield what there is to say of it, each with what it is about.

    Raises
    ------
    ModelFileError
        If a file is missing, damaged, of a newer format or of an unknown class.
    """
    from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, load
    from sdlgm.estimators.saving import describe_folder
    from sdlgm.models import model_sha256

    estimator, about = load(folder), describe_folder(folder)
    sha = str(about.get("sha256"))
    yield "estimator", f"{folder}, {type(estimator).__name__}"
    yield "columns", _columns(estimator)
    network: Any
    if isinstance(estimator, SDLGMClassifier):
        yield from _labels(estimator)
        network = estimator.network_.model
    elif isinstance(estimator, SDLGMCounter):
        yield from _counts(estimator)
        network = estimator.network_
    else:
        config = estimator.model_.config
        code = f"K = {config.features}, budget L0 = {config.budget}, {config.groups} groups"
        yield "code", f"{code}, likelihood {config.likelihood}"
        network, sha = estimator.model_, model_sha256(estimator.model_)  # that of its codes
    yield "fit", f"{estimator.n_iter_} epochs, random_state {estimator.seed_}"
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    weights = sum(weight.numel() for weight in network.parameters())
    yield "weights", f"{weights:,}, {size:,} bytes, hash {sha[:12]}"
    versions = about.get("versions")
    version = versions.get("sdlgm") if isinstance(versions, dict) else None
    yield "saved by", f"sdlgm {version or 'of an unknown version'}"


def _number_named(number: int, names: Any) -> str:
    """Return how many there are, and the names of the first, if they have some."""
    import numpy as np

    from sdlgm.estimators.frames import shown

    return f"{number} ({'no names' if names is None else shown(np.ravel(names))})"


def _columns(estimator: SDLGMClassifier | SDLGMCounter | SDLGMTransformer) -> str:
    shape: tuple[int, ...] = getattr(estimator, "sample_shape_", ())
    if len(shape) == 2:
        return f"images of {shape[0]} x {shape[1]}"
    names = getattr(estimator, "feature_names_in_", None)
    mixed = getattr(estimator, "columns_", None)
    read = "" if mixed is None else f"; mixed, read as {len(mixed.encoded_names())} columns"
    return _number_named(estimator.n_features_in_, names) + read


def _labels(classifier: SDLGMClassifier) -> Iterator[tuple[str, str]]:
    names = _number_named(classifier.n_labels_, classifier.classes_)
    if not classifier.multilabel_:
        yield "classes", f"{names}, one for each row"
    else:
        yield "labels", names
        yield "sets", f"from {classifier.min_labels_} to {classifier.max_labels_} labels"
        yield "threshold", _threshold(classifier)
    scaling = f", inputs {classifier.inputs_!r}" if hasattr(classifier, "inputs_") else ""
    members = classifier.network_.model.config.members
    yield "model", f"{classifier.variant}, {members} networks{scaling}"


def _threshold(classifier: SDLGMClassifier) -> str:
    """Return how probabilities become sets: by which numbers, and how these were chosen."""
    import numpy as np

    rule, values = classifier.threshold, np.asarray(classifier.threshold_)
    if classifier.decision_ != "threshold":
        return f"none, but {classifier.decision_!r}"
    found = f"{values:.4g}" if values.ndim == 0 else f"{values.min():.4g} to {values.max():.4g}"
    return found if isinstance(rule, numbers.Real) else f"{found}, by {rule!r}"


def _counts(counter: SDLGMCounter) -> Iterator[tuple[str, str]]:
    names = getattr(counter, "target_names_in_", None)
    yield "classes", _number_named(counter.n_classes_, names)
    yield "counts", f"at most {counter.budget_} in all"
    slots = "tied" if type(counter.distribution_).__name__ == "TiedSlots" else "untied"
    yield "model", f"encoder {counter.encoder!r}, {slots} slots"
