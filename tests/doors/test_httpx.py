"""Transports of httpx2: what they are asked, what becomes of their answers, and which error-code their failures are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.client.peers import answering, outgoing, received, run, serving, until
from wasi_http import HttpError, OutgoingRequestConfig, Request
from wasi_http.doors.httpx import HttpxTarget
from wasi_http.flow.pipe import Pipe
from wasi_http.http.values import ErrorCode


def sent(authority: str, body: Pipe | None = None, path: str = "/a?b") -> Request:
    return outgoing("GET" if body is None else "POST", "http", authority, path, [(b"c", b"d")], body)


def test_a_transport_that_needs_no_socket() -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        timeout = request.extensions["timeout"]
        assert timeout == {"pool": 1.0, "connect": 1.0, "write": 3.0, "read": 2.0}
        said = f"{request.method} {request.url} {request.headers['c']} ".encode() + await request.aread()
        return httpx2.Response(202, headers=[("A", "b"), ("Connection", "close")], content=said)

    async def main() -> None:
        config = OutgoingRequestConfig(False, 1.0, 2.0, 3.0)
        target = HttpxTarget(httpx2.MockTransport(answer))
        response = await target(sent("app:81", Pipe.of(b"sent")), config)
        assert (response.status, response.headers[0]) == (202, (b"A", b"b"))
        assert b"connection" not in dict((name.lower(), value) for name, value in response.headers)
        assert await response.body.read() == b"POST http://app:81/a?b d sent"

    run("asyncio", main())


def test_over_the_network() -> None:
    async def main() -> None:
        transport = httpx2.AsyncHTTPTransport()
        target = HttpxTarget(transport)
        good = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        cut = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"
        async with transport, serving(answering(good, cut)) as server:
            response = await target(sent(server.authority))
            assert (response.status, response.headers, await response.body.read()) == (200, [], b"hello")
            response = await target(sent(server.authority))
            assert await received(response.body) == (b"hello", ErrorCode.HttpResponseIncomplete)
            free = server.authority
            await transport.aclose()
        with pytest.raises(HttpError) as caught:
            await target(sent(free))
        assert caught.value.code is ErrorCode.DestinationUnavailable

    run("asyncio", main())


# What a transport raises, which error-code that is.
FAILURES: list[tuple[Exception, ErrorCode]] = [
    (httpx2.ConnectTimeout("late"), ErrorCode.ConnectionTimeout),
    (httpx2.ReadTimeout("late"), ErrorCode.ConnectionReadTimeout),
    (httpx2.WriteTimeout("late"), ErrorCode.ConnectionWriteTimeout),
    (httpx2.PoolTimeout("late"), ErrorCode.ConnectionLimitReached),
    (httpx2.ReadError("gone"), ErrorCode.ConnectionTerminated),
    (httpx2.UnsupportedProtocol("ftp"), ErrorCode.HttpProtocolError),
]


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=lambda value: type(value).__name__)
def test_failures(error: Exception, code: ErrorCode) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error

    async def main() -> None:
        with pytest.raises(HttpError) as caught:
            await HttpxTarget(httpx2.MockTransport(fail))(sent("app"))
        assert caught.value.code is code

    run("asyncio", main())


# An authority and a path that lead elsewhere in a URL than they say, or nowhere.
@pytest.mark.parametrize("authority", ["app@elsewhere", "a:b@elsewhere", "elsewhere/", "elsewhere?", "a b", ""])
def test_an_authority_is_a_host_and_a_port(authority: str) -> None:
    async def main() -> None:
        with pytest.raises(HttpError) as caught:
            await HttpxTarget(httpx2.MockTransport(lambda request: httpx2.Response(200)))(sent(authority))
        assert caught.value.code is ErrorCode.HttpRequestUriInvalid

    run("asyncio", main())


@pytest.mark.parametrize(("path", "url", "target"), [("*", "http://app/", b"*"), ("//b/c", "http://app//b/c", None)])
def test_a_path_leads_to_no_other_host(path: str, url: str, target: bytes | None) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert (str(request.url), request.extensions.get("target")) == (url, target)
        return httpx2.Response(200)

    async def main() -> None:
        assert (await HttpxTarget(httpx2.MockTransport(answer))(sent("app", path=path))).status == 200

    run("asyncio", main())


class Stream(httpx2.AsyncByteStream):
    """Gives bytes for ever, and says when it is closed."""

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield bytes(65536)
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("read", [False, True])
def test_a_response_that_is_dropped_is_closed(read: bool) -> None:
    stream = Stream()

    async def main() -> None:
        target = HttpxTarget(httpx2.MockTransport(lambda request: httpx2.Response(200, stream=stream)))
        response = await target(sent("app"))
        if read:
            await anext(aiter(response.body))
        response.body.pipe.cancel()
        await until(lambda: stream.closed)

    run("asyncio", main())


def test_a_response_that_comes_too_late_is_closed() -> None:
    stream = Stream()

    async def main() -> None:
        async def answer(request: httpx2.Request) -> httpx2.Response:
            asyncio.get_running_loop().call_soon(call.cancel)
            return httpx2.Response(200, stream=stream)

        call = asyncio.ensure_future(HttpxTarget(httpx2.MockTransport(answer))(sent("app")))
        await asyncio.wait([call])
        if not call.cancelled():
            call.result().body.pipe.cancel()
        await until(lambda: stream.closed)

    run("asyncio", main())
