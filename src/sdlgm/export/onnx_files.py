"""Write an ONNX file of a run, run it, and compare it with its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sdlgm.config import DataConfig
from sdlgm.data import maximum_grey_value
from sdlgm.distributions import greedy
from sdlgm.environment import neutral
from sdlgm.errors import ConfigError, ModelFileError, SDLGMError, warn
from sdlgm.estimators import SDLGMClassifier
from sdlgm.export.classifier import classifier_graph
from sdlgm.export.graph import require_onnx, write_model
from sdlgm.export.model_graphs import Code, Part, decoder_graph, encoder_graph
from sdlgm.export.quantize import quantize as quantize_model
from sdlgm.folders import holds_estimator, holds_model, holds_run
from sdlgm.inference import default_code
from sdlgm.migration import migrate_onnx
from sdlgm.models import SDLGM, load_model, model_sha256
from sdlgm.outputs import check_output
from sdlgm.progress import progress_bar
from sdlgm.training import Run

if TYPE_CHECKING:
    import onnx

__all__ = ["Parity", "compare_encoder", "dense_codes", "export_run", "open_session"]


@neutral()
def export_run(
    run: Run | Path | str,
    out: Path | str,
    *,
    part: Part = "encoder",
    code: Code = "mode",
    quantize: Literal["int8"] | None = None,
    progress: bool = False,
) -> Path:
    """Write a part of a run's model to one ONNX file, atomically; return its path.

    Parameters
    ----------
    run
        A finished run, its folder, or the folder of a saved transformer or classifier.
    out
        File to write.
    part
        ``"encoder"``, ``"decoder"``, or ``"classifier"`` for a whole saved classifier, see
        :func:`~sdlgm.export.export_classifier`.
    code
        How the encoder chooses a code, see :func:`~sdlgm.export.encoder_graph`.
    quantize
        ``"int8"`` for 8-bit weights.
    progress
        Whether to show a progress bar on standard error.

    Raises
    ------
    ConfigError
        If a setting is unknown, ``code`` is given for another part than the encoder, or ``out`` is
        a part of the run.
    ModelFileError
        If the folder holds no finished run, or nothing with such a part.
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
            "A classifier cannot be quantised: its members' matrices are multiplied in one batch, "
            "for which ONNX has no 8-bit operator. Leave out --quantize."
        )
    check_output(out, [run.folder if isinstance(run, Run) else run])
    with progress_bar("exporting", 3, progress) as update:
        graph = _graph(run, part, code)
        update(1, {})
        graph = quantize_model(graph) if quantize else graph
        update(2, {})
        path = write_model(graph, out)
        update(3, {})
    return path


def _graph(run: Run | Path | str, part: Part, code: Code) -> onnx.ModelProto:
    """Return the graph of a part of a run's model, or of a saved classifier."""
    if part == "classifier":
        return classifier_graph(SDLGMClassifier.load(run.folder if isinstance(run, Run) else run))
    return decoder_graph(_model(run)[0]) if part == "decoder" else _encoder(run, code)


def _encoder(run: Run | Path | str, code: Code) -> onnx.ModelProto:
    """Return the encoder's graph, with the binarisation of the run's data."""
    model, data = _model(run)
    if default_code(model.config) == "search":
        warn(
            "An exported encoder takes codes from the posterior. This model's codes are searched "
            "for by default, which gives smaller errors. Codes of the file are those of "
            f"encode with --code {code}."
        )
    if data is None:
        return encoder_graph(model, code)
    return encoder_graph(
        model,
        code,
        binarisation=data.binarisation or "none",
        maximum_grey_value=maximum_grey_value(data),
    )


def _model(run: Run | Path | str) -> tuple[SDLGM, DataConfig | None]:
    """Return a model and its run's data, or ``None`` for a model without a run."""
    if not isinstance(run, Run):
        folder = Path(run)
        if holds_model(folder) and not holds_run(folder):
            return load_model(folder), None
        if holds_estimator(folder):
            raise ModelFileError(
                f"{folder} holds an estimator without encoder and decoder. Export a whole "
                "classifier with --part classifier."
            )
        run = Run.open(folder)
    return run.model, run.config.data


def open_session(path: Path | str, threads: int = 1) -> Any:
    """Open a file as an ``onnxruntime.InferenceSession`` on the CPU.

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
    except Exception as error:  # onnxruntime's errors have no common base
        raise SDLGMError(f"{path} is not an ONNX model that can be run ({error}).") from None


def dense_codes(
    indices: NDArray[np.int64], counts: NDArray[np.int64], features: int
) -> NDArray[np.int64]:
    """Return rows of indices and counts ``(n, L0)`` as codes ``(n, K)``."""
    codes = np.zeros(
        (len(indices), features + 1), np.int64
    )  # an extra last column takes unused entries
    np.put_along_axis(codes, np.where(indices < 0, features, indices), counts, axis=1)
    return codes[:, :-1]


class Parity(NamedTuple):
    """Differences between an encoder's file and its model in torch, on some rows."""

    n_samples: int
    """Number of rows."""
    presence_difference: float
    """Largest absolute difference of the presence probabilities."""
    identical: float
    """Share of rows with the same code."""
    changed_counts: float
    """Mean number of features per row whose count differs."""
    reconstruction_torch: float
    """Minus the log-likelihood of the rows given torch's codes, nats per sample."""
    reconstruction: float
    """The same given the file's codes, decoded by torch."""


@neutral()
@torch.no_grad()
def compare_encoder(model: SDLGM, path: Path | str, x: Tensor, batch: int = 1000) -> Parity:
    """Compare a ``code="mode"`` encoder's file with its model.

    Parameters
    ----------
    model
        The model.
    path
        The file.
    x
        Rows ``(n, D)`` as the model reads them: bits, not grey values, for a model of bits.
    batch
        Number of rows at a time.

    Raises
    ------
    ConfigError
        If the file is not such an encoder of this model.
    """
    session = open_session(path)
    about = migrate_onnx(session.get_modelmeta().custom_metadata_map)
    if about.get("code") != "mode" or about.get("model_sha256") != model_sha256(model):
        raise ConfigError(f"{path} is not an encoder of this model with code = 'mode'.")
    scale = 1.0 if about["binarisation"] == "none" else float(about["maximum_grey_value"])
    double = session.get_inputs()[0].type == "tensor(double)"
    kind = torch.float64 if double else torch.float32
    sums, largest = np.zeros(4), 0.0
    for rows in x.split(batch):
        names = ["indices", "counts", "presence"]
        indices, counts, presence = session.run(names, {"x": (rows.to(kind) * scale).numpy()})
        codes = torch.from_numpy(dense_codes(indices, counts, model.config.features)).float()
        posterior = greedy(model.posterior(rows))
        there = posterior.presence_probs.numpy()
        largest = max(largest, float(np.abs(there - presence).max()))
        differing = (codes != posterior.mode).sum(1)
        losses = [-model.data_distribution(z).log_prob(rows) for z in (posterior.mode, codes)]
        parts = (differing == 0, differing, *losses)
        sums += [float(part.double().sum()) for part in parts]
    return Parity(len(x), largest, *(sums / len(x)).tolist())
