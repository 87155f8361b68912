"""Everything that can go wrong, and which error-code tells of it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import math
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from tests.clock import Clock
from wasi_http.client import (
    ClientConfig,
    ConnectionQuota,
    OutgoingRequestConfig,
)
from wasi_http.client.connection import Connection
from wasi_http.client.errors import WriteTimeout
from wasi_http.client.exchange import Exchange
from wasi_http.flow.pipe import Pipe
from wasi_http.http.errors import ERROR_CODES, HttpError, error_code_of
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.send import Client
from wasi_http.http.values import DnsErrorPayload, ErrorCode, TlsAlertReceivedPayload
from wasi_http.http1.errors import BodyLengthError, Reason, RemoteProtocolError
from wasi_http.http1.limits import Limits

from .peers import Peer, Script, ask, forever, get, ok, outgoing, pipe_of, read, run, serving, using

NEVER = 2**64 / 1e9


async def silence(peer: Peer) -> None:
    await peer.closed()


def sending(data: bytes, then: Callable[[Peer], object] | None = None) -> Script:
    """Answers with some bytes and closes the connection, or does something else."""

    async def script(peer: Peer) -> None:
        if not await peer.head():
            return
        await peer.send(data)
        if then is silence:
            await peer.closed()
        elif then is not None:
            then(peer)

    return script


# ---- what servers do wrong ------------------------------------------------------------------------------------------

LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HTTP2_SETTINGS = b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x64"

SECTION = ErrorCode.HttpResponseHeaderSectionSize(None)
TRAILERS = ErrorCode.HttpResponseTrailerSectionSize(None)

# What the server sends before it closes the connection, which error that is.
ANSWERS: list[tuple[bytes, ErrorCode]] = [
    (b"", ErrorCode.ConnectionTerminated),
    (b"HTTP/1.1 200 OK\r\n", ErrorCode.HttpResponseIncomplete),
    (b"HTTP/1.1 100 Continue\r\n\r\n", ErrorCode.HttpResponseIncomplete),
    (LENGTH + b"short", ErrorCode.HttpResponseIncomplete),
    (CHUNKED + b"5\r\nhel", ErrorCode.HttpResponseIncomplete),
    (CHUNKED + b"5\r\nhello\r\n", ErrorCode.HttpResponseIncomplete),
    (CHUNKED + b"5\r\nhello\r\n0\r\n", ErrorCode.HttpResponseIncomplete),
    (CHUNKED + b"x\r\n", ErrorCode.HttpProtocolError),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ErrorCode.HttpProtocolError),
    (HTTP2_SETTINGS, ErrorCode.HttpProtocolError),
    (b"HTTP/2.0 200 OK\r\n\r\n", ErrorCode.HttpProtocolError),
    (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ErrorCode.HttpProtocolError),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", ErrorCode.HttpProtocolError),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", ErrorCode.HttpProtocolError),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 33, ErrorCode.HttpProtocolError),
    (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", ErrorCode.HttpUpgradeFailed),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", ErrorCode.HttpResponseTransferCoding(None)),
    (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n", ErrorCode.HttpResponseTransferCoding(None)),
    (b"HTTP/1.1 200 " + b"x" * 40_000 + b"\r\n\r\n", SECTION),
    (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"\r\n", SECTION),
    (b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 1000) * 100 + b"\r\n", SECTION),
    (CHUNKED + b"0\r\n" + b"x: y\r\n" * 100 + b"\r\n", TRAILERS),
    (CHUNKED + b"0\r\n" + b"x: %b\r\n" % (b"y" * 1000) * 20 + b"\r\n", TRAILERS),
]


@pytest.mark.parametrize(
    ("answer", "code", "byte_by_byte"),
    [(*row, cut) for row in ANSWERS for cut in (False, True) if not cut or len(row[0]) < 1000],
)
def test_answers(loop: str, answer: bytes, code: ErrorCode, byte_by_byte: bool) -> None:
    async def script(peer: Peer) -> None:
        if not await peer.head():
            return
        for position in range(0, len(answer), 1 if byte_by_byte else max(len(answer), 1)):
            await peer.send(answer[position : position + 1] if byte_by_byte else answer)
            await asyncio.sleep(0)

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            assert await code_of(ask(client, get(server.authority))) == code
            # Such a connection is not used again.
            assert await code_of(ask(client, get(server.authority))) == code
            assert server.connections == 2

    run(loop, main())


def test_a_body_beyond_the_limit(loop: str) -> None:
    config = ClientConfig(wire_limits=Limits(body=9))

    async def main() -> None:
        for answer in (LENGTH, CHUNKED + b"a\r\n0123456789\r\n"):
            async with serving(sending(answer)) as server, using(Client(config)) as client:
                code = await code_of(ask(client, get(server.authority)))
                assert code == ErrorCode.HttpResponseBodySize(None)

    run(loop, main())


def test_a_reset(loop: str) -> None:
    async def main() -> None:
        for answer in (b"", b"HTTP/1.1 200", LENGTH + b"short"):
            async with serving(sending(answer, Peer.reset)) as server, using(Client()) as client:
                assert await code_of(ask(client, get(server.authority))) is ErrorCode.ConnectionTerminated

    run(loop, main())


@pytest.mark.parametrize("end", ["reset", "close"])
def test_an_end_after_each_byte(loop: str, end: str) -> None:
    """Nothing hangs, what is complete is delivered, and no such connection is used again."""
    answer = b"HTTP/1.1 103 Hm\r\n\r\n" + CHUNKED + b"2;a\r\nhi\r\n0\r\nb: c\r\n\r\n"
    positions = iter(range(len(answer) + 1))

    async def script(peer: Peer) -> None:
        if await peer.head():
            await peer.send(answer[: next(positions)])
            if end == "reset":
                peer.reset()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            for position in range(len(answer)):
                code = await code_of(ask(client, get(server.authority)))
                assert code in (ErrorCode.ConnectionTerminated, ErrorCode.HttpResponseIncomplete), position
            reply = await ask(client, get(server.authority))
            assert (reply.body, reply.trailers) == (b"hi", [(b"b", b"c")])
            assert server.connections == len(answer) + 1

    run(loop, main())


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_head_that_drips(loop: str, start: bytes) -> None:
    """Its time is the whole head's."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(start)
        head = itertools.chain(b"HTTP/1.1 200 OK\r\n", itertools.repeat(120))
        closing = asyncio.ensure_future(peer.closed())
        while not closing.done():
            await peer.send(bytes([next(head)]))
            await asyncio.wait([closing], timeout=0.01)

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            code = await code_of(ask(client, get(server.authority), first_byte_timeout=0.2))
            assert code is ErrorCode.HttpResponseTimeout

    run(loop, main())


async def code_of(awaitable: Awaitable[object]) -> ErrorCode:
    with pytest.raises(HttpError) as raised:
        await awaitable
    assert str(raised.value)
    return raised.value.code


# ---- requests that cannot be sent -----------------------------------------------------------------------------------

# Method, authority (None: the server's), path, headers, body, which error that is.
REQUESTS: list[tuple[str, str | None, str, list[tuple[bytes, bytes]], list[bytes], ErrorCode]] = [
    ("GET", "a b", "/", [], [], ErrorCode.HttpRequestUriInvalid),
    ("GET", "a:99999", "/", [], [], ErrorCode.HttpRequestUriInvalid),
    ("GET", "a..b", "/", [], [], ErrorCode.DnsError(DnsErrorPayload("invalid host name", None))),
    ("GET", None, "/ HTTP/1.1\r\nx: y", [], [], ErrorCode.HttpRequestUriInvalid),
    ("GET", None, "/a b", [], [], ErrorCode.HttpRequestUriInvalid),
    ("GET", None, "", [], [], ErrorCode.HttpRequestUriInvalid),
    ("GET", None, "/\udcff", [], [], ErrorCode.HttpRequestUriInvalid),
    ("G T", None, "/", [], [], ErrorCode.HttpRequestMethodInvalid),
    ("GET\r\n", None, "/", [], [], ErrorCode.HttpRequestMethodInvalid),
    ("", None, "/", [], [], ErrorCode.HttpRequestMethodInvalid),
    ("G@T", None, "/", [], [], ErrorCode.HttpRequestMethodInvalid),
    ("GET", None, "/", [(b"x", b"a\r\nb: c")], [], ErrorCode.HttpProtocolError),
    ("GET", None, "/", [(b"host", b"other\r\nx: y")], [], ErrorCode.HttpProtocolError),
    ("GET", None, "/", [(b"transfer-encoding", b"chunked")], [], ErrorCode.HttpProtocolError),
    ("GET", None, "/", [(b"content-length", b"x")], [], ErrorCode.HttpProtocolError),
    ("GET", None, "/", [(b"content-length", b"3")], [], ErrorCode.HttpRequestBodySize(0)),
    ("GET", None, "/", [(b"content-length", b"3")], [b"ab"], ErrorCode.HttpRequestBodySize(2)),
    ("GET", None, "/", [(b"content-length", b"3")], [b"ab", b"cd"], ErrorCode.HttpRequestBodySize(4)),
]


@pytest.mark.parametrize(("method", "authority", "path", "headers", "body", "code"), REQUESTS)
def test_requests(
    loop: str,
    method: str,
    authority: str | None,
    path: str,
    headers: list[tuple[bytes, bytes]],
    body: list[bytes],
    code: ErrorCode,
) -> None:
    async def main() -> None:
        async with serving(forever) as server, using(Client()) as client:
            for _ in range(2):
                request = outgoing(
                    method, "http", authority or server.authority, path, headers, pipe_of(body) if body else None
                )
                assert await code_of(client.send_request(request, OutgoingRequestConfig())) == code
                assert (await ask(client, get(server.authority))).body == b"hello"
            await client.close()

    run(loop, main())


# ---- names and connections ------------------------------------------------------------------------------------------


def failing(error: OSError) -> ClientConfig:
    async def resolver(host: str) -> list[str]:
        raise error

    return ClientConfig(resolver=resolver)


def leading_to(*addresses: str) -> ClientConfig:
    async def resolver(host: str) -> list[str]:
        return list(addresses)

    return ClientConfig(resolver=resolver, attempt_delay=0.05)


def dns(rcode: str | None) -> ErrorCode:
    return ErrorCode.DnsError(DnsErrorPayload(rcode, None))


LOOKUPS: list[tuple[int, ErrorCode]] = [
    (socket.EAI_NONAME, dns("NXDOMAIN")),
    (socket.EAI_NODATA, dns("NOERROR")),
    (socket.EAI_FAIL, dns("SERVFAIL")),
    (socket.EAI_MEMORY, dns(None)),
    (socket.EAI_AGAIN, ErrorCode.DnsTimeout),
]


@pytest.mark.parametrize(("number", "code"), LOOKUPS)
def test_lookups(loop: str, number: int, code: ErrorCode) -> None:
    async def main() -> None:
        client = Client(failing(socket.gaierror(number, "text")))
        assert await code_of(ask(client, get("a.example"))) == code

    run(loop, main())


def test_the_system_looks_up_names(loop: str) -> None:
    async def main() -> None:
        async with serving(forever) as server, using(Client()) as client:
            assert (await ask(client, get(f"localhost:{server.port}"))).body == b"hello"
            await client.close()

    run(loop, main())


def test_a_name_without_addresses(loop: str) -> None:
    async def main() -> None:
        assert await code_of(ask(Client(leading_to()), get("a.example"))) == dns("NXDOMAIN")

    run(loop, main())


def test_a_port_that_nobody_listens_to(loop: str) -> None:
    async def main() -> None:
        assert await code_of(ask(Client(), get(unused()))) is ErrorCode.ConnectionRefused

    run(loop, main())


def unused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


ERRNOS: list[tuple[int, ErrorCode]] = [
    (errno.ECONNREFUSED, ErrorCode.ConnectionRefused),
    (errno.ECONNRESET, ErrorCode.ConnectionTerminated),
    (errno.ETIMEDOUT, ErrorCode.ConnectionTimeout),
    (errno.EHOSTUNREACH, ErrorCode.DestinationIpUnroutable),
    (errno.ENETUNREACH, ErrorCode.DestinationIpUnroutable),
    (errno.EADDRNOTAVAIL, ErrorCode.DestinationUnavailable),
    (errno.EACCES, ErrorCode.DestinationIpProhibited),
    (errno.EPERM, ErrorCode.DestinationIpProhibited),
    (errno.EMFILE, ErrorCode.ConnectionLimitReached),
    (errno.ENFILE, ErrorCode.ConnectionLimitReached),
    (errno.EIO, ErrorCode.DestinationUnavailable),
]


@pytest.mark.parametrize(("number", "code"), ERRNOS)
def test_what_the_system_says_to_a_connection(monkeypatch: pytest.MonkeyPatch, number: int, code: ErrorCode) -> None:
    async def refuse(sock: socket.socket, address: object) -> None:
        raise OSError(number, os.strerror(number))

    async def main() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", refuse)
        assert await code_of(ask(Client(), get("127.0.0.1"))) == code

    run("asyncio", main())


def test_addresses_are_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Families alternate, and an address that takes its time does not hold up the others."""
    tried: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        original = loop.sock_connect

        async def connect(sock: socket.socket, address: tuple[str, int]) -> None:
            tried.append(address[0])
            if address[0] in ("127.0.0.3", "127.0.0.4"):
                await asyncio.sleep(60)
            elif ":" in address[0]:
                raise OSError(errno.ENETUNREACH, "no way")
            else:
                await original(sock, address)

        monkeypatch.setattr(loop, "sock_connect", connect)
        client = Client(leading_to("127.0.0.3", "127.0.0.4", "127.0.0.1", "::1", "2001:db8::1", "127.0.0.1"))
        async with serving(forever) as server, using(client):
            assert (await ask(client, get(f"a.example:{server.port}"))).body == b"hello"
            await client.close()
        assert tried == ["127.0.0.3", "::1", "127.0.0.4", "2001:db8::1", "127.0.0.1"]

    run("asyncio", main())


def test_if_no_address_answers_the_first_failure_counts(loop: str) -> None:
    async def main() -> None:
        port = unused().rpartition(":")[2]
        client = Client(leading_to("127.0.0.1", "127.0.0.2"))
        assert await code_of(ask(client, get(f"a.example:{port}"))) is ErrorCode.ConnectionRefused

    run(loop, main())


# ---- time -----------------------------------------------------------------------------------------------------------


async def half_a_head(peer: Peer) -> None:
    assert await peer.head()
    await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    await peer.closed()


SHORT = 0.05

# Timeouts, what the server does, which error that is.
TIMEOUTS: list[tuple[dict[str, float], Script, ErrorCode]] = [
    ({"connect_timeout": 0}, forever, ErrorCode.ConnectionTimeout),
    ({"first_byte_timeout": 0}, forever, ErrorCode.ConnectionReadTimeout),
    ({"first_byte_timeout": SHORT}, silence, ErrorCode.ConnectionReadTimeout),
    ({"first_byte_timeout": SHORT}, half_a_head, ErrorCode.HttpResponseTimeout),
    ({"between_bytes_timeout": 0}, sending(LENGTH + b"short", silence), ErrorCode.ConnectionReadTimeout),
    ({"between_bytes_timeout": SHORT}, sending(LENGTH + b"short", silence), ErrorCode.ConnectionReadTimeout),
    ({"between_bytes_timeout": SHORT}, sending(CHUNKED, silence), ErrorCode.ConnectionReadTimeout),
]


@pytest.mark.parametrize(("timeouts", "script", "code"), TIMEOUTS)
def test_timeouts(loop: str, timeouts: dict[str, float], script: Script, code: ErrorCode) -> None:
    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            assert await code_of(ask(client, get(server.authority), **timeouts)) is code

    run(loop, main())


@pytest.mark.parametrize("timeout", [NEVER, float("inf")])
def test_any_time_at_all(loop: str, timeout: float) -> None:
    async def main() -> None:
        timeouts = {f"{name}_timeout": timeout for name in ("connect", "first_byte", "between_bytes")}
        async with serving(forever) as server, using(Client()) as client:
            for _ in range(2):
                assert (await ask(client, get(server.authority), **timeouts)).body == b"hello"
            # An idle connection takes no time to connect.
            assert (await ask(client, get(server.authority), connect_timeout=0)).body == b"hello"
            assert server.connections == 1
            await client.close()

    run(loop, main())


def test_a_response_in_one_piece_needs_no_time_between_bytes(loop: str) -> None:
    async def main() -> None:
        async with serving(forever) as server, using(Client()) as client:
            assert (await ask(client, get(server.authority), between_bytes_timeout=0)).body == b"hello"
            await client.close()

    run(loop, main())


def test_time_starts_again_with_every_byte(loop: str) -> None:
    async def slowly(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(LENGTH)
        for _ in range(10):
            await asyncio.sleep(0.05)
            await peer.send(b"x")
        await peer.closed()

    async def main() -> None:
        async with serving(slowly) as server, using(Client()) as client:
            reply = await ask(client, get(server.authority), between_bytes_timeout=0.4, first_byte_timeout=0.4)
            assert reply.body == b"x" * 10
            await client.close()

    run(loop, main())


def test_a_guest_that_sends_slowly_gets_its_time(loop: str) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.reader.readexactly(10)
        await peer.send(ok(b"hello"))
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            source = Pipe()
            request = get(server.authority, method="POST", body=source)
            request.headers.append((b"content-length", b"10"))
            task = asyncio.ensure_future(ask(client, request, first_byte_timeout=0.4))
            for _ in range(10):
                await asyncio.sleep(0.05)
                source.write(b"x")
            source.end()
            assert (await task).body == b"hello"
            await client.close()

    run(loop, main())


def test_a_guest_that_sent_all_but_does_not_say_so_has_its_answer_in_time(loop: str) -> None:
    async def main() -> None:
        async with serving(silence) as server, using(Client()) as client:
            source = Pipe()
            source.write(b"all")
            request = get(server.authority, method="POST", body=source)
            request.headers.append((b"content-length", b"3"))
            assert await code_of(ask(client, request, first_byte_timeout=SHORT)) is ErrorCode.ConnectionReadTimeout

    run(loop, main())


def test_a_guest_that_stops_sending_takes_its_own_time(loop: str) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            source = Pipe()
            source.write(b"begun")
            task = asyncio.ensure_future(
                ask(client, get(server.authority, method="POST", body=source), first_byte_timeout=SHORT)
            )
            await asyncio.sleep(4 * SHORT)
            assert not task.done()
            source.end()
            # From now on it is the server's.
            assert await code_of(task) is ErrorCode.ConnectionReadTimeout

    run(loop, main())


def exchange_of(
    connection: Connection, request: Request, config: OutgoingRequestConfig, receiver: Callable[[object], None]
) -> Exchange[Response]:
    def respond(status: int, headers: list[tuple[bytes, bytes]], body: Pipe) -> Response:
        return Response.of(status, headers, Body(body))

    return Exchange(connection, request, config, Limits(), receiver, respond, HttpError.of)


@pytest.mark.parametrize("timeout", [0.0, 1e-9, SHORT])
def test_a_guest_that_does_not_read_costs_no_time(loop: str, timeout: float) -> None:
    """Nothing is due until it reads again, however short the time between bytes."""

    async def main() -> None:
        connection = Connection(asyncio.get_running_loop())
        transport = connection.transport = FullTransport()  # type: ignore[assignment]
        outcomes: list[object] = []
        config = OutgoingRequestConfig(between_bytes_timeout=timeout)
        exchange = exchange_of(connection, get("a.example"), config, outcomes.append)
        exchange.start(b"/", b"a.example", [])
        transport.unsent = 0
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(300_000))
        (response,) = outcomes
        assert isinstance(response, Response)
        assert not connection.reading
        await asyncio.sleep(2 * timeout + 0.01)
        assert connection.due == math.inf
        while response.body.pipe.size:
            assert response.body.pipe.take(100_000)
        assert connection.reading
        await asyncio.sleep(2 * timeout + 0.01)
        assert isinstance(response.body.pipe.error, HttpError)
        assert response.body.pipe.error.code is ErrorCode.ConnectionReadTimeout

    run(loop, main())


@pytest.mark.parametrize("timeout", ["between_bytes_timeout", "first_byte_timeout"])
def test_a_server_that_takes_nothing(loop: str, timeout: str) -> None:
    go_on = asyncio.Event()

    async def deaf(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go_on.wait()

    async def main() -> None:
        async with serving(deaf) as server, using(Client()) as client:
            source = Pipe()

            def fill() -> None:
                while source.error is None and not source.cancelled and source.room():
                    source.write(bytes(source.room()))

            source.writable.add(fill)
            fill()
            request = get(server.authority, method="POST", body=source)
            assert await code_of(ask(client, request, **{timeout: 0.2})) is ErrorCode.ConnectionWriteTimeout
            # The guest learns of it as well.
            assert isinstance(source.error, HttpError)
            assert source.error.code is ErrorCode.ConnectionWriteTimeout
            go_on.set()

    run(loop, main())


def test_a_server_that_takes_its_time(loop: str) -> None:
    """Whatever it takes counts."""
    size = 20_000_000
    clock, client, source = Clock(), Client(), Pipe(size)

    async def slow(peer: Peer) -> None:
        assert await peer.head()
        (connection,) = client._pool(asyncio.get_running_loop())._connections
        connection._stop_timer()
        connection.loop = cast(asyncio.AbstractEventLoop, clock)
        connection.set_due(clock.time() + 0.5)
        began, left = clock.time(), size
        while left:
            clock.advance(0.45)
            unsent = source.size
            # The system may keep a lot before it takes more of the client.
            while left and source.size >= unsent:
                left -= len(await peer.reader.read(min(left, 65536)))
        assert clock.time() - began > 2 * 0.5
        await peer.send(ok(b"hello"))
        await peer.closed()

    async def main() -> None:
        async with serving(slow) as server, using(client):
            source.write(bytes(size))
            source.end()
            request = get(server.authority, method="POST", body=source)
            assert (await ask(client, request, between_bytes_timeout=0.5, first_byte_timeout=0.5)).body == b"hello"
            await client.close()

    run(loop, main())


class FullTransport:
    """Takes everything, and sends what the test says."""

    def __init__(self) -> None:
        self.unsent = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.unsent += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def test_a_server_that_takes_little_by_little(loop: str) -> None:
    """Less unsent than before is progress, though the transport takes no more yet."""

    async def main() -> None:
        connection = Connection(asyncio.get_running_loop())
        transport = connection.transport = FullTransport()  # type: ignore[assignment]
        outcomes: list[object] = []
        request = get("a.example", method="POST", body=pipe_of([bytes(100_000)]))
        exchange = exchange_of(connection, request, OutgoingRequestConfig(), outcomes.append)
        exchange.start(b"/", b"a.example", [])
        connection.pause_writing()
        for _ in range(3):
            transport.unsent -= 10
            exchange.expired(connection.loop.time())
            assert (outcomes, transport.aborted) == ([], False)
            assert connection.due > connection.loop.time() + 100
        exchange.expired(connection.loop.time())
        assert isinstance(outcomes[0], WriteTimeout)
        assert error_code_of(outcomes[0]) is ErrorCode.ConnectionWriteTimeout
        assert transport.aborted

    run(loop, main())


def test_a_name_that_takes_too_long(loop: str) -> None:
    async def resolver(host: str) -> list[str]:
        await asyncio.sleep(60)
        return []

    async def main() -> None:
        client = Client(ClientConfig(resolver=resolver))
        assert await code_of(ask(client, get("a.example"), connect_timeout=SHORT)) is ErrorCode.DnsTimeout

    run(loop, main())


def test_a_connection_that_takes_too_long(loop: str) -> None:
    async def main() -> None:
        # A backlog that is full: whoever comes waits.
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            waiting = []
            for _ in range(4):
                sock = socket.socket()
                sock.setblocking(False)
                waiting.append(sock)
                sock.connect_ex(listener.getsockname())
            request = get(f"127.0.0.1:{listener.getsockname()[1]}")
            assert await code_of(ask(Client(), request, connect_timeout=0.2)) is ErrorCode.ConnectionTimeout
            for sock in waiting:
                sock.close()

    run(loop, main())


# ---- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ClientConfig(max_connections=1), ClientConfig(max_connections_per_host=1)])
def test_no_connection_becomes_free(loop: str, config: ClientConfig) -> None:
    async def main() -> None:
        async with serving(sending(LENGTH + b"short", silence)) as server, using(Client(config)) as client:
            first = await client.send_request(get(server.authority), OutgoingRequestConfig())
            code = await code_of(ask(client, get(server.authority), connect_timeout=SHORT))
            assert code is ErrorCode.ConnectionLimitReached
            first.body.cancel()
            second = await client.send_request(get(server.authority), OutgoingRequestConfig())
            second.body.cancel()

    run(loop, main())


def test_a_guest_with_too_many_connections(loop: str) -> None:
    """It is told at once, because it may be waiting for itself."""
    quota = ConnectionQuota(2)

    async def main() -> None:
        async with serving(sending(LENGTH + b"short", silence)) as server, using(Client()) as client:
            responses = [
                await client.send_request(get(server.authority), OutgoingRequestConfig(quota=quota)) for _ in range(2)
            ]
            assert await code_of(ask(client, get(server.authority), quota=quota)) is ErrorCode.ConnectionLimitReached
            # Others have their own.
            other = await client.send_request(get(server.authority), OutgoingRequestConfig(quota=ConnectionQuota(1)))
            other.body.cancel()
            responses[0].body.cancel()
            responses.append(await client.send_request(get(server.authority), OutgoingRequestConfig(quota=quota)))
            for response in responses:
                response.body.cancel()
        assert quota.used == 0

    run(loop, main())


def test_requests_at_once_have_no_more_connections_than_the_guest_may(loop: str) -> None:
    quota = ConnectionQuota(4)

    async def script(peer: Peer) -> None:
        await peer.head()
        await go_on.wait()
        await peer.send(ok(b"hello"))
        await peer.closed()

    async def main() -> None:
        nonlocal go_on
        go_on = asyncio.Event()
        async with serving(script) as server, using(Client()) as client:
            config = OutgoingRequestConfig(quota=quota)
            replies = [client.send_request(get(server.authority), config) for _ in range(50)]
            denied = [await code_of(reply) for reply in replies[4:]]
            assert denied == [ErrorCode.ConnectionLimitReached] * 46
            go_on.set()
            assert [(await read(await reply)).body for reply in replies[:4]] == [b"hello"] * 4
            assert (server.connections, quota.used) == (4, 0)
            await client.close()

    go_on: asyncio.Event
    run(loop, main())


def test_a_quota_counts_what_is_used(loop: str) -> None:
    quota = ConnectionQuota(1)

    async def main() -> None:
        async with serving(forever) as server, using(Client()) as client:
            for _ in range(3):
                assert (await ask(client, get(server.authority), quota=quota)).body == b"hello"
            assert await code_of(ask(client, get(unused()), quota=quota)) is ErrorCode.ConnectionRefused
            assert quota.used == 0
            await client.close()

    run(loop, main())


# ---- cancellation ---------------------------------------------------------------------------------------------------


async def cancelled(client: Client, request: Request, reached: Callable[[], object], **config: Any) -> None:
    task = asyncio.ensure_future(ask(client, request, **config))
    while not reached():  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_cancelling_a_lookup(loop: str) -> None:
    asked: list[str] = []

    async def resolver(host: str) -> list[str]:
        asked.append(host)
        await asyncio.sleep(60)
        return []

    async def main() -> None:
        client = Client(ClientConfig(resolver=resolver, max_connections=1))
        for number in range(2):
            await cancelled(client, get("a.example"), lambda n=number: len(asked) > n)  # type: ignore[misc]

    run(loop, main())


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("127.0.0.1", "127.0.0.2", "127.0.0.3")])
def test_cancelling_a_connection_that_is_made(loop: str, addresses: tuple[str, ...]) -> None:
    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("0.0.0.0", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            waiting = []
            for number in range(12):
                sock = socket.socket()
                sock.setblocking(False)
                waiting.append(sock)
                sock.connect_ex((f"127.0.0.{number % 3 + 1}", port))
            client = Client(leading_to(*addresses))
            before = len(os.listdir("/dev/fd"))
            for _ in range(2):
                await cancelled(
                    client, get(f"a.example:{port}"), lambda: len(os.listdir("/dev/fd")) >= before + len(addresses)
                )
                for _ in range(3):
                    await asyncio.sleep(0)
                assert len(os.listdir("/dev/fd")) == before
            for sock in waiting:
                sock.close()

    run(loop, main())


async def begun(peer: Peer) -> None:
    assert await peer.head()
    await peer.send(LENGTH + b"short")
    await peer.closed()


@pytest.mark.parametrize("phase", ["sending", "waiting", "reading", "reused"])
def test_cancelling_an_exchange(loop: str, phase: str) -> None:
    heads = 0

    async def script(peer: Peer) -> None:
        nonlocal heads
        if phase == "reused":
            assert await peer.head()
            await peer.send(ok(b"hello"))
        if not await peer.head():
            return
        heads += 1
        if phase == "reading":
            await peer.send(LENGTH + b"short")
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client(ClientConfig(max_connections=1))) as client:
            for number in (1, 2):
                if phase == "reused":
                    assert (await ask(client, get(server.authority))).body == b"hello"
                source = Pipe() if phase == "sending" else None
                if source is not None:
                    source.write(b"begun")
                request = get(server.authority, method="PUT", body=source)
                if phase == "reading":
                    response = await client.send_request(request, OutgoingRequestConfig())
                    task = asyncio.ensure_future(read(response))
                    await asyncio.sleep(0.01)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                    response.body.cancel()
                else:
                    await cancelled(client, request, lambda n=number: heads == n)  # type: ignore[misc]
                if source is not None:
                    assert source.cancelled
                while server.open:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
                assert server.connections == number

    run(loop, main())


# ---- the table ------------------------------------------------------------------------------------------------------


def test_every_reason_has_a_code() -> None:
    ours = {Reason.TARGET, Reason.HOST}  # of requests
    for reason in Reason:
        if reason not in ours:
            assert error_code_of(RemoteProtocolError(reason)) == ERROR_CODES[reason]


def alert(number: int | None, message: str) -> ErrorCode:
    return ErrorCode.TlsAlertReceived(TlsAlertReceivedPayload(number, message))


# Exceptions that a server on this machine cannot provoke, or not with every version of OpenSSL.
OTHERS: list[tuple[BaseException, ErrorCode]] = [
    (EOFError(), ErrorCode.HttpResponseIncomplete),
    (asyncio.IncompleteReadError(b"", 1), ErrorCode.HttpResponseIncomplete),
    (TimeoutError(), ErrorCode.ConnectionTimeout),
    (ConnectionAbortedError(), ErrorCode.ConnectionTerminated),
    (BrokenPipeError(errno.EPIPE, ""), ErrorCode.ConnectionTerminated),
    (OSError("odd"), ErrorCode.DestinationUnavailable),
    (BodyLengthError(1, 2), ErrorCode.HttpRequestBodySize(2)),
    (ValueError(), ErrorCode.InternalError("ValueError")),
    (ssl.SSLError(1, "[SSL: X] sslv3 alert handshake failure (_ssl.c:1)"), alert(40, "handshake_failure")),
    (ssl.SSLError(1, "[SSL: X] ssl/tls alert handshake failure (_ssl.c:1)"), alert(40, "handshake_failure")),
    (ssl.SSLError(1, "[SSL] tlsv1 alert no application protocol (_ssl.c:1)"), alert(120, "no_application_protocol")),
    (ssl.SSLError(1, "[SSL: X] tlsv1 unrecognized name (_ssl.c:1)"), alert(112, "unrecognized_name")),
    (ssl.SSLError(1, "[SSL: X] tlsv13 alert certificate required (_ssl.c:1)"), alert(116, "certificate_required")),
    (ssl.SSLError(1, "[SSL: X] tlsv1 alert of tomorrow (_ssl.c:1)"), alert(None, "of_tomorrow")),
    (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1)"), ErrorCode.TlsProtocolError),
    (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), ErrorCode.TlsProtocolError),
    (ssl.SSLCertVerificationError(1, "certificate verify failed"), ErrorCode.TlsCertificateError),
]


@pytest.mark.parametrize(("error", "code"), OTHERS, ids=lambda value: repr(value)[:40])
def test_other_exceptions(error: BaseException, code: ErrorCode) -> None:
    assert error_code_of(error) == code
