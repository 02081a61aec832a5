"""From data to codes and back by a trained model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers import tiny_model
from sdlgm.codec import decode_file, describe, encode_file, read_codes
from sdlgm.data import Rows
from sdlgm.errors import CodeFileError, ConfigError, DataError
from sdlgm.inference.codes import choose_codes
from sdlgm.models import SavedModel
from sdlgm.random import generator
from sdlgm.training import Run


def test_decoding_a_file_is_decoding_its_codes(run: Run, tmp_path: Path) -> None:
    saved, rows, seen = run.saved, run.dataset.test, []
    number = encode_file(saved, rows, tmp_path / "c.parquet", progress=seen.append)
    assert number == seen[-1] == len(rows)
    codes = saved.model.encode(rows)
    assert torch.equal(torch.cat(list(read_codes(tmp_path / "c.parquet")[1])), codes)
    decoded = decode_file(saved, tmp_path / "c.parquet")
    torch.testing.assert_close(decoded, saved.model.decode(codes))
    assert (codes.sum(-1) <= 4).all()
    assert (codes[:, :6].sum(-1) <= 2).all()


def test_decoded_codes_resemble_the_data(run: Run) -> None:
    """Closer than the mean image is, which is what a model that ignores its codes gives."""
    rows, model = run.dataset.test, run.saved.model
    decoded = model.decode(model.encode(rows))
    grey = rows.grey()
    ours = (decoded - grey).square().mean()
    trivial = (run.dataset.train.grey().mean(0) - grey).square().mean()
    assert ours < 0.9 * trivial


def test_codes_depend_on_the_seed_alone_and_modes_on_nothing(run: Run) -> None:
    model = run.saved.model
    fixed = run.dataset.test.binarise("none", 0)
    rows = Rows(fixed.batch(slice(None), torch.Generator().manual_seed(0)))

    def codes(**options: object) -> torch.Tensor:
        return model.encode(rows, **options)  # type: ignore[arg-type]

    assert torch.equal(codes(seed=1), codes(seed=1))
    assert not torch.equal(codes(seed=1), codes(seed=2))
    assert torch.equal(codes(choice="mode", seed=1), codes(choice="mode", seed=2, batch_size=7))


def test_the_choice_of_codes_is_handed_on(run: Run, tmp_path: Path) -> None:
    model, rows = run.saved.model, run.dataset.test.binarise("fixed", 0)
    options = {"choice": "best", "candidates": 5, "max_active": 2}
    encode_file(run.saved, rows, tmp_path / "c.parquet", seed=3, **options)  # type: ignore[arg-type]
    written = torch.cat(list(read_codes(tmp_path / "c.parquet")[1]))
    noise = generator(3, "evaluation codes")
    expected = choose_codes(model, rows.values.float(), generator=noise, **options)  # type: ignore[arg-type]
    assert torch.equal(written, expected)
    assert (written > 0).sum(-1).max() == 2


def test_an_impossible_choice_leaves_no_file(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="candidates must be at least 2"):
        encode_file(
            run.saved, run.dataset.test, tmp_path / "c.parquet", choice="best", candidates=1
        )
    assert not list(tmp_path.iterdir())


def test_another_model_is_refused(run: Run, tmp_path: Path) -> None:
    encode_file(run.saved, run.dataset.test, tmp_path / "c.parquet")
    other = SavedModel(run.saved.model, "0" * 64)
    with pytest.raises(CodeFileError, match="encoded by another model"):
        decode_file(other, tmp_path / "c.parquet")
    assert describe(run.saved).features == 12


def test_rows_of_another_width_are_refused_before_anything_is_written(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="has 5 columns, but the model was trained on 64"):
        encode_file(run.saved, Rows(torch.ones(3, 5)), tmp_path / "c.parquet")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="rows and columns"):
        encode_file(SavedModel(tiny_model(), ""), Rows(torch.ones(0, 5)), tmp_path / "c.parquet")
