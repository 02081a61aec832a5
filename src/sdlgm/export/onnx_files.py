"""From a run to an ONNX file, and how near a file is to its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.config import DataConfig
from sdlgm.data import maximum_grey_value
from sdlgm.errors import ConfigError, ModelFileError, SDLGMError
from sdlgm.estimators import SDLGMClassifier
from sdlgm.export.classifier import classifier_graph
from sdlgm.export.graph import require_onnx, write_model
from sdlgm.export.halves import Code, Part, decoder_graph, encoder_graph
from sdlgm.export.quantize import quantize as quantize_model
from sdlgm.models import SavedModel, load_model
from sdlgm.training import Run

__all__ = ["Parity", "compare_encoder", "dense_codes", "export_run", "open_session"]


def export_run(
    run: Run | Path | str,
    out: Path | str,
    *,
    part: Part = "encoder",
    code: Code = "mode",
    quantize: Literal["int8"] | None = None,
) -> Path:
    """Write a part of a run's model to one ONNX file, atomically; return its path.

    Parameters
    ----------
    run
        A finished run, its folder, or the folder of a saved transformer or classifier.
    out
        File to write.
    part, code
        As of :func:`~sdlgm.export.encoder_graph` and :func:`~sdlgm.export.decoder_graph`;
        ``part="classifier"`` is the whole of a saved classifier, see
        :func:`~sdlgm.export.export_classifier`.
    quantize
        ``"int8"`` for weights of 8 bits.

    Raises
    ------
    ConfigError
        If a setting is unknown, or another part than an encoder is asked to choose a code.
    ModelFileError
        If the folder holds no run, an unfinished one, or nothing that has such a part.
    SDLGMError
        If a package is not installed.
    """
    if part not in get_args(Part):
        raise ConfigError(f"part must be one of {', '.join(get_args(Part))}, got {part!r}.")
    if quantize not in (None, "int8"):
        raise ConfigError(f"quantize must be 'int8' or None, got {quantize!r}.")
    if part != "encoder" and code != "mode":
        raise ConfigError(f"A {part} chooses no code: leave out --code, or export the encoder.")
    if part == "classifier" and quantize:
        raise ConfigError(
            "A classifier keeps its weights of 32 bits: its members' matrices are multiplied as "
            "one stack, which has no 8-bit form. Leave out --quantize."
        )
    if part == "classifier":
        folder = run.folder if isinstance(run, Run) else run
        model = classifier_graph(SDLGMClassifier.load(folder))
    elif part == "decoder":
        model = decoder_graph(_model(run)[0])
    else:
        saved, data = _model(run)
        kind = (data and data.binarisation) or "none"
        white = maximum_grey_value(data) if data else 1.0
        model = encoder_graph(saved, code, binarisation=kind, white=white)
    return write_model(quantize_model(model) if quantize else model, out)


def _model(run: Run | Path | str) -> tuple[SavedModel, DataConfig | None]:
    """Return a model, and the data of its run; a model alone has none."""
    if not isinstance(run, Run):
        folder = Path(run)
        if (folder / "config.json").is_file() and not (folder / "config.yaml").is_file():
            return load_model(folder), None
        if (folder / "estimator.json").is_file():
            raise ModelFileError(
                f"{folder} holds an estimator without encoder and decoder. Of a classifier, "
                "export the whole: --part classifier"
            )
        run = Run.open(folder)
    return run.saved, run.data


def open_session(path: Path | str, threads: int = 1) -> Any:
    """Return an ``onnxruntime.InferenceSession`` of a file, on the CPU.

    Raises
    ------
    SDLGMError
        If the package onnxruntime is not installed, or the file cannot be read.
    """
    require_onnx("Running an ONNX file", "onnxruntime")
    import onnxruntime

    if not Path(path).is_file():
        raise SDLGMError(f"{path} does not exist.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base
        raise SDLGMError(f"{path} is no ONNX model that can be run ({error}).") from None


def dense_codes(
    indices: NDArray[np.int64], counts: NDArray[np.int64], features: int
) -> NDArray[np.int64]:
    """Return rows of indices and counts ``(n, L0)`` as codes ``(n, K)``."""
    codes = np.zeros((len(indices), features + 1), np.int64)  # a last column takes what is unused
    np.put_along_axis(codes, np.where(indices < 0, features, indices), counts, axis=1)
    return codes[:, :-1]


class Parity(NamedTuple):
    """How near an encoder's file is to its model in torch, on some rows."""

    n_samples: int
    """Number of rows."""
    presence_difference: float
    """Largest absolute difference of the probabilities that a feature is present."""
    identical: float
    """Share of the rows with the same code."""
    changed_counts: float
    """Mean over rows of the number of features whose count differs."""
    reconstruction_torch: float
    """Minus the log-likelihood of the rows at torch's codes, nats per sample."""
    reconstruction: float
    """The same at the file's codes, decoded by torch."""


@torch.no_grad()
def compare_encoder(saved: SavedModel, path: Path | str, x: Tensor, batch: int = 1000) -> Parity:
    """Compare a ``code="mode"`` encoder's file with its model.

    Parameters
    ----------
    saved
        The model.
    path
        The file.
    x
        Rows ``(n, D)`` as the model reads them: bits, not grey values, where it reads bits.
    batch
        Rows at a time.

    Raises
    ------
    ConfigError
        If the file is no such encoder of this model.
    """
    session = open_session(path)
    about = session.get_modelmeta().custom_metadata_map
    if about.get("code") != "mode" or about.get("model_sha256") != saved.sha256:
        raise ConfigError(f"{path} is no encoder with code = mode of this model.")
    scale = 1.0 if about["binarisation"] == "none" else float(about["white"])
    sums, largest = np.zeros(4), 0.0
    for rows in x.split(batch):
        indices, counts, _, presence = session.run(None, {"x": (rows * scale).numpy()})
        codes = torch.from_numpy(dense_codes(indices, counts, saved.model.config.features)).float()
        posterior = saved.model.posterior(rows)
        there = posterior.presence_probs.numpy()
        largest = max(largest, float(np.abs(there - presence).max()))
        differing = (codes != posterior.mode).sum(1)
        losses = [-saved.model.data_distribution(z).log_prob(rows) for z in (posterior.mode, codes)]
        parts = (differing == 0, differing, *losses)
        sums += [float(part.double().sum()) for part in parts]
    return Parity(len(x), largest, *(sums / len(x)).tolist())
