"""A set of labels from Debian: words of a package's description, and the tags people gave it.

    python -m paper.labels.debian_tags

The index is ``$SDLGM_DATA/debian/Packages`` (or ``Packages.gz``, ``Packages.xz``) if there is one,
else what ``apt-cache dumpavail`` prints. Nothing is downloaded. Indexes differ by suite and day, so
the numbers of rows and of labels that the program prints belong to every result.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import MultiLabelBinarizer

from sdlgm.errors import DataError

__all__ = ["Package", "available", "load_debian_tags", "packages", "tag_table"]

OPENERS: dict[str, Callable[..., Any]] = {
    "Packages": open,
    "Packages.gz": gzip.open,
    "Packages.xz": lzma.open,
}
WORD = r"[^\W_]+[+#]*"
"""Letters and digits, so that C, C++ and C# are three words."""


class Package(NamedTuple):
    """What the set takes from the entry of a package."""

    source: str
    description: str
    tags: tuple[str, ...]


def available() -> bool:
    """Return whether there is an index to read."""
    return _file() is not None or shutil.which("apt-cache") is not None


def load_debian_tags(
    packages_of_a_tag: int = 200, packages_of_a_word: int = 5
) -> tuple[Any, NDArray[np.int64], list[str]]:
    """Return counts of words (CSR), tags (0 or 1, dense), and the names of the tags.

    Parameters
    ----------
    packages_of_a_tag, packages_of_a_word
        Fewest packages that a tag and a word must have. Packages without such a tag are left out.

    Raises
    ------
    DataError
        If there is no index, or it has no tags.
    """
    return tag_table(packages(_lines()), packages_of_a_tag, packages_of_a_word)


def packages(lines: Iterable[str]) -> Iterator[Package]:
    """Yield one package of each source that has a description and tags.

    Packages of one source have nearly the same description: with all of them, rows of a test fold
    would have twins in training. Tags that say that a tag is still to be found (``::TODO``) are
    left out.

    Parameters
    ----------
    lines
        Lines of an index: fields ``Name: value``, continued on lines that begin with a space, and
        an empty line after each package.
    """
    seen = set()
    for fields in _entries(lines):
        source = fields.get("Source", fields.get("Package", "")).partition(" ")[0]
        names = (tag.strip() for tag in fields.get("Tag", "").split(","))
        tags = tuple(tag for tag in names if tag and not tag.endswith("::TODO"))
        if source not in seen and tags and fields.get("Description"):
            seen.add(source)
            yield Package(source, fields["Description"], tags)


def tag_table(
    found: Iterable[Package], packages_of_a_tag: int, packages_of_a_word: int
) -> tuple[Any, NDArray[np.int64], list[str]]:
    """Return counts of words (CSR), tags (0 or 1, dense), and the names of the tags.

    Raises
    ------
    DataError
        If no tag has so many packages.
    """
    found = list(found)
    counts = Counter(tag for package in found for tag in set(package.tags))
    names = sorted(tag for tag, count in counts.items() if count >= packages_of_a_tag)
    if not names:
        raise DataError(
            f"No tag has {packages_of_a_tag} packages in this index of {len(found)} packages with "
            "tags. Some suites have no tags: use the index of another one, or a smaller number."
        )
    known = set(names)
    rows = [(package.description, known & set(package.tags)) for package in found]
    rows = [(text, tags) for text, tags in rows if tags]
    words = CountVectorizer(token_pattern=WORD, min_df=packages_of_a_word, dtype=np.float64)
    x = words.fit_transform([text for text, _ in rows])
    y = MultiLabelBinarizer(classes=names).fit_transform([tags for _, tags in rows])
    return x, y.astype(np.int64), names


def _entries(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    fields: dict[str, str] = {}
    name = ""
    for line in lines:
        if not line.strip():
            yield fields
            fields = {}
        elif line[0] in " \t":
            fields[name] = f"{fields.get(name, '')} {line.strip()}"
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    yield fields


def _file() -> Path | None:
    folder = Path(os.environ.get("SDLGM_DATA", "-")) / "debian"
    return next((folder / name for name in OPENERS if (folder / name).is_file()), None)


def _lines() -> Iterable[str]:
    path = _file()
    if path is not None:
        with OPENERS[path.name](path, "rt", encoding="utf-8") as file:
            yield from file
        return
    program = shutil.which("apt-cache")
    if program is None:
        raise DataError(
            "There is no index of Debian packages: set SDLGM_DATA to a folder with "
            "debian/Packages, or run this on Debian or Ubuntu, where apt-cache prints one."
        )
    printed = subprocess.run(  # noqa: S603  # no part of the command comes from outside
        [program, "dumpavail"], check=True, capture_output=True, encoding="utf-8"
    )
    yield from printed.stdout.splitlines()


def main() -> None:
    """Print the sizes of the set and its most frequent tags."""
    x, y, names = load_debian_tags()
    print(f"{x.shape[0]} packages, {x.shape[1]} words ({x.nnz / x.shape[0]:.1f} a package)")
    print(f"{len(names)} tags, {y.sum(1).mean():.2f} a package, at most {y.sum(1).max()}")
    for place in np.argsort(-y.sum(0))[:10]:
        print(f"{y[:, place].sum():6d} {names[place]}")


if __name__ == "__main__":
    main()
