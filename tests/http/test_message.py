"""Messages as embedders have them: bodies to iterate over, and bodies made of whatever gives bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.view import View
from wasi_http.flow.pipe import BODY_BUFFER, Pipe
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.values import ErrorCode, Scheme


def run(test: Callable[[], Awaitable[None]]) -> list[dict[str, Any]]:
    """Runs a test; what the event loop was told of exceptions that are nobody's."""
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        await asyncio.wait_for(test(), 30)

    asyncio.run(main())
    return complaints


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_defaults() -> None:
    request, response = Request(authority="a"), Response(204)
    assert (request.method, request.path, request.headers, request.body) == ("GET", "/", [], None)
    assert (request.scheme, request.authority) == ("http", "a")
    assert (response.headers, response.body.pipe.ended) == ([], True)
    assert Response(200).headers is not response.headers


# What is wrong with a message, and what the error says.
UNFIT: list[tuple[type[Exception], str, Callable[[], object]]] = [
    (TypeError, "method .* is a str, not b'GET'", lambda: Request(b"GET", authority="a")),  # type: ignore[arg-type]
    (TypeError, "method .* is a str, not None", lambda: Request(None, authority="a")),  # type: ignore[arg-type]
    (TypeError, "URL .* is a str, not b'/'", lambda: Request("GET", b"/", authority="a")),  # type: ignore[arg-type]
    (TypeError, "authority .* is a str, not b'a'", lambda: Request("GET", "/", authority=b"a")),  # type: ignore[arg-type]
    (ValueError, "method .* is a token", lambda: Request("GET /", authority="a")),
    (ValueError, "method .* is a token", lambda: Request("", authority="a")),
    (ValueError, r"no control characters: '/a\\r\\nb'", lambda: Request("GET", "/a\r\nb", authority="a")),
    (ValueError, "no whitespace .* urllib.parse.quote", lambda: Request("GET", "/a b", authority="a")),
    (ValueError, "authority .* is host", lambda: Request("GET", "/", authority="a\r\nb: c")),
    (ValueError, r'Request\("GET", "http://example.com/"\)', lambda: Request("GET", "/")),
    (ValueError, "the request to '/' has no authority", lambda: Request("GET", "/", [(b"host", b"")])),
    (ValueError, "the request to 'http:///x' has no authority", lambda: Request("GET", "http:///x")),
    *(
        (kind, text, lambda make=make, headers=headers: make(headers))
        for make in (lambda headers: Request("GET", "http://a/", headers), lambda headers: Response(200, headers))
        for kind, text, headers in (
            (TypeError, "not dict", {"a": "b"}),
            (TypeError, "not str", "a: b"),
            (TypeError, r"not \('a', 'b'\)", [("a", "b")]),
            (TypeError, r"not \(b'a', 'b'\)", [(b"a", "b")]),
            (TypeError, "not b'a'", [b"a"]),
            (TypeError, "not 1", [1]),
            (ValueError, r"control character b'\\n'$", [(b"a", b"secret\nb: c")]),
            (ValueError, r"control character b'\\r'$", [(b"a", b"\r")]),
            (ValueError, r"control character b'\\x00'$", [(b"a", b"\0")]),
            (ValueError, "name of a header is not valid: b'a: b'", [(b"a: b", b"c")]),
            (ValueError, "name of a header is not valid", [(b"", b"c")]),
            (ValueError, "name of a header is not valid", [(b"x" * 1000 + b"\r\n", b"c")]),
        )
    ),
    (TypeError, "status .* is an int, not '200'", lambda: Response("200")),  # type: ignore[arg-type]
    (TypeError, "status .* is an int, not True", lambda: Response(True)),
    (ValueError, "from 100 to 999, not 99", lambda: Response(99)),
    (ValueError, "from 100 to 999, not 1000", lambda: Response(1000)),
    *(
        (TypeError, text, lambda make=make, body=body: make(body))
        for make in (lambda body: Request("POST", "http://a/", (), body), lambda body: Response(200, (), body), Body.of)
        for text, body in (("encode the text", "text"), ("not int", 5), ("not dict", {}))
    ),
    (TypeError, "not NoneType", lambda: Response(200, (), None)),  # type: ignore[arg-type]
    (TypeError, "scheme .* is a str, not 1", lambda: Request("GET", "http://a/", scheme=1)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("kind", "text", "make"), UNFIT)
def test_what_no_message_can_have(kind: type[Exception], text: str, make: Callable[[], object]) -> None:
    """It is refused where the message is made, and told in a few words."""
    with pytest.raises(kind, match=text) as caught:
        make()
    assert len(str(caught.value)) < 400
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "/", authority="a"),
        Request("GET", "http://example.com:80?q"),
        Request("GET", "/", [(b"HOST", b"a")]),
        Request("CONNECT", "example.com:443"),
        Request("OPTIONS", "*", authority="a"),
        Request("PURGE", "/café?q=日本", [(b"a", b""), (b"b", b"\xff\t")], authority="[::1]:80"),
    ],
)
def test_requests_by_hand(request_: Request) -> None:
    assert View().new_incoming_request(Scheme.HTTP, request_).authority() is not None


async def _pieces() -> AsyncIterator[bytes]:
    yield b"bo"
    yield b"dy"


@pytest.mark.parametrize(
    "source",
    [
        lambda: b"body",
        lambda: bytearray(b"body"),
        lambda: memoryview(b"body"),
        lambda: [b"bo", bytearray(b"d"), memoryview(b"y")],
        lambda: iter([b"body"]),
        _pieces,
        lambda: Body.of(b"body"),
    ],
)
def test_what_a_response_is_made_of(source: Callable[[], Any]) -> None:
    async def test() -> None:
        assert await Response(200, [(b"a", b"b")], source()).body.read() == b"body"

    assert run(test) == []


@pytest.mark.parametrize("source", [[b"good", 5], [b"good", "text"]])
def test_a_source_that_gives_something_else(source: list[Any]) -> None:
    async def test() -> None:
        with pytest.raises(HttpError, match="which is not bytes"):
            await Response(200, [], source).body.read()

    [complaint] = run(test)
    assert isinstance(complaint["exception"], TypeError)


def test_a_body_of_bytes() -> None:
    async def test() -> None:
        assert await Body.of(b"whole body").read() == b"whole body"
        assert await Body.of().read() == b""
        assert Body.of(b"x").trailers == []

    assert run(test) == []


def test_a_body_is_read_as_it_comes() -> None:
    async def test() -> None:
        pipe = Pipe()
        body = Body(pipe)
        pieces = aiter(body)
        first = asyncio.ensure_future(anext(pieces))
        await settle()
        assert not first.done()
        pipe.write(b"first")
        assert await first == b"first"
        pipe.write(b"second")
        pipe.write(b"third")
        pipe.end([(b"x", b"y")])
        assert [piece async for piece in pieces] == [b"second", b"third"]
        assert body.trailers == [(b"x", b"y")]

    assert run(test) == []


def test_a_body_that_fails() -> None:
    async def test() -> None:
        pipe = Pipe()
        pipe.write(b"be")
        pieces = []

        async def read() -> None:
            async for piece in Body(pipe):
                pieces.append(piece)

        reading = asyncio.ensure_future(read())
        await settle()
        pipe.write(b"gun")
        pipe.fail(HttpError(ErrorCode.HttpResponseIncomplete))
        with pytest.raises(HttpError) as caught:
            await reading
        assert pieces == [b"be", b"gun"]
        assert caught.value.code is ErrorCode.HttpResponseIncomplete

    assert run(test) == []


def test_a_body_that_is_cancelled_while_it_is_read() -> None:
    async def test() -> None:
        body = Body(Pipe())
        reading = asyncio.ensure_future(body.read())
        await settle()
        body.cancel()
        with pytest.raises(HttpError, match="cancelled") as caught:
            await reading
        assert caught.value.code is ErrorCode.ConnectionTerminated

    assert run(test) == []


def test_bytes_are_demanded_once() -> None:
    async def test() -> None:
        demands: list[None] = []
        body = Body(Pipe.of(b"x"), lambda: demands.append(None))
        assert demands == []
        body.demand()
        body.demand()
        assert await body.read() == b"x"
        assert len(demands) == 1

    assert run(test) == []


@pytest.mark.parametrize("state", ["open", "ended", "failed"])
def test_cancelling_tells_whoever_sends_once(state: str) -> None:
    told: list[None] = []
    pipe = Pipe()
    if state == "ended":
        pipe.end()
    elif state == "failed":
        pipe.fail(OSError())
    body = Body(pipe, abandon=lambda: told.append(None))
    body.cancel()
    body.cancel()
    assert len(told) == (state == "open")
    assert pipe.cancelled


class Source:
    """Gives pieces one by one, and tells how far it was read and whether it was closed."""

    def __init__(self, *pieces: bytes, error: BaseException | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.given = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                self.given += 1
                yield piece
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


def test_an_iterable_is_asked_when_its_bytes_are_wanted() -> None:
    async def test() -> None:
        source = Source(b"one", b"", b"two")
        body = Body.of(source)
        await settle()
        assert source.given == 0
        assert await body.read() == b"onetwo"
        assert source.closed
        # Nobody asks a source whose body was cancelled before.
        source = Source(b"one")
        body = Body.of(source)
        body.cancel()
        body.demand()
        await settle()
        assert source.given == 0

    assert run(test) == []


def test_an_iterable_is_read_no_faster_than_its_body() -> None:
    async def test() -> None:
        piece = b"x" * (BODY_BUFFER // 2)
        source = Source(*[piece] * 10)
        body = Body.of(source)
        body.demand()
        await settle()
        assert (source.given, body.pipe.size) == (3, BODY_BUFFER)
        body.pipe.take(BODY_BUFFER)
        await settle()
        assert (source.given, body.pipe.size) == (4, BODY_BUFFER)
        assert len(await body.read()) == len(piece) * 9

    assert run(test) == []


@pytest.mark.parametrize("waits", ["for room", "for the source"])
def test_cancelling_a_body_ends_its_source(waits: str) -> None:
    async def test() -> None:
        closed = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * BODY_BUFFER
                    if waits == "for the source":
                        await asyncio.Event().wait()
            finally:
                closed.set()

        body = Body.of(endless())
        body.demand()
        await settle()
        body.cancel()
        await closed.wait()
        await settle()
        assert len(body.pipe.writable) == 0

    assert run(test) == []


FAILURES: list[tuple[Exception, ErrorCode, bool]] = [
    (HttpError(ErrorCode.LoopDetected), ErrorCode.LoopDetected, False),
    (ConnectionResetError(), ErrorCode.ConnectionTerminated, False),
    (TimeoutError(), ErrorCode.ConnectionTimeout, False),
    (RuntimeError("of the embedder"), ErrorCode.InternalError("RuntimeError"), True),
]


@pytest.mark.parametrize(("error", "code", "reported"), FAILURES)
def test_a_source_that_fails(error: Exception, code: ErrorCode, reported: bool) -> None:
    async def test() -> None:
        source = Source(b"some", error=error)
        body = Body.of(source)
        with pytest.raises(HttpError) as caught:
            await body.read()
        assert caught.value.code == code
        assert source.closed

    complaints = run(test)
    assert [context["exception"] for context in complaints] == ([error] if reported else [])


def test_a_source_that_is_cancelled() -> None:
    async def test() -> None:
        async def cancelled() -> AsyncIterator[bytes]:
            yield b"some"
            raise asyncio.CancelledError

        with pytest.raises(HttpError) as caught:
            await Body.of(cancelled()).read()
        assert caught.value.code is ErrorCode.ConnectionTerminated

    assert run(test) == []


def test_an_iterator_is_closed_at_once() -> None:
    class Closing:
        def __init__(self) -> None:
            self.closed = asyncio.Event()

        def __aiter__(self) -> Closing:
            return self

        async def __anext__(self) -> bytes:
            await asyncio.Event().wait()
            raise StopAsyncIteration

        async def aclose(self) -> None:
            self.closed.set()

    async def test() -> None:
        source = Closing()
        body = Body.of(source)
        body.demand()
        await settle()
        assert not source.closed.is_set()
        body.cancel()
        await source.closed.wait()

    assert run(test) == []


def test_an_iterator_without_aclose() -> None:
    class Plain:
        def __init__(self) -> None:
            self.left = [b"one", bytearray(b"two")]

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> bytes | bytearray:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    async def test() -> None:
        pieces = [piece async for piece in Body.of(Plain())]  # type: ignore[arg-type]
        assert pieces == [b"one", b"two"]
        assert all(type(piece) is bytes for piece in pieces)

    assert run(test) == []


def test_a_source_that_gives_none_fails_its_body() -> None:
    async def test() -> None:
        body = Body.of(iter([b"a", None, b"b"]))  # type: ignore[list-item]
        with pytest.raises(HttpError):
            await body.read()

    assert [type(complaint["exception"]) for complaint in run(test)] == [TypeError]
