"""Each hook of the view takes effect, seen from a guest."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedding import State, link
from tests.server.serving import run
from wasi_http import (
    DEFAULT_FORBIDDEN_HEADERS,
    Body,
    Engine,
    HttpError,
    NoResponse,
    OutgoingRequestConfig,
    Request,
    Store,
    WasiHttpCtx,
)
from wasi_http.bindings.http.types import ErrorCode, Scheme
from wasi_http.component import Err
from wasi_http.flow.pipe import BODY_BUFFER
from wasi_http.http.fields import Fields
from wasi_http.http.message import Response
from wasi_http.http.outgoing import OutgoingHandler
from wasi_http.http.send import default_send_request
from wasi_http.http.types import OutgoingRequest, OutgoingResponse

_handle = OutgoingHandler().functions()["handle"].call


async def ask(engine: Engine, state: State, guest: str, request: Request) -> tuple[int, list[Any], bytes]:
    """Status, headers and body of a guest's response."""
    store = Store(engine, state)
    req, out = state.new_incoming_request(Scheme.HTTP, request), state.new_response_outparam()
    proxy = await link(engine, guest).instantiate_async(store)
    task = asyncio.create_task(proxy.wasi_http_incoming_handler.call_handle(store, req, out))
    try:
        response = await out.response(task)
        body = await response.body.read()
        await task
    finally:
        store.close()
    return response.status, response.headers, body


def outgoing(state: State, scheme: Scheme | None = None, path: str = "/", host: str = "") -> OutgoingRequest:
    request = OutgoingRequest(Fields(state, [(b"host", host.encode())] if host else []))
    request.set_scheme(scheme)
    request.set_authority("example.com:81")
    request.set_path_with_query(path)
    return request


class Recording(State):
    """Answers requests without a socket, and remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[Request, OutgoingRequestConfig]] = []

    async def send_request(self, request: Request, config: OutgoingRequestConfig) -> Response:
        self.sent.append((request, config))
        return Response(201, [(b"x-from", b"python")], b"no socket")


async def send(state: Recording, request: OutgoingRequest) -> Request:
    """What `send_request` gets to see of a guest's request; raises Err."""
    future = _handle(state, request, None)
    await asyncio.wait([future._future])
    future.drop()
    return state.sent[-1][0]


def test_send_request_answers_without_a_socket(engine: Engine) -> None:
    state = Recording()
    request = Request("GET", "/fetch-head", [(b"x-url", b"https://a.example:8443/p?q")], authority="me")
    status, _, body = run("asyncio", ask(engine, state, "c_fetch", request))
    assert (status, body) == (200, b"status 201\nx-from: python\n")
    ((sent, config),) = state.sent
    assert (sent.method, sent.scheme, sent.authority, sent.path) == ("GET", "https", "a.example:8443", "/p?q")
    assert config.use_tls


# The scheme that a guest sets, what the hook makes of it, the scheme that is sent or None for the error.
SCHEMES = [
    (None, None, "https"),
    (Scheme.HTTP, None, "http"),
    (Scheme.HTTPS, None, "https"),
    (Scheme.Other("ws"), None, None),
    (Scheme.HTTP, lambda scheme: scheme is Scheme.HTTPS, None),
    (Scheme.Other("ws"), lambda scheme: scheme == Scheme.Other("ws"), "ws"),
    (None, lambda scheme: False, None),
]


@pytest.mark.parametrize(("scheme", "supported", "sent"), SCHEMES)
def test_is_supported_scheme(scheme: Scheme | None, supported: Any, sent: str | None) -> None:
    state = Recording()
    if supported is not None:
        state.is_supported_scheme = supported  # type: ignore[method-assign]

    async def main() -> None:
        if sent is None:
            with pytest.raises(Err) as raised:
                await send(state, outgoing(state, scheme))
            assert raised.value.value == ErrorCode.HttpProtocolError
        else:
            assert (await send(state, outgoing(state, scheme))).scheme == sent

    run("asyncio", main())


@pytest.mark.parametrize("default", [None, Scheme.HTTP, Scheme.HTTPS])
def test_default_scheme(default: Scheme | None) -> None:
    state = Recording()
    state.default_scheme = lambda: default  # type: ignore[method-assign]

    async def main() -> None:
        assert (await send(state, outgoing(state, Scheme.HTTP))).scheme == "http"
        if default is None:
            with pytest.raises(Err) as raised:
                await send(state, outgoing(state))
            assert raised.value.value == ErrorCode.HttpProtocolError
        else:
            assert (await send(state, outgoing(state))).scheme == str(default)
            assert state.sent[-1][1].use_tls == (default is Scheme.HTTPS)

    run("asyncio", main())


# The hook, what a guest that may has set, what comes to `send_request`, what the server is told.
HOSTS = [
    (True, "", [(b"host", b"example.com:81")], b"example.com:81"),
    (True, "other", [(b"host", b"example.com:81")], b"example.com:81"),
    (False, "", [], b"example.com:81"),
    (False, "other", [(b"host", b"other")], b"other"),
]


@pytest.mark.parametrize(("hook", "host", "headers", "told"), HOSTS)
def test_set_host_header(hook: bool, host: str, headers: list[Any], told: bytes) -> None:
    state = Recording()
    state.set_host_header = lambda: hook  # type: ignore[method-assign]
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def main() -> None:
        sent = await send(state, outgoing(state, Scheme.HTTP, host=host))
        assert sent.headers == headers
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address, port = server.sockets[0].getsockname()
        # Whom to connect to is the authority's to say, whatever the server is told.
        others = [(name, value.replace(b"example.com:81", told)) for name, value in sent.headers]
        await default_send_request(Request("GET", f"http://{address}:{port}/", others), OutgoingRequestConfig())
        server.close()
        line = told if headers else f"{address}:{port}".encode()
        assert heard[0].lower().count(b"host:") == 1
        assert b"\r\nhost: " + line + b"\r\n" in heard[0]

    run("asyncio", main())


def test_is_forbidden_header(engine: Engine) -> None:
    class Strict(State):
        def is_forbidden_header(self, name: str) -> bool:
            return name == "authorization" or name in DEFAULT_FORBIDDEN_HEADERS

    request = Request("GET", "/headers", [(b"Authorization", b"secret"), (b"A", b"b")], authority="me")
    assert run("asyncio", ask(engine, State(), "c_kitchen", request))[2] == b"authorization: secret\na: b\n"
    assert run("asyncio", ask(engine, Strict(), "c_kitchen", request))[2] == b"a: b\n"


def test_field_size_limit(engine: Engine) -> None:
    request = Request("GET", "/status/200", authority="me")
    trailers = Request("GET", "/trailers", authority="me")
    state = State(http=WasiHttpCtx(field_size_limit=10))
    assert run("asyncio", ask(engine, state, "c_kitchen", request))[0] == 200
    with pytest.raises(NoResponse, match="exceed the limit of 10"):
        run("asyncio", ask(engine, state, "c_kitchen", trailers))


# Chunks, their size, what the guest may write at once, and how much it may have written before somebody reads.
BUFFERS = [(1, 1000, 1000, 1000), (4, 1000, 1000, 4000), (1, 1, 1, 1), (2, BODY_BUFFER, BODY_BUFFER, 2 * BODY_BUFFER)]


@pytest.mark.parametrize(("chunks", "size", "at_once", "in_all"), BUFFERS)
@pytest.mark.parametrize("kind", [OutgoingResponse, OutgoingRequest])
def test_buffers_of_outgoing_bodies(kind: Any, chunks: int, size: int, at_once: int, in_all: int) -> None:
    state = State()
    state.outgoing_body_buffer_chunks = lambda: chunks  # type: ignore[method-assign]
    state.outgoing_body_chunk_size = lambda: size  # type: ignore[method-assign]
    stream = kind(Fields(state, [])).body().write()
    written = 0
    while permit := stream.permit():
        assert permit <= at_once
        stream.push(bytes(permit))
        written += permit
    assert written == in_all


@pytest.mark.parametrize("size", [1, 1000])
def test_a_guest_writes_through_a_small_buffer(engine: Engine, size: int) -> None:
    class Small(State):
        def outgoing_body_chunk_size(self) -> int:
            return size

    request = Request("GET", "/sized/5000", authority="me")
    assert len(run("asyncio", ask(engine, Small(), "c_kitchen", request))[2]) == 5000


@pytest.mark.parametrize(("chunks", "size"), [(0, 1), (1, 0), (-1, -1)])
def test_a_buffer_without_room_is_refused(chunks: int, size: int) -> None:
    state = State()
    state.outgoing_body_buffer_chunks = lambda: chunks  # type: ignore[method-assign]
    state.outgoing_body_chunk_size = lambda: size  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="at least one byte"):
        OutgoingResponse(Fields(state, [])).body()


def test_a_receiver_hears_of_the_response_at_once(engine: Engine) -> None:
    heard: list[Any] = []

    async def main() -> None:
        for path in ("/status/201", "/error-set"):
            state = State()
            store = Store(engine, state)
            req = state.new_incoming_request(Scheme.HTTP, Request("GET", path, authority="me"))
            out = state.new_response_outparam(heard.append)
            proxy = await link(engine, "c_kitchen").instantiate_async(store)
            await proxy.wasi_http_incoming_handler.call_handle(store, req, out)
            store.close()

    run("asyncio", main())
    assert isinstance(heard[0], OutgoingResponse)
    assert heard[0].status == 201
    assert heard[1] == ErrorCode.InternalError("the guest said so")


@pytest.mark.parametrize("path", ["/trap-after-head", "/exit-after-head"])
@pytest.mark.parametrize("receives", [False, True])
def test_a_body_fails_when_the_call_does(engine: Engine, path: str, receives: bool) -> None:
    """Not only when the store is closed: another task may read the body, and know nothing of the store."""

    async def main() -> None:
        state = State()
        store = Store(engine, state)
        heard: list[Any] = []
        req = state.new_incoming_request(Scheme.HTTP, Request("GET", path, authority="me"))
        out = state.new_response_outparam(heard.append if receives else None)
        proxy = await link(engine, "c_kitchen").instantiate_async(store)
        task = asyncio.create_task(proxy.wasi_http_incoming_handler.call_handle(store, req, out))
        try:
            if receives:
                await asyncio.wait([task])
                body = Body(heard[0].pipe)
            else:
                body = (await out.response(task)).body
            with pytest.raises(HttpError, match=r"the guest (failed|exited)") as failed:
                await body.read()
            assert failed.value.code is ErrorCode.HttpResponseIncomplete
            await asyncio.wait([task])
            assert task.exception() is not None
        finally:
            store.close()

    run("asyncio", main())


def test_a_guest_may_tell_the_length_of_what_head_leaves_out(engine: Engine) -> None:
    async def main() -> None:
        request = Request("HEAD", "/content-length-short", authority="me")
        status, headers, _ = await ask(engine, State(), "c_kitchen", request)
        assert (status, headers) == (200, [(b"content-length", b"10")])

    run("asyncio", main())


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("table", None, "`table`, and Incomplete has none: write self.table = ResourceTable()"),
        ("ctx", None, "`ctx`, and Incomplete has none: write self.ctx = WasiCtx()"),
        ("http", None, "`http`, and Incomplete has none: write self.http = WasiHttpCtx()"),
        ("table", {}, "`table`, and Incomplete has dict"),
        ("ctx", {}, "`ctx`, and Incomplete has dict"),
        ("http", WasiHttpCtx, "`http`, and Incomplete has type"),
    ],
)
def test_a_view_that_is_incomplete(name: str, value: Any, text: str) -> None:
    """It is the embedder's mistake, and told before a guest runs into it."""

    class Incomplete(State):
        pass

    view = Incomplete()
    if value is None:
        delattr(view, name)
    else:
        setattr(view, name, value)
    with pytest.raises(TypeError, match=re.escape(text)):
        view.new_incoming_request(Scheme.HTTP, Request("GET", "http://example.com/"))


@pytest.fixture(autouse=True)
def _no_leaks(no_leaks: None) -> Iterator[None]:
    yield
    gc.collect()
