"""The compact container: exact round trips, random access, and damage is always found."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdlgm.codec import (
    CodeContainer,
    CodeFile,
    Damage,
    read_codes,
    write_codes,
    write_container,
)
from sdlgm.codec.sdz_layout import rounded
from sdlgm.errors import CodeFileError

ABOUT = CodeFile(0, 6, 4, 2, "ab" * 32)
ROWS, SIZE = 230, 50  # the last of five blocks has 30 rows


def codes_of(rows: int, seed: int = 0, slots: int = 2) -> torch.Tensor:
    """Random codes of two groups of three features, empty ones among them."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(0, 4, (rows, 2, slots), generator=generator)
    counts = torch.nn.functional.one_hot(chosen, 4).sum(-2)[..., :3]
    return counts.flatten(1).float()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_container(tmp_path / "c.sdz", codes_of(ROWS).split(70), ABOUT, block_rows=SIZE)
    return tmp_path / "c.sdz"


@settings(deadline=None, max_examples=50)
@given(
    rows=st.integers(0, 40),
    cuts=st.integers(1, 13),
    size=st.integers(1, 17),
    slots=st.integers(1, 3),
    seed=st.integers(0, 999),
)
def test_codes_survive_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: int, cuts: int, size: int, slots: int, seed: int
) -> None:
    path, codes = tmp_path_factory.getbasetemp() / "c.sdz", codes_of(rows, seed, slots)
    about = ABOUT._replace(budget=2 * slots)
    assert write_container(path, codes.split(cuts), about, block_rows=size) == rows
    with CodeContainer(path, about) as container:
        assert container.about == about._replace(n_codes=rows)
        found = torch.cat([torch.empty(0, 6), *container.blocks()])
        assert torch.equal(found, codes)
        assert container.n_blocks == -(-rows // size)
        start, stop = sorted((seed % (rows + 1), seed // 7 % (rows + 1)))
        assert torch.equal(container.read_rows(start, stop), codes[start:stop])


def test_both_formats_hold_the_same_codes(tmp_path: Path) -> None:
    codes = codes_of(ROWS)
    for name in ("c.sdz", "c.parquet"):
        assert write_codes(tmp_path / name, codes.split(70), ABOUT) == ROWS
    for name in ("c.sdz", "c.parquet"):
        about, batches = read_codes(tmp_path / name, ABOUT)
        assert about == ABOUT._replace(n_codes=ROWS)
        assert torch.equal(torch.cat(list(batches)), codes)
    sha = pq.read_metadata(tmp_path / "c.parquet").metadata[b"codes_sha256"].decode()
    with CodeContainer(tmp_path / "c.sdz") as container:
        assert container.header.codes_sha256 == sha


def test_reading_goes_by_content_and_writing_by_suffix_or_format(
    tmp_path: Path,
) -> None:
    codes = codes_of(9)
    write_codes(tmp_path / "codes.bin", [codes], ABOUT, "sdz")
    assert torch.equal(torch.cat(list(read_codes(tmp_path / "codes.bin")[1])), codes)
    with pytest.raises(CodeFileError, match=r"ends in .sdz, but the format asked for is parquet"):
        write_codes(tmp_path / "c.sdz", [codes], ABOUT, "parquet")
    with pytest.raises(CodeFileError, match=r"must end in .parquet or .sdz"):
        write_codes(tmp_path / "c.bin", [codes], ABOUT)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.tensor([[0.0] * 6, [1, 1, 1, 0, 0, 0]]), r"row 71 .* \(3 in all\) exceed"),
        (torch.tensor([[-1.0, 0, 0, 0, 0, 0]]), "row 70 is not a code: its counts must be 0, 1"),
        (torch.tensor([[0.5, 0, 0, 0, 0, 0]]), "row 70"),
        (torch.full((1, 6), torch.nan), "row 70"),
        (torch.zeros(2, 5), r"must have 6 columns, got shape \(2, 5\)"),
    ],
)
def test_rows_that_are_not_codes_are_not_written(
    codes: torch.Tensor, message: str, tmp_path: Path
) -> None:
    with pytest.raises(CodeFileError, match=message):
        write_container(tmp_path / "c.sdz", [codes_of(70), codes], ABOUT)
    assert not list(tmp_path.iterdir())
    with pytest.raises(CodeFileError, match="64 digits, got 'abc'"):
        write_container(tmp_path / "c.sdz", [], ABOUT._replace(model_sha256="abc"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_damage_is_confined_to_a_block_and_reported(path: Path) -> None:
    codes = codes_of(ROWS)
    with CodeContainer(path) as container:
        place = container._found[2] + 15
    flip(path, place)
    with CodeContainer(path, ABOUT) as container:
        assert torch.equal(container.read_rows(0, 100), codes[:100])
        assert torch.equal(container.read_block(4), codes[200:])
        said = r"c.sdz is damaged: block 2 \(rows 100 to 149, counted from 0\)"
        with pytest.raises(CodeFileError, match=said):
            container.read_block(2)
        with pytest.raises(CodeFileError, match="block 2"):
            container.read_rows(149, 151)
    with pytest.raises(CodeFileError, match="block 2"):
        list(read_codes(path)[1])
    lost: list[Damage] = []
    found = torch.cat(list(read_codes(path, on_damage=lost.append)[1]))
    assert lost == [Damage(2, 100, 50)]
    assert found[100:150].isnan().all()
    found[100:150] = codes[100:150]
    assert torch.equal(found, codes)


def test_a_damaged_or_missing_index_is_rebuilt(path: Path) -> None:
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[:-60], whole + b"x", whole[:-30] + b"\0" + whole[-29:]):
        path.write_bytes(broken)
        assert torch.equal(torch.cat(list(read_codes(path)[1])), codes_of(ROWS))


def test_inserted_or_removed_bytes_damage_one_block(path: Path) -> None:
    whole = path.read_bytes()
    with CodeContainer(path) as container:
        place = container._found[1] + 14
    for broken in (whole[:place] + b"abc" + whole[place:], whole[:place] + whole[place + 1 :]):
        path.write_bytes(broken)
        lost: list[Damage] = []
        list(read_codes(path, on_damage=lost.append)[1])
        assert [damage.block for damage in lost] == [1]


def test_blocks_of_another_file_are_refused(path: Path, tmp_path: Path) -> None:
    """Even if both files have the same counts: the header contains a digest of the codes."""
    other = tmp_path / "other.sdz"
    write_container(other, [codes_of(ROWS).flip(0)], ABOUT, block_rows=SIZE)
    with CodeContainer(path) as ours, CodeContainer(other) as theirs:
        assert (ours.header.weights == theirs.header.weights).all()
        start = ours._found[0]
        assert start == theirs._found[0]
    path.write_bytes(path.read_bytes()[:start] + other.read_bytes()[start:])
    lost: list[Damage] = []
    list(read_codes(path, on_damage=lost.append)[1])
    assert len(lost) == 5


@pytest.mark.parametrize("place", [0, 8, 12, 30, 50, 90, 125])
def test_a_damaged_header_is_an_error(path: Path, place: int) -> None:
    flip(path, place)
    with pytest.raises(CodeFileError, match=r"header|first bytes"):
        read_codes(path, on_damage=lambda damage: None)


def test_other_files_models_and_rows_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(CodeFileError, match="encoded by another model"):
        read_codes(path, ABOUT._replace(model_sha256="cd" * 32))
    with pytest.raises(CodeFileError, match="tampered with"):
        read_codes(path, ABOUT._replace(budget=8))
    with pytest.raises(CodeFileError, match="does not exist"):
        read_codes(tmp_path / "none.sdz")
    (tmp_path / "empty.sdz").touch()
    with pytest.raises(CodeFileError, match="is empty"):
        read_codes(tmp_path / "empty.sdz")
    with CodeContainer(path) as container:
        with pytest.raises(CodeFileError, match="no block 5"):
            container.read_block(5)
        with pytest.raises(CodeFileError, match="no range 200:231"):
            container.read_rows(200, 231)
    write_codes(tmp_path / "c.parquet", [codes_of(3)], ABOUT)
    with pytest.raises(CodeFileError, match="only .sdz files can be salvaged"):
        read_codes(tmp_path / "c.parquet", on_damage=lambda damage: None)


def test_without_constriction_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(CodeFileError, match=r'pip install "sdlgm\[codec\]"'):
        write_container(tmp_path / "c.sdz", [codes_of(3)], ABOUT)
    write_codes(tmp_path / "c.parquet", [codes_of(3)], ABOUT)


def test_weights_are_rounded_to_five_bits_and_never_to_zero() -> None:
    counts = np.concatenate([np.arange(5000), 2 ** np.arange(13, 50) + 12345]).reshape(1, -1)
    found = rounded(counts)
    assert (found[counts < 32] == counts[counts < 32]).all()
    assert (abs(found - counts) <= counts / 32).all()
    assert (found[counts > 0] > 0).all()


def corrupt(whole: bytes, cut: list[int], random: np.random.Generator) -> bytes:
    """Flip bits or bytes, cut, swap bytes, swap or repeat blocks (which start at ``cut``)."""
    broken, kind = bytearray(whole), random.integers(6)
    places = random.integers(len(whole), size=random.integers(1, 4))
    if kind == 0:
        for place in places:
            broken[place] ^= 1 << random.integers(8)
    elif kind == 1:
        for place in places:
            broken[place] = random.integers(256)
    elif kind == 2:
        first, last = sorted(random.integers(len(whole), size=2))
        del broken[first : last if random.integers(2) else len(broken)]
    elif kind == 3:
        first, second = random.integers(len(whole), size=2)
        broken[first], broken[second] = broken[second], broken[first]
    else:
        parts = [whole[a:b] for a, b in zip([0, *cut], [*cut, len(whole)], strict=True)]
        first, second = 1 + random.integers(len(cut) - 1, size=2)
        if kind == 4:
            parts[first], parts[second] = parts[second], parts[first]
        else:
            parts[first] = parts[second]
        broken = bytearray(b"".join(parts))
    return bytes(broken)


def test_a_thousand_corrupted_files(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of ours or the right codes; all blocks without damage are salvaged."""
    whole, codes = path.read_bytes(), codes_of(ROWS)
    with CodeContainer(path) as container:
        starts = [container._found[number] for number in range(5)]
    ends = [*starts[1:], whole.index(b"\x93idx")]
    random = np.random.default_rng(0)
    seen = dict.fromkeys(("unharmed", "refused whole", "salvaged", "blocks lost", "wrong codes"), 0)
    for _ in range(1000):
        broken = corrupt(whole, [*starts, ends[-1]], random)
        path.write_bytes(broken)
        lost: list[Damage] = []
        try:
            parts = list(read_codes(path, ABOUT, lost.append)[1])
        except CodeFileError:
            assert broken[: starts[0]] != whole[: starts[0]]  # only a damaged header does this
            seen["refused whole"] += 1
            continue
        there = {number for number in range(5) if whole[starts[number] : ends[number]] in broken}
        assert {damage.block for damage in lost}.isdisjoint(there)
        for damage in lost:
            assert parts[damage.block].isnan().all()
            parts[damage.block] = codes[damage.first_row :][: damage.rows]
        seen["wrong codes"] += not torch.equal(torch.cat(parts), codes)
        seen["salvaged" if lost else "unharmed"] += 1
        seen["blocks lost"] += len(lost)
        if lost:
            with pytest.raises(CodeFileError, match="is damaged: block"):
                list(read_codes(path, ABOUT)[1])
    with capsys.disabled():
        print(f"\n1,000 corrupted files: {seen}")  # noqa: T201
    assert seen["wrong codes"] == 0
    assert min(seen["unharmed"], seen["refused whole"], seen["salvaged"]) > 100
