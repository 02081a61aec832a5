"""A GPU that is pretended: tensors of the CPU that say they are on ``cuda:0``, and refuse to mix.

It shows without a GPU where code makes a tensor on the wrong device, mixes two devices, or hands a
tensor of the GPU to numpy, with the errors that CUDA gives. It does not see inside of C++.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

import sdlgm.environment
import sdlgm.kernels.launch
import sdlgm.training.step
from sdlgm.memory import card_bytes
from sdlgm.training.recorded import ResidentSteps

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")

COPIES = ("copy_", "set_", "to", "cpu", "cuda", "as_tensor", "tensor")
"""Functions that take tensors of both devices."""
STRICT = ("cat", "stack", "equal", "concatenate")
"""Functions that do not even take a scalar of the CPU."""


class PretendGenerator(torch.Generator):
    """A generator of the CPU that says where it is."""

    def __new__(cls, device: torch.device | str = "cpu") -> PretendGenerator:
        made = super().__new__(cls, "cpu")
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.place


class PretendGPU(TorchFunctionMode):
    """Inside, tensors remember on which device they would be."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, StorageWeakRef] = {}

    def holds(self, x: Tensor) -> bool:
        return x.layout == torch.strided and x.untyped_storage()._cdata in self.storages

    def take(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        self.storages[storage._cdata] = StorageWeakRef(storage)  # keeps the address, not the memory
        return x

    def put(self, x: Tensor, place: torch.device | None) -> Tensor:
        """Return a tensor on a device, as ``Tensor.to`` does."""
        if place is None or self.holds(x) == (place.type == "cuda"):
            return x
        return self.take(x.clone()) if place.type == "cuda" else x.clone()

    def __torch_function__(
        self, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name == "__get__":
            return self.read(func, args)
        if name in ("__set__", "_parse_to", "backward"):
            return func(*args, **kwargs)
        if name in ("numpy", "__array__") and self.holds(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")
        if name in ("cpu", "cuda"):
            return self.put(args[0], CPU if name == "cpu" else GPU)
        if name == "__deepcopy__":
            return self.put(func(*args), GPU if self.holds(args[0]) else CPU)
        if name == "pin_memory":
            assert not self.holds(args[0])
            return args[0]
        args, kwargs, place = self.without_device(name, args, kwargs)
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        self.check(name, given, args)
        self.check_generator(name, place, given, kwargs)
        found = func(*args, **kwargs)
        if name in ("to", "as_tensor"):
            old = GPU if any(map(self.holds, given[:1])) else CPU
            return self.put(self.take(found) if old == GPU else found, place or old)
        on_gpu = any(map(self.holds, given)) if place is None else place.type == "cuda"
        own = {x.untyped_storage()._cdata for x in given if x.layout == torch.strided}
        return tree_map(lambda x: self.tagged(x, own) if on_gpu else x, found)

    def tagged(self, x: Any, own: set[int]) -> Any:
        fresh = isinstance(x, Tensor) and x.layout == torch.strided
        return self.take(x) if fresh and x.untyped_storage()._cdata not in own else x

    def read(self, func: Any, args: tuple[Any, ...]) -> Any:
        attribute, x = func.__self__.__name__, args[0]
        on_gpu = self.holds(x)
        if attribute in ("device", "is_cuda", "is_cpu"):
            return {"device": GPU if on_gpu else CPU, "is_cuda": on_gpu, "is_cpu": not on_gpu}[
                attribute
            ]
        found = func(*args)
        return self.take(found) if on_gpu and isinstance(found, Tensor) else found

    def without_device(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], torch.device | None]:
        """Return the arguments with the CPU in the place of a device, and the device."""
        place: torch.device | None = None

        def changed(x: Any) -> Any:
            nonlocal place
            place = torch.device(x)
            return CPU

        if name == "to":
            if len(args) > 1 and isinstance(args[1], Tensor):
                place = GPU if self.holds(args[1]) else CPU
            args = tuple(changed(x) if isinstance(x, torch.device | str) else x for x in args)
        if kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": changed(kwargs["device"])}
        return args, kwargs, place

    def check(self, name: str, given: list[Tensor], args: tuple[Any, ...]) -> None:
        """Raise an error for arguments on two devices where CUDA does."""
        if name in COPIES or (name.startswith("_") and not name.startswith("__")):
            return
        if name in ("__getitem__", "__setitem__") and self.holds(args[0]):
            return  # CUDA takes indices and values from the CPU
        places = {self.holds(x) for x in given if self.holds(x) or x.dim() > 0 or name in STRICT}
        if len(places) > 1:
            shown = [(GPU if self.holds(x) else CPU, tuple(x.shape)) for x in given]
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} of {shown}")

    def check_generator(
        self, name: str, place: torch.device | None, given: list[Tensor], kwargs: dict[str, Any]
    ) -> None:
        source = kwargs.get("generator")
        if source is None:
            return
        if place is None:
            place = GPU if any(map(self.holds, given)) else CPU
        if source.device.type != place.type:
            raise RuntimeError(
                f"Expected a '{place}' device type for generator but found '{source.device}'"
            )


@contextlib.contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendGPU]:
    """Pretend that this machine has a GPU."""
    fabric = types.SimpleNamespace(
        device=GPU,
        backward=lambda loss: loss.backward(),
        clip_gradients=lambda module, adam, max_norm, **more: torch.nn.utils.clip_grad_norm_(
            module.parameters(), max_norm
        ),
    )
    monkeypatch.setattr(sdlgm.environment, "number_of_gpus", lambda: 1)
    monkeypatch.setattr(sdlgm.training.step, "make_fabric", lambda *given: fabric)
    monkeypatch.setattr(sdlgm.kernels.launch, "usable", lambda values: False)
    # A step cannot be recorded, but the data are on the device.
    monkeypatch.setattr(ResidentSteps, "prepare", lambda steps, step: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *given: "Pretended GPU")
    card = types.SimpleNamespace(total_memory=2**33)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *given: card)
    monkeypatch.setattr(torch, "Generator", PretendGenerator)
    card_bytes.cache_clear()
    try:
        with PretendGPU() as mode:
            yield mode
    finally:
        card_bytes.cache_clear()
