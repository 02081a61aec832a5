"""Convolutional encoders: shapes, initial weights, columns."""

from __future__ import annotations

import pytest
import torch

from sdlgm.nn.convolutional import ColumnEncoder, convolutions, split_columns


@pytest.mark.parametrize("shape", [(28, 28), (28, 140), (8, 8), (5, 3), (1, 1)])
@pytest.mark.parametrize("channels", [(4, 8, 8), (4,), ()])
def test_encoders_accept_images_of_any_size(
    shape: tuple[int, int], channels: tuple[int, ...], generator: torch.Generator
) -> None:
    encoder = convolutions(shape, channels, 6, generator)
    assert encoder(torch.rand(3, *shape)).shape == (3, 6)
    assert encoder.training


def test_weights_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    one, two, other = (
        convolutions((9, 9), (4, 4), 5, torch.Generator().manual_seed(seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["1.weight"], other["1.weight"])


def test_a_new_encoder_has_untouched_running_averages(
    generator: torch.Generator,
) -> None:
    state = convolutions((9, 9), (4,), 5, generator).state_dict()
    assert torch.equal(state["2.running_mean"], torch.zeros(4))
    assert torch.equal(state["2.running_var"], torch.ones(4))


def test_images_are_split_into_adjacent_columns(generator: torch.Generator) -> None:
    images = torch.rand(2, 4, 15, generator=generator)
    parts = split_columns(images, 5)
    assert parts.shape == (2, 5, 4, 3)
    torch.testing.assert_close(parts[:, 1], images[:, :, 3:6])


def test_a_column_encoder_encodes_each_column_independently(generator: torch.Generator) -> None:
    inner = convolutions((8, 6), (4, 4), 3, generator).eval()
    encoder = ColumnEncoder(inner, 6)
    images = torch.rand(2, 8, 24, generator=generator)
    outputs = encoder(images)
    assert outputs.shape == (2, 4, 3)
    torch.testing.assert_close(outputs[:, 2], inner(images[:, :, 12:18]))
    assert encoder(images[:, :, :6]).shape == (2, 1, 3)
