"""Encoders and decoders as ONNX: the same numbers as torch, for every family of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import tiny_model
from sdlgm.distributions import greedy
from sdlgm.errors import ConfigError, SDLGMError
from sdlgm.export import (
    decoder_graph,
    dense_codes,
    encoder_graph,
    open_session,
    quantize,
    write_model,
)
from sdlgm.models import SDLGM

FAMILIES: dict[str, dict[str, Any]] = {
    "one group": {"features": 5, "budget": 4, "groups": 1},
    "more slots than features": {"features": 2, "budget": 6, "groups": 1},
    "two slots a group": {"features": 12, "budget": 6, "groups": 3},
    "a slot a group": {"features": 12, "budget": 4, "groups": 4},
    "open gates": {"features": 12, "budget": 4, "groups": 4, "gates": "open"},
    "open gates, one group": {"features": 6, "budget": 3, "groups": 1, "gates": "open"},
    "bits": {"features": 6, "budget": 6, "groups": 6},
    "binomial": {"features": 3, "budget": 6, "groups": 3},
    "joint gates": {"features": 12, "budget": 6, "groups": 3, "joint_gates": True},
    "shared trunk": {"features": 6, "budget": 3, "groups": 3, "shared_trunk": True},
    "no hidden layers": {"features": 6, "budget": 3, "encoder_hidden": (), "sparsity_hidden": ()},
    "residual": {"features": 6, "budget": 3, "encoder_hidden": (8, 8), "residual": True},
    "residual from the data on": {
        "features": 6,
        "budget": 3,
        "encoder_hidden": (5, 5),
        "residual": True,
    },
    "plain": {"features": 6, "budget": 3, "activation": "relu", "normalisation": "none"},
    "silu": {"features": 6, "budget": 3, "activation": "silu"},
    "gaussian": {"features": 6, "budget": 3, "likelihood": "gaussian", "activation": "tanh"},
    "poisson": {"features": 6, "budget": 3, "likelihood": "poisson"},
    "categorical": {"features": 6, "budget": 3, "likelihood": "categorical"},
    "levels": {"features": 12, "budget": 4, "groups": 4, "levels": 2},
    "levels of several slots": {
        "features": 12, "budget": 8, "groups": 4, "levels": 2, "level_hidden": (8,),
        "joint_gates": True, "residual": True, "shared_trunk": True,
    },
    "levels of bits": {"features": 6, "budget": 6, "groups": 6, "levels": 3},
    "levels of open gates": {
        "features": 12, "budget": 4, "groups": 4, "levels": 4, "gates": "open",
    },
    "levels of real numbers": {
        "features": 12, "budget": 4, "groups": 4, "levels": 2, "likelihood": "gaussian",
        "level_hidden": (5,), "residual": True,
    },
}  # fmt: skip


def model_of(family: str, spread: float = 4.0) -> SDLGM:
    """A tiny model of a family, with weights that make posteriors far from flat."""
    model = tiny_model(5, **FAMILIES[family]).eval()
    with torch.no_grad():
        for name in ("feature_head", "gate_head", "output_head"):
            if hasattr(model, name):
                getattr(model, name).weight *= spread
    return model


def rows_for(model: SDLGM, number: int, generator: torch.Generator) -> torch.Tensor:
    if model.config.likelihood == "gaussian":
        return torch.randn(number, 5, generator=generator) * 3
    return torch.randint(0, 2, (number, 5), generator=generator).float()


def session_of(graph: Any, folder: Path) -> Any:
    return open_session(write_model(graph, folder / "m.onnx"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mode_is_that_of_torch(family: str, tmp_path: Path, generator: torch.Generator) -> None:
    model = model_of(family)
    session = session_of(encoder_graph(model), tmp_path)
    for number in (1, 7, 200):
        x = rows_for(model, number, generator)
        indices, counts, active, presence, _ = session.run(None, {"x": x.numpy()})
        assert indices.shape == counts.shape == (number, model.config.budget)
        assert {a.dtype for a in (indices, counts, active)} == {np.dtype(np.int64)}
        with torch.no_grad():
            posterior = model.posterior(x)
            along = greedy(posterior)
        np.testing.assert_allclose(presence, along.presence_probs, atol=1e-5)
        codes = dense_codes(indices, counts, model.config.features)
        mode = posterior.mode.numpy()
        same = (codes == mode).all(1)
        # Codes may differ where two are as probable, up to the rounding of float32.
        with torch.no_grad():
            loss = posterior.log_prob(posterior.mode) - posterior.log_prob(
                torch.from_numpy(codes).float()
            )
        assert (same | (loss.abs().numpy() < 1e-4)).all()
        assert same.mean() >= 0.98
        used = indices >= 0
        np.testing.assert_array_equal(used, np.arange(used.shape[1]) < active[:, None])
        np.testing.assert_array_equal(used, counts > 0)
        assert (np.diff(indices, axis=1)[used[:, 1:]] > 0).all()
    assert model.config.gates == "open" or 0 < (codes > 0).mean() < 1


def torch_uniforms(model: SDLGM, number: int) -> np.ndarray:
    slots, levels = model.config.budget // model.groups, model.config.levels
    source, shape = torch.Generator().manual_seed(3), (number * model.groups // levels, slots)
    noise = [torch.rand(shape, dtype=torch.float64, generator=source) for _ in range(levels)]
    return torch.cat([part.view(number, -1) for part in noise], 1).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_draw_is_that_of_torch_for_the_same_numbers(
    family: str, tmp_path: Path, generator: torch.Generator
) -> None:
    model = model_of(family, 1.0)
    session = session_of(encoder_graph(model, "sample"), tmp_path)
    x = rows_for(model, 300, generator)
    noise = torch_uniforms(model, len(x))
    indices, counts, *_ = session.run(None, {"x": x.numpy(), "uniforms": noise})
    with torch.no_grad():
        expected = model.posterior(x).sample(generator=torch.Generator().manual_seed(3)).numpy()
    same = (dense_codes(indices, counts, model.config.features) == expected).all(1)
    assert same.mean() >= 0.99  # a number may lie between two roundings of a bound
    again = session.run(None, {"x": x.numpy(), "uniforms": noise})
    np.testing.assert_array_equal(again[0], indices)


@pytest.mark.parametrize("family", ["one group", "two slots a group", "a slot a group"])
def test_draws_have_the_distribution_of_the_posterior(family: str, tmp_path: Path) -> None:
    model = model_of(family, 1.0)
    session = session_of(encoder_graph(model, "sample"), tmp_path)
    number = 20_000
    x = torch.ones(1, 5)
    rows = x.expand(number, -1).numpy()
    noise = np.random.default_rng(0).random((number, model.config.budget))
    indices, counts, _, presence, _ = session.run(None, {"x": rows, "uniforms": noise})
    codes = dense_codes(indices, counts, model.config.features)
    with torch.no_grad():
        posterior = model.posterior(x)
    mean, variance = posterior.mean.numpy()[0], posterior.variance.numpy()[0]
    z = (codes.mean(0) - mean) / np.sqrt(variance / number)
    assert np.abs(z).max() < 4.5
    share = (codes > 0).mean(0)
    error = np.sqrt(presence[0] * (1 - presence[0]) / number)
    assert (np.abs(share - presence[0]) < 4.5 * error).all()
    expected = posterior.total_log_prob(torch.arange(model.config.budget + 1).unsqueeze(-1)).exp()
    totals = np.bincount(codes.sum(1), minlength=model.config.budget + 1)
    chi = (
        (totals - number * expected.numpy()[:, 0]) ** 2 / (number * expected.numpy()[:, 0])
    ).sum()
    assert chi < model.config.budget + 6 * np.sqrt(2 * model.config.budget)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decoder_is_that_of_torch(
    family: str, tmp_path: Path, generator: torch.Generator
) -> None:
    model = model_of(family)
    encoder = open_session(write_model(encoder_graph(model), tmp_path / "e.onnx"))
    decoder = open_session(write_model(decoder_graph(model), tmp_path / "d.onnx"))
    for number in (1, 7):
        x = rows_for(model, number, generator)
        indices, counts, *_ = encoder.run(None, {"x": x.numpy()})
        found = decoder.run(None, {"indices": indices, "counts": counts})[0]
        codes = torch.from_numpy(dense_codes(indices, counts, model.config.features)).float()
        with torch.no_grad():
            mean = model.data_distribution(codes).mean
        np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-5)
    most = int((indices >= 0).sum(1).max())
    narrow = {"indices": indices[:, :most], "counts": counts[:, :most] + (indices < 0)[:, :most]}
    np.testing.assert_array_equal(
        decoder.run(None, narrow)[0], found
    )  # what is unused says nothing


def test_grey_values_are_scaled_or_thresholded(tmp_path: Path, generator: torch.Generator) -> None:
    model = model_of("a slot a group")
    grey = torch.randint(0, 17, (50, 5), generator=generator).float()
    for kind, read in (("dynamic", grey / 16), ("fixed", grey / 16), ("threshold", grey >= 8)):
        graph = encoder_graph(model, binarisation=kind, maximum_grey_value=16.0)
        presence = session_of(graph, tmp_path).run(["presence"], {"x": grey.numpy()})[0]
        with torch.no_grad():
            expected = model.posterior(read.float()).presence_probs
        np.testing.assert_allclose(presence, expected, atol=1e-5)


@pytest.mark.parametrize("code", ["mode", "sample"])
def test_an_8_bit_encoder_is_close(code: Any, tmp_path: Path, generator: torch.Generator) -> None:
    model = model_of("two slots a group", 1.0)
    session = session_of(quantize(encoder_graph(model, code)), tmp_path)
    x = rows_for(model, 100, generator)
    given = {"x": x.numpy()}
    if code == "sample":
        given["uniforms"] = torch_uniforms(model, len(x))
    indices, counts, _, presence, _ = session.run(None, given)
    with torch.no_grad():
        expected = model.posterior(x).presence_probs.numpy()
    np.testing.assert_allclose(presence, expected, atol=0.05)
    assert not np.array_equal(presence, expected)
    assert dense_codes(indices, counts, 12).reshape(100, 3, 4).sum(-1).max() <= 2
    assert session.get_modelmeta().custom_metadata_map["quantize"] == "int8"


@pytest.mark.parametrize("size", ["float32", "int8"])
@pytest.mark.parametrize("code", ["mode", "sample"])
@pytest.mark.parametrize("family", ["one group", "a slot a group", "bits", "gaussian"])
def test_a_row_that_is_not_finite_has_no_code(
    family: str, code: Any, size: str, tmp_path: Path, generator: torch.Generator
) -> None:
    model = model_of(family)
    graph = encoder_graph(model, code)
    session = session_of(quantize(graph) if size == "int8" else graph, tmp_path)
    x = rows_for(model, 6, generator).numpy()
    given = {"x": x}
    if code == "sample":
        given["uniforms"] = torch_uniforms(model, len(x))
    clean = session.run(None, given)
    bad = x.copy()
    bad[1, 2], bad[3, 0], bad[4, 4] = np.nan, np.inf, -np.inf
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, {**given, "x": bad}), strict=True))
    valid = found.pop("valid")
    assert valid.tolist() == [True, False, True, False, False, True]
    assert (found["indices"][~valid] == -1).all()
    assert not found["counts"][~valid].any()
    assert not found["n_active"][~valid].any()
    assert np.isnan(found["presence"][~valid]).all()
    for name, before in zip(names, clean, strict=False):
        if name != "valid":
            np.testing.assert_array_equal(found[name][valid], before[valid])


def test_a_row_whose_logits_overflow_has_no_code(tmp_path: Path) -> None:
    model = tiny_model(5, likelihood="gaussian", encoder_hidden=(), normalisation="none").eval()
    with torch.no_grad():
        model.feature_head.weight.fill_(9.0)
    session = session_of(encoder_graph(model), tmp_path)
    x = np.array([[1.0] * 5, [3e38] * 5], np.float32)
    indices, _, _, presence, valid = session.run(None, {"x": x})
    assert valid.tolist() == [True, False]
    assert (indices[1] == -1).all()
    assert np.isfinite(presence[0]).all()


@pytest.mark.parametrize("family", ["plain", "residual", "gaussian", "no hidden layers"])
def test_in_8_bits_no_row_depends_on_another(
    family: str, tmp_path: Path, generator: torch.Generator
) -> None:
    model = model_of(family)
    session = session_of(quantize(encoder_graph(model)), tmp_path)
    x = rows_for(model, 50, generator).numpy()
    beside = [
        session.run(None, {"x": np.concatenate([x, np.full((2, 5), other, np.float32)])})
        for other in (0.0, 1e6, np.nan)
    ]
    for calm, *wild in zip(*beside, strict=True):
        for found in wild:
            np.testing.assert_array_equal(found[:50], calm[:50])
    for place, row in enumerate(x):  # alone, up to rounding in the last bit
        found = session.run(["indices", "presence"], {"x": row[None]})
        np.testing.assert_array_equal(found[0][0], beside[0][0][place])
        np.testing.assert_allclose(found[1][0], beside[0][3][place], atol=1e-6)


def test_layers_without_an_operator_are_refused() -> None:
    model = model_of("plain")
    with pytest.raises(ConfigError, match="code must be one of mode, sample, got 'best'"):
        encoder_graph(model, "best")  # type: ignore[arg-type]
    model.encoder[1] = torch.nn.ELU()
    with pytest.raises(SDLGMError, match=r"No ONNX operator is known for the layer ELU"):
        encoder_graph(model)
