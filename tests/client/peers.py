"""Servers that do as a test tells them, and what a test asks of a client."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from wasi_http.client import OutgoingRequestConfig
from wasi_http.flow.pipe import Pipe
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.send import Client
from wasi_http.http.values import ErrorCode

T = TypeVar("T")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}

#: How long anything may take on a machine that has better things to do.
PATIENCE = 30.0


def run(loop: str, main: Coroutine[Any, Any, T]) -> T:
    """Runs a test's coroutine on an event loop of the kind; what hangs, and what is left open, fails."""

    async def alone() -> T:
        try:
            return await asyncio.wait_for(main, PATIENCE)
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            left = asyncio.all_tasks() - {asyncio.current_task()}
            assert not left, left

    gc.collect()
    before = sockets()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        result = runner.run(alone())
    gc.collect()
    assert sockets() <= before
    return result


def sockets() -> int:
    """How many this process has open."""
    count = 0
    for number in os.listdir("/dev/fd"):
        with suppress(OSError):
            count += os.readlink(f"/dev/fd/{number}").startswith("socket:")
    return count


async def until(reached: Callable[[], object]) -> None:
    """Waits for something that tells nobody when it happens."""
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


class Peer:
    """The server's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """The head of a request; b"" when the client has closed or reset the connection."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def send(self, data: bytes) -> None:
        """Sends, or not if the client has gone."""
        if not self.writer.transport.is_closing():
            self.writer.write(data)
            with suppress(ConnectionError):
                await self.writer.drain()

    async def closed(self) -> bytes:
        """Waits until the client closes the connection, or resets it; what came before."""
        data = b""
        with suppress(ConnectionError, ssl.SSLError):
            while piece := await self.reader.read(65536):
                data += piece
        return data

    def end(self) -> None:
        """Sends no more."""
        self.writer.write_eof()

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[object]]


@dataclass
class Server:
    """``connections`` counts all that there ever were, ``open`` those that are open."""

    port: int
    connections: int = 0
    open: int = 0
    heads: list[bytes] = field(default_factory=list)

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(
    script: Script, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """A server each of whose connections follows a script. Fails when one fails, or is still open at the end."""
    tasks: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not left to the stream's server, which tells nobody of exceptions.
        tasks.add(asyncio.get_running_loop().create_task(follow(Peer(reader, writer))))

    async def follow(peer: Peer) -> None:
        server.connections += 1
        server.open += 1
        try:
            await script(peer)
        except Exception as error:
            failures.append(error)
        finally:
            server.open -= 1
            peer.writer.close()
            with suppress(OSError):
                await peer.writer.wait_closed()

    listener = await asyncio.start_server(connected, host, 0, ssl=context)
    server = Server(listener.sockets[0].getsockname()[1])
    try:
        yield server
        if tasks:
            # Scripts end with the connections of clients, which the test has closed.
            await asyncio.wait_for(asyncio.wait(tasks), PATIENCE)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        listener.close()
        await listener.wait_closed()
    if failures:
        raise failures[0]


def answering(*responses: bytes, byte_by_byte: bool = False) -> Script:
    """A script that answers one request after another, and closes the connection behind the last."""

    async def script(peer: Peer) -> None:
        for response in responses:
            if not await peer.head():
                return
            if byte_by_byte:
                for position in range(len(response)):
                    await peer.send(response[position : position + 1])
                    await asyncio.sleep(0)
            else:
                await peer.send(response)

    return script


def ok(body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


async def forever(peer: Peer) -> None:
    """A script that answers all requests."""
    while await peer.head():
        await peer.send(ok(b"hello"))


@asynccontextmanager
async def using(client: Client) -> AsyncIterator[Client]:
    try:
        yield client
    finally:
        await client.close()


def outgoing(
    method: str,
    scheme: str,
    authority: str,
    path: str = "/",
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: Pipe | None = None,
) -> Request:
    """A request as it is given, be it good or not."""
    return Request.of(method, scheme, authority, path, list(headers), None if body is None else Body(body))


def get(authority: str, path: str = "/", method: str = "GET", body: Pipe | None = None) -> Request:
    return outgoing(method, "http", authority, path, [(b"accept", b"*/*")], body)


@dataclass
class Reply:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]


async def read(response: Response) -> Reply:
    body = response.body
    return Reply(response.status, list(response.headers), await body.read(), body.trailers)


async def received(body: Body) -> tuple[bytes, ErrorCode | None]:
    """What is read of a body, and which error ends it."""
    data = b""
    try:
        async for piece in body:
            data += piece
    except HttpError as error:
        return data, error.code
    return data, None


async def ask(client: Client, request: Request, **config: Any) -> Reply:
    """The whole response."""
    return await read(await client.send_request(request, OutgoingRequestConfig(**config)))


def pipe_of(pieces: Iterable[bytes], trailers: list[tuple[bytes, bytes]] | None = None) -> Pipe:
    """A body that is all there, with trailers."""
    pipe = Pipe()
    for piece in pieces:
        pipe.write(piece)
    pipe.end(trailers)
    return pipe
