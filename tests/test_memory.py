"""Parts of large operations follow the device."""

from __future__ import annotations

import pytest
import torch

from sdlgm import memory
from sdlgm.distributions import GatedMultinomial, _chunks, _relaxed_slots
from sdlgm.memory import numbers_at_once

GPU = torch.device("cuda")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "card_bytes", lambda device: 80 * 2**30)


def test_a_cpu_works_on_parts_that_fit_its_cache() -> None:
    assert numbers_at_once(torch.device("cpu"), 160_000) == 160_000


@pytest.mark.usefixtures("card")
def test_an_array_on_a_gpu_has_at_most_a_64th_of_its_memory() -> None:
    assert numbers_at_once(GPU, 160_000) * 4 == 80 * 2**30 // 64


@pytest.mark.usefixtures("card")
def test_other_accelerators_have_a_fixed_part() -> None:
    assert numbers_at_once(torch.device("mps"), 160_000) == memory.OTHER_NUMBERS


@pytest.mark.parametrize("relaxed", [False, True])
def test_a_gpu_does_not_loop_over_rows(relaxed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU stands in for the GPU: it is told to work on as many numbers as a GPU would."""
    gates, features = torch.zeros(64), torch.zeros(64, 3_000)
    calls = []

    def count(device: torch.device, on_cpu: int) -> int:
        calls.append(on_cpu)
        return 2**28

    def fill(*tensors: torch.Tensor) -> None:
        rows.append(len(tensors[0]))

    rows: list[int] = []
    q = GatedMultinomial(5, gates, features)
    if relaxed:
        monkeypatch.setattr(_relaxed_slots, "numbers_at_once", count)
        assert list(_relaxed_slots._places((64, 5, 3_000), count(GPU, 1))) == [
            (slice(0, 64), slice(0, 5))
        ]
        assert q.relax(1.0, 1.0).rsample().shape == features.shape
    else:
        monkeypatch.setattr(_chunks, "numbers_at_once", count)
        _chunks.in_chunks(fill, features)
        assert rows == [64]
    assert calls
