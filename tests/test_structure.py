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
FLOORS = ("engine", "component", "wasi", "http", "bindings", "doors", "server", "cli")


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


def floor(name: str) -> int:
    return FLOORS.index(name if name in FLOORS else "http")


@pytest.mark.parametrize("name", [name for name in FILES if part(name, "__init__") not in ("__init__", "__main__")])
def test_imports_run_downwards(name: str) -> None:
    mine = part(name)
    theirs = {part(source, taken) for source, taken in imports(FILES[name])} - {mine}
    if mine == "wire":
        assert not theirs
    above = {other for other in theirs - {"wire"} if floor(other) >= floor(mine)}
    if floor(mine) == FLOORS.index("http"):
        above = {other for other in above if floor(other) > floor(mine)}
    assert not above
    # Who puts HTTP on the wire is no part of WASI or of what is below.
    assert "wire" not in theirs or floor(mine) >= FLOORS.index("http")
    if mine == "client":
        assert theirs <= {"error", "pipe", "wire"}


def test_no_module_needs_itself() -> None:
    """Not even for its annotations."""
    needs = {
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
    while free := [name for name in needs if not needs[name] & needs.keys()]:
        for name in free:
            del needs[name]
    assert not needs


def test_contributing_draws_these_floors() -> None:
    (drawn,) = re.findall(r"Imports run downwards only: `(.*?)`", CONTRIBUTING, re.DOTALL)
    names = re.findall(r"[\w]+", drawn.replace("(wasi:http modules, client)", "http"))
    assert tuple(reversed(names)) == FLOORS


def test_contributing_draws_these_folders() -> None:
    (drawn,) = re.findall(r"```\nsrc/wasi_http/\n(.*?)\ntests/", CONTRIBUTING, re.DOTALL)
    names: list[str] = []
    for line in drawn.splitlines():
        if line[2] != " ":
            names += re.findall(r"\S+(?:/|\.py)(?= |$)", line.split("   ")[0])
    there = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in PACKAGE.glob("*.py")}
    assert sorted(names) == sorted(there)
