"""How the package is put together: `__all__` of every module, and imports that run downwards."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "wasi_http"
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()

FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

#: From the bottom to the top. Rooms import from the floors below theirs, not from each other on one floor.
FLOORS = (
    {"engine"},
    {"component"},
    {"wasi"},
    {"http"},
    {"service"},
    {"doors", "server", "bindings"},
    {"cli"},
    {"__main__", "__init__"},
)
#: The ground beside them: these import nothing of ours, and `client` imports these alone.
GROUND = {"flow", "net", "http1"}
#: Imports nothing of ours, and may be imported by all, the ground included.
BEDROCK = {"settings"}

MAX_ROOMS = 18
MAX_FLOORS = 10


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Modules of the package that a module imports names from, and the names; those for type checkers alone too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            source = (node.module or "").removeprefix("cython.cimports.")
            if source.partition(".")[0] == "wasi_http":
                for alias in node.names:
                    yield source, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "wasi_http":
                    yield alias.name, ""


def part(module: str, name: str = "") -> str:
    """The file or folder of the package that it is in."""
    return [*module.split("."), name][1]


# ---- names ----------------------------------------------------------------------------------------------------------


def defined(path: Path) -> list[str]:
    """The public classes and functions of a module; those of a compiled one are what its stub shows."""
    stub = path.with_suffix(".pyi")
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse((stub if stub.exists() else path).read_text()).body
    return [node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")]


def order(name: str) -> tuple[int, list[tuple[int, str]]]:
    """Constants, classes, functions; numbers by their value."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2
    return kind, [(int(digits or -1), text) for digits, text in re.findall(r"(\d+)|(\D+)", name)]


@pytest.mark.parametrize("name", FILES)
def test_all_is_true_complete_and_sorted(name: str) -> None:
    module = importlib.import_module(name)
    names = module.__all__
    assert sorted(set(names), key=order) == list(names)
    exec(f"from {name} import *", found := {})  # type: ignore[var-annotated]
    assert set(found) - {"__builtins__"} == set(names)
    assert not set(defined(FILES[name])) - set(names)


def test_what_one_module_has_from_another_is_public_there() -> None:
    taken = {
        (source, name)
        for path in FILES.values()
        for source, name in imports(path)
        # What compiled modules have of each other is in the .pxd.
        if source in FILES
        and f"{source}.{name}" not in FILES
        and not FILES[source].with_suffix(".pxd").exists()
        and not (FILES[source].parent / f"{name}.pxd").exists()
    }
    assert len(taken) > 200
    assert not [(source, name) for source, name in taken if name not in importlib.import_module(source).__all__]


def test_stubs_have_all_that_their_modules_offer() -> None:
    stubs = sorted(PACKAGE.rglob("*.pyi"))
    assert len(stubs) > 5
    for stub in stubs:
        shown = {
            getattr(target, "id", None) or getattr(node, "name", None)
            for node in ast.parse(stub.read_text()).body
            for target in [*getattr(node, "targets", []), getattr(node, "target", None), node]
        }
        name = ".".join(stub.relative_to(PACKAGE.parent).with_suffix("").parts)
        assert not set(importlib.import_module(name).__all__) - shown, stub


# ---- floors ---------------------------------------------------------------------------------------------------------


def needs() -> dict[str, set[str]]:
    """What each room, a module or folder right in the package, imports from."""
    found: dict[str, set[str]] = {}
    for name, path in FILES.items():
        mine = part(name, "__init__")
        found.setdefault(mine, set()).update(
            other
            for other in (part(source, taken) for source, taken in imports(path))
            if other in ROOMS and other != mine
        )
    return found


ROOMS = {part(name, "__init__") for name in FILES}
NEEDS = needs()


def floor(room: str) -> int:
    (number,) = (number for number, rooms in enumerate(FLOORS) if room in rooms)
    return number


def allowed(room: str) -> set[str]:
    """What a room may import from. Those who know nothing of HTTP do not see how it is put on the wire."""
    if room in BEDROCK:
        return set()
    if room in GROUND:
        return BEDROCK
    if room == "client":
        return GROUND | BEDROCK
    below = set().union(*FLOORS[: floor(room)])
    http = FLOORS.index({"http"})
    beside = GROUND | {"client"} if floor(room) >= http else {"flow", "net"} if room == "wasi" else set()
    return below | beside | BEDROCK


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_run_downwards(room: str) -> None:
    theirs = NEEDS[room]
    if room == "__init__":
        theirs = theirs - {"__init__"}
    assert theirs <= allowed(room)


def test_the_house_is_small() -> None:
    """Few rooms, none of which needs itself by way of others, and few floors: rooms that stand upon each other."""
    assert len(ROOMS - {"__init__"}) <= MAX_ROOMS
    heights: dict[str, int] = {}
    while free := [room for room in NEEDS if room not in heights and NEEDS[room] <= heights.keys()]:
        heights |= {room: 1 + max((heights[other] for other in NEEDS[room]), default=0) for room in free}
    assert not NEEDS.keys() - heights.keys()
    assert max(heights.values()) <= MAX_FLOORS


def test_no_module_needs_itself() -> None:
    """Not even for its annotations."""
    modules = {
        name: {
            module
            for source, taken in imports(path)
            for module in (f"{source}.{taken}", source)
            # A package's face stands above its modules, and hands on what is theirs.
            if module in FILES and module != name and FILES[module].name != "__init__.py"
        }
        for name, path in FILES.items()
        if path.name != "__init__.py"
    }
    # Compiled modules need what their declarations do, which is theirs alone.
    while free := [name for name in modules if not modules[name] & modules.keys()]:
        for name in free:
            del modules[name]
    assert not modules


def test_contributing_draws_these_floors() -> None:
    drawn, client, ground = re.findall(
        r"Imports run downwards only: `(.*?)`;\s+`client → (.*?)`;\s+(.*?)\s+import nothing of ours",
        CONTRIBUTING,
        re.DOTALL,
    )[0]
    floors = [set(re.findall(r"\w+", names)) for names in drawn.split("→")]
    assert floors[::-1] == [rooms - {"__main__", "__init__"} for rooms in FLOORS][:-1]
    assert set(re.findall(r"\w+", client)) == GROUND
    assert set(re.findall(r"`(\w+)`", ground)) == GROUND
    assert f"but `{min(BEDROCK)}`" in CONTRIBUTING


def test_contributing_draws_these_folders() -> None:
    (drawn,) = re.findall(r"```\nsrc/wasi_http/\n(.*?)\ntests/", CONTRIBUTING, re.DOTALL)
    names: list[str] = []
    for line in drawn.splitlines():
        if line[2] != " ":
            names += re.findall(r"\S+(?:/|\.py)(?= |$)", line.split("   ")[0])
    there = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in PACKAGE.glob("*.py")}
    assert sorted(names) == sorted(there)
