"""Requests and responses on the wire, and which connections are used again."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from wasi_http.client import ClientConfig, ConnectionQuota, OutgoingRequestConfig
from wasi_http.client.exchange import Exchange
from wasi_http.client.pool import HostSlots
from wasi_http.flow.pipe import Pipe
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.send import Client
from wasi_http.http.values import ErrorCode
from wasi_http.http1.limits import Limits
from wasi_http.net.authority import Origin

from .conftest import Authority
from .peers import (
    LOOPS,
    PATIENCE,
    Peer,
    Server,
    answering,
    ask,
    forever,
    get,
    ok,
    outgoing,
    pipe_of,
    read,
    run,
    serving,
    until,
    using,
)

# ---- responses ------------------------------------------------------------------------------------------------------

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"

# Method, response, status, body, trailers, whether the connection serves another request.
RESPONSES: list[tuple[str, bytes, int, bytes, list[tuple[bytes, bytes]], bool]] = [
    ("GET", ok(b"hello"), 200, b"hello", [], True),
    ("GET", ok(b""), 200, b"", [], True),
    ("GET", CHUNKED + b"0\r\n\r\n", 200, b"hello", [], True),
    ("GET", CHUNKED + b"1\r\n!\r\n0\r\nx: 1\r\nx: 2\r\n\r\n", 200, b"hello!", [(b"x", b"1"), (b"x", b"2")], True),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", [], True),
    ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b"", [], True),
    ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200, b"", [], True),
    ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200, b"", [], True),
    ("GET", CONTINUE + EARLY + ok(b"hello"), 200, b"hello", [], True),
    ("GET", b"HTTP/1.1 404 \r\ncontent-length: 1\r\n\r\nx", 404, b"x", [], True),
    ("GET", ok(b"hello", b"connection: close"), 200, b"hello", [], False),
    ("GET", b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", [], False),
    ("GET", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", [], True),
    ("GET", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end", [], False),
    ("GET", b"HTTP/1.1 200 OK\r\n\r\n", 200, b"", [], False),
    # Nobody asked for the second one.
    ("GET", ok(b"hello") + ok(b"again"), 200, b"hello", [], False),
    ("GET", ok(b"hello") + b"\r\n", 200, b"hello", [], False),
]


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize(("method", "response", "status", "body", "trailers", "reused"), RESPONSES)
def test_responses(
    loop: str,
    method: str,
    response: bytes,
    status: int,
    body: bytes,
    trailers: object,
    reused: bool,
    byte_by_byte: bool,
) -> None:
    until_close = b"until" in response or response == b"HTTP/1.1 200 OK\r\n\r\n"

    async def script(peer: Peer) -> None:
        if server.connections == 1:
            assert await peer.head()
            for position in range(0, len(response), 1 if byte_by_byte else len(response)):
                await peer.send(response[position : position + 1] if byte_by_byte else response)
                await asyncio.sleep(0)
            if until_close:
                return
        if await peer.head():
            await peer.send(ok(b"second"))
            await peer.closed()

    async def main() -> None:
        nonlocal server
        async with serving(script) as server, using(Client()) as client:
            reply = await ask(client, get(server.authority, method=method))
            assert (reply.status, reply.body, reply.trailers) == (status, body, trailers)
            assert b"link" not in dict(reply.headers)
            if not reused:
                await until(lambda: not server.open)
            assert (await ask(client, get(server.authority))).body == b"second"
            assert server.connections == (1 if reused else 2)
            await client.close()

    server: Server
    run(loop, main())


# ---- requests -------------------------------------------------------------------------------------------------------

# Method, path, headers, pieces of the body, trailers, what the server gets.
REQUESTS: list[tuple[str, str, list[Any], list[bytes] | None, list[Any] | None, bytes]] = [
    ("GET", "/a?b=c", [], None, None, b"GET /a?b=c HTTP/1.1\r\nhost: {}\r\n\r\n"),
    ("OPTIONS", "*", [], None, None, b"OPTIONS * HTTP/1.1\r\nhost: {}\r\n\r\n"),
    ("POST", "/", [], None, None, b"POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\n\r\n"),
    ("GET", "/", [(b"x", b"1"), (b"y", b"2"), (b"x", b"\xff")], None, None,
     b"GET / HTTP/1.1\r\nhost: {}\r\nx: 1\r\ny: 2\r\nx: \xff\r\n\r\n"),
    ("PURGE", "/", [], [b"ab", b"c"], None, b"PURGE / HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\n\r\nabc"),
    ("PUT", "/", [], [], None, b"PUT / HTTP/1.1\r\nhost: {}\r\ncontent-length: 0\r\n\r\n"),
    ("POST", "/", [(b"content-length", b"3")], [b"abc"], None,
     b"POST / HTTP/1.1\r\nhost: {}\r\ncontent-length: 3\r\n\r\nabc"),
    ("POST", "/", [], [b"ab", b"c"], [(b"x", b"1")],
     b"POST / HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n"
     b"2\r\nab\r\n1\r\nc\r\n0\r\nx: 1\r\n\r\n"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "headers", "pieces", "trailers", "expected"), REQUESTS)
def test_requests(
    loop: str,
    method: str,
    path: str,
    headers: list[Any],
    pieces: list[bytes] | None,
    trailers: list[Any] | None,
    expected: bytes,
) -> None:
    async def main() -> None:
        async def script(peer: Peer) -> None:
            wanted = expected.replace(b"{}", server.authority.encode())
            assert await peer.reader.readexactly(len(wanted)) == wanted
            await peer.send(ok())
            assert await peer.closed() == b""

        async with serving(script) as server, using(Client()) as client:
            body = None if pieces is None else pipe_of(pieces, trailers)
            request = outgoing(method, "http", server.authority, path, headers, body)
            assert (await ask(client, request)).status == 200
            await client.close()

    run(loop, main())


# ---- bodies that take their time ------------------------------------------------------------------------------------


async def echo(peer: Peer) -> None:
    """Sends a chunked body back as it comes, with its trailers."""
    assert await peer.head()
    await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while data := await peer.reader.read(65536):
        await peer.send(data)
        if data.endswith(b"\r\n\r\n"):
            break
    await peer.closed()


def test_both_bodies_at_once(loop: str) -> None:
    async def main() -> None:
        async with serving(echo) as server, using(Client()) as client:
            source = Pipe()
            request = get(server.authority, method="POST", body=source)
            response = await client.send_request(request, OutgoingRequestConfig())
            body = response.body.pipe
            for piece in (b"first", b"second"):
                source.write(piece)
                await until(body.is_readable)
                assert body.take(100) == piece
            source.end([(b"x", b"1")])
            rest = await read(response)
            assert (rest.body, rest.trailers) == (b"", [(b"x", b"1")])
            await client.close()

    run(loop, main())


def test_a_large_body_there_and_back(loop: str) -> None:
    size = 5_000_000

    async def main() -> None:
        async with serving(echo) as server, using(Client()) as client:

            async def pieces() -> object:
                for number in range(size // 50_000):
                    yield bytes([number]) * 50_000

            body = Body.of(pieces())  # type: ignore[arg-type]
            body.demand()
            response = await client.send_request(
                get(server.authority, method="POST", body=body.pipe), OutgoingRequestConfig()
            )
            received = (await read(response)).body
            assert received == b"".join(bytes([number]) * 50_000 for number in range(size // 50_000))
            await client.close()

    run(loop, main())


def test_a_body_is_asked_for_when_there_is_a_connection(loop: str) -> None:
    """And its sender is told when the exchange ends before it."""
    told: list[str] = []

    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await peer.closed()

    def body() -> Body:
        told.clear()
        return Body(Pipe(), lambda: told.append("demanded"), lambda: told.append("abandoned"))

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            request = Request("POST", f"http://{server.authority}/", (), body())
            response = await client.send_request(request, OutgoingRequestConfig())
            assert told == ["demanded"]
            response.body.cancel()
            await until(lambda: len(told) == 2)
            assert told == ["demanded", "abandoned"]
        request = Request("POST", f"http://{server.authority}/", (), body())
        with pytest.raises(HttpError):
            await client.send_request(request, OutgoingRequestConfig())
        assert told == []

    run(loop, main())


@pytest.mark.parametrize("pieces", [[b"whole"], [b"piece ", b"by ", b"piece"]])
def test_bodies_of_embedders_are_sent(loop: str, pieces: list[bytes]) -> None:
    """Bytes with their length, what an iterable gives in chunks."""

    async def script(peer: Peer) -> None:
        head = await peer.head()
        if len(pieces) == 1:
            assert b"content-length: 5\r\n" in head.lower()
            assert await peer.reader.readexactly(5) == b"whole"
        else:
            assert b"transfer-encoding: chunked\r\n" in head.lower()
            assert b"piece" in await peer.reader.readuntil(b"0\r\n\r\n")
        await peer.send(ok())
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            body = pieces[0] if len(pieces) == 1 else iter(pieces)
            request = Request("POST", f"http://{server.authority}/", (), body)
            assert (await client.send_request(request, OutgoingRequestConfig())).status == 200

    run(loop, main())


def test_a_server_is_held_back(loop: str) -> None:
    """What the guest does not read stays where it is."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        assert await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 50000000\r\n\r\n")
        for _ in range(1000):
            await peer.send(bytes(50_000))
            sent += 50_000
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            config = OutgoingRequestConfig(between_bytes_timeout=0.2)
            response = await client.send_request(get(server.authority), config)
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)  # more than the timeout: a guest may take its time
            assert sent < 30_000_000
            assert response.body.pipe.size < 1_000_000
            assert len((await read(response)).body) == 50_000_000
            await client.close()

    run(loop, main())


def test_a_guest_is_held_back(loop: str) -> None:
    """What the server does not read stays where it is."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        assert await peer.head()
        await go_on.wait()
        await peer.reader.readexactly(20_000_000)
        await peer.send(ok())
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            source = Pipe()
            request = get(server.authority, method="POST", body=source)
            request.headers.append((b"content-length", b"20000000"))
            task = asyncio.ensure_future(ask(client, request))
            written, before = 0, -1
            while written != before:
                before = written
                while room := min(source.room(), 20_000_000 - written):
                    source.write(bytes(room))
                    written += room
                    await asyncio.sleep(0)
                await asyncio.sleep(0.05)
            assert written < 15_000_000
            go_on.set()
            while written < 20_000_000:
                await until(source.room)
                room = min(source.room(), 20_000_000 - written)
                source.write(bytes(room))
                written += room
            source.end()
            assert (await task).status == 200
            await client.close()

    run(loop, main())


@pytest.mark.parametrize("size", [1000, 40_000])
def test_a_body_that_is_filled_as_soon_as_there_is_room(loop: str, size: int) -> None:
    """It arrives in order, and is not held until it is complete."""
    total = 400 * 40_000
    arrived = arrived_before_the_end = 0

    async def script(peer: Peer) -> None:
        nonlocal arrived
        assert await peer.head()
        for number in range(total // size):
            arrived += size
            assert await peer.reader.readexactly(size) == number.to_bytes(4, "big") * (size // 4)
        await peer.send(ok(b"hello"))
        await peer.closed()

    async def main() -> None:
        source = Pipe()
        numbers = iter(range(total // size))

        def fill() -> None:
            nonlocal arrived_before_the_end
            while not source.ended and source.room() >= size:
                number = next(numbers, None)
                if number is None:
                    arrived_before_the_end = arrived
                    source.end()
                else:
                    source.write(number.to_bytes(4, "big") * (size // 4))

        async with serving(script) as server, using(Client()) as client:
            source.writable.add(fill)
            fill()
            request = get(server.authority, method="POST", body=source)
            request.headers.append((b"content-length", b"%d" % total))
            assert (await ask(client, request)).body == b"hello"
            assert arrived_before_the_end
            await client.close()

    run(loop, main())


def test_an_answer_before_the_request_is_complete(loop: str) -> None:
    """The rest is not wanted, and the connection is of no use any more."""

    async def main() -> None:
        async def script(peer: Peer) -> None:
            assert await peer.head()
            await peer.send(ok(b"enough"))
            await peer.closed()

        async with serving(script) as server, using(Client()) as client:
            source = Pipe()
            source.write(b"begun")
            reply = await ask(client, get(server.authority, method="POST", body=source))
            assert reply.body == b"enough"
            assert source.cancelled
            await until(lambda: not server.open)
            assert (await ask(client, get(server.authority))).body == b"enough"
            assert server.connections == 2
            await client.close()

    run(loop, main())


def test_an_answer_of_a_server_that_closes_while_we_send(loop: str) -> None:
    """What it said before is heard, though the next piece of the request runs into a closed door."""
    go_on = threading.Event()

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(100)
            go_on.wait(PATIENCE)
            peer.sendall(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\n\r\nmuch")
        # With what the client sent unread, this is a reset.

    async def main() -> None:
        async with using(Client()) as client:
            source = Pipe()
            source.write(bytes(10_000))
            authority = f"127.0.0.1:{listener.getsockname()[1]}"
            task = asyncio.ensure_future(ask(client, get(authority, method="POST", body=source)))
            await until(lambda: not source.size)
            # The loop sees neither the answer nor the reset before it sends more.
            go_on.set()
            thread.join()
            source.write(b"more")
            reply = await task
            assert (reply.status, reply.body) == (413, b"much")
            assert source.cancelled

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        run(loop, main())


def test_a_body_that_nobody_wants_takes_the_connection_along(loop: str) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            for number in (1, 2):
                response = await client.send_request(get(server.authority), OutgoingRequestConfig())
                assert server.connections == number
                response.body.cancel()
                await until(lambda: not server.open)

    run(loop, main())


@pytest.mark.parametrize("reused", [False, True])
def test_a_response_that_nobody_sees_takes_the_connection_along(loop: str, reused: bool) -> None:
    """Who waits for it is cancelled when it is there, but has not been woken yet."""

    async def script(peer: Peer) -> None:
        if reused:
            await peer.head()
            await peer.send(ok(b"hello"))
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await peer.closed()

    async def main() -> None:
        quota = ConnectionQuota(1)
        config = OutgoingRequestConfig(quota=quota)
        async with serving(script) as server:
            client = Client()
            request = get(server.authority)
            if reused:
                await ask(client, request, quota=quota)
            reply = client.send_request(request, config)

            async def wait() -> Response:
                return await reply

            task = asyncio.ensure_future(wait())
            while not reply.done():  # noqa: ASYNC110
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: not server.open)
            assert quota.used == 0

    run(loop, main())


def test_a_response_that_was_given_is_not_taken_back(loop: str) -> None:
    async def main() -> None:
        async with serving(forever) as server:
            client = Client()
            reply = client.send_request(get(server.authority), OutgoingRequestConfig())
            response = await reply
            assert not reply.cancel()
            assert (await read(response)).body == b"hello"
            await client.close()

    run(loop, main())


def test_a_body_that_fails_is_not_taken_for_the_whole(loop: str) -> None:
    received = b""

    async def script(peer: Peer) -> None:
        nonlocal received
        assert await peer.head()
        received = await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            source = Pipe()
            source.write(b"begun")
            task = asyncio.ensure_future(ask(client, get(server.authority, method="POST", body=source)))
            await until(lambda: source.size == 0)
            source.fail(HttpError(ErrorCode.InternalError("mine")))
            with pytest.raises(HttpError) as raised:
                await task
            assert raised.value.code == ErrorCode.InternalError("mine")
        assert not received.endswith(b"0\r\n\r\n")

    run(loop, main())


# ---- connections ----------------------------------------------------------------------------------------------------


def client_test(script: Callable[[Peer], Awaitable[object]], config: ClientConfig | None = None) -> Callable[..., None]:
    """Runs a test with a server that follows a script, and a client."""

    def decorate(test: Callable[[Server, Client], Awaitable[None]]) -> Callable[..., None]:
        def runner(loop: str) -> None:
            async def main() -> None:
                async with serving(script) as server, using(Client(config)) as client:
                    await test(server, client)
                    await client.close()

            run(loop, main())

        runner.__doc__ = test.__doc__
        return runner

    return decorate


@client_test(forever)
async def test_one_connection_for_many_requests(server: Server, client: Client) -> None:
    for _ in range(10):
        assert (await ask(client, get(server.authority))).body == b"hello"
    assert server.connections == 1


@client_test(forever)
async def test_requests_at_once_have_a_connection_each(server: Server, client: Client) -> None:
    for _ in range(3):
        replies = await asyncio.gather(*[ask(client, get(server.authority)) for _ in range(10)])
        assert [reply.body for reply in replies] == [b"hello"] * 10
    assert server.connections == 10


@client_test(forever, ClientConfig(max_connections_per_host=3))
async def test_connections_of_a_host_are_limited(server: Server, client: Client) -> None:
    replies = await asyncio.gather(*[ask(client, get(server.authority)) for _ in range(20)])
    assert [reply.body for reply in replies] == [b"hello"] * 20
    assert server.connections <= 3


@client_test(forever, ClientConfig(max_connections=2))
async def test_idle_connections_make_room(server: Server, client: Client) -> None:
    async with serving(forever) as other:
        for _ in range(3):
            for origin in (server, other, server):
                replies = await asyncio.gather(*[ask(client, get(origin.authority)) for _ in range(5)])
                assert [reply.body for reply in replies] == [b"hello"] * 5
                assert server.open + other.open <= 3  # one may be on its way out
        await client.close()


@client_test(forever, ClientConfig(max_connections=1))
async def test_whoever_waits_gets_the_place_of_another_host(server: Server, client: Client) -> None:
    async with serving(forever) as other:
        authorities = [server.authority, other.authority] * 3
        replies = await asyncio.gather(*[ask(client, get(authority)) for authority in authorities])
        assert [reply.body for reply in replies] == [b"hello"] * 6
        await client.close()


@client_test(forever, ClientConfig(max_connections_per_host=1))
async def test_who_waits_for_one_host_costs_the_others_no_connection(server: Server, client: Client) -> None:
    async def hang(peer: Peer) -> None:
        await peer.head()
        hanging.set()
        await peer.closed()

    hanging = asyncio.Event()
    async with serving(hang) as busy:
        tasks = [asyncio.ensure_future(ask(client, get(busy.authority))) for _ in range(2)]
        await hanging.wait()
        for _ in range(3):
            assert (await ask(client, get(server.authority))).body == b"hello"
        assert server.connections == 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@client_test(forever, ClientConfig(max_idle_connections=2))
async def test_idle_connections_are_limited(server: Server, client: Client) -> None:
    await asyncio.gather(*[ask(client, get(server.authority)) for _ in range(5)])
    await until(lambda: server.open == 2)
    await asyncio.gather(*[ask(client, get(server.authority)) for _ in range(2)])
    assert server.connections == 5


@client_test(forever, ClientConfig(idle_timeout=0.05))
async def test_idle_connections_are_closed_in_time(server: Server, client: Client) -> None:
    await ask(client, get(server.authority))
    await until(lambda: server.open == 0)
    assert (await ask(client, get(server.authority))).body == b"hello"


@client_test(forever)
async def test_hosts_have_connections_of_their_own(server: Server, client: Client) -> None:
    async with serving(forever, host="127.0.0.2") as other:
        await ask(client, get(server.authority))
        await ask(client, get(f"127.0.0.2:{other.port}"))
        assert (server.connections, other.connections) == (1, 1)
        await client.close()


def test_a_slot_goes_to_those_who_wait(loop: str) -> None:
    """In order; those who give up leave nothing behind."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            order.append(head.split()[1])
            if head.startswith(b"GET /0 "):
                await go_on.wait()
            await peer.send(ok(b"hello"))

    order: list[bytes] = []

    async def main() -> None:
        async with serving(script) as server, using(Client(ClientConfig(max_connections=1))) as client:
            tasks = [asyncio.ensure_future(ask(client, get(server.authority, f"/{n}"))) for n in range(5)]
            await until(lambda: order)
            tasks[2].cancel()
            go_on.set()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(done[2], asyncio.CancelledError)
            assert order == [b"/0", b"/1", b"/3", b"/4"]
            assert server.connections == 1
            await client.close()

    run(loop, main())


# What the server does with a connection after the first response: nobody waits on one that is dead.
async def closes(peer: Peer) -> None:
    pass


async def resets(peer: Peer) -> None:
    peer.reset()


@pytest.mark.parametrize("then", [closes, resets])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("notice", [True, False])
def test_dead_connections(loop: str, then: Callable[[Peer], Awaitable[None]], method: str, notice: bool) -> None:
    """``notice``: whether the client's loop gets to see the end before the next request."""

    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(ok(b"hello"))
        if server.connections == 1:
            await then(peer)
            peer.writer.close()
            ended.set()
        else:
            await peer.closed()

    ended = asyncio.Event()

    async def main() -> None:
        nonlocal server
        async with serving(script) as server, using(Client()) as client:
            assert (await ask(client, get(server.authority))).body == b"hello"
            await ended.wait()
            if notice:
                await until(lambda: not server.open)
                await asyncio.sleep(0.01)
            body = pipe_of([b"abc"]) if method == "PUT" else None
            assert (await ask(client, get(server.authority, method=method, body=body))).body == b"hello"
            assert server.connections == 2
            await client.close()

    server: Server
    run(loop, main())


def test_many_dead_connections(loop: str) -> None:
    """The second attempt does not go to one that is as dead as the first."""
    go_on = threading.Event()

    def serve() -> None:
        peers = [listener.accept()[0] for _ in range(3)]
        for peer in peers:
            peer.settimeout(PATIENCE)
            peer.recv(65536)
        for peer in peers:
            peer.sendall(ok(b"hello"))
        go_on.wait(PATIENCE)
        for peer in peers:
            peer.close()

    async def main() -> None:
        async with using(Client()) as client:
            request = get(f"127.0.0.1:{listener.getsockname()[1]}")
            await asyncio.gather(*[ask(client, request) for _ in range(3)])
            go_on.set()
            thread.join()  # the loop hears of nothing
            task = asyncio.ensure_future(ask(client, request))
            await asyncio.sleep(0)
            last = await asyncio.get_running_loop().run_in_executor(None, lambda: listener.accept()[0])
            with last:
                last.settimeout(PATIENCE)
                await asyncio.get_running_loop().run_in_executor(None, last.recv, 65536)
                last.sendall(ok(b"again"))
                assert (await task).body == b"again"
                await client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        run(loop, main())


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("POST", 1)])
def test_only_what_may_be_sent_twice_is(loop: str, method: str, times: int) -> None:
    """The server takes the second request and goes."""
    heads = []

    async def script(peer: Peer) -> None:
        for number in range(2):
            head = await peer.head()
            if not head:
                return
            heads.append(head.split()[1])
            if number == 0 and (b"/first" in head or b"/last" in head or len(heads) > 2):
                await peer.send(ok(b"hello"))

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            await ask(client, get(server.authority, "/first"))
            if times == 1:
                with pytest.raises(HttpError) as raised:
                    await ask(client, get(server.authority, "/second", method))
                assert raised.value.code is ErrorCode.ConnectionTerminated
            else:
                assert (await ask(client, get(server.authority, "/second", method))).body == b"hello"
            assert heads.count(b"/second") == times
            await client.close()

    run(loop, main())


def test_a_request_is_not_sent_a_third_time(loop: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        if server.connections == 1:
            await peer.send(ok(b"hello"))
            await peer.head()

    async def main() -> None:
        nonlocal server
        async with serving(script) as server, using(Client()) as client:
            await ask(client, get(server.authority))
            with pytest.raises(HttpError) as raised:
                await ask(client, get(server.authority))
            assert raised.value.code is ErrorCode.ConnectionTerminated
            assert server.connections == 2

    server: Server
    run(loop, main())


def test_a_request_that_waits_is_not_sent_a_third_time(loop: str) -> None:
    """Nor on another connection that was used before."""
    times = 0

    async def script(peer: Peer) -> None:
        nonlocal times
        while head := await peer.head():
            if b"/bad" in head:
                times += 1
                return
            await peer.send(ok(b"hello"))

    async def main() -> None:
        async with serving(script) as server, using(Client(ClientConfig(max_connections=1))) as client:
            await ask(client, get(server.authority))
            bad = asyncio.ensure_future(ask(client, get(server.authority, "/bad")))
            good = asyncio.ensure_future(ask(client, get(server.authority)))
            with pytest.raises(HttpError):
                await bad
            assert (await good).body == b"hello"
            assert times == 2
            await client.close()

    run(loop, main())


def test_who_waits_gets_no_dead_connection(loop: str) -> None:
    """The server closes each behind its first response, which has not said so."""

    async def main() -> None:
        async with serving(answering(ok(b"hello"))) as server, using(Client(ClientConfig(max_connections=1))) as client:
            requests = [get(server.authority, method="POST") for _ in range(5)]
            replies = await asyncio.gather(*[ask(client, request) for request in requests])
            assert [reply.body for reply in replies] == [b"hello"] * 5
            assert server.connections == 5
            await client.close()

    run(loop, main())


def test_a_connection_that_is_lost_on_its_way_to_another(loop: str) -> None:
    """It goes to someone who gives up at the same moment, and is not handed on."""

    async def main() -> None:
        running = asyncio.get_running_loop()
        async with serving(forever) as server, using(Client(ClientConfig(max_connections=1))) as client:
            await ask(client, get(server.authority))
            pool = client._pool(running)
            origin = Origin.parse(server.authority, False)
            connection = pool.take(origin)
            assert connection is not None
            first, second = (running.create_task(pool.acquire(origin, running.time() + PATIENCE)) for _ in range(2))
            await asyncio.sleep(0)
            pool.release(connection)
            connection.abort()
            first.cancel()
            assert isinstance(await second, HostSlots)
            assert first.cancelled()

    run(loop, main())


def test_an_unwanted_message_on_an_idle_connection_ends_it(loop: str) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(ok(b"hello"))
        if server.connections == 1:
            await asyncio.sleep(0.01)
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
        await peer.closed()

    async def main() -> None:
        nonlocal server
        async with serving(script) as server, using(Client()) as client:
            await ask(client, get(server.authority))
            await until(lambda: not server.open)
            assert (await ask(client, get(server.authority))).status == 200
            await client.close()

    server: Server
    run(loop, main())


def test_a_client_serves_many_loops(loop: str) -> None:
    """Each has its own connections."""
    client = Client()

    async def main() -> None:
        async with serving(forever) as server:
            assert (await ask(client, get(server.authority))).body == b"hello"
            await client.close()
            assert (await ask(client, get(server.authority))).body == b"hello"
            assert server.connections == 2
            await client.close()

    for _ in range(3):
        run(loop, main())
    assert not client._pools


def test_connections_end_with_the_loop(loop: str) -> None:
    client = Client()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    port = listener.getsockname()[1]

    async def main() -> socket.socket:
        answer = asyncio.get_running_loop().run_in_executor(None, accept)
        assert (await ask(client, get(f"127.0.0.1:{port}"))).body == b"hello"
        return await answer

    def accept() -> socket.socket:
        sock, _ = listener.accept()
        sock.recv(65536)
        sock.sendall(ok(b"hello"))
        return sock

    with listener, run_in_loop(loop, main()) as peer:
        peer.settimeout(10)
        assert peer.recv(1) == b""
    assert not client._pools


def run_in_loop(loop: str, main: Coroutine[Any, Any, socket.socket]) -> socket.socket:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(main)


def test_closing_ends_what_is_under_way(loop: str) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server:
            client = Client()
            response = await client.send_request(get(server.authority), OutgoingRequestConfig())
            await client.close()
            with pytest.raises(HttpError) as raised:
                await read(response)
            assert raised.value.code is ErrorCode.ConnectionTerminated

    run(loop, main())


def test_closing_does_not_send_a_request_again(loop: str) -> None:
    """It was on a connection that had served others, and could be."""
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(ok(b"hello"))
        if await peer.head():
            seen.set()
            await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            await ask(client, get(server.authority))
            reply = client.send_request(get(server.authority), OutgoingRequestConfig())
            await seen.wait()
            await client.close()
            with pytest.raises(HttpError) as raised:
                await reply
            assert raised.value.code is ErrorCode.ConnectionTerminated
            assert server.connections == 1

    run(loop, main())


def test_closing_while_a_connection_is_made(loop: str) -> None:
    """The request goes on; nothing is kept afterwards."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def resolver(host: str) -> list[str]:
        asked.set()
        await go_on.wait()
        return ["127.0.0.1"]

    async def main() -> None:
        async with serving(forever) as server:
            client = Client(ClientConfig(resolver=resolver))
            task = asyncio.ensure_future(ask(client, get(f"a.example:{server.port}")))
            await asked.wait()
            await client.close()
            go_on.set()
            assert (await task).body == b"hello"
            await until(lambda: not server.open)

    run(loop, main())


def test_an_exchange_is_gone_when_it_is_over(loop: str) -> None:
    """Without the collector's help: there is one for each request."""

    def left() -> int:
        return sum(type(thing) is Exchange for thing in gc.get_objects())

    async def main() -> None:
        async with serving(forever) as server, using(Client()) as client:
            before = left()
            gc.disable()
            try:
                for _ in range(10):
                    await ask(client, get(server.authority))
                assert left() == before
            finally:
                gc.enable()
            await client.close()

    run(loop, main())


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_informational_responses_are_limited(loop: str) -> None:
    config = ClientConfig(wire_limits=Limits(informational=2))

    async def main() -> None:
        for count, good in ((2, True), (3, False)):
            async with serving(answering(CONTINUE * count + ok())) as server, using(Client(config)) as client:
                task = ask(client, get(server.authority))
                if good:
                    assert (await task).status == 200
                else:
                    with pytest.raises(HttpError) as raised:
                        await task
                    assert raised.value.code is ErrorCode.HttpProtocolError
                await client.close()

    run(loop, main())


def test_authorities_are_not_remembered_without_bound(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasi_http.client.client._MAX_ROUTES", 3)

    async def resolver(host: str) -> list[str]:
        return ["127.0.0.1"]

    async def main() -> None:
        async with serving(forever) as server, using(Client(ClientConfig(resolver=resolver))) as client:
            for number in range(1, 8):
                # Many ways to write one name are one origin all the same.
                host = "origin.example"[:-number] + "origin.example"[-number:].upper()
                assert (await ask(client, get(f"{host}:{server.port}"))).body == b"hello"
                assert len(client._routes) == 1 + (number - 1) % 3
            assert server.connections == 1
            await client.close()

    run(loop, main())


@pytest.mark.parametrize("pause", [0, 0.05])
def test_a_server_that_answers_before_it_is_asked(loop: str, authority: Authority, pause: float) -> None:
    """As those do that have too many connections."""

    async def refuse(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy")
        await asyncio.sleep(pause)

    async def main() -> None:
        for context in (None, authority.server()):
            client = Client(ClientConfig(tls=authority.tls))
            async with serving(refuse, context) as server, using(client):
                reply = await ask(client, get(server.authority), use_tls=context is not None)
                assert (reply.status, reply.body) == (503, b"busy")

    run(loop, main())


def test_a_client_serves_many_threads() -> None:
    client = Client()
    interval = sys.getswitchinterval()
    wrong: list[BaseException] = []

    def answer() -> None:
        with contextlib.suppress(OSError):  # the end of the test
            while True:
                peer = listener.accept()[0]
                threading.Thread(target=speak, args=(peer,), daemon=True).start()

    def speak(peer: socket.socket) -> None:
        with peer:
            while peer.recv(65536):
                peer.sendall(ok(b"hello"))

    async def main() -> None:
        request = get(f"127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(2):
            assert (await ask(client, request)).body == b"hello"

    def loops() -> None:
        try:
            for _ in range(50):
                asyncio.run(main())
        except BaseException as error:
            wrong.append(error)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server = threading.Thread(target=answer, daemon=True)
        server.start()
        threads = [threading.Thread(target=loops) for _ in range(8)]
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
        finally:
            sys.setswitchinterval(interval)
        listener.shutdown(socket.SHUT_RDWR)
        server.join(PATIENCE)
    assert not wrong
    assert not client._pools


@pytest.mark.parametrize("idle", [False, True])
def test_what_was_delivered_cannot_be_cancelled(loop: str, idle: bool) -> None:
    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
            await go_on.wait()
            await peer.send(b"hello")

    async def main() -> None:
        async with serving(script) as server, using(Client()) as client:
            if idle:
                go_on.set()
                await ask(client, get(server.authority))
                go_on.clear()
            future = client.send_request(get(server.authority), OutgoingRequestConfig())
            response = await future
            assert not future.cancel()
            go_on.set()
            assert await response.body.read() == b"hello"
            await client.close()

    go_on = asyncio.Event()
    run(loop, main())
