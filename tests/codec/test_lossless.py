"""Lossless files: bit-exact, as small as the bound, with an error if they cannot be read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from helpers import tiny_model
from sdlgm.codec import compress_file, decompress_file, drawn_rows, lossless
from sdlgm.codec.ans import Stack
from sdlgm.codec.bitsback import BATCH_ROWS, BitsBack, batch_sizes
from sdlgm.data import Rows
from sdlgm.errors import CodeFileError, DataError
from sdlgm.objectives.bounds import negative_elbo
from sdlgm.training import Run

SHA = "ab" * 32


def data(kind: str, rows: int = 330) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if kind == "bernoulli":
        return torch.randint(0, 2, (rows, 5), generator=generator).float()
    if kind == "categorical":
        return torch.randint(0, 3, (rows, 5), generator=generator).float()
    counts = torch.poisson(torch.full((rows, 5), 2.0), generator=generator)
    counts[7, 2], counts[-1, 0] = (
        300,
        (1 << 24) - 1,
    )  # larger than counts with their own probability
    return counts


@pytest.mark.parametrize("kind", ["bernoulli", "poisson", "categorical"])
@pytest.mark.parametrize(("budget", "groups"), [(3, 1), (3, 3)])
@pytest.mark.parametrize("whole", [True, False])
def test_data_come_back_bit_by_bit(
    kind: str, budget: int, groups: int, whole: bool, tmp_path: Path
) -> None:
    model = tiny_model(likelihood=kind, budget=budget, groups=groups)
    values = data(kind)
    if not whole:
        values = values.clamp_max(255).byte()
    found = compress_file(model, Rows(values), tmp_path / "x.sdl")
    assert found.rows == len(values)
    assert found.file_bits == 8 * (tmp_path / "x.sdl").stat().st_size
    again = decompress_file(model, tmp_path / "x.sdl")
    assert again.dtype == values.dtype
    assert torch.equal(again, values)


@pytest.mark.parametrize("rows", [1, 2, 99, 100, 101, 1700])
def test_any_number_of_rows_can_be_compressed(rows: int, tmp_path: Path) -> None:
    model, values = tiny_model(), data("bernoulli", rows).byte()
    assert sum(batch_sizes(rows)) == rows
    assert max(batch_sizes(rows)) <= BATCH_ROWS
    compress_file(model, Rows(values), tmp_path / "x.sdl")
    assert torch.equal(decompress_file(model, tmp_path / "x.sdl"), values)


@pytest.mark.parametrize(("kind", "rows"), [("bernoulli", 4000), ("categorical", 3000)])
def test_the_size_is_the_negative_elbo(kind: str, rows: int, tmp_path: Path) -> None:
    model, values = tiny_model(likelihood=kind), data(kind, rows)
    found = compress_file(model, Rows(values), tmp_path / "x.sdl")
    noise = torch.Generator().manual_seed(0)
    draws = [negative_elbo(model, values, generator=noise).total.sum().item() for _ in range(9)]
    assert found.payload_bits == pytest.approx(sum(draws) / 9 / math.log(2), rel=0.01)
    assert 0 < found.initial_bits < 300
    assert found.file_bits - found.payload_bits - found.initial_bits < 3000


def test_digits_of_a_trained_run(run: Run, tmp_path: Path) -> None:
    rows, seen = run.dataset.test, []
    found = compress_file(run.model, rows, tmp_path / "x.sdl", progress=seen.append)
    assert seen[-1] == len(rows)
    values = decompress_file(run.model, tmp_path / "x.sdl")
    assert torch.equal(values, drawn_rows(rows))
    assert set(values.unique().tolist()) == {0, 1}
    bound = run.metrics["negative_elbo"] / math.log(2)
    assert found.payload_bits / found.rows == pytest.approx(bound, rel=0.03)
    other = tmp_path / "y.sdl"
    compress_file(run.model, rows, other, seed=1)
    assert not torch.equal(decompress_file(run.model, other), values)


def test_networks_with_other_outputs_are_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another machine: a weight differs in its last digits, but the hash is the same."""
    monkeypatch.setattr(lossless, "model_sha256", lambda model: SHA)
    model, values = tiny_model(), data("bernoulli", 2000)
    compress_file(model, Rows(values), tmp_path / "x.sdl")
    with torch.no_grad():
        model.output_head.bias.mul_(1 + 1e-4)
    with pytest.raises(CodeFileError, match="cannot be decompressed here: after row 0 .* torch 2"):
        decompress_file(model, tmp_path / "x.sdl")


def test_encoding_and_decoding_a_batch_are_inverse() -> None:
    coder, values = BitsBack(tiny_model(budget=6)), data("bernoulli", 60)
    bits = torch.randint(1, 2**31, (200,)).numpy().astype("<u4").tobytes()
    stack = Stack(bits)
    least = coder.encode(stack, values)
    assert 0 < least <= 200
    assert torch.equal(coder.decode(stack, 60), values)
    assert stack.content() == bits


def test_damaged_or_foreign_files_and_unsuitable_data_are_refused(tmp_path: Path) -> None:
    model, path = tiny_model(), tmp_path / "x.sdl"
    compress_file(model, Rows(data("bernoulli")), path)
    whole = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for trial in range(100):
        broken = bytearray(whole)
        place = int(torch.randint(len(whole), (), generator=generator))
        if trial % 4:
            broken[place] ^= 1 << trial % 8
        else:
            del broken[place:]
        path.write_bytes(broken)
        with pytest.raises(CodeFileError, match=r"is damaged|is not a file"):
            decompress_file(model, path)
    path.write_bytes(whole)
    with pytest.raises(CodeFileError, match="compressed by another model"):
        decompress_file(tiny_model(budget=6), path)
    with pytest.raises(CodeFileError, match="does not exist"):
        decompress_file(model, tmp_path / "none.sdl")
    gaussian = tiny_model(likelihood="gaussian")
    with pytest.raises(CodeFileError, match="densities, not probabilities"):
        compress_file(gaussian, Rows(data("bernoulli")), tmp_path / "y.sdl")
    with pytest.raises(DataError, match="Bernoulli likelihood needs data of 0 and 1"):
        compress_file(model, Rows(data("poisson")), tmp_path / "y.sdl")
    counts = tiny_model(likelihood="poisson")
    with pytest.raises(CodeFileError, match=r"below 2\^24, the largest is 16,777,216"):
        compress_file(counts, Rows(torch.full((2, 5), 2.0**24)), tmp_path / "y.sdl")
    assert not (tmp_path / "y.sdl").exists()
