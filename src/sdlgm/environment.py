"""The device to compute on, and a neutral state of torch and numpy, whatever a program has set."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from sdlgm.errors import ConfigError

__all__ = [
    "accelerator_of",
    "describe_device",
    "device_of",
    "neutral",
    "number_of_gpus",
    "placed",
    "resolve_accelerator",
    "shapes_only",
    "without_variables",
]

Kind = Literal["cpu", "gpu", "mps"]
"""A kind of device."""

Network = TypeVar("Network", bound=nn.Module)

LOG = logging.getLogger("sdlgm")
"""Notes on what was chosen, at the level INFO; the command line prints them."""

_SHAPES: ContextVar[bool] = ContextVar("shapes", default=False)


# --- devices ------------------------------------------------------------------------------------


def number_of_gpus() -> int:
    """Return the number of GPUs that torch can use here (CUDA, ROCm)."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def resolve_accelerator(name: str, devices: int = 1) -> Kind:
    """Return the kind of device that a setting stands for.

    ``"auto"`` is the GPU if this machine has as many as ``devices``, and otherwise the CPU. Apple's
    GPUs have no double precision, and are used only if they are named (``"mps"``).

    Raises
    ------
    ConfigError
        If the name is unknown, or this machine has no such device.

    Examples
    --------
    >>> resolve_accelerator("cpu")
    'cpu'
    """
    match name:
        case "auto":
            return "gpu" if number_of_gpus() >= devices else "cpu"
        case "gpu" if number_of_gpus() < devices:
            raise ConfigError(
                f"accelerator = 'gpu' with devices = {devices}, but torch finds "
                f"{number_of_gpus() or 'no'} GPU on this machine. Use accelerator = 'auto' or "
                "'cpu' (--accelerator cpu)."
            )
        case "mps" if not torch.backends.mps.is_available():
            raise ConfigError(
                "accelerator = 'mps', but torch finds no GPU of Apple on this machine. Use "
                "accelerator = 'cpu' (--accelerator cpu)."
            )
        case "cpu" | "gpu" | "mps":
            return name
    raise ConfigError(f"accelerator must be 'auto', 'cpu', 'gpu' or 'mps', got {name!r}.")


def device_of(name: str) -> torch.device:
    """Return the device that a setting stands for; a GPU is named once in the log.

    Raises
    ------
    ConfigError
        As :func:`resolve_accelerator`.
    """
    match resolve_accelerator(name):
        case "gpu":
            device = torch.device("cuda", 0)
        case kind:
            device = torch.device(kind)
    _announce(device)
    return device


def accelerator_of(device: torch.device) -> Kind:
    """Return the kind of a device, in the words of the settings."""
    kinds: dict[str, Kind] = {"cuda": "gpu", "mps": "mps"}
    return kinds.get(device.type, "cpu")


def describe_device(device: torch.device) -> str:
    """Return the name of a GPU, or ``"cpu"``."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return device.type


@functools.cache
def _announce(device: torch.device) -> None:
    if device.type != "cpu":
        LOG.info("Using the GPU %s.", describe_device(device))


_COPIES: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module]] = WeakKeyDictionary()
"""The latest copy of each network on another device, and the state that it was made from."""


def placed(network: Network, device: torch.device) -> Network:
    """Return a network on a device: itself, or a copy, which is kept until the network changes.

    The network itself stays where it is, so that it can be saved, pickled and used by others.
    """
    tensors = [*network.parameters(), *network.buffers()]
    if all(tensor.device == device for tensor in tensors):
        return network
    state = (device, network.training, [(each.data_ptr(), each._version) for each in tensors])
    kept = _COPIES.get(network)
    if kept is None or kept[0] != state:
        kept = _COPIES[network] = state, copy.deepcopy(network).to(device)
    return kept[1]  # type: ignore[return-value]  # a copy has the type of its original


# --- a neutral state ----------------------------------------------------------------------------


@contextlib.contextmanager
def neutral() -> Iterator[None]:
    """Run a block, or a decorated function, in the state that torch starts with.

    Inside, the default type is float32, the default device is the CPU, gradients are recorded,
    autocast is off, products of float32 are not rounded to fewer digits (TF32, bfloat16), and numpy
    does not raise on overflow. The caller's state returns afterwards. All public functions that
    compute do this, so that equal calls give equal results.

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
        for products in _rounded_products():
            stack.callback(setattr, products, "fp32_precision", products.fp32_precision)
            products.fp32_precision = "ieee"
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def _rounded_products() -> list[Any]:
    """Return the kinds of products of float32 that torch would compute with fewer digits."""
    backends: list[Any] = [torch.backends.cuda, torch.backends.mkldnn]
    kinds = [backend.matmul for backend in backends if hasattr(backend, "matmul")]
    if torch.backends.cudnn.is_available():
        kinds.append(getattr(torch.backends.cudnn, "conv", None))
    return [each for each in kinds if getattr(each, "fp32_precision", "ieee") in ("tf32", "bf16")]


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
