"""Files of data sets that come over the net, or from a folder that the user names."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from sdlgm.errors import DataError

__all__ = ["fetch", "read_known"]


def fetch(
    folder: str,
    file: str,
    url: str,
    sha256: str,
    read: Callable[[Path], bytes],
    instead: str = "",
) -> bytes:
    """Return the content of a file from ``$SDLGM_DATA/folder``, or else from the net.

    Parameters
    ----------
    folder, file
        Where the file is looked for below the folder that ``SDLGM_DATA`` names.
    url
        Address of the folder that it is else fetched from, with a slash at its end.
    sha256
        Digest of the file there.
    read
        Reads and checks a file that was found.
    instead
        What to use without a network, a sentence for the message.

    Raises
    ------
    DataError
        If the file is neither there nor to be had, with both ways out; or what ``read`` raises.
    """
    named = os.environ.get("SDLGM_DATA")
    if named:
        local = Path(named) / folder / file
        if local.is_file():
            return read(local)
    ways_out = (
        f"Either put {file} into a folder {folder}/ and set the environment variable SDLGM_DATA to "
        f"the folder above it{f' (now {named})' if named else ''}, or connect to the internet so "
        f"that it can be fetched from {url}. {instead}"
    ).strip()
    try:
        import pooch
    except ImportError:
        raise DataError(
            f"{file} must be downloaded, which needs the package pooch (pip install "
            f"'sdlgm[data]'). {ways_out}"
        ) from None
    try:
        path = pooch.retrieve(
            url + file,
            known_hash=sha256,
            fname=f"{folder.replace('/', '-')}-{file}",
            path=pooch.os_cache("sdlgm"),
            progressbar=False,
        )
    except Exception as error:  # of the network, in whatever layer
        reason = type(error).__name__
        raise DataError(f"{file} could not be downloaded ({reason}). {ways_out}") from None
    return read(Path(path))


def read_known(sha256: str, path: Path) -> bytes:
    """Return the content of a file whose SHA-256 is known.

    Raises
    ------
    DataError
        If it is another file.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path} is not the file it should be: its SHA-256 is {found[:12]}..., expected "
            f"{sha256[:12]}... Delete it and fetch it again."
        )
    return content
