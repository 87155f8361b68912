"""Guests that send requests themselves: from the client through the guest to another server, and back."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import authority  # noqa: F401
from tests.client.peers import Peer, Script, answering, forever, ok
from tests.client.peers import serving as other
from tests.guests.build import build
from wasi_http.client import ClientConfig
from wasi_http.http.egress import Egress
from wasi_http.http.values import ErrorCode

from .processes import started
from .serving import Guests, Serving, chunked, get, serve, until

LOOPBACK = Egress.parse("127.0.0.0/8")

NAMES = [name for name, *_ in ErrorCode.__cases__]


def error(name: str) -> tuple[int, bytes]:
    return 502, b"error-code %d\n" % NAMES.index(name)


def fetch(url: str, path: str = "/fetch", method: str = "GET") -> bytes:
    return get(path, f"x-url: {url}", method=method)


def test_a_response_comes_through(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        async with other(forever) as origin:
            client = await server.connect()
            for _ in range(5):
                assert (await client.ask(fetch(f"http://{origin.authority}/a"))).body == b"hello"
            assert origin.connections == 1
            await server.worker.answers.client.close()

    serve(loop, guests.service("c_fetch", egress=LOOPBACK), test)


def test_a_path_beyond_ascii_goes_through(guests: Guests, loop: str) -> None:
    heads = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        await peer.send(ok(b"hello"))

    async def test(server: Serving) -> None:
        async with other(script) as origin:
            reply = await server.ask(fetch(f"http://{origin.authority}/café?q=日本"))
            assert reply.body == b"hello"
        assert heads[0].startswith("GET /café?q=日本 HTTP/1.1\r\n".encode())

    serve(loop, guests.service("c_fetch", egress=LOOPBACK), test)


def test_a_request_goes_through(guests: Guests, loop: str) -> None:
    heads = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        if b"content-length: 2000\r\n" in heads[0]:  # the guest was quick, and the length is known
            body = await peer.reader.readexactly(2000)
        else:
            body = await peer.reader.readuntil(b"\r\n0\r\n\r\n")
        await peer.send(ok(b"%d" % body.count(b"\x01"), b"content-type: text/x"))
        await peer.closed()

    async def test(server: Serving) -> None:
        async with other(script) as origin:
            data = b"\x01" * 1000
            request = chunked("/fetch-post", data, data).replace(
                b"Host:", b"Content-Type: a/b\r\nx-url: http://%b/\r\nHost:" % origin.authority.encode(), 1
            )
            reply = await server.ask(request)
            assert (reply.status, reply[b"content-type"]) == (200, b"text/x")
            assert reply.body == b"2000"
            start = b"POST / HTTP/1.1\r\nhost: %b\r\ncontent-type: a/b\r\n" % origin.authority.encode()
            assert heads[0].startswith(start)
            await server.worker.answers.client.close()

    serve(loop, guests.service("c_fetch", egress=LOOPBACK), test)


def test_a_large_body_comes_through(guests: Guests, loop: str) -> None:
    body = bytes(range(256)) * 20_000

    async def test(server: Serving) -> None:
        async with other(answering(ok(body))) as origin:
            assert (await server.ask(fetch(f"http://{origin.authority}"))).body == body

    serve(loop, guests.service("c_fetch", egress=LOOPBACK), test)


# More than the server holds back to see how a response ends.
SHORT = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(500_000)

# What the other server does, what the client gets.
FAILURES: list[tuple[Script, tuple[int, bytes]]] = [
    (answering(b""), error("connection-terminated")),
    (answering(b"HTTP/1.1 200"), error("HTTP-response-incomplete")),
    (answering(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"), error("HTTP-upgrade-failed")),
    (answering(b"\0\0\6\4\0\0\0\0\0"), error("HTTP-protocol-error")),
    (answering(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"), error("HTTP-response-transfer-coding")),
]


@pytest.mark.parametrize(("script", "expected"), FAILURES)
def test_failures_come_through(guests: Guests, loop: str, script: Script, expected: tuple[int, bytes]) -> None:
    async def test(server: Serving) -> None:
        async with other(script) as origin:
            reply = await server.ask(fetch(f"http://{origin.authority}"))
            assert (reply.status, reply.body) == expected

    serve(loop, guests.service("c_fetch", egress=LOOPBACK), test)


def test_a_body_that_is_cut_off_is_cut_off_for_the_client(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        async with other(answering(SHORT)) as origin:
            client = await server.connect()
            await client.send(fetch(f"http://{origin.authority}"))
            assert not (await client.rest()).endswith(b"0\r\n\r\n")

    serve(loop, guests.service("c_fetch", egress=LOOPBACK), test)


def test_tls(guests: Guests, loop: str, authority: Any) -> None:  # noqa: F811
    async def test(server: Serving) -> None:
        async with other(forever, authority.server()) as origin:
            client = await server.connect()
            for _ in range(3):
                assert (await client.ask(fetch(f"https://{origin.authority}"))).body == b"hello"
            assert origin.connections == 1
            await server.worker.answers.client.close()

    config = ClientConfig(tls=authority.tls)
    serve(loop, guests.service("c_fetch", egress=LOOPBACK, client=config), test)


def test_tls_with_a_stranger(guests: Guests, loop: str, authority: Any) -> None:  # noqa: F811
    async def test(server: Serving) -> None:
        async with other(forever, authority.server()) as origin:
            reply = await server.ask(fetch(f"https://{origin.authority}"))
            assert (reply.status, reply.body) == error("TLS-certificate-error")

    serve(loop, guests.service("c_fetch", egress=LOOPBACK), test)


def test_a_client_that_leaves_takes_the_request_along(guests: Guests, loop: str) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.closed()

    async def test(server: Serving) -> None:
        async with other(script) as origin:
            client = await server.connect()
            await client.send(fetch(f"http://{origin.authority}"))
            await until(lambda: origin.open)
            client.reset()
            await until(lambda: not origin.open)
            await server.idle()

    serve(loop, guests.service("c_fetch", egress=LOOPBACK, client_gone_grace=0.0), test)


def test_the_end_of_the_server_ends_connections(guests: Guests, loop: str) -> None:
    closed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await forever(peer)
        closed.set()

    async def test(server: Serving) -> None:
        listener = await asyncio.start_server(lambda reader, writer: connected(reader, writer), "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        assert (await server.ask(fetch(f"http://127.0.0.1:{port}"))).body == b"hello"
        server.stop.set()
        await server.ended
        await closed.wait()
        listener.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script(Peer(reader, writer))
        writer.close()

    serve(loop, guests.service("c_fetch", egress=LOOPBACK), test)


@contextmanager
def threaded(connections: int) -> Iterator[int]:
    """A server for some connections, for processes to ask."""

    def serve() -> None:
        clients = []
        for _ in range(connections):
            client, _ = listener.accept()
            client.settimeout(30)
            client.recv(65536)
            client.sendall(ok(b"hello"))
            clients.append(client)
        for client in clients:
            client.recv(1)  # until it is closed
            client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_command_line(tmp_path: Path, guests: Guests, workers: int) -> None:
    guests.load("c_fetch")  # or the test is skipped
    arguments = ["--workers", str(workers), "--allow-egress", "127.0.0.1"]
    with threaded(1) as port, started(tmp_path, build("c_fetch"), *arguments) as server:
        assert b"HTTP/1.1 200 OK" in server.ask(closing(f"http://127.0.0.1:{port}"))
        assert b"error-code 15\n" in server.ask(closing("http://a.example"))
        server.wait_for("^a guest's request to 'a.example' was denied; allow it with --allow-egress a.example$")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        assert "Warning" not in server.err


def closing(url: str) -> bytes:
    return get("/fetch", f"x-url: {url}", "Connection: close")
