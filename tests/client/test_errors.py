"""What a client raises on its own: errors of its package and of the system, none of wasi:http."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from wasi_http.client import Client, OutgoingRequestConfig
from wasi_http.client.errors import (
    ConnectionClosed,
    InvalidMethod,
    InvalidName,
    InvalidTarget,
    ProtocolFailure,
    ReadTimeout,
    TooManyConnections,
)
from wasi_http.client.request import ConnectionQuota
from wasi_http.flow.pipe import Pipe
from wasi_http.flow.signal import until
from wasi_http.http1.fieldsection import Field

from .peers import LOOPS, Peer, forever, outgoing, run, serving


@dataclass
class Answer:
    """A response in the form of a test's own."""

    status: int
    headers: list[Field]
    body: Pipe


SPENT = ConnectionQuota(1)
SPENT.used = 1

REQUESTS: list[tuple[str, str | None, str, OutgoingRequestConfig, type[OSError]]] = [
    ("GET", "a b", "/", OutgoingRequestConfig(), InvalidTarget),
    ("GET", "a..b", "/", OutgoingRequestConfig(), InvalidName),
    ("GET", None, "a", OutgoingRequestConfig(), InvalidTarget),
    ("G T", None, "/", OutgoingRequestConfig(), InvalidMethod),
    ("GET", None, "/", OutgoingRequestConfig(connect_timeout=0), TimeoutError),
    ("GET", None, "/", OutgoingRequestConfig(first_byte_timeout=0), ReadTimeout),
    ("GET", None, "/", OutgoingRequestConfig(quota=SPENT), TooManyConnections),
]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("method", "authority", "path", "config", "expected"), REQUESTS)
def test_requests(
    loop: str, method: str, authority: str | None, path: str, config: OutgoingRequestConfig, expected: type[OSError]
) -> None:
    async def main() -> None:
        async with serving(forever) as server:
            client = Client(respond=Answer)
            request = outgoing(method, "http", authority or server.authority, path)
            with pytest.raises(expected):
                await client.send_request(request, config)
            await client.close()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_connections(loop: str) -> None:
    async def nothing(peer: Peer) -> None:
        await peer.head()

    async def main() -> None:
        client = Client(respond=Answer)
        async with serving(nothing) as server:
            request = outgoing("GET", "http", server.authority, "/")
            with pytest.raises(ConnectionClosed):
                await client.send_request(request, OutgoingRequestConfig())
        with pytest.raises(ConnectionRefusedError):
            await client.send_request(request, OutgoingRequestConfig())
        await client.close()

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_bodies(loop: str) -> None:
    async def short(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort")

    async def main() -> None:
        client, source = Client(respond=Answer), Pipe()
        async with serving(short) as server:
            request = outgoing("POST", "http", server.authority, "/", [], source)
            response = await client.send_request(request, OutgoingRequestConfig())
            body = response.body
            assert isinstance(await until(lambda: body.error, body.readable), ProtocolFailure)
            assert isinstance(source.error, ProtocolFailure)
        await client.close()

    run(loop, main())
