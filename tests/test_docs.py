"""What the documents promise: names exist, numbers are those of the code, and the programs run."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.embedding import component
from tests.guests.build import GuestUnavailable, build
from tests.server.serving import PATIENCE, run, until
from wasi_http import (
    ClientConfig,
    Engine,
    EngineConfig,
    Linker,
    OutgoingRequestConfig,
    Request,
    ResourceTable,
    Service,
    StoreLimits,
    WasiCtx,
    WasiHttpCtx,
    add_to_linker_sync,
)
from wasi_http.bindings import sync
from wasi_http.cli.compile import compile_
from wasi_http.cli.serve import serve
from wasi_http.engine.cache import cache_directory
from wasi_http.engine.library import library_path
from wasi_http.http1 import Limits
from wasi_http.server.config import ServerConfig

DOCS = Path(__file__).parents[1] / "docs"

NAMES = sorted(set(re.findall(r"wasi_http(?:\.\w+)+", (DOCS / "rust.md").read_text())))


def test_the_table_names_what_it_is_about() -> None:
    assert len(NAMES) > 60


@pytest.mark.parametrize("name", NAMES)
def test_every_name_exists(name: str) -> None:
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for position, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            importlib.import_module(".".join(parts[:position]))
        found = getattr(found, part)
    assert found is not None


# ---- links ----------------------------------------------------------------------------------------------------------

PAGES = sorted([*DOCS.parent.glob("*.md"), *DOCS.glob("*.md"), *DOCS.parent.glob("*/README.md")])


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# ---- docs/limits.md -------------------------------------------------------------------------------------------------

CLASSES = {
    cls.__name__: cls
    for cls in (
        StoreLimits,
        EngineConfig,
        ServerConfig,
        ClientConfig,
        OutgoingRequestConfig,
        Limits,
        WasiCtx,
        WasiHttpCtx,
        ResourceTable,
    )
}

UNITS = {"": 1, "ms": 0.001, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

#: Numbers in the fields of the classes that are no limits.
NO_LIMITS = {
    "EngineConfig.memory_keep_resident": "what a pool keeps of an instance for the next one",
    "EngineConfig.table_keep_resident": "the same",
    "EngineConfig.stack_keep_resident": "the same",
    "EngineConfig.async_stack_size": "the guest's stack and what host functions need",
}

#: Constants that are called as limits are.
OTHERS = {
    "component.abi.layout.MAX_FLAT_PARAMS": "the canonical ABI",
    "component.abi.layout.MAX_FLAT_RESULTS": "the canonical ABI",
    "http.context.DEFAULT_FIELD_SIZE_LIMIT": "`WasiHttpCtx.field_size_limit`",
    "wasi.context.MAX_RANDOM_BYTES": "`WasiCtx.max_random_bytes`",
    "wasi.context.MAX_POLLABLES": "`WasiCtx.max_pollables`",
    "wasi.clocks._MAX_U64": "a type",
}


def rows() -> list[list[str]]:
    """The tables of limits with all columns: limit, default, name, what happens, test."""
    lines = (DOCS / "limits.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return [row for row in cells if len(row) == 5 and row[0] != "limit" and row[0].strip("-")]


def default(name: str) -> Any:
    """The value of a limit, by the name that the document gives it."""
    owner, _, last = name.rpartition(".")
    if owner in CLASSES:
        made = CLASSES[owner]()
        return getattr(made, last)
    return getattr(importlib.import_module(f"wasi_http.{owner}"), last)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_limit_is_what_is_written(row: list[str]) -> None:
    _, written, names, _, tests = row
    name = re.findall(r"`(.*?)`", names)[0]
    option = re.search(r"`--(.*?)`", names)
    if option is not None:
        (parameter,) = [found for found in serve.params if f"--{option[1]}" in found.opts]
        if not name.startswith("--"):
            assert serve.make_context("serve", ["app.wasm"]).params[parameter.name] == default(name)
    if not name.startswith("--"):
        number = re.match(r"([\d,]+)(?: (ms|s|KiB|MiB|GiB))?(?: less (\d))?", written)
        if number is None:
            assert (written, default(name)) == ("none", None)
        else:
            value = int(number[1].replace(",", "")) * UNITS[number[2] or ""] - int(number[3] or 0)
            assert value == pytest.approx(default(name))
    found = re.findall(r"`(.*?)`", tests)
    assert found or tests == "none"
    assert not [test for test in found if test not in TESTS]


TESTS = {
    name
    for path in Path(__file__).parent.rglob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text())
}


def test_every_test_that_conformance_names_exists() -> None:
    tables = [line.split("|")[-2] for line in (DOCS / "conformance.md").read_text().splitlines() if line[:1] == "|"]
    named = {name for cell in tables for name in re.findall(r"`(test_\w+)`", cell)}
    assert len(named) > 80
    assert named - TESTS == set()


def test_every_limit_is_written_down() -> None:
    written = {name for row in rows() for name in re.findall(r"`(.*?)`", row[2])}
    classes = (StoreLimits, EngineConfig, ServerConfig, ClientConfig, OutgoingRequestConfig, Limits)
    fields = {
        f"{cls.__name__}.{field.name}"
        for cls in classes
        for field in dataclasses.fields(cls)
        if field.type.split(" | ")[0] in ("int", "float", "ConnectionQuota")
    }
    assert len(fields) > 30
    assert fields - NO_LIMITS.keys() == {
        name for name in written if name.split(".")[0] in [cls.__name__ for cls in classes]
    }
    source = DOCS.parent / "src" / "wasi_http"
    called = r"^(_?(?:MAX_\w+|\w+_(?:LIMIT|PERMIT|BUFFER)|LONGEST|LINGER))(?:: Final)? = [\d(]"
    constants = {
        ".".join((*path.relative_to(source).with_suffix("").parts, name))
        for path in source.rglob("*.py")
        for name in re.findall(called, path.read_text(), re.MULTILINE)
    }
    assert len(constants) > 30
    assert constants - OTHERS.keys() - written == set()


# ---- docs/serve.md --------------------------------------------------------------------------------------------------


def test_every_option_that_is_written_about_is_there() -> None:
    options = {name for command in (serve, compile_) for option in command.params for name in option.opts}
    # The table of docs/serve.md is about the options of `wasmtime serve`, too.
    texts = [(DOCS / name).read_text() for name in ("limits.md", "egress.md", "embedding.md")]
    texts += re.findall(r"^(?!\|).*", (DOCS / "serve.md").read_text(), re.MULTILINE)
    texts += re.findall(r"wasi-http serve.*", (DOCS.parent / "README.md").read_text())
    found = {name for text in texts for name in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)}
    assert len(found) > 15
    assert found - options - {"--help"} == set()


def test_the_cache_is_where_it_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (DOCS / "serve.md").read_text()
    for platform, said, home in (
        ("linux", "`~/.cache/wasi-http`", ".cache/wasi-http"),
        ("darwin", "`~/Library/Caches/wasi-http`", "Library/Caches/wasi-http"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        assert said in text
        assert cache_directory() == Path.home() / home
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "`$XDG_CACHE_HOME/wasi-http`" in text
    assert cache_directory() == tmp_path / "wasi-http"


# ---- README.md ------------------------------------------------------------------------------------------------------


def test_the_programs_of_the_readme(tmp_path: Path) -> None:
    readme = (DOCS.parent / "README.md").read_text()
    first, second = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", first],
        capture_output=True,
        cwd=DOCS.parent,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"prints `{done.stdout.strip()}`" in readme
    assert second in (DOCS.parent / "examples" / "service.py").read_text()


# ---- docs/embedding.md ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guide() -> Any:
    """What the programs of the guide define, one after the other."""
    defined: dict[str, Any] = {"__name__": "guide"}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "embedding.md").read_text(), re.DOTALL):
        exec(compile(code, "embedding.md", "exec", dont_inherit=True), defined)
    return SimpleNamespace(**defined)


def test_the_first_program(guide: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run("asyncio", guide.main(str(DOCS.parent / "examples" / "hello.wat")))
    assert capsys.readouterr().out == "200 b'Hello, WASI!\\n'\n"


def test_a_blocking_service(guide: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert guide.get(str(DOCS.parent / "examples" / "hello.wat")) == (200, b"Hello, WASI!\n")


def path_of(name: str) -> str:
    try:
        return str(build(name))
    except GuestUnavailable as error:
        pytest.skip(str(error))


def test_a_service_streams(engine: Engine, guide: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(100_000)

    async def main() -> int:
        async with Service.from_file(path_of("c_echo"), engine=engine) as service:
            return cast(int, await guide.upload(service, pieces()))

    assert run("asyncio", main()) == 1_000_000


def test_a_service_informs(engine: Engine, guide: Any) -> None:
    async def main() -> list[int]:
        async with Service.from_file(path_of("c_rules"), engine=engine) as service:
            return cast(list[int], await guide.hints(service, Request("GET", "http://a/informational/103")))

    assert run("asyncio", main()) == [103]


def test_a_service_in_front_of_another(engine: Engine, guide: Any) -> None:
    async def main() -> None:
        async with (
            Service.from_file(path_of("c_kitchen"), engine=engine) as upstream,
            guide.Chained.from_file(path_of("c_fetch"), engine=engine) as service,
        ):
            service.upstream, service.printed = upstream, []
            request = Request("GET", "http://me/fetch", [(b"x-url", b"http://other/status/418")])
            assert (await service.handle(request)).status == 418
        async with guide.Chained.from_file(path_of("c_kitchen"), engine=engine) as service:
            service.printed = []
            await (await service.handle(Request("GET", "http://me/after"))).read()
            await until(lambda: service.printed)
        assert service.printed == [(0, b"still here\n")]

    run("asyncio", main())


def test_the_layer_below(engine: Engine, guide: Any) -> None:
    async def main() -> None:
        pre = guide.load(engine, str(DOCS.parent / "examples" / "hello.wat"))
        response = await guide.handle(engine, pre, Request(authority="localhost"))
        assert await response.read() == b"Hello, WASI!\n"
        async with Service(engine, pre) as service:
            assert (await service.handle(Request(authority="localhost"))).status == 200

    run("asyncio", main())


def link(engine: Engine, name: str) -> sync.ProxyPre:
    linker = Linker(engine)
    add_to_linker_sync(linker)
    return sync.ProxyPre(linker.instantiate_pre(component(engine, name)))


# URL, status, what the body begins with.
SETTINGS = [
    ("http://settings/colour", 200, b"blue"),
    ("http://settings/shape", 404, b""),
    ("http://elsewhere/", 502, b"error-code "),
]


@pytest.mark.parametrize(("url", "status", "body"), SETTINGS)
def test_settings_without_a_socket(engine: Engine, guide: Any, url: str, status: int, body: bytes) -> None:
    request = Request("GET", "/fetch", [(b"x-url", url.encode())], authority="me")
    state = guide.Settings({"colour": b"blue"})
    found = guide.fetch(engine, link(engine, "c_fetch"), state, request)
    assert (found[0], found[1][: len(body)]) == (status, body)


@pytest.mark.parametrize(("view", "body"), [("Mounted", b"This is /a%20b"), ("Mocked", b"mocked")])
def test_requests_that_adapters_answer(engine: Engine, guide: Any, view: str, body: bytes) -> None:
    request = Request("GET", "/fetch", [(b"x-url", b"http://app/a%20b?q=1")], authority="me")
    found = guide.fetch(engine, link(engine, "c_fetch"), getattr(guide, view)({}), request)
    assert found == (200, body)


# ---- docs/troubleshooting.md ----------------------------------------------------------------------------------------


def _said(node: ast.AST) -> Iterator[str]:
    """The texts of a module but for docstrings; what is formatted into them is a line break."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _said(child)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """All texts of the source, and what wasmtime says."""
    source = (DOCS.parent / "src" / "wasi_http").rglob("*.py")
    library = re.findall(rb"[ -~]{8,}", Path(library_path()).read_bytes())
    ours = [text for path in source for text in _said(ast.parse(path.read_text()))]
    return ours + [run.decode() for run in library if b"wasm `unreachable`" in run or b"maximum concurrent" in run]


TROUBLES = [
    row.split("|")[1].strip().strip("`")
    for row in (DOCS / "troubleshooting.md").read_text().splitlines()
    if row.startswith("| `")
]


def test_every_error_has_one_row() -> None:
    assert len(TROUBLES) > 60
    assert len(TROUBLES) == len(set(TROUBLES))


@pytest.mark.parametrize("trouble", TROUBLES)
def test_quoted_errors_are_those_of_the_source(trouble: str, texts: list[str]) -> None:
    fragments = [fragment for fragment in trouble.split("…") if fragment.strip()]
    assert max(map(len, fragments)) >= 9
    assert any(all(fragment in text for fragment in fragments) for text in texts)
