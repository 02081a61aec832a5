"""Codes of atoms and amplitudes in the telemetry experiment, and their coder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from paper.telemetry import methods
from paper.telemetry.amplitudes import Amplitudes, grid, simple_atoms, stream
from paper.telemetry.methods import Windows

from sdlgm.inference import search_codes

LENGTH, WEIGHT = 16, 4.0


@pytest.fixture
def windows() -> torch.Tensor:
    """Windows with a spike and a step of different heights."""
    source = torch.Generator().manual_seed(0)
    x = 0.1 * torch.randn(300, LENGTH, generator=source)
    rows = torch.arange(300)
    x[rows, torch.randint(LENGTH, (300,), generator=source)] += 5 * torch.randn(
        300, generator=source
    )
    return x + (torch.arange(LENGTH) < 8) * torch.randn(300, 1, generator=source)


def fitted(x: torch.Tensor) -> Amplitudes:
    fit = Amplitudes(simple_atoms(LENGTH), grid(0.7, 8.0), WEIGHT)
    fit.fit(x, 8)
    return fit


def test_simple_atoms_are_distinct_and_of_norm_one() -> None:
    atoms = simple_atoms(LENGTH)
    assert len(atoms) == 16 + 15 + 15 + 7 + 3
    torch.testing.assert_close(atoms.norm(dim=1), torch.ones(len(atoms)))
    products = atoms @ atoms.T - torch.eye(len(atoms))
    assert products.abs().max() < 0.999


def test_grids_are_symmetric_and_reach_the_top() -> None:
    values = grid(0.5, 20.0)
    torch.testing.assert_close(values, -values.flip(0))
    assert values[len(values) // 2] == 0
    assert values[-1] >= 20
    assert (values.diff() >= 0.5).all()


def test_the_model_decodes_and_weighs_codes_as_the_fit_does(windows: torch.Tensor) -> None:
    fit = fitted(windows)
    held = fit.search(windows, 8, 4)
    model, codes = fit.model(), fit.codes(held)
    assert (codes.unflatten(-1, (len(fit.atoms), -1)).sum(-1) <= 1).all()
    torch.testing.assert_close(model.decode(codes), fit.decode(held), atol=1e-5, rtol=1e-4)
    places = torch.arange(len(fit.atoms))
    expected = -fit.lengths[places, held].sum(-1)
    torch.testing.assert_close(model.prior().log_prob(codes), expected, atol=1e-3, rtol=1e-4)


def test_the_search_of_the_library_hardly_improves_the_codes(windows: torch.Tensor) -> None:
    fit = fitted(windows)
    model, codes = fit.model(), fit.codes(fit.search(windows, 8, 10))

    def cost(codes: torch.Tensor) -> float:
        joint = model.data_distribution(codes).log_prob(windows) + model.prior().log_prob(codes)
        return -float(joint.detach().mean())

    improved = search_codes(model, windows, codes, sweeps=10)
    empty = cost(torch.zeros_like(codes))
    assert cost(codes) < empty
    assert cost(codes) - cost(improved) < 0.02 * (empty - cost(codes))


def test_a_stream_takes_about_the_entropy_of_prior_and_means(windows: torch.Tensor) -> None:
    past, test = (
        Windows(np.asarray(part.double()), np.zeros(150, np.int64)) for part in windows.split(150)
    )
    fit = fitted(windows)
    held = fit.search(windows[150:], 8, 4)
    nats = float(fit.lengths[torch.arange(len(fit.atoms)), held].sum())
    expected = nats / np.log(2) / 8 + test.mean_bits(past).sum() / 8
    assert len(stream(fit, held, past, test)) == pytest.approx(expected, rel=0.05)


def test_probabilities_of_the_subsets_of_a_size_sum_to_one() -> None:
    odds = np.array([0.1, 2.0, 0.5, 0.01, 1.0])
    for size in range(6):
        sets = [np.array(s, np.int64) for s in itertools.combinations(range(5), size)]
        total = sum(2 ** -methods._set_bits(odds, one) for one in sets)
        assert total == pytest.approx(1)


def test_subset_code_lengths_are_near_the_entropy_of_sparse_integers() -> None:
    source = np.random.default_rng(0)
    share = source.uniform(0.01, 0.2, 30)
    present = source.random((4000, 30)) < share
    symbols = present * source.choice([-1, 1], (4000, 30))
    none = np.zeros(2000, np.int64)
    bits = methods.subset_bits(symbols[:2000], symbols[2000:], (none, none)).mean()
    entropy = -(share * np.log2(share / 2) + (1 - share) * np.log2(1 - share)).sum()
    assert bits == pytest.approx(entropy, rel=0.03)


def test_empty_windows_cost_little() -> None:
    past, none = np.zeros((200, 40), np.int64), np.zeros(200, np.int64)
    past[::50, 3] = 2
    bits = methods.subset_bits(past, np.zeros((200, 40), np.int64), (none, none))
    assert bits.mean() < 0.1
