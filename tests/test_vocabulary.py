"""Every public parameter is in the glossary, and no retired name comes back."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sdlgm
from sdlgm.cli import COMMANDS

ROOT = Path(__file__).parents[1]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
KNOWN = set(re.findall(r"^\| `(\w+)` \|", GLOSSARY, flags=re.MULTILINE))
RETIRED = {
    "choice", "max_count", "slots", "num_latents", "atoms", "normalise", "recipe", "baseline",
    "latents", "latent_slots", "law", "rivals",
}  # fmt: skip
"""Names of earlier versions that now have another name."""


INTERNAL = {"__main__", "cli", "environment", "errors", "limits", "outputs"}
"""Modules whose functions only the library itself calls."""


def public_packages() -> Iterator[Any]:
    yield sdlgm
    for module in pkgutil.iter_modules(sdlgm.__path__, "sdlgm."):
        if module.name.removeprefix("sdlgm.") not in INTERNAL:
            yield importlib.import_module(module.name)


def public_objects() -> Iterator[tuple[str, Any]]:
    for package in public_packages():
        for name in getattr(package, "__all__", ()):
            thing = getattr(package, name)
            if callable(thing) and getattr(thing, "__module__", "").startswith("sdlgm"):
                yield f"{package.__name__}.{name}", thing


def parameters_of(thing: Any) -> set[str]:
    """Names of the parameters of a function, or of a class and its public methods."""
    functions = [thing]
    if inspect.isclass(thing):
        functions += [
            member
            for name, member in inspect.getmembers(thing, inspect.isroutine)
            if not name.startswith("_") and getattr(member, "__module__", "").startswith("sdlgm")
        ]
    found: set[str] = set()
    for function in functions:
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            continue
        for parameter in signature.parameters.values():
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.add(parameter.name)
    return {name for name in found if name != "self" and not name.startswith("_")}


def used() -> dict[str, str]:
    """All public parameter names, each with one place where it is used."""
    places: dict[str, str] = {}
    for place, thing in public_objects():
        for name in parameters_of(thing):
            places.setdefault(name, place)
    for command, entry in COMMANDS.items():
        for action in entry.parser()._actions:
            places.setdefault(action.dest, f"sdlgm {command}")
    return places


def test_every_public_parameter_is_in_the_glossary() -> None:
    missing = {name: place for name, place in used().items() if name not in KNOWN}
    assert not missing


def test_the_glossary_lists_no_name_twice() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", GLOSSARY, flags=re.MULTILINE)
    assert len(listed) == len(set(listed))


def test_no_public_parameter_has_a_retired_name() -> None:
    assert not RETIRED & set(used())


@pytest.mark.parametrize("word", ["law", "rival", "rivals", "heat", "contender", "contenders"])
def test_no_docstring_of_the_library_uses_a_retired_word(word: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(rf"\b{word}\b", line)
    ]
    assert not found


def test_options_of_one_name_have_one_default() -> None:
    """Over all estimators; settings of the data or the model's size may differ."""
    from sdlgm.estimators import SDLGMClassifier, SDLGMCounter, SDLGMTransformer

    for kind in (SDLGMClassifier, SDLGMCounter, SDLGMTransformer):
        defaults = kind().get_params()
        assert defaults["random_state"] is None
        assert defaults["progress"] is False


def test_the_default_code_follows_the_model_everywhere() -> None:
    from sdlgm.codec import encode_file
    from sdlgm.estimators import SDLGMTransformer
    from sdlgm.inference import choose_codes
    from sdlgm.models import SDLGM
    from sdlgm.scale import ArrowEncoder, encode_dataset

    functions = (encode_file, choose_codes, SDLGM.encode, ArrowEncoder, encode_dataset)
    defaults = {inspect.signature(function).parameters["code"].default for function in functions}
    defaults.add(SDLGMTransformer().code)
    defaults.add(COMMANDS["encode"].parser().get_defaults().code)
    assert defaults == {None}


def test_configuration_fields_are_documented_where_they_are_defined() -> None:
    from sdlgm.config import DataConfig, ModelConfig, TrainingConfig

    files = sorted((ROOT / "src" / "sdlgm" / "config").glob("*.py"))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    for config in (DataConfig, ModelConfig, TrainingConfig):
        for field in dataclasses.fields(config):
            assert re.search(rf'^    {field.name}: [^\n]*\n    """', source, flags=re.MULTILINE)
