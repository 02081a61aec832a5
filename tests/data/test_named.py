"""Built-in data: some need no network; for the others, messages say how to provide the files."""

from __future__ import annotations

import gzip
import hashlib
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from sdlgm.config import DataConfig
from sdlgm.data import BUILT_IN, load_data, named, resolve_binarisation
from sdlgm.errors import DataError


@pytest.mark.parametrize(
    ("name", "sizes", "shape"),
    [("digits", (1438, 359), (8, 8)), ("mnist-5k", (4000, 1000), (28, 28))],
)
def test_these_sets_need_no_network(
    name: str, sizes: tuple[int, int], shape: tuple[int, int]
) -> None:
    data = load_data(DataConfig(name))
    assert (len(data.train), len(data.test)) == sizes
    assert data.image_shape == shape
    assert data.train.n_inputs == shape[0] * shape[1]
    assert data.train.dynamic
    assert data.train.values.dtype == torch.uint8
    assert data.train.values.max() == data.train.maximum
    assert data.train.labels is not None
    assert set(data.train.labels.tolist()) == set(range(10))


def idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
    return gzip.compress(head + values.tobytes(), mtime=0)


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder like MNIST's with five and three images, and with their digests."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    hashes = {}
    for part, number in (("train", 5), ("t10k", 3)):
        images = np.arange(number * 784, dtype=np.uint32).astype(np.uint8).reshape(-1, 28, 28)
        labels = np.arange(number, dtype=np.uint8)
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            name, content = f"{part}-{kind}-ubyte.gz", idx(values)
            (folder / name).write_bytes(content)
            hashes[name] = (hashlib.sha256(gzip.decompress(content)).hexdigest(),)
    monkeypatch.setitem(named._IDX, "mnist", named._Remote("http://localhost:9/", hashes))
    monkeypatch.setenv("SDLGM_DATA", str(tmp_path))
    return folder


def test_idx_files_are_read_from_the_named_folder(small_mnist: Path) -> None:
    data = load_data(DataConfig("mnist", binarisation="none"))
    assert data.train.values.shape == (5, 784)
    assert data.test.values.shape == (3, 784)
    assert data.train.values[0, :4].tolist() == [0, 1, 2, 3]
    assert data.test.labels.tolist() == [0, 1, 2]  # type: ignore[union-attr]


def test_repacked_archives_are_recognised_by_their_content(small_mnist: Path) -> None:
    path = small_mnist / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=7))
    assert len(load_data(DataConfig("mnist")).test) == 3


def test_damaged_archives_are_refused(small_mnist: Path) -> None:
    path = small_mnist / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"train-images.* is damaged"):
        load_data(DataConfig("mnist"))
    other = bytearray(gzip.decompress(whole))
    other[100] ^= 1
    path.write_bytes(gzip.compress(bytes(other)))
    with pytest.raises(DataError, match=r"is not the file it should be: its SHA-256"):
        load_data(DataConfig("mnist"))


def test_without_a_network_both_remedies_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDLGM_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache")

    def refuse(*arguments: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError) as error:
        load_data(DataConfig("fashion-mnist"))
    message = str(error.value)
    for part in (
        "could not be downloaded",
        "SDLGM_DATA",
        str(tmp_path),
        "https://",
        "mnist-5k need",
    ):
        assert part in message.replace("http://", "https://")


@pytest.mark.parametrize(
    ("wrong", "right"), [("mnsit", "mnist"), ("digit", "digits"), ("fashion", "fashion-mnist")]
)
def test_the_nearest_name_is_suggested_for_a_misspelt_one(wrong: str, right: str) -> None:
    with pytest.raises(DataError, match=f"No data set is named '{wrong}'.*{right}"):
        load_data(DataConfig(wrong))


def test_the_default_binarisation_depends_on_data_and_likelihood() -> None:
    assert resolve_binarisation(DataConfig("digits"), "bernoulli") == "dynamic"
    assert resolve_binarisation(DataConfig("digits"), "poisson") == "none"
    assert resolve_binarisation(DataConfig("a.csv"), "bernoulli") == "none"
    assert resolve_binarisation(DataConfig("digits", binarisation="fixed"), "poisson") == "fixed"
    assert resolve_binarisation(DataConfig("nab"), "gaussian") == "none"
    assert resolve_binarisation(DataConfig("mnist-static"), "bernoulli") == "none"
    assert set(BUILT_IN) == {"digits", "mnist-5k", "mnist", "mnist-static", "fashion-mnist", "nab"}
