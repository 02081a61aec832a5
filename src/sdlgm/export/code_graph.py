"""The graph of a posterior: its mode, a draw, and codes as rows of indices and counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sdlgm.export.graph import Graph, Value
from sdlgm.export.networks import add_log_sigmoid

__all__ = ["CodeGraph", "add_presence"]


@dataclass(frozen=True)
class CodeGraph:
    """The posterior :func:`~sdlgm.distributions.grouped_gated_multinomial` as a graph."""

    graph: Graph
    """The graph to add operators to."""
    x: Value
    """An input; its first dimension is the number n of samples."""
    features: int
    """Number K of features."""
    budget: int
    """Hard budget L0."""
    groups: int
    """Number G of groups, each of ``K / G`` features and ``L0 / G`` slots."""
    gate_logits: Value | None
    """Shape ``(n, G)``; ``None`` if all gates are open."""
    feature_logits: Value | None
    """Shape ``(n, K)``; ``None`` if each group has one feature."""
    valid: Value
    """Whether a row has a code, bool ``(n, 1)``: its values and its logits are finite."""

    @property
    def width(self) -> int:
        """Number of features of a group."""
        return self.features // self.groups

    @property
    def slots(self) -> int:
        """Number of slots of a group."""
        return self.budget // self.groups

    def outcomes(self, uniforms: Value | None = None) -> Value:
        """Return the outcomes of all slots of a code, ``(n, G, L0/G)``.

        The code is a most probable one or, with uniform numbers ``(n, L0)``, a draw.
        """
        if uniforms is None:
            return self._mode(self._taken())
        return self._sample(self.graph("Exp", self._log_features()), self._log_open(), uniforms)

    def dense(self, outcomes: Value) -> Value:
        """Return outcomes of slots as counts of features, float32 ``(n, K)``."""
        graph = self.graph
        features = graph.constant(np.arange(self.width, dtype=np.int64))
        held = graph("Equal", graph("Unsqueeze", outcomes, _last(graph)), features)
        counts = graph("ReduceSum", graph.cast(held, np.float32), graph.integers(-2), keepdims=0)
        return graph.reshape(counts, -1, self.features)

    def add_outputs(self, outcomes: Value) -> None:
        """Add all outputs of an encoder, given the outcomes of all slots."""
        graph, taken = self.graph, self._taken()
        indices, counts, active = self._pack(outcomes)
        presence = add_presence(graph, taken, self.slots)
        presence = graph.cast(graph.reshape(presence, -1, self.features), np.float32)
        valid = graph("Squeeze", self.valid, graph.integers(1))
        zero = graph.constant(np.int64(0))
        indices = graph("Where", self.valid, indices, graph.constant(np.int64(-1)))
        graph.output("indices", indices, np.int64, self.budget)
        graph.output("counts", graph("Where", self.valid, counts, zero), np.int64, self.budget)
        graph.output("n_active", graph("Where", valid, active, zero), np.int64)
        presence = graph("Where", self.valid, presence, graph.constant(np.float32(np.nan)))
        graph.output("presence", presence, np.float32, self.features)
        graph.output("valid", valid, np.bool_)

    def _taken(self) -> Value:
        """Return the probabilities that a slot holds each feature, ``(n, G, K/G)``."""
        log_features, log_open = self._log_features(), self._log_open()
        both = log_features if log_open is None else self.graph("Add", log_features, log_open)
        return self.graph("Exp", both)

    def _log_open(self) -> Value | None:
        if self.gate_logits is None:
            return None
        log_open = add_log_sigmoid(self.graph, self.gate_logits)
        return self.graph.reshape(log_open, -1, self.groups, 1)

    def _log_features(self) -> Value:
        if self.feature_logits is None:
            return self.graph.filled(self.x, (self.groups, 1), np.float32(0))
        logits = self.graph.reshape(self.feature_logits, -1, self.groups, self.width)
        return self.graph("LogSoftmax", logits, axis=-1)

    def _mode(self, taken: Value) -> Value:
        """Return the outcomes of all slots of a most probable code: ``(n, G, L0/G)``.

        As in ``GatedMultinomial.mode``, each slot goes to the outcome k with the largest gain
        ``p_k / j``, where it is the j-th slot of k. The gains of an outcome decrease, so these are
        the largest of all gains, and at most as many outcomes as slots can get one.
        """
        graph = self.graph
        probs = taken
        if self.gate_logits is not None:
            closed = graph("Exp", add_log_sigmoid(graph, self.gate_logits, of_minus=True))
            probs = graph("Concat", taken, graph.reshape(closed, -1, self.groups, 1), axis=-1)
        if self.slots == 1:
            return graph("ArgMax", probs, axis=-1, keepdims=1)
        kept = min(self.slots, self.width + (self.gate_logits is not None))
        values, places = graph.several("TopK", 2, probs, graph.integers(kept), axis=-1)
        share = graph.constant(np.arange(1, self.slots + 1, dtype=np.float64))
        # In float64, as in torch: equal gains stay equal, and the lower index comes first.
        gains = graph(
            "Div", graph("Unsqueeze", graph.cast(values, np.float64), _last(graph)), share
        )
        gains = graph.reshape(gains, -1, self.groups, kept * self.slots)
        _, best = graph.several("TopK", 2, gains, graph.integers(self.slots), axis=-1)
        rank = graph("Div", best, graph.integers(self.slots))
        return graph("GatherElements", places, rank, axis=-1)

    def _sample(self, features: Value, log_open: Value | None, uniforms: Value) -> Value:
        """Return the outcomes of all slots of a draw: ``(n, G, L0/G)``.

        As in ``GatedMultinomial.sample``, in float64: one uniform number per slot decides whether
        the gate is open and, by inversion, which feature the slot holds.
        """
        graph = self.graph
        place = graph.reshape(uniforms, -1, self.groups, self.slots)
        cdf = graph("CumSum", graph.cast(features, np.float64), graph.constant(np.int64(-1)))
        last = graph("Gather", cdf, graph.integers(self.width - 1), axis=-1)
        opened = None
        if log_open is not None:
            open_prob = graph.cast(graph("Exp", log_open), np.float64)
            opened = graph("Less", place, open_prob)
            last = graph("Div", last, open_prob)
        place = graph("Unsqueeze", graph("Mul", place, last), _last(graph))
        below = graph("LessOrEqual", graph("Unsqueeze", cdf, graph.integers(-2)), place)
        found = graph("ReduceSum", graph.cast(below, np.int64), _last(graph), keepdims=0)
        found = graph("Min", found, graph.constant(np.int64(self.width - 1)))
        if opened is None:
            return found
        return graph("Where", opened, found, graph.constant(np.int64(self.width)))

    def _pack(self, outcomes: Value) -> tuple[Value, Value, Value]:
        """Turn outcomes of slots into indices, counts ``(n, L0)`` and the number of features."""
        graph, budget = self.graph, self.budget
        first = np.arange(self.groups, dtype=np.int64)[:, None] * self.width
        taken = graph("Less", outcomes, graph.constant(np.int64(self.width)))
        feature = graph("Add", outcomes, graph.constant(first))
        if self.slots == 1:  # already ascending, each feature at most once
            feature = graph.reshape(feature, -1, budget)
            number = graph.reshape(graph.cast(taken, np.int64), -1, budget)
        else:
            index = graph("Where", taken, feature, graph.constant(np.int64(self.features)))
            number = _add_up(
                graph,
                graph.filled(self.x, (self.features + 1,), np.int64(0)),
                graph.reshape(index, -1, budget),
                graph.filled(self.x, (budget,), np.int64(1)),
            )
            number = _leading(graph, number, self.features)
            feature = graph.constant(np.arange(self.features, dtype=np.int64)[None])
        present = graph("Greater", number, graph.constant(np.int64(0)))
        there = graph.cast(present, np.int64)
        # The place of each present feature; absent ones go to an extra last column and add 0.
        place = graph("CumSum", there, graph.constant(np.int64(1)), exclusive=1)
        place = graph("Where", present, place, graph.constant(np.int64(budget)))
        empty = graph.filled(self.x, (budget + 1,), np.int64(0))
        one = graph.constant(np.int64(1))
        indices = _add_up(graph, empty, place, graph("Mul", graph("Add", feature, one), there))
        indices = graph("Sub", _leading(graph, indices, budget), one)
        counts = number
        counts = _leading(graph, _add_up(graph, empty, place, counts), budget)
        return indices, counts, graph("ReduceSum", there, graph.integers(1), keepdims=0)


def add_presence(graph: Graph, taken: Value, slots: int) -> Value:
    r"""Add :math:`1 - (1 - \lambda\pi_k)^{L_0}` of ``taken`` :math:`= \lambda\pi_k`, in float64.

    ``taken`` is clamped as in ``GatedMultinomial.absence_log_probs``.
    """
    cap = graph.constant(np.float32(1 - np.finfo(np.float32).eps))
    taken = graph.cast(graph("Min", taken, cap), np.float64)
    if slots == 1:
        return taken
    one = graph.constant(np.float64(1))
    absent = graph("Pow", graph("Sub", one, taken), graph.constant(np.float64(slots)))
    return graph("Sub", one, absent)


def _add_up(graph: Graph, start: Value, index: Value, values: Value) -> Value:
    return graph("ScatterElements", start, index, values, axis=1, reduction="add")


def _leading(graph: Graph, value: Value, number: int) -> Value:
    return graph("Slice", value, graph.integers(0), graph.integers(number), graph.integers(1))


def _last(graph: Graph) -> Value:
    return graph.integers(-1)
