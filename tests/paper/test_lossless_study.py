"""The study of lossless files: simple rivals restore their images, and the table is complete."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from paper.studies import lossless
from paper.studies.context_coder import IMAGES_AT_ONCE, NEAREST, ContextCoder
from paper.studies.jbig import MISSING, available, jbig_sizes

import sdlgm
from sdlgm.config import DataConfig, ModelConfig, TrainingConfig


def images(number: int, seed: int = 0) -> np.ndarray:
    """Noisy pictures of a bar whose place differs."""
    source = np.random.default_rng(seed)
    found = source.random((number, 6, 7)) < 0.05
    found[np.arange(number), :, source.integers(0, 7, number)] = True
    return found.astype(np.uint8)


@pytest.mark.parametrize(("pixels", "position"), [(10, True), (14, False)])
@pytest.mark.parametrize("primed", [False, True])
def test_a_context_coder_restores_its_images_in_about_the_ideal_length(
    pixels: int, position: bool, primed: bool
) -> None:
    coder, taken = ContextCoder((6, 7), pixels, position=position), images(300)
    known = coder.count(images(200, seed=1)) if primed else None
    content = coder.compress(taken, known)
    np.testing.assert_array_equal(coder.decompress(content, 300, known), taken)
    ideal = coder.ideal_bits(taken, known)
    assert ideal - 64 < 8 * len(content) < 1.1 * ideal


def test_counts_of_training_images_shorten_the_file() -> None:
    coder = ContextCoder((6, 7), 10, position=True)
    known = coder.count(images(1_000, seed=1))
    assert len(coder.compress(images(100), known)) < 0.8 * len(coder.compress(images(100)))


def test_the_ideal_length_is_that_of_counts_updated_after_each_pixel() -> None:
    coder, taken = ContextCoder((6, 7), 3, position=False), images(4)
    counts, bits = np.full((8, 2), 0.5), 0.0
    for image in taken:
        framed = np.pad(image, ((3, 0), (3, 3)))
        for row, column in np.ndindex(6, 7):
            at = sum(
                int(framed[row + 3 + down, column + 3 + right]) << number
                for number, (down, right) in enumerate(NEAREST[:3])
            )
            bits -= np.log2(counts[at, image[row, column]] / counts[at].sum())
            counts[at, image[row, column]] += 1
    assert coder.ideal_bits(taken) == pytest.approx(bits)
    np.testing.assert_array_equal(coder.count(taken), counts - 0.5)


@pytest.mark.parametrize("number", [0, 1, 2, 3, IMAGES_AT_ONCE + 1])
def test_any_number_of_images_is_restored(number: int) -> None:
    coder = ContextCoder((6, 7), 10, position=False)
    restored = coder.decompress(coder.compress(images(number)), number)
    np.testing.assert_array_equal(restored, images(number))


@pytest.mark.skipif(not available(), reason=MISSING)
def test_jbig_restores_images_and_gains_from_all_as_one() -> None:
    each, together = jbig_sizes(images(20).reshape(20, -1), width=7)
    assert (each.single, together.single) == (True, False)
    assert 0 < together.bits < each.bits


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    shape = {"features": 8, "budget": 4, "encoder_hidden": (8,), "sparsity_hidden": (4,)}
    training = TrainingConfig(iterations=5, batch_size=10)
    for name, more in (("a", {}), ("b", {"levels": 2, "level_hidden": (4,), "prior_hidden": (4,)})):
        sdlgm.fit(
            DataConfig("digits"), ModelConfig(**shape, **more), training, out=folder / name,
            importance_samples=1, progress=False,
        )  # fmt: skip
    return [folder / "a", folder / "b"]


def test_the_study_compares_runs_and_rivals_on_the_same_images(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(lossless, "NAMES", ("bz2 9",))
    monkeypatch.setattr(lossless, "DRAWS", 2)
    monkeypatch.setattr(lossless, "available", lambda: False)
    lossless.main([*map(str, runs), "--json", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    text = (tmp_path / "found.md").read_text()
    assert found["command"] == "python -m paper.studies.lossless a b"
    assert capsys.readouterr().out == text
    methods = [each["method"] for each in found["rows"]]
    assert [each for each in methods if each.endswith("whole file")] == [
        "a: sdl, the whole file", "b: sdl, the whole file",
    ]  # fmt: skip
    assert sum(each.startswith("context of") for each in methods) == 4
    assert all(f"| {each} |" in text for each in methods)
    assert text.rstrip().endswith(MISSING)
    by = {each["method"]: each for each in found["rows"]}
    least = min(each["value"] for name, each in by.items() if ": bound" in name)
    rival = by["bz2 9, all images together"]
    assert rival["over_bound"] == pytest.approx(rival["value"] / least - 1)


def test_runs_of_other_images_are_refused(runs: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "c"
    sdlgm.fit(
        DataConfig("digits", binarisation="threshold"),
        ModelConfig(features=8, budget=4, encoder_hidden=(8,), sparsity_hidden=(4,)),
        TrainingConfig(iterations=2, batch_size=10), out=other,
        importance_samples=1, progress=False,
    )  # fmt: skip
    with pytest.raises(SystemExit, match="c has other test images than a"):
        list(lossless.measure([runs[0], other]))
