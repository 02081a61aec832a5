"""Ways to damage and to forge a file, all of them drawn from a seeded generator."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sdlgm.storage import digest

NUMBERS = (
    -1, 0, 1, 2, 3, 7, 255, 256, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32, 10**9, 10**12,
    2**60, 2**63 - 1, 2**63, 10**19, 10**30, -(2**63), 0.0, 0.5, 1.5, -1.0, 1e-320, 1e308,
)  # fmt: skip
WORDS = ("", "x", "nan", "inf", "é" * 300, "\x1b[2J", "[/red]", "a" * 100_000, "../..", "\u202e")


def value(source: random.Random) -> Any:
    """A value that should not be where it is put."""
    kind = source.randrange(10)
    if kind < 5:
        return source.choice(NUMBERS)
    if kind == 5:
        return source.choice(WORDS)
    if kind == 6:
        return source.choice((None, True, False, [], {}, [[]], [None], {"": {}}, "none"))
    if kind == 7:
        return [source.choice(NUMBERS) for _ in range(source.choice((1, 2, 3, 100, 20_000)))]
    if kind == 8:
        deep: Any = 1
        for _ in range(source.choice((3, 30, 100, 300))):
            deep = [deep] if source.random() < 0.5 else {"tuple": [deep]}
        return deep
    return source.choice(
        (
            {"tuple": [source.choice(NUMBERS) for _ in range(3)]},
            {"dict": {"a": source.choice(NUMBERS)}},
            {"float": source.choice(("nan", "inf", "x"))},
            {
                "scalar": [
                    source.choice(("int8", "float32", "U9", "O", "V")),
                    source.choice(NUMBERS),
                ]
            },
            {"strings": ["str", [300], ["a" * 60_000] + ["b"] * 299]},
            {"strings": ["str", [3_000_000], ["b"]]},
            {"strings": ["object", source.choice(([2], [-1], [0, 2**60], ["x"])), ["a", "b"]]},
            {"array": ["fitted.threshold_", "float64", [source.choice(NUMBERS)]]},
        )
    )


def structure(description: Any, source: random.Random) -> Any:
    """Change one to four places of a JSON value."""
    description = copy.deepcopy(description)
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        places = list(_places(description))
        if not places:
            return value(source)
        holder, key = source.choice(places)
        kind = source.randrange(8)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            other, name = source.choice(places)
            holder[key] = copy.deepcopy(other[name])
        elif kind == 2 and isinstance(holder, dict):
            holder[source.choice(("extra", "features", "n_inputs", "members", "", key))] = value(
                source
            )
        elif kind == 3 and type(holder[key]) is int:
            holder[key] += source.choice((-1, 1, 10, 1000, 10**6, 10**9))
        else:
            holder[key] = value(source)
    return description


def _places(tree: Any) -> Any:
    if isinstance(tree, dict):
        keys: Any = list(tree)
    elif isinstance(tree, list):
        keys = range(len(tree))
    else:
        return
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def text_of(description: Any, source: random.Random) -> str:
    """JSON text, sometimes with what no JSON writer would write."""
    text = json.dumps(description, sort_keys=True)
    if source.random() < 0.8:
        return text
    strange = (
        "9" * 5000,
        "NaN",
        "-Infinity",
        "1e999",
        "[" * 50_000,
        '{"a":' * 3000,
        "0x10",
        '"\\ud800"',
    )
    places = [place for place, letter in enumerate(text) if letter == ":"]
    place = source.choice(places) + 1 if places else len(text)
    end = min((e for e in (text.find(",", place), text.find("}", place)) if e > 0), default=place)
    return text[:place] + source.choice(strange) + text[end:]


def weights(tensors: dict[str, Tensor], source: random.Random) -> dict[str, Tensor]:
    """Change one to three tensors: values, shapes, types, names."""
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    for _ in range(source.choice((1, 1, 2, 3))):
        if not tensors:
            break
        name = source.choice(sorted(tensors))
        tensor = tensors[name]
        kind = source.randrange(9)
        if kind == 0 and tensor.numel() and tensor.is_floating_point():
            special = source.choice((torch.nan, torch.inf, -torch.inf, 1e38, 1e-45, -1.0))
            tensor.view(-1)[source.randrange(tensor.numel())] = special
        elif kind == 1:
            tensors[name] = tensor.reshape(-1)[: source.randrange(tensor.numel() + 1)].clone()
        elif kind == 2:
            types = (
                torch.float64,
                torch.float16,
                torch.bfloat16,
                torch.int64,
                torch.bool,
                torch.uint8,
            )
            tensors[name] = tensor.to(source.choice(types))
        elif kind == 3:
            tensors[name] = tensor.reshape(-1)
        elif kind == 4:
            del tensors[name]
        elif kind == 5:
            tensors[
                source.choice(("extra", "optimizer.99.step", "best.x", name + "x", "optimizer.x"))
            ] = tensor.clone()
        elif kind == 6:
            tensors[name] = torch.zeros(
                source.choice(((0,), (), (1,), (0, 7), (3, 1, 2), (100, 100)))
            )
        elif kind == 7:
            tensors[name] = tensor.T.contiguous() if tensor.dim() == 2 else tensor.unsqueeze(0)
        else:
            tensors[name] = torch.full_like(tensor, source.choice((0, 1, 100)))
    return tensors


def sign(path: Path, json_path: Path | None, tensors: dict[str, Tensor], text: str) -> None:
    """Write tensors and a description (any text) with the digest that belongs to them."""
    owned = {name: tensor.contiguous() for name, tensor in tensors.items()}
    sha = digest(owned, text)
    save_file(owned, path, metadata={"sdlgm": json.dumps({"sha256": sha, "state": text})})
    if json_path is not None:
        body = text[:-1] + f', "sha256": "{sha}"}}' if text.endswith("}") else text
        json_path.write_text(body, encoding="utf-8", errors="surrogatepass")


def damage(content: bytes, source: random.Random) -> bytes:
    """Change bytes: flip, overwrite, insert, remove, repeat or cut."""
    data = bytearray(content)
    for _ in range(source.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        place = source.randrange(len(data))
        length = source.choice((1, 1, 2, 4, 8, 100))
        kind = source.randrange(7)
        if kind == 0:
            data[place] ^= 1 << source.randrange(8)
        elif kind == 1:
            data[place : place + length] = source.randbytes(min(length, len(data) - place))
        elif kind == 2:
            data[place:place] = source.randbytes(length)
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            size = min(source.choice((1, 2, 4, 8)), len(data) - place)
            word = source.choice(
                (0, 1, 2**7 - 1, 2**8 - 1, 2**15, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1)
            )
            data[place : place + size] = word.to_bytes(8, "little")[:size]
        elif kind == 5:
            data[place:place] = data[place : place + length] * source.choice((1, 2, 50))
        else:
            del data[source.randrange(len(data)) :]
    return bytes(data)


def text_damage(text: str, source: random.Random) -> str:
    """Change lines and words of a text."""
    lines = text.splitlines()
    for _ in range(source.choice((1, 1, 2, 4))):
        place = source.randrange(len(lines) + 1)
        kind = source.randrange(6)
        if kind == 0 and place < len(lines):
            del lines[place]
        elif kind == 1 and place < len(lines):
            lines[place] = lines[place] + source.choice((",", "{", "}", "'", '"', "%", " 9" * 500))
        elif kind == 2 and place < len(lines):
            words = lines[place].split(",")
            words[source.randrange(len(words))] = str(source.choice((*NUMBERS, *WORDS)))
            lines[place] = ",".join(words)
        elif kind == 3 and place < len(lines):
            lines[place:place] = [lines[place]] * source.choice((1, 3, 2000))
        elif kind == 4:
            lines.insert(
                place,
                source.choice(
                    (
                        "@attribute x {a,b}",
                        "@data",
                        "{0 1,9999 1}",
                        "?",
                        "," * 200_000,
                        "&a [*a]",
                        "- " * 500,
                        "[" * 5000,
                        "{" * 5000,
                    )
                ),
            )
        else:
            return damage(text.encode(), source).decode("utf-8", "replace")
    return "\n".join(lines)
