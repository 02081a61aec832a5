"""Hidden layers on a GPU compute what torch's layers do.

Where there is no GPU, Triton interprets the kernels, if it is installed.
"""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when the kernels are imported
pytest.importorskip("triton")

from sdlgm.kernels import launch
from sdlgm.nn.mlp import mlp

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("shape", [(1, 5), (7, 5), (2, 3, 5), (300, 5)])
@pytest.mark.parametrize("residual", [False, True])
def test_hidden_layers_and_their_gradients_are_those_of_torch(
    shape: tuple[int, ...], residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torch.Generator().manual_seed(0)
    network = mlp(
        5, (12, 12, 3), activation="gelu", normalisation="layer", generator=source,
        residual=residual,
    ).to(DEVICE)  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=source).to(DEVICE))
    x = (3 * torch.randn(shape, generator=source)).to(DEVICE).requires_grad_()
    weights = torch.randn(*shape[:-1], 3, generator=source).to(DEVICE)
    calls = []

    def call(kernels: bool) -> list[torch.Tensor]:
        def usable(values: torch.Tensor) -> bool:
            calls.append(kernels)
            return kernels

        monkeypatch.setattr(launch, "usable", usable)
        out = network(x)
        leaves = [x, *network.parameters()]
        return [out, *torch.autograd.grad((out * weights).sum(), leaves)]

    for a, b in zip(call(False), call(True), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)
    assert True in calls
