from __future__ import annotations

import re
from pathlib import Path

import pytest

from wasi_http.component import Interface
from wasi_http.component.link.linker import Linker
from wasi_http.engine import Engine
from wasi_http.wasi import INTERFACES, add_to_linker


def read_world() -> dict[str, list[str]]:
    """The interfaces of imports.txt: name -> sorted lines, with the named types written out."""
    types: dict[str, str] = {}
    world: dict[str, list[str]] = {}
    interface: list[str] = []
    for line in (Path(__file__).parent / "imports.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        text = re.sub(r"\$([a-z0-9.-]+)", lambda match: types[match[1]], line.strip())
        if line.startswith("let "):
            name, _, type_ = text.removeprefix("let ").partition(" = ")
            types[name] = type_
        elif line.startswith("  "):
            interface.append(text)
        elif text:
            interface = world[text] = []
    return {name: sorted(lines) for name, lines in world.items()}


WORLD = read_world()


def test_the_world_is_complete() -> None:
    assert sorted(interface.name for interface in INTERFACES) == sorted(WORLD)
    assert len(INTERFACES) == 28
    assert sum(len(interface().functions()) for interface in INTERFACES) == 126


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)
def test_interfaces_are_declared_as_in_wit(interface: type[Interface]) -> None:
    lines = [f"{name}: {function.type}" for name, function in interface().functions().items()]
    lines += [f"resource {name}" for name in interface.resource_types()]
    assert sorted(lines) == WORLD[interface.name]


def test_what_may_suspend() -> None:
    suspending = {
        name for interface in INTERFACES for name, function in interface().functions().items() if function.may_suspend
    }
    assert suspending == {
        "poll",
        "[method]pollable.block",
        "[method]input-stream.blocking-read",
        "[method]input-stream.blocking-skip",
        "[method]output-stream.blocking-write-and-flush",
        "[method]output-stream.blocking-flush",
        "[method]output-stream.blocking-write-zeroes-and-flush",
        "[method]output-stream.blocking-splice",
    }


def test_all_are_added_to_a_linker(engine: Engine) -> None:
    add_to_linker(Linker(engine))
    for interface in INTERFACES:
        Linker(engine).define(interface)
