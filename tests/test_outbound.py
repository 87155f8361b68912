"""Requests that guests send, from the guest to a server and back, in both forms of the embedder's view."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.embedding import State, component, link
from tests.server.serving import run
from wasi_http import (
    Body,
    Engine,
    HttpError,
    Linker,
    OutgoingRequestConfig,
    Request,
    Response,
    Store,
    add_to_linker_sync,
)
from wasi_http.bindings import sync
from wasi_http.bindings.http.types import ErrorCode, Scheme
from wasi_http.http.fields import Field

Reply = tuple[int, list[Field], bytes]


async def _ask(engine: Engine, state: State, request: Request) -> Reply:
    store = Store(engine, state)
    req, out = state.new_incoming_request(Scheme.HTTP, request), state.new_response_outparam()
    proxy = await link(engine, "c_fetch").instantiate_async(store)
    task = asyncio.create_task(proxy.wasi_http_incoming_handler.call_handle(store, req, out))
    try:
        response = await out.response(task)
        return response.status, list(response.headers), await response.body.read()
    finally:
        await asyncio.wait([task])
        store.close()


def ask(engine: Engine, state: State, request: Request) -> Reply:
    return run("asyncio", _ask(engine, state, request))


def ask_sync(engine: Engine, state: State, request: Request) -> Reply:
    linker = Linker(engine)
    add_to_linker_sync(linker)
    pre = sync.ProxyPre(linker.instantiate_pre(component(engine, "c_fetch")))
    store = Store(engine, state)
    req, out = state.new_incoming_request(Scheme.HTTP, request), state.new_response_outparam()
    with pre.instantiate(store).wasi_http_incoming_handler.start_handle(store, req, out) as exchange:
        response = exchange.response()
        return response.status, list(response.headers), response.body.read()


Ask = Callable[[Engine, State, Request], Reply]
both = pytest.mark.parametrize("ask", [ask, ask_sync], ids=["async", "sync"])


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was sent, and says how it was asked."""

    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self._body()
        self.send_response(200)
        self.send_header("x-method", self.command)
        self.send_header("x-uri", self.path)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def request_to(url: str, method: str = "GET", path: str = "/fetch", body: bytes | None = None) -> Request:
    return Request(method, path, [(b"x-url", url.encode())], Body.of(body or b""), authority="me")


def code(name: str) -> bytes:
    return b"error-code %d\n" % [label for label, *_ in ErrorCode.__cases__].index(name)


@both
def test_get(engine: Engine, ask: Ask, origin: str) -> None:
    request = request_to(f"http://{origin}/get?some=arg&goes=here", path="/fetch-head")
    status, _, body = ask(engine, State(), request)
    assert status == 200
    assert body.startswith(b"status 200\n")
    assert b"x-method: GET\nx-uri: /get?some=arg&goes=here\ncontent-length: 0\n" in body


# A method, the size of its body, the path of the guest.
BODIES = [("POST", 6), ("PUT", 0), ("POST", 1025 * 1024), ("PATCH", 100_000)]


@both
@pytest.mark.parametrize(("method", "size"), BODIES)
@pytest.mark.parametrize("path", ["/fetch-post", "/duplex"])
def test_bodies(engine: Engine, ask: Ask, origin: str, method: str, size: int, path: str) -> None:
    sent = bytes(range(251)) * (size // 251 + 1)
    status, _, body = ask(engine, State(), request_to(f"http://{origin}/post", method, path, sent[:size]))
    assert (status, body) == (200, sent[:size])


@contextmanager
def full() -> Iterator[str]:
    """A server that nobody gets a connection to: the system answers no more of those that wait."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        try:
            for _ in range(4):
                client = socket.socket()
                client.setblocking(False)
                client.connect_ex(listener.getsockname())
                waiting.append(client)
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for client in waiting:
                client.close()


class Hurried(State):
    """Has less time than the guest asked for."""

    async def send_request(self, request: Request, config: OutgoingRequestConfig) -> Any:
        config.connect_timeout = config.first_byte_timeout = 0.2
        return await super().send_request(request, config)


@both
def test_a_connection_that_takes_too_long(engine: Engine, ask: Ask) -> None:
    with full() as authority:
        assert ask(engine, Hurried(), request_to(f"http://{authority}/")) == (502, [], code("connection-timeout"))


@both
def test_a_server_that_speaks_another_version(engine: Engine, ask: Ask) -> None:
    """One of HTTP/2 begins with its settings, or refuses what it does not understand."""
    settings = b"\0\0\0\4\0\0\0\0\0"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as client:
                client.recv(65536)
                client.sendall(settings + b"\0\0\x08\7\0\0\0\0\0" + b"\0\0\0\0\0\0\0\1")

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert ask(engine, Hurried(), request_to(url)) == (502, [], code("HTTP-protocol-error"))
        thread.join()


# URL, what the guest is told.
WRONG = [
    ("http://localhost:99999/", (400, b"bad x-url\n")),
    ("http://[::1/", (400, b"bad x-url\n")),
    ("http://a..example/", (502, code("DNS-error"))),
    (f"http://{'a' * 64}.example/", (502, code("DNS-error"))),
]


@both
@pytest.mark.parametrize(("url", "told"), WRONG)
def test_authorities_that_lead_nowhere(engine: Engine, ask: Ask, url: str, told: tuple[int, bytes]) -> None:
    status, _, body = ask(engine, State(), request_to(url))
    assert (status, body) == told


@both
def test_a_name_that_does_not_exist(engine: Engine, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert ask(engine, State(), request_to("http://some.invalid.dnsname:3000/"))[2] == code("DNS-error")


class Answering(State):
    """Sends nothing: what it answers is in ``answers``, by authority, as soon as its event is set."""

    def __init__(self, **answers: bytes | ErrorCode) -> None:
        super().__init__()
        self.answers = answers
        self.authorities: list[str] = []
        self.events = {name: asyncio.Event() for name in answers}

    async def send_request(self, request: Request, config: OutgoingRequestConfig) -> Response:
        self.authorities.append(request.authority)
        name = request.authority.partition(".")[0]
        await self.events[name].wait()
        answer = self.answers[name]
        if isinstance(answer, bytes):
            return Response(200, [], Body.of(answer))
        raise HttpError(answer)


@both
def test_an_authority_comes_as_the_guest_wrote_it(engine: Engine, ask: Ask) -> None:
    state = Answering(some=b"x")
    state.events["some"].set()
    for url in ("https://some.example/get", "https://some.example:443/get", "http://some.example:80/"):
        assert ask(engine, state, request_to(url))[0] == 200
    assert state.authorities == ["some.example", "some.example:443", "some.example:80"]


# ---- several at once ------------------------------------------------------------------------------------------------


def test_answers_arrive_in_their_own_order(engine: Engine) -> None:
    """And each reaches the client before the next is there; what is refused is told to nobody else."""
    names = "abcdefghijklmnop"
    answers: dict[str, bytes | ErrorCode] = {name: name.encode() * 1000 for name in names}
    answers["e"] = ErrorCode.HttpRequestDenied
    order = names[::-1]

    async def main() -> None:
        state = Answering(**answers)
        store = Store(engine, state)
        request = Request(
            "GET", "/fan-out", [(b"x-url", f"http://{name}.example/".encode()) for name in names], authority="me"
        )
        req, out = state.new_incoming_request(Scheme.HTTP, request), state.new_response_outparam()
        proxy = await link(engine, "c_fetch").instantiate_async(store)
        task = asyncio.create_task(proxy.wasi_http_incoming_handler.call_handle(store, req, out))
        response = await out.response(task)
        lines = aiter(response.body)
        for name in order:
            state.events[name].set()
            number = names.index(name)
            said = code("HTTP-request-denied").strip() if name == "e" else b"200 1000"
            assert await anext(lines) == b"%d %b\n" % (number, said)
        assert await anext(lines, None) is None
        await task
        store.close()

    run("asyncio", main())


@both
def test_many_requests_at_once(engine: Engine, ask: Ask, origin: str) -> None:
    urls = [(b"x-url", f"http://{origin}/{number}".encode()) for number in range(16)]
    status, _, body = ask(engine, State(), Request("GET", "/fan-out", urls, authority="me"))
    assert status == 200
    assert sorted(body.splitlines()) == sorted(b"%d 200 0" % number for number in range(16))


def test_bodies_go_both_ways_at_once(engine: Engine) -> None:
    """The client sends a piece when the one before has come back from the server behind the guest."""
    piece = bytes(range(256)) * 64

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        size = 1
        while size:
            head = await reader.readuntil(b"\r\n")
            size = int(head, 16)
            writer.write(head + await reader.readexactly(size + 2))
        await writer.drain()
        writer.close()

    async def main() -> None:
        listener = await asyncio.start_server(echo, "127.0.0.1", 0)
        back = asyncio.Event()

        async def pieces() -> Any:
            for _ in range(64):
                back.clear()
                yield piece
                await back.wait()

        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
        request = Request("POST", "/duplex", [(b"x-url", url.encode())], Body.of(pieces()), authority="me")
        state = State()
        store = Store(engine, state)
        req, out = state.new_incoming_request(Scheme.HTTP, request), state.new_response_outparam()
        proxy = await link(engine, "c_fetch").instantiate_async(store)
        task = asyncio.create_task(proxy.wasi_http_incoming_handler.call_handle(store, req, out))
        response = await out.response(task)
        received = 0
        async for chunk in response.body:
            received += len(chunk)
            if received % len(piece) == 0:
                back.set()
        assert received == 64 * len(piece)
        await task
        store.close()
        listener.close()

    run("asyncio", main())
