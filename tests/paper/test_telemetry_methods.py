"""The baselines of the telemetry experiment: code lengths, errors and side information."""

from __future__ import annotations

import numpy as np
import pytest
from paper.telemetry import methods
from paper.telemetry.methods import Point, Windows


@pytest.fixture
def parts() -> tuple[Windows, Windows]:
    source = np.random.default_rng(0)
    waves = np.sin(np.arange(64) / 5 + source.uniform(0, 6, (90, 1))) * source.gamma(2, 1, (90, 1))
    values = waves + source.normal(0, 0.1, (90, 64)) + source.normal(0, 2, (90, 1))
    metric = np.repeat([0, 1], 30)
    return Windows(values[:60], metric), Windows(values[60:], np.repeat([0, 1], 15))


def test_adaptive_code_lengths_follow_the_counts() -> None:
    past, symbols = np.array([[0], [0], [1]]), np.array([[0], [1]])
    # The table starts with 3 counts plus one uniform count; then the first 0 is added.
    expected = -np.log2([(2 + 0.5) / 4, (1 + 0.5) / 5])
    np.testing.assert_allclose(methods.adaptive_bits(past, symbols, flat=True), expected)


def test_adaptive_code_length_approaches_the_entropy_given_a_context() -> None:
    source = np.random.default_rng(1)
    context = source.integers(0, 2, 20_000)
    symbols = np.where(context == 1, source.integers(0, 16, 20_000), 3)[:, None]
    known = (context[:10_000], context[10_000:])
    plain = methods.adaptive_bits(symbols[:10_000], symbols[10_000:])
    aware = methods.adaptive_bits(symbols[:10_000], symbols[10_000:], known)
    assert plain.mean() > 2.8
    np.testing.assert_allclose(aware.mean(), 4 * context[10_000:].mean(), rtol=0.02)


def test_mean_and_scale_are_quantised_within_half_a_step(parts: tuple[Windows, Windows]) -> None:
    past, own = parts
    assert np.abs(own.mean[:, 0] - own.values.mean(1)).max() <= methods.MEAN_STEP / 2 + 1e-12
    ratio = own.scale[:, 0] / own.values.std(1)
    assert (np.abs(np.log(ratio)) <= np.log(methods.SCALE_RATIO) / 2 + 1e-12).all()
    np.testing.assert_allclose(own.mean + own.scale * own.shapes, own.values)
    changes = own._changes(past)
    assert changes[0, 0] == own.levels[0] - past.levels[29]
    assert changes[15, 1] == own.classes[15] - past.classes[59]


def curves(parts: tuple[Windows, Windows]) -> dict[str, list[Point]]:
    past, own = parts
    steps = (0.25, 1.0, 4.0)
    atoms = np.eye(64)
    return {
        "pca": methods.transform_curve(past, own, steps),
        "pca, scale": methods.transform_curve(past, own, steps, sends_scale=True),
        "dct": methods.transform_curve(past, own, steps, fixed=True),
        "omp": methods.omp_curve(past, own, atoms, (1, 64), steps),
        "means": methods.downsample_curve(past, own, steps),
    }


def test_smaller_steps_need_more_bytes_and_reduce_errors(
    parts: tuple[Windows, Windows],
) -> None:
    for name, points in curves(parts).items():
        kept = methods.envelope(points)
        assert len(kept) >= 3, name
        assert all(point.bytes > 0 for point in points)
        finest = min(points, key=lambda p: p.error)
        assert finest.error < 0.25, name
        assert finest.bytes > max(points, key=lambda p: p.error).bytes


def test_rounding_error_matches_the_uniform_distribution(parts: tuple[Windows, Windows]) -> None:
    # The transform is orthonormal, so coefficients and samples have the same error.
    (point,) = (
        p for p in methods.transform_curve(*parts, (0.25,), fixed=True) if p.setting.endswith(" 0")
    )
    assert point.error < 0.25 / 2
    assert point.error == pytest.approx(0.25 / np.sqrt(12), rel=0.2)


def test_bytes_are_interpolated_on_the_envelope() -> None:
    points = [Point(1, 0.8, ""), Point(3, 0.4, ""), Point(4, 0.6, ""), Point(2, 0.9, "")]
    assert [p.bytes for p in methods.envelope(points)] == [1, 3]
    assert methods.bytes_at(points, 0.6) == pytest.approx(2)
    assert methods.bytes_at(points, 0.3) is None
