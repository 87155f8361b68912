"""Messages as embedders have them: bodies to iterate over, and bodies made of whatever gives bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from wasi_http.error import ErrorCode, HttpError
from wasi_http.message import Body, Request, Response
from wasi_http.pipe import BODY_BUFFER, Pipe


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
    request, response = Request(), Response(204)
    assert (request.method, request.target, list(request.headers), request.body) == ("GET", "/", [], b"")
    assert (response.headers, response.body.pipe.ended) == ([], True)
    assert Response(200).headers is not response.headers


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
