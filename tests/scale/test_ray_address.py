"""An address without a Ray is a sentence, soon."""

from __future__ import annotations

import importlib.util
import socket
import time
from collections.abc import Iterator

import pytest

from sdlgm.errors import ConfigError
from sdlgm.scale import ray_engine

if importlib.util.find_spec("ray") is None:
    pytest.skip("needs Ray", allow_module_level=True)


pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("form", ["{}", "ray://{}"])
def test_a_silent_address_is_refused_within_20_seconds(
    form: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", form.format(silent))
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"No Ray answers at RAY_ADDRESS = .*timed out"):
        list(ray_engine.encode_files(None, []))  # type: ignore[arg-type]
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "[::1]:1"])
def test_a_wrong_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ConfigError, match="No Ray answers.*unset it to start"):
        list(ray_engine.encode_files(None, []))  # type: ignore[arg-type]
