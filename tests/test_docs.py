"""What the documents promise: every Python name in docs/rust.md exists, and the programs of docs/embedding.md run."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.embedding import State, component
from tests.server.serving import run
from wasi_http import ClientRequest, Engine, HttpError, Linker, OutgoingRequestConfig, Request, add_to_linker_sync
from wasi_http.bindings import sync
from wasi_http.bindings.http.types import ErrorCode
from wasi_http.pipe import Pipe

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


# ---- README.md ------------------------------------------------------------------------------------------------------


def test_the_program_of_the_readme(engine: Engine) -> None:
    readme = (DOCS.parent / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    definitions, run_it, rest = code.partition("asyncio.run(main())")
    assert (run_it, rest) == ("asyncio.run(main())", "\n")
    path = DOCS.parent / "examples" / "hello.wat"
    # With the engine of the tests: another one would reserve as much address space again.
    definitions = definitions.replace('"app.wasm"', repr(str(path))).replace("engine = Engine()\n", "")
    program: dict[str, Any] = {"__name__": "readme", "engine": engine}
    exec(compile(definitions, "README.md", "exec", dont_inherit=True), program)

    async def main() -> None:
        response = await program["handle"](Request(authority="localhost"))
        assert await response.body.read() == b"Hello, WASI!\n"

    run("asyncio", main())


# ---- docs/embedding.md ----------------------------------------------------------------------------------------------


def stand_in() -> ModuleType:
    """As much of httpx as the guide uses, for where it is not installed."""
    module = ModuleType("httpx")

    class Request:
        def __init__(self, method: str, url: str, headers: Any, content: Any) -> None:
            self.method, self.url, self.headers, self.stream = method, url, headers, content

    vars(module).update(Request=Request, AsyncBaseTransport=object)
    return module


@pytest.fixture(scope="module")
def guide() -> Any:
    """What the programs of the guide define, one after the other."""
    try:
        importlib.import_module("httpx")
    except ImportError:
        sys.modules["httpx"] = stand_in()
    defined: dict[str, Any] = {"__name__": "guide"}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "embedding.md").read_text(), re.DOTALL):
        exec(compile(code, "embedding.md", "exec", dont_inherit=True), defined)
    return SimpleNamespace(**defined)


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


class Calling(State):
    """A state whose requests go to a coroutine function."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self._call = call

    async def send_request(self, request: ClientRequest, config: OutgoingRequestConfig) -> Any:
        return await self._call(request)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application: tells what was asked, then returns what was sent."""
    said = f"{scope['method']} {scope['scheme']} {scope['path']} {scope['query_string'].decode()} ".encode()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": said, "more_body": True})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


def test_an_asgi_application(engine: Engine, guide: Any) -> None:
    data = bytes(range(256)) * 400  # that guest reads nothing before it has sent everything
    request = Request("POST", "/fetch-post", [(b"x-url", b"http://app/a%20b?q=1")], data, "me")
    state = Calling(lambda sent: guide.call_asgi(echo, sent))
    status, body = guide.fetch(engine, link(engine, "c_fetch"), state, request)
    assert (status, body) == (201, b"POST http /a b q=1 " + data)


def test_an_asgi_application_that_fails(guide: Any) -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def at_once(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("at once")

    async def half_way(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def main() -> None:
        request = ClientRequest("GET", "http", "app", "/")
        with pytest.raises(HttpError) as incomplete:
            await guide.call_asgi(nothing, request)
        assert incomplete.value.code == ErrorCode.HttpResponseIncomplete
        with pytest.raises(KeyError):
            await guide.call_asgi(at_once, request)
        response = await guide.call_asgi(half_way, request)
        with pytest.raises(HttpError):
            await response.body.read()

    run("asyncio", main())


def test_an_asgi_application_is_cancelled_when_its_response_is_not_wanted(guide: Any) -> None:
    async def main() -> None:
        cancelled = asyncio.Event()

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200})
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            except asyncio.CancelledError:
                cancelled.set()
                raise

        response = await guide.call_asgi(endless, ClientRequest("GET", "http", "app", "/"))
        async for _ in response.body:
            break
        response.body.cancel()
        await cancelled.wait()

    run("asyncio", main())


class Transport:
    """A transport of httpx that answers with what it is sent."""

    def __init__(self) -> None:
        self.closed = False

    async def handle_async_request(self, request: Any) -> Any:
        async def stream() -> AsyncIterator[bytes]:
            yield f"{request.method} {request.url} ".encode()
            async for chunk in request.stream:
                yield chunk

        async def close() -> None:
            self.closed = True

        raw = [(b"A", b"b"), (b"Transfer-Encoding", b"chunked")]
        return SimpleNamespace(status_code=202, headers=SimpleNamespace(raw=raw), stream=stream(), aclose=close)


def test_a_transport_of_httpx(guide: Any) -> None:
    async def main() -> None:
        transport = Transport()
        request = ClientRequest("POST", "https", "app:8443", "/a?b", [(b"c", b"d")], Pipe.of(b"sent"))
        response = await guide.call_httpx(transport, request)
        assert (response.status, response.headers) == (202, [(b"A", b"b")])
        assert await response.body.read() == b"POST https://app:8443/a?b sent"
        assert transport.closed

    run("asyncio", main())
