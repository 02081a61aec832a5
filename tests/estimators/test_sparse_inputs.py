"""Sparse rows: products with non-zeros alone, and a first layer that is trained by lines."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from sdlgm.estimators import SDLGMClassifier, label_inputs, label_network
from sdlgm.estimators.label_parameters import chosen_effort
from sdlgm.estimators.unit_adam import SWEEP, LazyUnitAdam, UnitAdam
from sdlgm.nn import EnsembleLinear
from sdlgm.nn.sparse_rows import SparseRows

SOURCE = np.random.default_rng(0)
WORDS = sp.csr_array(sp.random_array((120, 300), density=0.02, format="csr", rng=SOURCE))
LABELS = (WORDS @ SOURCE.normal(size=(300, 4)) > 0.1).astype(int)


def fitted(monkeypatch, share, **settings):
    """Fit with the first layer trained by lines, or not."""
    monkeypatch.setattr(label_inputs, "MOST_COLUMNS", share)
    monkeypatch.setattr(label_inputs, "MOST_NON_ZERO", share)
    values = {"members": 3, "folds": 3, "epochs": 4, "hidden": (8,), "random_state": 0, **settings}
    model = SDLGMClassifier(**values)
    if model.epochs is None:
        for start in (0, 60):
            model.partial_fit(WORDS[start : start + 60], LABELS[start : start + 60])
        return model
    return model.fit(WORDS, LABELS)


def adams(*parameters):
    """Return an AdamW for each parameter, which keeps the state of what trains it."""
    return [torch.optim.AdamW([each], lr=1e-2) for each in parameters]


def random_weights(source):
    dense = torch.nn.Parameter(torch.randn(5, 8, 3, generator=source))
    return dense, torch.nn.Parameter(dense.detach().clone())


def found(unit, lines):
    """Return lines of weights ``(members, inputs, units)`` as products with rows of one 1."""
    members, inputs, units = unit.parameter.shape
    rows = torch.zeros(members * inputs, inputs)
    rows[lines, lines % inputs] = 1
    rows = rows.view(members, inputs, inputs)
    return unit.multiply(rows, unit.parameter).view(-1, units)[lines]


def taken(unit, lines):
    """Return lines as products with sparse rows of one 1."""
    number = torch.arange(len(lines))
    rows = SparseRows((1, len(lines)), number, torch.ones(len(lines)), number)
    return unit.multiply(rows, unit.take(lines)).view(len(lines), -1)


def step_along(unit, gradient, rate):
    """Take a step with a gradient of the weights."""
    (found(unit, torch.arange(gradient[..., 0].numel())) * gradient.flatten(0, 1)).sum().backward()
    unit.step(rate)


def test_lines_that_are_brought_up_to_date_have_the_weights_of_the_whole_layer():
    source = torch.Generator().manual_seed(0)
    dense, lazy = random_weights(source)
    optimisers = adams(dense, lazy)
    for _ in range(2):  # the second training continues the first
        whole, lines = UnitAdam(dense), LazyUnitAdam(lazy)
        whole.start(optimisers[0], 0.1)
        lines.start(optimisers[1], 0.1)
        for step in range(SWEEP + 22):
            rate = 1e-2 * (1 + math.cos(step / 50)) / 2
            chosen = torch.randperm(40, generator=source)[: 1 + step % 4].sort().values
            goal = torch.randn(len(chosen), 3, generator=source)
            (found(whole, chosen) - goal).square().sum().backward()
            whole.step(rate)
            (taken(lines, chosen) - goal).square().sum().backward()
            lines.step(rate)
        whole.finish()
        lines.finish()
        torch.testing.assert_close(lazy, dense, rtol=1e-4, atol=1e-5)
    states = [each.state[p] for each, p in zip(optimisers, (dense, lazy), strict=True)]
    for name in ("step", "exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(states[0][name], states[1][name], rtol=1e-4, atol=1e-6)


def test_a_mean_square_of_a_unit_is_the_mean_over_its_inputs():
    source = torch.Generator().manual_seed(1)
    weights, same = random_weights(source)
    optimisers = adams(weights, same)
    unit = UnitAdam(weights)
    unit.start(optimisers[0], 0.0)
    optimisers[1].param_groups[0].update(weight_decay=0.0)
    # Gradients of one size for all inputs of a unit: then Adam is the same.
    for step in range(3):
        signs = torch.randn(5, 8, 3, generator=source).sign()
        same.grad = signs * (1 + step) * torch.tensor([0.1, 1.0, 5.0])
        step_along(unit, same.grad, 1e-2)
        optimisers[1].step()
    torch.testing.assert_close(weights, same)


def test_weights_of_a_unit_move_in_proportion_to_their_gradients():
    weights = torch.nn.Parameter(torch.zeros(1, 2, 1))
    unit = UnitAdam(weights)
    unit.start(*adams(weights), 0.0)
    for _ in range(20):
        step_along(unit, torch.tensor([[[1.0], [0.01]]]), 1e-3)
    often, rarely = weights.detach().flatten().abs().tolist()
    assert rarely == pytest.approx(0.01 * often)
    assert often == pytest.approx(20 * 1e-3 * math.sqrt(2), rel=1e-3)  # v is the mean of 1 and 1e-4


def test_a_layer_multiplies_the_non_zeros_of_each_member():
    layer = EnsembleLinear(2, 4, 20, torch.Generator().manual_seed(0))
    x = torch.zeros(2, 3, 4)
    x[0, 0, 1], x[0, 2, 3], x[1, 0, 0], x[1, 0, 2] = 2.0, -1.0, 3.0, 0.5
    # Row 1 of the first member, and rows 1 and 2 of the second, are empty.
    lines, values = torch.tensor([1, 3, 4, 6]), torch.tensor([2.0, -1.0, 3.0, 0.5])
    rows = SparseRows((2, 3), lines, values, torch.tensor([0, 1, 1, 2, 4, 4]))
    torch.testing.assert_close(layer(rows), layer(x))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"inputs": "standard", "input_dropout": 0.0},
        {"patience": 2, "learning_rate": 0.05, "epochs": 8},
        {"epochs": None},
    ],
    ids=["fit", "standard", "patience", "partial_fit"],
)
def test_training_by_lines_or_products_equals_training_of_the_whole_layer(monkeypatch, settings):
    models = [fitted(monkeypatch, share, **settings) for share in (2.0, -1.0)]
    monkeypatch.setattr(label_network, "sparse_inputs", lambda *_: None)
    models.append(fitted(monkeypatch, -1.0, **settings))
    losses = [[epoch["loss"] for epoch in model.history_] for model in models]
    found = [model.predict_proba(WORDS) for model in models]
    for other in (0, 1):
        np.testing.assert_allclose(losses[other], losses[2], rtol=1e-4)
        np.testing.assert_allclose(found[other], found[2], rtol=1e-3, atol=1e-4)


def test_rows_stored_as_dense_train_as_sparse_rows_do():
    sparse, dense = (
        SDLGMClassifier(members=2, folds=2, epochs=4, random_state=0).fit(rows, LABELS)
        for rows in (WORDS, WORDS.toarray())
    )
    np.testing.assert_allclose(
        dense.predict_proba(WORDS.toarray()), sparse.predict_proba(WORDS), rtol=1e-5, atol=1e-6
    )


def test_training_by_lines_is_chosen_where_few_columns_occur_in_a_batch():
    model = SDLGMClassifier(members=2, folds=2, epochs=1, hidden=(4,), random_state=0)
    network = model.fit(WORDS, LABELS).network_
    cpu = torch.device("cpu")

    def chosen(rows, batch):
        inputs = label_inputs.sparse_inputs(rows, network.scaling, network.model, cpu, batch)
        return type(inputs.weights)

    assert chosen(WORDS, 8) is LazyUnitAdam
    assert chosen(WORDS.toarray(), 8) is LazyUnitAdam
    assert chosen(WORDS, 120) is UnitAdam  # nearly all columns occur


def test_inputs_that_are_dropped_or_noisy_can_be_trained_on_sparse_rows():
    for settings in ({"input_dropout": 0.5}, {"input_noise": 0.1}, {"hidden": ()}):
        model = SDLGMClassifier(members=2, folds=2, epochs=2, random_state=0, **settings)
        assert np.isfinite(model.fit(WORDS, LABELS).predict_proba(WORDS)).all()


def test_rows_that_are_mostly_zero_take_fewer_epochs_of_another_optimiser():
    dense = WORDS.toarray()
    settings = {"hidden": (2,), "batch_size": 120, "random_state": 0}
    for rows in (WORDS, dense):
        model = SDLGMClassifier(**settings).fit(rows, LABELS)
        assert (model.n_iter_, model.network_.by_unit) == (30, True)
    other = SDLGMClassifier(epochs=2, **settings).fit(dense + 1, LABELS)
    assert (other.n_iter_, other.network_.by_unit) == (2, False)


def test_a_pass_over_more_rows_keeps_the_optimiser():
    model = SDLGMClassifier(hidden=(4,), random_state=0).partial_fit(WORDS, LABELS)
    model.partial_fit(WORDS.toarray() + 1, LABELS)
    assert model.network_.by_unit


def test_a_penalty_makes_weights_small():
    def norm(**settings):
        model = SDLGMClassifier(
            hidden=(4,), epochs=18, learning_rate=0.05, random_state=0, **settings
        )
        return model.fit(WORDS.toarray() + 1, LABELS).network_.model.feature_head.weight.norm()

    assert norm(l2=1.0) < 0.5 * norm() == 0.5 * norm(l2=0.0)


@pytest.mark.parametrize(
    ("rows", "labels", "size"),
    [(60, 4, 32), (960, 4, 64), (3_839, 4, 128), (100_000, 4, 256), (100_000, 100_000, 32)],
)
def test_batches_of_rows_that_are_mostly_zero_grow_with_their_number(rows, labels, size):
    def chosen(mostly_zero, **given):
        values = SDLGMClassifier(**given).get_params()
        return chosen_effort(values, (rows, labels), mostly_zero, one_pass=False).batch_size

    assert (chosen(True), chosen(False), chosen(True, batch_size=7)) == (size, 32, 7)


@pytest.mark.parametrize("share", [2.0, -1.0], ids=["lines", "products"])
def test_rows_without_any_non_zero_can_be_trained_on(monkeypatch, share):
    monkeypatch.setattr(label_inputs, "MOST_COLUMNS", share)
    rows = sp.csr_array((np.ones(1), ([0], [0])), (120, 300))
    model = SDLGMClassifier(members=2, folds=2, epochs=2, batch_size=8, random_state=0)
    assert np.isfinite(model.fit(rows, LABELS).predict_proba(rows)).all()
