"""Encode data into files of codes and decode them with a trained model."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch

from helpers import linear_model, tiny_model
from sdlgm.codec import compress_file, decode_file, describe, encode_file, read_codes
from sdlgm.data import Rows
from sdlgm.errors import CodeFileError, ConfigError, DataError
from sdlgm.inference import prefix_codes
from sdlgm.inference.codes import choose_codes
from sdlgm.random import generator
from sdlgm.training import Run


def test_decoding_a_file_equals_decoding_its_codes(run: Run, tmp_path: Path) -> None:
    model, rows, seen = run.model, run.dataset.test, []
    number = encode_file(model, rows, tmp_path / "c.parquet", progress=seen.append)
    assert number == seen[-1] == len(rows)
    codes = model.encode(rows)
    assert torch.equal(torch.cat(list(read_codes(tmp_path / "c.parquet")[1])), codes)
    decoded = decode_file(model, tmp_path / "c.parquet")
    torch.testing.assert_close(decoded, model.decode(codes))
    assert (codes.sum(-1) <= 4).all()
    assert (codes[:, :6].sum(-1) <= 2).all()


def test_a_file_is_decoded_at_a_smaller_budget(tmp_path: Path) -> None:
    model = linear_model(features=60, prefixes=(1,))
    with torch.no_grad():
        model.output_head.weight.normal_(generator=generator(0, "weights"))
    rows = Rows(torch.randn(3000, 5, generator=generator(0, "rows")))
    encode_file(model, rows, tmp_path / "whole.sdz")
    encode_file(model, rows, tmp_path / "cut.sdz", prefix=1)
    codes = prefix_codes(model, model.encode(rows), 1)
    assert torch.equal(torch.cat(list(read_codes(tmp_path / "cut.sdz")[1])), codes)
    decoded = decode_file(model, tmp_path / "whole.sdz", prefix=1)
    torch.testing.assert_close(decoded, model.decode(codes))
    torch.testing.assert_close(decoded, decode_file(model, tmp_path / "cut.sdz"))
    small, large = ((tmp_path / name).stat().st_size for name in ("cut.sdz", "whole.sdz"))
    assert small < 0.7 * large  # groups that are always closed take nothing
    with pytest.raises(ConfigError, match=r"prefix = 3, .*prefixes = \[1\]"):
        encode_file(model, rows, tmp_path / "none.sdz", prefix=3)
    assert not (tmp_path / "none.sdz").exists()


def test_columns_that_a_container_cannot_keep_are_named_before_anything_is_encoded(
    run: Run, tmp_path: Path
) -> None:
    rows, seen = run.dataset.test, []
    maps = pa.array([[("a", 1)]] * len(rows), pa.map_(pa.string(), pa.int8()))
    for name in ("c.sdz", "c.sdl"):
        with pytest.raises(CodeFileError, match=r"column 'm' is of type map.*Convert it first"):
            (encode_file if name.endswith("z") else compress_file)(
                run.model, rows, tmp_path / name, kept=pa.table({"m": maps}), progress=seen.append
            )
    assert not seen
    assert not list(tmp_path.iterdir())


def test_decoded_codes_resemble_the_data(run: Run) -> None:
    """They are closer than the mean image, which a model that ignores its codes would give."""
    rows, model = run.dataset.test, run.model
    decoded = model.decode(model.encode(rows))
    grey = rows.grey()
    ours = (decoded - grey).square().mean()
    trivial = (run.dataset.train.grey().mean(0) - grey).square().mean()
    assert ours < 0.9 * trivial


def test_drawn_codes_depend_on_the_seed_only_and_modes_do_not(run: Run) -> None:
    model = run.model
    fixed = run.dataset.test.binarise("none", 0)
    rows = Rows(fixed.batch(slice(None), torch.Generator().manual_seed(0)))

    def codes(**options: object) -> torch.Tensor:
        return model.encode(rows, **options)  # type: ignore[arg-type]

    assert torch.equal(codes(code="sample", seed=1), codes(code="sample", seed=1))
    assert not torch.equal(codes(code="sample", seed=1), codes(code="sample", seed=2))
    assert torch.equal(codes(code="mode", seed=1), codes(code="mode", seed=2, batch_size=7))


def test_options_of_the_code_are_passed_on(run: Run, tmp_path: Path) -> None:
    model, rows = run.model, run.dataset.test.binarise("fixed", 0)
    options = {"code": "best", "candidates": 5, "max_active": 2}
    encode_file(run.model, rows, tmp_path / "c.parquet", seed=3, **options)  # type: ignore[arg-type]
    written = torch.cat(list(read_codes(tmp_path / "c.parquet")[1]))
    noise = generator(3, "evaluation codes")
    expected = choose_codes(model, rows.values.float(), generator=noise, **options)  # type: ignore[arg-type]
    assert torch.equal(written, expected)
    assert (written > 0).sum(-1).max() == 2


def test_an_invalid_option_leaves_no_file(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="candidates must be at least 2"):
        encode_file(run.model, run.dataset.test, tmp_path / "c.parquet", code="best", candidates=1)
    assert not list(tmp_path.iterdir())


def test_codes_of_another_model_are_refused(run: Run, tmp_path: Path) -> None:
    encode_file(run.model, run.dataset.test, tmp_path / "c.parquet")
    other = tiny_model(64)
    with pytest.raises(CodeFileError, match="encoded by another model"):
        decode_file(other, tmp_path / "c.parquet")
    assert describe(run.model).features == 12


def test_rows_of_another_width_are_refused_before_anything_is_written(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="has 5 columns, but the model was trained on 64"):
        encode_file(run.model, Rows(torch.ones(3, 5)), tmp_path / "c.parquet")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="rows and columns"):
        encode_file(tiny_model(), Rows(torch.ones(0, 5)), tmp_path / "c.parquet")
