"""Files of structured codes: exact, as short as the prior allows, and never silently wrong."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers import tiny_model
from sdlgm.codec import (
    CodeContainer,
    coding_prior,
    compress_file,
    decode_file,
    decompress_file,
    describe,
    encode_file,
    read_codes,
    write_codes,
    write_container,
)
from sdlgm.codec.ans import Stack
from sdlgm.codec.chains import ChainCoder
from sdlgm.codec.sdz_layout import pack_block, pack_index
from sdlgm.data import Rows
from sdlgm.distributions import conditionals, kl_terms
from sdlgm.errors import CodeFileError
from sdlgm.models import SDLGM

STRUCTURES = {
    "levels": {"levels": 2},
    "levels, factorised prior": {"levels": 4, "prior": "learned"},
    "levels, masked prior": {"levels": 2, "prior": "masked", "prior_hidden": (16,)},
    "autoregressive": {"prior": "autoregressive", "prior_hidden": (16,)},
    "mixture": {"prior": "mixture", "mixture_components": 4},
    "several slots": {"levels": 2, "budget": 12},
    "open gates": {"prior": "autoregressive", "gates": "open"},
}
WITH_PRIOR = [name for name in STRUCTURES if name != "levels, factorised prior"]
ROWS, SIZE = 300, 64


def structured(name: str, spread: float = 0.7, **settings: object) -> SDLGM:
    """A model of four groups with random weights."""
    model = tiny_model(
        **{"features": 12, "budget": 4, "groups": 4, "prior": None, **STRUCTURES[name], **settings}
    )
    source = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn(parameter.shape, generator=source)
    return model.eval()


def drawn(model: SDLGM, rows: int = ROWS) -> Tensor:
    return model.sample(rows, torch.Generator().manual_seed(1))[0]


def data(rows: int = ROWS) -> Rows:
    source = torch.Generator().manual_seed(2)
    return Rows((torch.rand(rows, 5, generator=source) < 0.4).float())


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_codes_come_back_from_a_stack(name: str) -> None:
    model = structured(name)
    codes = drawn(model).int().numpy()
    prior = coding_prior(model)
    assert prior is not None
    coder, stack = ChainCoder(prior.expand((ROWS,))), Stack()
    coder.push(stack, codes)
    coder.push(stack, codes[:7])
    assert (coder.pop(stack, 7) == codes[:7]).all()
    assert (coder.pop(stack, ROWS) == codes).all()
    assert stack.empty


@pytest.mark.parametrize("name", WITH_PRIOR)
def test_a_container_takes_the_bits_of_the_prior(name: str, tmp_path: Path) -> None:
    model = structured(name)
    codes, prior = drawn(model, 4000), coding_prior(model)
    path = tmp_path / "c.sdz"
    write_codes(path, codes.split(1000), describe(model), prior=prior)
    about, batches = read_codes(path, describe(model), prior=prior)
    assert torch.equal(torch.cat(list(batches)), codes)
    assert about.n_codes == 4000
    with torch.no_grad():
        ideal = float(-model.prior().log_prob(codes).sum()) / math.log(2)
    with CodeContainer(path) as container:
        size = 8 * sum(
            len(container._payload(container._places, n) or b"") for n in range(container.n_blocks)
        )
    overhead = 128 * 1  # digest of the codes and the state of the coder
    assert ideal * 0.999 - 64 < size < ideal * 1.005 + overhead


def test_blocks_are_read_on_their_own_and_damage_stays_in_its_block(tmp_path: Path) -> None:
    model = structured("levels")
    codes, prior = drawn(model), coding_prior(model)
    path, about = tmp_path / "c.sdz", describe(model)
    write_container(path, [codes], about, block_rows=SIZE, prior=prior)
    with CodeContainer(path, about, prior) as container:
        assert torch.equal(container.read_rows(100, 200), codes[100:200])
        place = container._places[2]
    content = bytearray(path.read_bytes())
    content[place + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(CodeFileError, match="block 2 .* does not match its digest"):
        list(read_codes(path, about, prior=prior)[1])
    lost = []
    found = torch.cat(list(read_codes(path, about, lost.append, prior)[1]))
    assert [damage.block for damage in lost] == [2]
    kept = torch.ones(ROWS, dtype=torch.bool)
    kept[2 * SIZE : 3 * SIZE] = False
    assert torch.equal(found[kept], codes[kept])
    assert found[~kept].isnan().all()


def test_codes_under_a_prior_are_not_read_without_it(tmp_path: Path) -> None:
    model = structured("mixture")
    codes = drawn(model, 4000)  # so many that the prior makes the file shorter
    write_codes(tmp_path / "c.sdz", [codes], describe(model), prior=coding_prior(model))
    with pytest.raises(CodeFileError, match="under the prior of their model"):
        list(read_codes(tmp_path / "c.sdz")[1])
    with pytest.raises(CodeFileError, match="encoded by another model"):
        read_codes(tmp_path / "c.sdz", describe(structured("mixture", 0.2)))


def test_another_prior_is_noticed(tmp_path: Path) -> None:
    model, other = structured("autoregressive"), structured("autoregressive", 0.71)
    path = tmp_path / "c.sdz"
    write_codes(path, [drawn(model)], describe(model), prior=coding_prior(model))
    with pytest.raises(CodeFileError, match=r"block 0 .*(cannot be decoded here|damaged|valid)"):
        list(read_codes(path, describe(model), prior=coding_prior(other))[1])
    lost = []
    list(read_codes(path, describe(model), lost.append, coding_prior(other))[1])
    assert len(lost) == 1


@pytest.mark.parametrize("name", STRUCTURES)
def test_encoded_files_decode_to_the_means_of_their_codes(name: str, tmp_path: Path) -> None:
    model, rows = structured(name), data()
    codes = model.encode(rows.values, "mode")
    for suffix in ("sdz", "parquet"):
        path = tmp_path / f"c.{suffix}"
        assert encode_file(model, rows, path, code="mode") == ROWS
        assert torch.equal(decode_file(model, path), model.decode(codes))


def test_codes_that_the_prior_does_not_expect_are_written_by_their_frequencies(
    tmp_path: Path,
) -> None:
    model = structured("autoregressive")
    codes = torch.zeros(500, 12)
    codes[::2, 0] = 1  # hardly any bits by frequencies
    path, about = tmp_path / "c.sdz", describe(model)
    write_codes(path, [codes], about, prior=coding_prior(model))
    assert path.read_bytes()[8] == 1
    assert torch.equal(torch.cat(list(read_codes(path, about)[1])), codes)


def test_slots_that_the_prior_rules_out_are_written_all_the_same(tmp_path: Path) -> None:
    model = structured("open gates")
    codes = drawn(model)
    codes[3] = 0
    path, about = tmp_path / "c.sdz", describe(model)
    write_codes(path, [codes], about, prior=coding_prior(model))
    assert torch.equal(torch.cat(list(read_codes(path, about)[1])), codes)


def test_models_without_structure_write_containers_of_version_one(tmp_path: Path) -> None:
    model = tiny_model(features=12, budget=4, groups=4)
    assert coding_prior(model) is None
    encode_file(model, data(), tmp_path / "c.sdz")
    assert (tmp_path / "c.sdz").read_bytes()[8] == 1
    model = structured("levels")
    write_codes(tmp_path / "d.sdz", [drawn(model)], describe(model), prior=coding_prior(model))
    assert (tmp_path / "d.sdz").read_bytes()[8] == 3


@pytest.mark.parametrize("name", STRUCTURES)
def test_compressed_data_come_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    model, rows = structured(name), data(257)
    compress_file(model, rows, tmp_path / "x.sdl")
    back = decompress_file(model, tmp_path / "x.sdl")
    assert torch.equal(back.float(), rows.values)


@pytest.mark.parametrize("likelihood", ["poisson", "categorical"])
def test_counts_and_levels_come_back_too(likelihood: str, tmp_path: Path) -> None:
    model = structured("levels", likelihood=likelihood)
    values = torch.randint(3, (130, 5), generator=torch.Generator().manual_seed(0)).float()
    compress_file(model, Rows(values), tmp_path / "x.sdl")
    assert torch.equal(decompress_file(model, tmp_path / "x.sdl").float(), values)


@pytest.mark.parametrize("name", STRUCTURES)
def test_lossless_files_take_the_bits_of_the_negative_elbo(name: str, tmp_path: Path) -> None:
    model, rows = structured(name, 0.15), data(3000)  # no probability near the coder's least
    x = rows.values
    with torch.no_grad():
        posterior, prior = model(x), model.prior()
        codes = posterior.sample(generator=torch.Generator().manual_seed(5))
        given = conditionals(posterior, codes), conditionals(prior, codes)
        bound = kl_terms(*given).total - model.data_distribution(codes).log_prob(x)
    bits = float(bound.double().sum()) / math.log(2)
    measured = compress_file(model, rows, tmp_path / "x.sdl").payload_bits
    # Both draw other codes, so that they agree up to noise.
    noise = 5 * float(bound.std()) * math.sqrt(2 * len(x)) / math.log(2)
    assert abs(measured - bits) < noise + 0.01 * bits


def test_a_chain_of_other_outputs_is_refused_by_a_lossless_file(tmp_path: Path) -> None:
    model, other = structured("levels"), structured("levels", 0.2)
    compress_file(model, data(), tmp_path / "x.sdl")
    with pytest.raises(CodeFileError, match="compressed by another model"):
        decompress_file(other, tmp_path / "x.sdl")


def test_forged_blocks_under_a_prior_are_errors(tmp_path: Path) -> None:
    model = structured("levels")
    prior, about, path = coding_prior(model), describe(model), tmp_path / "c.sdz"
    write_container(path, [drawn(model)], about, prior=prior)
    with CodeContainer(path, about, prior) as container:
        header = container.header
        assert header.by_prior
        payload = container._payload(container._places or {}, 0) or b""
    source = random.Random(0)
    refused = 0
    for _ in range(150):
        forged = bytearray(payload[: 4 * source.randrange(len(payload) // 4 + 1)])
        for _ in range(source.randrange(4)):
            if forged:
                forged[source.randrange(len(forged))] = source.randrange(256)
        start, key = header.pack()
        body = start + pack_block(key, 0, bytes(forged))
        path.write_bytes(body + pack_index(key, [len(start)], len(body)))
        try:
            found = torch.cat(list(read_codes(path, about, prior=prior)[1]))
        except CodeFileError:
            refused += 1
        else:
            assert bytes(forged) == payload
            assert len(found) == ROWS
    assert refused > 100


@pytest.mark.parametrize(("name", "rows"), [("mixture", 300), ("levels", 50), ("several slots", 4)])
def test_the_shorter_of_two_files_is_written(name: str, rows: int, tmp_path: Path) -> None:
    model = structured(name)
    codes, about = drawn(model, rows), describe(model)
    chosen, counted = tmp_path / "chosen.sdz", tmp_path / "counted.sdz"
    write_codes(chosen, [codes], about, prior=coding_prior(model))
    write_codes(counted, [codes], about)
    assert chosen.stat().st_size <= counted.stat().st_size
