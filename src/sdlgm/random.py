"""Randomness that we own: generators that are functions of a seed, a purpose and a step."""

from __future__ import annotations

import zlib

import numpy as np
import torch

__all__ = ["generator"]


def generator(
    seed: int, purpose: str, step: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a fresh generator for one purpose at one step.

    Streams of different purposes or steps are independent, and nothing has to be carried along:
    a training that is resumed at step ``t`` draws what an uninterrupted one draws at ``t``.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()), step))
    return torch.Generator(device).manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
