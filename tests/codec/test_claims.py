"""Files of codes and lossless files that claim more than they hold, and counts of large budgets."""

from __future__ import annotations

import hashlib
import struct
import time
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers import linear_model, tiny_model
from sdlgm.codec import (
    CodeFile,
    compress_file,
    decode_file,
    decompress_file,
    describe,
    read_codes,
    write_codes,
)
from sdlgm.codec.bitsback import BATCH_ROWS, batch_sizes
from sdlgm.codec.parquet import to_arrow
from sdlgm.codec.sdz_layout import MAGIC
from sdlgm.data import Rows
from sdlgm.errors import CodeFileError, DataError
from sdlgm.inference import prefix_codes
from sdlgm.scale import ArrowEncoder

HASH = "ab" * 32


def container(path: Path, features: int, budget: int, rows: int, block_rows: int = 4096) -> Path:
    """An .sdz file of one group that has a sound header and no blocks."""
    size = features + 1
    table = zlib.compress(bytes(size + -(-size // 2)), 9) if size <= 2**27 else b""
    numbers = (1, features, budget, 1, block_rows, rows)
    hashes = bytes.fromhex(HASH), bytes(32)
    content = struct.pack("<8s5IQ32s32sI", MAGIC, *numbers, *hashes, len(table)) + table
    path.write_bytes(content + hashlib.blake2b(content, digest_size=16).digest())
    return path


def test_the_table_of_a_container_is_not_unpacked_for_another_model(tmp_path: Path) -> None:
    path = container(tmp_path / "c.sdz", 2**26, 4, 10)
    with pytest.raises(CodeFileError, match="K, L0 or groups are not the model's"):
        read_codes(path, CodeFile(0, 6, 4, 1, HASH))
    with pytest.raises(CodeFileError, match="SDLGM_MAX_FEATURES"):
        read_codes(path)


@pytest.mark.parametrize("salvage", [True, False])
@pytest.mark.parametrize("rows", [2**60, 10**9])
def test_rows_that_a_container_cannot_hold_are_refused(
    rows: int, salvage: bool, tmp_path: Path
) -> None:
    path = container(tmp_path / "c.sdz", 6, 4, rows)
    assert path.stat().st_size < 200
    with pytest.raises(CodeFileError, match="claims a table of"):
        read_codes(path, None, (lambda damage: None) if salvage else None)


def test_large_blocks_and_budgets_of_containers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CodeFileError, match="L0 of .* may be up to"):
        read_codes(container(tmp_path / "a.sdz", 6, 2**31, 1))
    with pytest.raises(CodeFileError, match="claims a table of"):
        read_codes(container(tmp_path / "b.sdz", 6, 2**20, 2**16, 2**16))


def test_false_marks_of_blocks_do_not_take_quadratic_time(tmp_path: Path) -> None:
    path = tmp_path / "c.sdz"
    write_codes(path, [torch.eye(6)], CodeFile(0, 6, 4, 1, HASH))
    content = path.read_bytes()
    mark = b"\x93blk" + struct.pack("<II", 0, 2**20)
    path.write_bytes(content[:-60] + mark * 300_000)
    began = time.process_time()
    with pytest.raises(CodeFileError):
        list(read_codes(path)[1])
    assert time.process_time() - began < 10


def test_a_lossless_file_with_too_many_rows_or_checks_is_refused(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "d.sdl"
    compress_file(model, Rows(torch.ones(30, 5)), path)
    content = path.read_bytes()
    for place, form, number, message in (
        (63, "<I", 2**32 - 1, "do not fit its size"),
        (16, "<Q", 2**60, "do not fit its size"),
        (12, "<I", 2**31, "claims a table|columns"),
    ):
        body = bytearray(content[:-16])
        struct.pack_into(form, body, place, number)
        path.write_bytes(body + hashlib.blake2b(body, digest_size=16).digest())
        with pytest.raises(CodeFileError, match=message):
            decompress_file(model, path)


def test_sizes_of_batches_take_linear_time() -> None:
    began = time.process_time()
    sizes = batch_sizes(16_000_000)
    assert time.process_time() - began < 2
    assert (sum(sizes), max(sizes)) == (16_000_000, BATCH_ROWS)


def _sizes_of_0_1(rows: int) -> list[int]:
    sizes: list[int] = []
    while rows:
        sizes.append(min(BATCH_ROWS, max(sum(sizes), 1), rows))
        rows -= sizes[-1]
    return sizes[::-1]


def test_sizes_of_batches_are_those_of_0_1() -> None:
    assert all(batch_sizes(rows) == _sizes_of_0_1(rows) for rows in (*range(700), 12_345))


def parquet(path: Path, rows: list[list[int]], **changes: str) -> Path:
    """A Parquet file of lists, with the description of the tiny model."""
    about = describe(tiny_model())
    notes = {
        "sdlgm.format_version": "1",
        "K": str(about.features),
        "L0": str(about.budget),
        "groups": str(about.groups),
        "model_sha256": about.model_sha256,
        "codes_sha256": "0" * 64,
    }
    schema = to_arrow(torch.zeros(0, 3)).schema.with_metadata(notes | changes)
    arrays = [pa.array(rows, field.type) for field in schema]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")
    return path


def test_the_footer_of_a_parquet_file_is_looked_at_before_its_values(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [[0] * 3_000_000])
    assert path.stat().st_size < 100_000
    with pytest.raises(CodeFileError, match="claims more values than its 1 codes hold"):
        read_codes(path)
    path = parquet(
        tmp_path / "b.parquet", [[] for _ in range(100)], K=str(2**21), L0="1", groups="1"
    )
    with pytest.raises(CodeFileError, match="claims a table of"):
        read_codes(path)
    path = parquet(tmp_path / "c.parquet", [[]], K="9" * 5000)
    with pytest.raises(CodeFileError, match="K of"):
        read_codes(path)


def test_a_file_that_decodes_to_a_large_table_is_refused(tmp_path: Path) -> None:
    model = tiny_model(inputs=3000)
    path = tmp_path / "c.parquet"
    write_codes(path, [torch.zeros(20_000, 3)], describe(model))
    with pytest.raises(CodeFileError, match="claims a table of 60,000,000 numbers"):
        decode_file(model, path)


@pytest.mark.parametrize("suffix", [".parquet", ".sdz"])
def test_many_codes_of_many_features_in_few_bytes_are_read(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDLGM_MAX_CELLS", "1000")  # so that a few codes count as many
    model = linear_model(features=2040, budget=8, groups=8, inputs=784, prefixes=(2,))
    drawn = torch.randint(255, (500, 8), generator=torch.Generator().manual_seed(0))
    codes = torch.nn.functional.one_hot(drawn, 255).flatten(1).float()
    path, short = tmp_path / f"c{suffix}", tmp_path / f"d{suffix}"
    write_codes(path, [codes], describe(model))
    assert torch.equal(torch.cat(list(read_codes(path, describe(model))[1])), codes)
    assert torch.equal(decode_file(model, path), model.decode(codes))
    write_codes(short, [prefix_codes(model, codes, 2)], describe(model))
    assert torch.equal(decode_file(model, short), decode_file(model, path, prefix=2))


@pytest.mark.parametrize("suffix", [".parquet", ".sdz"])
def test_counts_beyond_65_535_do_not_wrap(suffix: str, tmp_path: Path) -> None:
    about = CodeFile(0, 3, 200_000, 1, HASH)
    codes = torch.tensor([[65_536.0, 0, 1], [200_000, 0, 0], [0, 0, 0], [1, 99_999, 70_000]])
    path = tmp_path / f"c{suffix}"
    write_codes(path, [codes], about)
    found, batches = read_codes(path, about)
    assert found.n_codes == 4
    assert torch.equal(torch.cat(list(batches)), codes)


def test_small_budgets_keep_the_format_and_refuse_larger_counts() -> None:
    assert to_arrow(torch.ones(1, 2)).schema.field("counts").type.value_type == pa.uint16()
    with pytest.raises(CodeFileError, match="65,536 does not fit into uint16"):
        to_arrow(torch.tensor([[65_536.0]]))


@pytest.mark.parametrize("code", ["mode", "mean", "sample", "best"])
def test_a_row_whose_posterior_is_not_finite_is_named(code: str, tmp_path: Path) -> None:
    model = tiny_model(likelihood="gaussian", normalisation="none")
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(1e4)
    x = torch.zeros(1500, 5)
    x[1234] = 1e38
    with pytest.raises(DataError, match=r"row 1234 \(counted from 0\)"):
        model.encode(x, code=code)
    assert model.encode(x[:1234], code=code).shape == (1234, 3)


def test_a_row_whose_posterior_is_not_finite_is_named_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdlgm.scale import arrow_encoder

    model = tiny_model(likelihood="gaussian", normalisation="none")
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(1e4)
    monkeypatch.setattr(arrow_encoder, "_load", lambda run: (model, None))
    values = torch.zeros(1100, 5)
    values[1050] = 1e38
    encoder = ArrowEncoder("run")
    with pytest.raises(DataError, match=r"row 1060 \(counted from 0\)"):
        list(encoder._codes(values.numpy(), 10))
