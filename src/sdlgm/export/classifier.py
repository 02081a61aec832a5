"""The graph of a fitted classifier: from raw rows to probabilities and labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdlgm.environment import neutral
from sdlgm.errors import ConfigError
from sdlgm.estimators import EstimatorNotFittedError, SDLGMClassifier
from sdlgm.export.code_graph import add_presence
from sdlgm.export.graph import Graph, Value, write_model
from sdlgm.export.networks import add_ensemble, add_ensemble_linear, add_finite, add_log_sigmoid

if TYPE_CHECKING:
    import onnx

    from sdlgm.estimators.member_recalibration import MOST
from sdlgm.estimators.member_recalibration import MOST
from sdlgm.estimators.scaling import Inputs

__all__ = ["classifier_graph", "export_classifier"]


@neutral()
def export_classifier(classifier: SDLGMClassifier, path: Path | str) -> Path:
    """Write a fitted classifier to one ONNX file, atomically; return its path.

    The input is ``x``: raw rows ``(n, D)``, float32 (float64 if float32 would blur a column). The
    graph scales them and holds the training
    values that rank scaling needs. The outputs are ``probabilities`` ``(n, K)``, float32, the mean
    over the members, ``labels`` ``(n, K)``, int64, 0 or 1, by the fitted threshold, minimum and
    maximum number of labels, and ``valid`` ``(n,)``, bool. Where it is false, the row holds a value
    that is not finite; its probabilities are NaN and its labels 0.

    Raises
    ------
    EstimatorNotFittedError
        If it is not fitted.
    ConfigError
        If its sets are not chosen by a threshold.
    SDLGMError
        If the package onnx is not installed.
    """
    return write_model(classifier_graph(classifier), path)


def classifier_graph(classifier: SDLGMClassifier) -> onnx.ModelProto:
    """Return the graph that :func:`export_classifier` writes."""
    if not isinstance(classifier, SDLGMClassifier):
        raise ConfigError(f"Only an SDLGMClassifier can be exported, got {classifier!r:.80}.")
    if not hasattr(classifier, "network_"):
        raise EstimatorNotFittedError("This SDLGMClassifier is not fitted: call fit(X, Y) first.")
    if classifier.decision_ != "threshold":
        raise ConfigError(
            f"A classifier with threshold={classifier.decision_!r} cannot be exported: its sets "
            "need the distribution of their sizes. Choose a threshold by set_threshold, "
            "or fit with one."
        )
    if classifier.columns_ is not None:
        raise ConfigError(
            "A classifier of mixed columns cannot be exported: ONNX has no such tables. Encode X "
            "before fit, for example by a ColumnTransformer, and export what is fitted to numbers."
        )
    network = classifier.network_
    model, config = network.model, network.model.config
    graph = Graph("classifier")
    kind = np.float64 if network.scaling.needs_double else np.float32
    valid, x = add_finite(graph, graph.input("x", kind, classifier.n_features_in_), kind)
    x = _scaled(graph, x, network.scaling)
    # All members read the same rows: (1, n, inputs).
    hidden = add_ensemble(graph, graph("Unsqueeze", x, graph.integers(0)), model.encoder, "encoder")
    features = add_ensemble_linear(graph, hidden, model.feature_head, "feature_head")
    gates = add_ensemble_linear(graph, hidden, model.gate_head, "gate_head")
    if network.likelihood == "relaxed":
        temperature = graph.constant(np.float32(network.temperature), "temperature")
        features, gates = (graph("Div", logits, temperature) for logits in (features, gates))
    log_features = graph("LogSoftmax", features, axis=-1)
    taken = graph("Exp", graph("Add", log_features, add_log_sigmoid(graph, gates)))
    if config.latent_features:
        bounds = (graph.integers(0), graph.integers(config.labels), graph.integers(-1))
        taken = graph("Slice", taken, *bounds)
    proba = add_presence(graph, taken, config.budget)
    if network.recalibration is not None:
        proba = _recalibrated(graph, proba, *network.recalibration)
    proba = graph("ReduceMean", proba, graph.integers(0), keepdims=0)
    finite, proba_32 = add_finite(graph, graph.cast(proba, np.float32))
    valid = graph("And", valid, finite)
    labels = _labels(graph, proba, classifier)
    labels = graph("Where", valid, labels, graph.constant(np.int64(0)))
    proba = graph("Where", valid, proba_32, graph.constant(np.float32(np.nan)))
    graph.output("probabilities", proba, np.float32, config.labels)
    graph.output("labels", labels, np.int64, config.labels)
    graph.output("valid", graph("Squeeze", valid, graph.integers(1)), np.bool_)
    return graph.model(
        {
            "part": "classifier",
            "K": config.labels,
            "L0": config.budget,
            "inputs": classifier.n_features_in_,
            "members": config.members,
            "variant": classifier.variant,
            "min_labels": classifier.min_labels_,
            "max_labels": classifier.max_labels_,
        }
    )


def _recalibrated(graph: Graph, proba: Value, offset: float, slope: float) -> Value:
    """Add the correction of log-odds of :mod:`~sdlgm.estimators.member_recalibration`."""
    number = {name: graph.constant(np.float64(value)) for name, value in
              {"one": 1, "least": 1e-300, "low": -MOST, "high": MOST}.items()}  # fmt: skip
    present = graph("Log", graph("Max", proba, number["least"]))
    absent = graph("Log", graph("Max", graph("Sub", number["one"], proba), number["least"]))
    odds = graph("Clip", graph("Sub", present, absent), number["low"], number["high"])
    scaled = graph("Mul", odds, graph.constant(np.float64(slope)))
    return graph("Sigmoid", graph("Add", scaled, graph.constant(np.float64(offset))))


def _scaled(graph: Graph, x: Value, scaling: Inputs) -> Value:
    """Add the scaling of inputs, :class:`~sdlgm.estimators.scaling.Inputs`."""
    if scaling.sorted is None:
        if not isinstance(scaling.shift, np.ndarray):  # "none"
            return x
        if scaling.logarithms:
            x = _logarithms(graph, x)
        return _standardised(graph, x, scaling.shift, scaling.scale)
    rows = scaling.sorted.shape[0]
    kind = np.float64 if scaling.needs_double else np.float32
    # Twice the mean rank is an integer from 0 to 2n, so everything after it is a table look-up.
    rank = _double_ranks(graph, x, scaling.sorted.astype(kind))
    ranks = np.arange(2 * rows + 1)[:, None] / (2 * rows)
    if not scaling.bins:
        table = graph.constant(scaling._normal(ranks)[:, 0], "normal_quantiles")
        placed = graph("Gather", table, rank)
        return _standardised(graph, placed, scaling.shift, scaling.scale)
    parts = scaling._binned(ranks)  # (2n + 1, bins)
    looked_up = [
        graph("Gather", graph.constant(parts[:, part], f"bin_{part}"), rank)
        for part in range(scaling.bins)
    ]
    placed = graph("Concat", *looked_up, axis=1)
    return _standardised(graph, placed, scaling.bin_shift, scaling.bin_scale)


def _logarithms(graph: Graph, x: Value) -> Value:
    """Add the sign of x times the logarithm of 1 + |x|, in double precision."""
    x = graph.cast(x, np.float64)
    above = graph("Add", graph("Abs", x), graph.constant(np.float64(1)))
    return graph("Mul", graph("Sign", x), graph("Log", above))


def _standardised(graph: Graph, x: Value, shift: Any, scale: Any) -> Value:
    """Centre and scale in double precision, as :func:`~sdlgm.nn.standardise` does."""
    shift = graph.constant(np.asarray(shift, np.float64), "input_shift")
    scale = graph.constant(np.asarray(scale, np.float64), "input_scale")
    x = graph("Div", graph("Sub", graph.cast(x, np.float64), shift), scale)
    return graph.cast(x, np.float32)


def _double_ranks(graph: Graph, x: Value, values: Any) -> Value:
    """Add, for each feature, the numbers of training values below x and up to x.

    A bisection in steps of falling powers of two over all features at once: ``O(D log n)`` per row.
    """
    rows, features = values.shape
    table = graph.constant(values.T.ravel(), "sorted_inputs")
    offset = graph.constant(np.arange(features, dtype=np.int64) * rows - 1)
    last = graph.constant(np.int64(rows))
    found = []
    for passes in ("Less", "LessOrEqual"):
        place = graph.filled(x, (features,), np.int64(0))
        for power in reversed(range(rows.bit_length())):
            tried = graph("Add", place, graph.constant(np.int64(1 << power)))
            within = graph("LessOrEqual", tried, last)
            index = graph("Add", graph("Min", tried, last), offset)
            passed = graph(passes, graph("Gather", table, index), x)
            place = graph("Where", graph("And", within, passed), tried, place)
        found.append(place)
    return graph("Add", *found)


def _labels(graph: Graph, proba: Value, classifier: SDLGMClassifier) -> Value:
    """Add the decision of :func:`~sdlgm.estimators.thresholds.apply_threshold`."""
    low, labels = classifier.min_labels_, classifier.n_labels_
    cap = min(int(classifier.max_labels_), labels)
    never = graph.constant(np.float64(-1))
    above = graph("Greater", proba, graph.constant(np.asarray(classifier.threshold_, np.float64)))
    number = graph("ReduceSum", graph.cast(above, np.int64), graph.integers(1), keepdims=1)

    def best(scores: Value, kept: int, wanted: Value) -> Value:
        """Mark the ``wanted`` highest scores, at most ``kept``; ties go to the lower column."""
        _, places = graph.several("TopK", 2, scores, graph.integers(kept), axis=-1)
        order = graph.constant(np.arange(kept, dtype=np.int64)[None])
        marks = graph.cast(graph("Less", order, wanted), np.int64)
        empty = graph.filled(proba, (labels,), np.int64(0))
        return graph("ScatterElements", empty, places, marks, axis=1)

    chosen = best(graph("Where", above, proba, never), cap, number)
    if low:
        missing = graph("Sub", graph.constant(np.int64(low)), number)
        rest = graph("Where", above, never, proba)
        chosen = graph("Add", chosen, best(rest, low, missing))
    return chosen
