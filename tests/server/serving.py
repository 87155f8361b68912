"""A worker on a loopback socket, what it logs, and clients that speak bytes."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from tests.stalls import Stalls
from wasi_http.bindings import ProxyPre
from wasi_http.component import live_resources
from wasi_http.engine import Engine, live_fibers, live_stores
from wasi_http.server import Guests as Service
from wasi_http.server import ServerConfig, Worker, listen
from wasi_http.server.access import AccessLog
from wasi_http.server.log import Log as ServerLog
from wasi_http.server.spool import Spool

T = TypeVar("T")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

#: How long anything may take on a machine that has better things to do.
PATIENCE = 30.0


def run(loop: str, main: Coroutine[Any, Any, T]) -> T:
    """Runs a test's coroutine on an event loop of the kind; what hangs fails."""
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(asyncio.wait_for(main, PATIENCE))


async def until(reached: Callable[[], object]) -> None:
    """Waits for something that tells nobody when it happens."""
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


def live() -> tuple[int, int, int]:
    """What a guest leaves behind when it leaks: stores, calls, handles."""
    return live_stores(), live_fibers(), live_resources()


class Memory(Spool):
    """Keeps what is written to it."""

    def __init__(self, changed: asyncio.Event) -> None:
        super().__init__(None)
        self.data = b""
        self._told = changed

    def write(self, data: bytes, reserve: int = 0) -> None:
        self.data += data
        self._told.set()


class Log(ServerLog):
    """What a handler writes."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._out, self._err = Memory(self._changed), Memory(self._changed)
        super().__init__(self._out, self._err)

    @property
    def out(self) -> str:
        return self._out.data.decode("utf-8", "surrogateescape")

    @property
    def err(self) -> str:
        """Standard error, without the names of the requests that failed."""
        return re.sub(r"^error: request \S+ \S+ .*?: ", "error: ", self.whole, flags=re.MULTILINE)

    @property
    def whole(self) -> str:
        return self._err.data.decode()

    async def until(self, text: str) -> None:
        """Waits for a text on standard error."""
        while text not in self.err:
            self._changed.clear()
            await self._changed.wait()


@dataclass
class Reply:
    """A response as it came: ``head`` is its bytes with the date left out, ``interim`` those of 1xx responses."""

    head: bytes
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: bytes = b""
    interim: list[bytes] = field(default_factory=list)

    def __getitem__(self, name: bytes) -> bytes | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2
        return values[0] if values else None


class Client:
    """One connection. Nothing is read before it is asked for, so a client is as slow as its test wants it to be."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def _receive(self) -> bool:
        data = await self._loop.sock_recv(self.sock, 65536)
        self._buffer += data
        return bool(data)

    async def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            assert await self._receive(), f"the connection ended within {self._buffer!r}"
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def read_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            assert await self._receive(), f"the connection ended within {self._buffer!r}"
        return await self.read(self._buffer.index(mark) + len(mark))

    async def rest(self) -> bytes:
        """Everything until the server closes the connection in the ordinary way."""
        while await self._receive():
            pass
        return await self.read(len(self._buffer))

    async def rest_until_reset(self) -> bytes:
        """Everything until the server aborts the connection."""
        try:
            while await self._receive():
                pass
        except ConnectionResetError:
            return await self.read(len(self._buffer))
        raise AssertionError(f"the connection was closed, not reset: {self._buffer[-100:]!r}")

    async def reply(self, bodiless: bool = False) -> Reply:
        """The next response. ``bodiless``: to HEAD."""
        interim = []
        while True:
            head = await self.read_until(b"\r\n\r\n")
            line, *lines = head[:-4].split(b"\r\n")
            version, status, *_ = line.split(b" ", 2)
            assert version == b"HTTP/1.1"
            if not status.startswith(b"1"):
                break
            interim.append(head)
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        reply = Reply(without_date(head), int(status), headers, interim=interim)
        length, chunked = reply[b"content-length"], reply[b"transfer-encoding"]
        if bodiless or status in (b"204", b"304"):
            pass
        elif length is not None:
            assert chunked is None
            reply.body = await self.read(int(length))
        elif chunked is not None:
            assert chunked == b"chunked"
            pieces = []
            while size := int(await self.read_until(b"\r\n"), 16):
                pieces.append(await self.read(size))
                assert await self.read(2) == b"\r\n"
            reply.body = b"".join(pieces)
            while (line := await self.read_until(b"\r\n")) != b"\r\n":
                reply.trailers += line
        else:
            assert reply[b"connection"] == b"close"
            reply.body = await self.rest()
        return reply

    async def begun(self, request: bytes) -> bytes:
        """The head of a response that fails behind it.

        A guest whose time slice ends before it sets the response may fail in the next, before that is sent: then the
        answer is 500, and it is asked once more.
        """
        while True:
            await self.send(request)
            head = await self.read_until(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 500 "):
                return head
            await self.read(len(b"500 the handler failed\n"))

    async def ask(self, request: bytes) -> Reply:
        await self.send(request)
        return await self.reply(bodiless=request.startswith(b"HEAD"))

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def without_date(head: bytes) -> bytes:
    found = re.sub(rb"\r\ndate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n", b"\r\n", head)
    assert found != head, f"no date in {head!r}"
    return found


@dataclass
class Serving:
    """A worker that serves, and how to reach it."""

    worker: Worker
    log: Log
    address: tuple[str, int]
    stop: asyncio.Event
    ended: asyncio.Task[None]
    clients: list[Client] = field(default_factory=list)

    async def connect(self, receive_buffer: int | None = None) -> Client:
        sock = socket.socket()
        client = Client(sock)
        self.clients.append(client)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    async def ask(self, request: bytes) -> Reply:
        """The response to a request on a connection of its own."""
        client = await self.connect()
        reply = await client.ask(request)
        client.close()
        return reply

    async def idle(self) -> None:
        """Waits until no guest runs."""
        await until(lambda: not self.worker.answers.active)


@asynccontextmanager
async def serving(service: Service, access: AccessLog | None = None) -> AsyncIterator[Serving]:
    """Serves on a free port, and stops gracefully.

    Fails when anything of a guest is left behind, and when the loop stood still, see `Stalls`: what a test prepares at
    length it does elsewhere.
    """
    before = live()
    log = service.output = Log()
    (listener,) = listen("127.0.0.1", 0, 128)
    address = listener.getsockname()
    worker, stop = Worker(service, access), asyncio.Event()
    ended = asyncio.create_task(worker.serve([listener], stop))
    server = Serving(worker, log, address, stop, ended)
    try:
        with Stalls() as stalls:
            yield server
        stalls.check()
    finally:
        for client in server.clients:
            client.close()
        stop.set()
        await asyncio.wait([ended])
    if not ended.cancelled():
        ended.result()
    if live() != before:
        gc.collect()
    assert all(now <= then for now, then in zip(live(), before, strict=True)), (live(), before)
    assert not worker.connections
    assert not service.active


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: example.com", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A request with a body of known length."""
    return get(path, f"Content-Length: {len(body)}", *headers, method="POST") + body


def chunked(path: str, *pieces: bytes, trailers: bytes = b"") -> bytes:
    """A request with a chunked body."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return get(path, "Transfer-Encoding: chunked", method="POST") + body + b"0\r\n" + trailers + b"\r\n"


@dataclass(frozen=True)
class Guests:
    """Linked guests by name."""

    engine: Engine
    load: Callable[[str], ProxyPre]

    def service(self, name: str, **config: Any) -> Service:
        settings = {"shutdown_timeout": 10.0, **config}
        return Service(self.engine, self.load(name), ServerConfig(**settings))


Test = Callable[[Serving], Awaitable[None]]


def serve(loop: str, service: Service, test: Test) -> None:
    """Runs a test against a server."""

    async def main() -> None:
        async with serving(service) as server:
            await test(server)

    run(loop, main())
