"""A neutral state of torch and numpy, whatever the caller's program has set."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

import numpy as np
import torch

__all__ = ["neutral", "shapes_only", "without_variables"]

_SHAPES: ContextVar[bool] = ContextVar("shapes", default=False)


@contextlib.contextmanager
def neutral() -> Iterator[None]:
    """Run a block, or a decorated function, in the state that torch starts with.

    Inside, the default type is float32, the default device is the CPU, gradients are recorded,
    autocast is off, and numpy does not raise on overflow. The caller's state returns afterwards.
    All public functions that compute do this, so that equal calls give equal results.

    Examples
    --------
    >>> torch.set_default_dtype(torch.float64)
    >>> with neutral():
    ...     torch.zeros(1).dtype
    torch.float32
    >>> torch.zeros(1).dtype
    torch.float64
    >>> torch.set_default_dtype(torch.float32)
    """
    before = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        # The context slows down every call.
        if torch.get_default_device().type != "cpu" and not _SHAPES.get():
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Make the modules of a block on torch's meta device, which knows shapes and has no memory."""
    token = _SHAPES.set(True)
    try:
        with torch.device("meta"):
            yield
    finally:
        _SHAPES.reset(token)


@contextlib.contextmanager
def without_variables(prefix: str) -> Iterator[None]:
    """Hide the environment variables whose names start with a prefix, and restore them."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith(prefix)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
