"""Bodies that are cut off: what arrived is delivered before the error, with and without TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest

from wasi_http.client import ClientConfig, OutgoingRequestConfig, connection, tls_transport
from wasi_http.client.tls import context_of
from wasi_http.client.tls_transport import TlsTransport
from wasi_http.flow.pipe import Pipe
from wasi_http.http.errors import HttpError
from wasi_http.http.send import Client
from wasi_http.http.values import ErrorCode

from .conftest import Authority
from .peers import PATIENCE, Peer, get, received, run, serving, until, using

LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CLOSE = b"HTTP/1.0 200 OK\r\n\r\n"

RESET = struct.pack("ii", 1, 0)


class Wire(threading.Thread):
    """A server for one connection, on a thread: the client's loop can be kept from seeing what it does.

    It reads a request, waits for ``go_on``, sends ``answer`` and ends the connection as ``end`` says: "close" (with
    TLS: after a close_notify), "cut" (a FIN, without one), or "reset".
    """

    def __init__(self, context: ssl.SSLContext | None, answer: bytes, end: str) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.asked = threading.Event()
        self.received = b""
        self._context = context
        self.pieces = [answer]
        self._end = end
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.authority = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def run(self) -> None:
        with self._listener:
            peer, _ = self._listener.accept()
        peer.settimeout(PATIENCE)
        # Else the answer waits for an acknowledgement, and the reset takes it back.
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            peer = self._context.wrap_socket(peer, server_side=True)
        with peer:
            self.received = peer.recv(65536)
            self.asked.set()
            self.go_on.wait(PATIENCE)
            for piece in self.pieces:
                peer.sendall(piece)
            if self._end == "reset":
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif self._end == "close" and isinstance(peer, ssl.SSLSocket):
                peer.settimeout(0)  # it waits for no answer
                with suppress(OSError):
                    peer.unwrap()

    async def finish(self) -> None:
        """Lets it answer and end, and the loop look only then."""
        await until(self.asked.is_set)
        self.go_on.set()
        self.join(PATIENCE)


# The answer, how the connection ends, what the body begins with, and what ends it.
ENDINGS: list[tuple[bytes, str, bytes, ErrorCode | None]] = [
    (LENGTH + b"short", "close", b"short", ErrorCode.HttpResponseIncomplete),
    (LENGTH + b"short", "cut", b"short", ErrorCode.HttpResponseIncomplete),
    (LENGTH + b"short", "reset", b"short", ErrorCode.ConnectionTerminated),
    (LENGTH + b"all of it.", "close", b"all of it.", None),
    (LENGTH + b"all of it.", "cut", b"all of it.", None),
    (LENGTH + b"all of it.", "reset", b"all of it.", None),
    (CHUNKED + b"5\r\nshort\r\n", "close", b"short", ErrorCode.HttpResponseIncomplete),
    (CHUNKED + b"a\r\nshort", "cut", b"short", ErrorCode.HttpResponseIncomplete),
    (CHUNKED + b"5\r\nshort\r\n", "reset", b"short", ErrorCode.ConnectionTerminated),
    (CHUNKED + b"5\r\nshort\r\n0\r\n\r\n", "reset", b"short", None),
    (CLOSE + b"short", "close", b"short", None),
    (CLOSE + b"short", "reset", b"short", ErrorCode.ConnectionTerminated),
    (LENGTH + b"x" * 9, "reset", b"x" * 9, ErrorCode.ConnectionTerminated),
    (CHUNKED + b"c000\r\n" + b"x" * 0xBFFF, "reset", b"x" * 0xBFFF, ErrorCode.ConnectionTerminated),
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(("answer", "end", "data", "code"), ENDINGS)
def test_what_arrived_before_the_end(
    loop: str, authority: Authority, tls: bool, answer: bytes, end: str, data: bytes, code: ErrorCode | None
) -> None:
    wire = Wire(authority.server() if tls else None, answer, end)

    async def main() -> None:
        async with using(Client(ClientConfig(tls=authority.tls))) as client:
            reply = client.send_request(get(wire.authority), OutgoingRequestConfig(tls))
            await asyncio.sleep(0)
            wire.start()
            await wire.finish()
            response = await reply
            assert await received(response.body) == (data, code)

    run(loop, main())


def test_a_body_that_ends_with_a_truncated_tls_connection_is_incomplete(loop: str, authority: Authority) -> None:
    """Whoever is on the way may have cut it (RFC 9112, section 9.8)."""
    wire = Wire(authority.server(), CLOSE + b"short", "cut")

    async def main() -> None:
        async with using(Client(ClientConfig(tls=authority.tls))) as client:
            reply = client.send_request(get(wire.authority), OutgoingRequestConfig(True))
            wire.start()
            await wire.finish()
            response = await reply
            assert await received(response.body) == (b"short", ErrorCode.HttpResponseIncomplete)

    run(loop, main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_early_answer_before_a_reset(loop: str, authority: Authority, tls: bool) -> None:
    """The next piece of the request runs into a closed door, but the answer was there before."""
    answer = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nmuch"
    wire = Wire(authority.server() if tls else None, answer, "reset")

    async def main() -> None:
        async with using(Client(ClientConfig(tls=authority.tls))) as client:
            source = Pipe()
            source.write(bytes(10_000))
            request = get(wire.authority, method="POST", body=source)
            reply = client.send_request(request, OutgoingRequestConfig(tls))
            wire.start()
            await until(lambda: not source.size)
            await wire.finish()
            source.write(bytes(100_000))
            response = await reply
            assert response.status == 413
            assert await received(response.body) == (b"much", None)
            assert source.cancelled

    run(loop, main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_what_was_written_leaves_before_a_body_fails(loop: str, authority: Authority, tls: bool) -> None:
    """The server gets what the guest wrote, and sees that it is not all."""
    arrived = b""

    async def script(peer: Peer) -> None:
        nonlocal arrived
        assert await peer.head()
        arrived = await peer.closed()

    async def main() -> None:
        config = ClientConfig(tls=authority.tls)
        async with serving(script, authority.server() if tls else None) as server, using(Client(config)) as client:
            source = Pipe()
            request = get(server.authority, method="POST", body=source)
            reply = client.send_request(request, OutgoingRequestConfig(tls))
            source.write(bytes(100_000))
            source.write(b"the last")
            source.fail(HttpError(ErrorCode.InternalError("mine")))
            with pytest.raises(HttpError) as raised:
                await reply
            assert raised.value.code == ErrorCode.InternalError("mine")
        assert arrived.count(b"\0") == 100_000
        assert b"the last" in arrived
        assert not arrived.endswith(b"0\r\n\r\n")

    run(loop, main())


def test_a_server_that_does_not_take_the_rest_of_a_request_that_failed(
    loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_LINGER", 0.01)

    class Stuck(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def get_write_buffer_size(self) -> int:
            return 1

        def close(self) -> None:
            self.calls.append("close")

        def abort(self) -> None:
            self.calls.append("abort")

    async def main() -> None:
        stuck = Stuck()
        ending = connection.Connection(asyncio.get_running_loop())
        ending.connection_made(stuck)
        ending.close_when_sent()
        assert stuck.calls == ["close"]
        await until(lambda: len(stuck.calls) == 2)
        assert stuck.calls == ["close", "abort"]

    run(loop, main())


# ---- what `TlsTransport` does ---------------------------------------------------------------------------------------


class Reader(asyncio.Protocol):
    """Keeps what it is told; ``limit`` is how many bytes it takes before it stops reading."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.data = bytearray()
        self.ends: list[object] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self.limit:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.ends.append("eof")
        return False

    def cut_off(self) -> None:
        self.ends.append("cut off")

    def connection_lost(self, error: Exception | None) -> None:
        self.ends.append(error if error is None else type(error))


async def connect(wire: Wire, authority: Authority, protocol: Reader) -> TlsTransport:
    loop = asyncio.get_running_loop()
    host, _, port = wire.authority.partition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setblocking(False)
    transport = TlsTransport(loop, context_of(authority.tls), host, sock, protocol)
    await loop.create_connection(lambda: transport, sock=sock)
    await transport.ready
    return transport


@pytest.mark.parametrize(
    ("end", "ends"), [("close", ["eof", None]), ("cut", ["cut off", None]), ("reset", [ConnectionResetError])]
)
def test_an_end_while_nobody_reads(
    loop: str, authority: Authority, end: str, ends: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_transport, "_BATCH", 1)
    data = bytes(range(256)) * 200
    wire = Wire(authority.server(), data, end)

    async def main() -> None:
        wire.start()
        protocol = Reader(limit=1)
        transport = await connect(wire, authority, protocol)
        transport.write(b"request")
        await wire.finish()
        await until(lambda: protocol.data)
        for _ in range(5):
            await asyncio.sleep(0)
        assert 0 < len(protocol.data) < len(data)
        assert not protocol.ends
        protocol.limit = 1 << 30
        transport.resume_reading()
        await until(lambda: len(protocol.ends) == len(ends))
        assert (protocol.data, protocol.ends) == (data, ends)

    run(loop, main())


def test_a_record_that_was_changed_on_the_way(loop: str, authority: Authority) -> None:
    async def script(peer: Peer) -> None:
        await peer.reader.read(100)
        peer.writer.write(b"good")
        await asyncio.sleep(0)
        raw = peer.writer.get_extra_info("socket")
        os.write(raw.fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
        await peer.closed()

    async def main() -> None:
        async with serving(script, authority.server()) as server:
            protocol = Reader()
            transport = await connect(SimpleNamespace(authority=server.authority), authority, protocol)  # type: ignore[arg-type]
            transport.write(b"request")
            await until(lambda: protocol.ends)
            assert (protocol.data, protocol.ends) == (b"good", [ssl.SSLError])

    run(loop, main())


def test_tiny_records_take_turns_with_the_rest_of_the_loop(loop: str, authority: Authority) -> None:
    """However many of them arrive at once."""
    wire = Wire(authority.server(), b"", "cut")
    wire.pieces = [b"x"] * 5000

    async def main() -> None:
        wire.start()
        protocol = Reader()
        transport = await connect(wire, authority, protocol)
        transport.write(b"request")
        await wire.finish()
        before, turns = 0, 0
        while not protocol.ends:
            await asyncio.sleep(0)
            most = len(protocol.data) - before
            assert most <= 2048
            before, turns = len(protocol.data), turns + bool(most)
        assert (before, protocol.ends[0]) == (5000, "cut off")
        assert turns >= 3

    run(loop, main())


def test_what_is_read_of_a_lost_connection_is_bounded(
    loop: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0

    def unread(sock: object) -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b""

    async def main() -> None:
        monkeypatch.setattr(tls_transport, "unread", unread)
        async with serving(Peer.closed, authority.server()) as server:
            protocol = Reader()
            transport = await connect(SimpleNamespace(authority=server.authority), authority, protocol)  # type: ignore[arg-type]
            transport.write(b"request")
            transport._plain.abort()
            transport.connection_lost(ConnectionResetError())
            assert (read, protocol.ends) == (8, [ConnectionResetError])

    run(loop, main())


def test_closing_waits_for_no_answer(loop: str, authority: Authority) -> None:
    wire = Wire(authority.server(), b"", "reset")

    async def main() -> None:
        wire.start()
        protocol = Reader()
        transport = await connect(wire, authority, protocol)
        transport.write(b"request")
        await until(wire.asked.is_set)
        transport.close()
        transport.close()
        transport.write(b"lost")
        await until(lambda: protocol.ends)  # the server says nothing, and has not closed
        assert protocol.ends == [None]
        wire.go_on.set()
        wire.join(PATIENCE)
        assert wire.received == b"request"

    run(loop, main())
