"""Codes in Parquet: exact round trips, and damage is always found."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdlgm.codec import CodeFile
from sdlgm.codec.parquet import from_arrow, read_codes, to_arrow, write_codes
from sdlgm.errors import CodeFileError

ABOUT = CodeFile(0, 6, 4, 2, "abc123")


def codes_of(rows: int, seed: int = 0) -> torch.Tensor:
    """Random codes of two groups of three features and two slots, empty ones among them."""
    generator = torch.Generator().manual_seed(seed)
    slots = torch.randint(0, 4, (rows, 2, 2), generator=generator)
    counts = torch.nn.functional.one_hot(slots, 4).sum(-2)[..., :3]
    return counts.flatten(1).float()


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(0, 30), cuts=st.integers(1, 7), seed=st.integers(0, 999))
def test_codes_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: int, cuts: int, seed: int
) -> None:
    path, codes = tmp_path_factory.getbasetemp() / "codes.parquet", codes_of(rows, seed)
    assert write_codes(path, codes.split(cuts), ABOUT) == rows
    about, batches = read_codes(path, ABOUT, batch_size=4)
    found = list(batches)
    assert about == ABOUT._replace(n_codes=rows)
    assert torch.equal(torch.cat([torch.empty(0, 6), *found]), codes)


def test_columns_and_metadata_are_as_documented(tmp_path: Path) -> None:
    write_codes(tmp_path / "c.parquet", [torch.tensor([[0.0, 2, 0, 1, 0, 0], [0] * 6])], ABOUT)
    table = pq.read_table(tmp_path / "c.parquet")
    assert table.to_pydict() == {"indices": [[1, 3], []], "counts": [[2, 1], []]}
    assert table.schema.field("indices").type.value_type == pa.uint32()
    assert table.schema.field("counts").type.value_type == pa.uint16()
    keys = {k.decode() for k in pq.read_schema(tmp_path / "c.parquet").metadata}
    assert {"K", "L0", "groups", "model_sha256", "sdlgm.format_version"} <= keys
    assert b"codes_sha256" in pq.read_metadata(tmp_path / "c.parquet").metadata


@pytest.mark.parametrize(
    ("indices", "counts", "message"),
    [
        ([[1, 3], [6]], [[1, 1], [1]], "row 1 is not a code: a feature is not among the 6"),
        ([[1, 1]], [[1, 1]], "row 0 is not a code: the features are not in ascending order"),
        ([[], [3, 1]], [[], [1, 1]], "row 1 is not a code: .* ascending"),
        ([[1, 3]], [[1, 0]], "a count is 0"),
        ([[1, 3]], [[1]], "differ in length"),
        ([[0, 1]], [[2, 1]], r"counts \(3 in all\) exceed the budget"),
    ],
)
def test_rows_that_are_not_codes_are_named(
    indices: list[list[int]], counts: list[list[int]], message: str
) -> None:
    schema = to_arrow(codes_of(1)).schema
    batch = pa.RecordBatch.from_arrays(
        [pa.array(v, type=f.type) for v, f in zip((indices, counts), schema, strict=True)],
        schema=schema,
    )
    with pytest.raises(CodeFileError, match=message):
        from_arrow(batch, ABOUT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_codes(tmp_path / "c.parquet", codes_of(500).split(100), ABOUT)
    return tmp_path / "c.parquet"


def read(path: Path, expected: CodeFile | None = ABOUT) -> torch.Tensor:
    return torch.cat(list(read_codes(path, expected)[1]))


def test_codes_of_another_model_are_refused(path: Path) -> None:
    with pytest.raises(CodeFileError, match="encoded by another model"):
        read(path, ABOUT._replace(model_sha256="def"))


def rewrite(path: Path, codes: torch.Tensor | None = None, **metadata: str) -> None:
    """Rewrite the file as valid Parquet with other content, as an attacker would."""
    table = pq.read_table(path)
    own = {k: v for k, v in pq.read_metadata(path).metadata.items() if k != b"ARROW:schema"}
    kept = {**own, **{k.encode(): v.encode() for k, v in metadata.items()}}
    if codes is not None:
        table = pa.Table.from_batches([to_arrow(codes)])
    pq.write_table(table.replace_schema_metadata(kept), path)


def test_tampered_codes_are_found(path: Path) -> None:
    codes = read(path)
    swapped = codes.clone()
    swapped[[3, 4]] = swapped[[4, 3]]
    assert not torch.equal(swapped, codes)
    for wrong in (swapped, codes[:-1], torch.cat([codes, codes[:1]])):
        rewrite(path, wrong)
        with pytest.raises(CodeFileError, match="damaged or was tampered with"):
            read(path)
    rewrite(path, codes)
    assert torch.equal(read(path), codes)


@pytest.mark.parametrize("change", [{"L0": "400"}, {"K": "12"}, {"groups": "1"}])
def test_tampered_metadata_is_found(path: Path, change: dict[str, str]) -> None:
    rewrite(path, **change)
    with pytest.raises(CodeFileError, match="tampered with: K, L0 or groups"):
        read(path)


def test_newer_formats_and_foreign_files_are_refused(path: Path, tmp_path: Path) -> None:
    rewrite(path, **{"sdlgm.format_version": "2"})
    with pytest.raises(CodeFileError, match="newer format"):
        read(path)
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(CodeFileError, match="does not have the columns"):
        read(tmp_path / "x.parquet")
    with pytest.raises(CodeFileError, match="does not exist"):
        read(tmp_path / "none.parquet")


def test_flipped_or_cut_files_never_give_other_codes(path: Path) -> None:
    """Flip one byte or cut the end at many places: an error, or the same codes."""
    whole, codes = path.read_bytes(), read(path)
    generator = torch.Generator().manual_seed(0)
    found = 0
    for trial in range(300):
        place = int(torch.randint(len(whole), (), generator=generator))
        broken = bytearray(whole)
        if trial % 3 == 0:
            del broken[place:]
        else:
            broken[place] ^= 1 << (trial % 8)
        path.write_bytes(broken)
        try:
            assert torch.equal(read(path), codes)
        except CodeFileError:
            found += 1
    assert found > 150
