"""Bodies in the hands of a guest: what it may do, in which order, and what comes of doing it wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.view import View
from wasi_http.component import Err, Ok, Resource, ResourceTable
from wasi_http.component.handles import HandleTable
from wasi_http.component.model.types import ResourceType
from wasi_http.engine import Trap
from wasi_http.flow.pipe import BODY_BUFFER, Pipe
from wasi_http.http.body import FutureTrailers, IncomingBody, OutgoingBody
from wasi_http.http.errors import HttpError
from wasi_http.http.fields import Fields
from wasi_http.http.message import Body, Request
from wasi_http.http.types import IncomingRequest, OutgoingRequest, OutgoingResponse, ResponseOutparam, Types
from wasi_http.http.values import ErrorCode
from wasi_http.wasi.io.streams import InputStream, OutputStream, StreamError

PROTOCOL = ErrorCode.HttpProtocolError
REFUSED = HttpError(ErrorCode.ConnectionRefused)


def outgoing(kind: str, length: int | None = None) -> tuple[OutgoingBody, Pipe]:
    """The body of a message that a guest makes, and what goes on the wire of it."""
    fields = Fields.from_list(View(), [] if length is None else [("content-length", b"%d" % length)])
    message = OutgoingResponse.new(fields) if kind == "response" else OutgoingRequest.new(fields)
    body = message.body()
    if isinstance(message, OutgoingResponse):
        ResponseOutparam.set(ResponseOutparam(), Ok(message))
    return body, body.pipe


def plain(limit: int) -> tuple[OutputStream, Pipe]:
    view = View()
    view.outgoing_body_chunk_size = lambda: limit  # type: ignore[method-assign]
    body = OutgoingBody(view, None, ErrorCode.HttpResponseBodySize)
    body.handed = True
    return body.write(), body.pipe


def code(error: Err[Any]) -> ErrorCode | None:
    """What `http-error-code` makes of a stream's error."""
    assert isinstance(error.value, StreamError.LastOperationFailed)
    found: ErrorCode | None = Types.http_error_code(error.value.value)
    return found


def result(action: Callable[[], object]) -> object:
    """The payload of the error that an action raises, "ok" if it raises none."""
    try:
        action()
    except Err as error:
        return error.value
    return "ok"


# ---- the length of what is sent -------------------------------------------------------------------------------------

# Declared length; what is written, piece by piece, None: `write` is not even called.
WRITES: list[tuple[str, int | None, list[int] | None]] = [
    ("undeclared, no stream", None, None),
    ("undeclared, no write", None, []),
    ("undeclared, written", None, [3, 2]),
    ("zero, no stream", 0, None),
    ("zero, no write", 0, []),
    ("zero, long", 0, [1]),
    ("no stream", 11, None),
    ("no write", 11, []),
    ("short", 11, [3]),
    ("short in pieces", 11, [3, 7]),
    ("exact", 11, [11]),
    ("exact in pieces", 11, [3, 8]),
    ("long", 11, [18]),
    ("long in pieces", 11, [11, 1]),
]


@pytest.mark.parametrize("end", ["finish", "drop"])
@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize(("declared", "pieces"), [case[1:] for case in WRITES], ids=[case[0] for case in WRITES])
def test_the_declared_length_is_kept(kind: str, end: str, declared: int | None, pieces: list[int] | None) -> None:
    size_error = ErrorCode.HttpResponseBodySize if kind == "response" else ErrorCode.HttpRequestBodySize
    body, pipe = outgoing(kind, declared)
    written = sum(pieces or ())
    too_long = declared is not None and written > declared
    wrong = declared is not None and written != declared
    if pieces is not None:
        stream = body.write()
        for piece in pieces[:-1]:
            stream.write(b"x" * piece)
        for piece in pieces[-1:]:
            if too_long:
                with pytest.raises(Err) as failed:
                    stream.write(b"x" * piece)
                assert code(failed.value) == size_error(written)
                # Told once; afterwards the stream is closed.
                for action in (lambda: stream.write(b""), stream.check_write, stream.flush):
                    assert result(action) is StreamError.CLOSED
            else:
                stream.write(b"x" * piece)
        stream.release()
    if end == "drop":
        body.release()
        assert isinstance(pipe.error, HttpError)
        assert pipe.error.code == (size_error(written) if too_long else PROTOCOL)
    else:
        assert result(lambda: OutgoingBody.finish(body, None)) == (size_error(written) if wrong else "ok")
        assert pipe.ended != wrong
        if wrong:
            assert isinstance(pipe.error, HttpError)
            assert pipe.error.code == size_error(written)
            assert str(pipe.error) == f"the guest declared content-length {declared} and wrote {written} bytes"
        else:
            assert pipe.take_all() == b"x" * written
    # Whichever way it went, the other side knows that it is over.
    assert pipe.is_readable()


def test_finish_tells_what_went_wrong_on_the_other_side() -> None:
    body, pipe = outgoing("request")
    pipe.fail(REFUSED)
    assert result(lambda: OutgoingBody.finish(body, None)) is ErrorCode.ConnectionRefused


def test_finish_does_not_mind_that_nobody_reads() -> None:
    body, pipe = outgoing("response", 3)
    stream = body.write()
    stream.write(b"abc")
    pipe.cancel()
    assert result(lambda: OutgoingBody.finish(body, None)) == "ok"


@pytest.mark.parametrize("value", [b"+5", b" 5", b"", b"5, 5", b"18446744073709551616"])
def test_no_body_for_a_message_whose_length_makes_no_sense(value: bytes) -> None:
    # Guests cannot make such fields, but they may pass on what arrived.
    fields = Fields.received(View(), [(b"content-length", value)])
    for message in (OutgoingResponse.new(fields), OutgoingRequest.new(fields)):
        for _ in range(2):
            assert result(message.body) is None
        assert (message.pipe if isinstance(message, OutgoingResponse) else message.message.body) is None


def test_no_body_for_a_message_with_two_lengths() -> None:
    fields = Fields.received(View(), [(b"content-length", b"5"), (b"content-length", b"6")])
    assert result(OutgoingResponse.new(fields).body) is None
    assert result(OutgoingRequest.new(fields).body) is None


def test_once_only() -> None:
    for kind in ("request", "response"):
        body, _ = outgoing(kind)
        stream = body.write()
        assert result(body.write) is None
        stream.release()
        assert result(body.write) is None
    for message in (OutgoingResponse.new(Fields.new(View())), OutgoingRequest.new(Fields.new(View()))):
        message.body()
        assert result(message.body) is None


# ---- writing --------------------------------------------------------------------------------------------------------


def test_check_write_is_what_there_is_room_for() -> None:
    body, pipe = outgoing("response")
    stream = body.write()
    assert stream.check_write() == BODY_BUFFER
    stream.write(b"x" * 1000)
    assert stream.check_write() == BODY_BUFFER - 1000
    stream.write(b"x" * (BODY_BUFFER - 1000))
    assert stream.check_write() == 0
    assert not stream.is_ready()
    pipe.take(10)
    assert stream.check_write() == 10
    assert stream.is_ready()


@pytest.mark.parametrize("room", [0, 1, 10])
def test_more_than_is_permitted_traps(room: int) -> None:
    stream, pipe = plain(10)
    stream.write(b"x" * (10 - room))
    source = BodySource(Pipe.of(b"y" * 100))
    for action in (
        lambda: stream.write(b"x" * (room + 1)),
        lambda: stream.write_zeroes(room + 1),
        lambda: stream.write_zeroes(2**64 - 1),
    ):
        with pytest.raises(Trap, match="check-write permits"):
            action()
    # Not having asked is no crime, as long as there is room; `splice` asks itself.
    assert stream.splice(source.stream, 100) == room
    assert pipe.size == 10
    assert stream.splice(source.stream, 100) == 0


def test_empty_writes_do_not_accumulate() -> None:
    stream, pipe = plain(10)
    told: list[None] = []
    pipe.readable.add(lambda: told.append(None))
    for _ in range(10_000):
        stream.write(b"")
        stream.write_zeroes(0)
        assert stream.blocking_write_and_flush(b"") is None
    assert (pipe.size, told, pipe.take(10)) == (0, [], b"")


def test_zeroes() -> None:
    stream, pipe = plain(10)
    stream.write_zeroes(4)
    assert stream.blocking_write_zeroes_and_flush(2) is None
    assert pipe.take_all() == bytes(6)
    body, pipe = outgoing("response", 3)
    stream = body.write()
    with pytest.raises(Err) as failed:
        stream.write_zeroes(4)
    assert code(failed.value) == ErrorCode.HttpResponseBodySize(4)


@pytest.mark.parametrize("declared", [3, 5, 8])
def test_splicing_counts(declared: int) -> None:
    """A body that is passed through is held to its length like any other."""
    body, pipe = outgoing("response", declared)
    stream, source = body.write(), BodySource(Pipe.of(b"12345"))
    if declared < 5:
        with pytest.raises(Err) as failed:
            stream.splice(source.stream, 100)
        assert code(failed.value) == ErrorCode.HttpResponseBodySize(5)
    else:
        assert stream.splice(source.stream, 100) == 5
        assert result(lambda: stream.splice(source.stream, 100)) is StreamError.CLOSED
    expected = "ok" if declared == 5 else ErrorCode.HttpResponseBodySize(5)
    assert result(lambda: OutgoingBody.finish(body, None)) == expected
    assert pipe.ended == (declared == 5)


def test_a_blocking_write_waits_for_room() -> None:
    async def main() -> None:
        stream, pipe = plain(4)
        writing = stream.blocking_write_and_flush(b"0123456789")
        assert writing is not None
        task = asyncio.ensure_future(writing)
        data = b""
        while len(data) < 10:
            await asyncio.sleep(0)
            assert pipe.size <= 4
            data += pipe.take(3) or b""
        await task
        assert data == b"0123456789"

    asyncio.run(main())


def test_a_stream_whose_reader_has_gone_is_closed() -> None:
    body, pipe = outgoing("response")
    stream = body.write()
    pipe.cancel()
    assert stream.is_ready()
    assert result(stream.check_write) is StreamError.CLOSED
    assert result(lambda: stream.write(b"x")) is StreamError.CLOSED


def test_a_stream_of_a_message_that_was_dropped_is_closed() -> None:
    response = OutgoingResponse.new(Fields.new(View()))
    stream = response.body().write()
    response.release()
    assert result(stream.check_write) is StreamError.CLOSED


def test_a_stream_tells_the_error_of_the_other_side() -> None:
    body, pipe = outgoing("request")
    stream = body.write()
    stream.write(b"x")
    pipe.fail(REFUSED)
    with pytest.raises(Err) as failed:
        stream.check_write()
    assert code(failed.value) is ErrorCode.ConnectionRefused
    assert result(stream.check_write) is StreamError.CLOSED


# ---- reading --------------------------------------------------------------------------------------------------------


class BodySource:
    """A body that arrives, and its stream."""

    def __init__(self, pipe: Pipe | None = None) -> None:
        self.pipe = pipe or Pipe()
        self.demands = 0
        self.body = IncomingBody(View(), Body(self.pipe, self._demand))
        self.stream: InputStream = self.body.stream()

    def _demand(self) -> None:
        self.demands += 1

    def finish(self) -> FutureTrailers:
        self.stream.release()
        return IncomingBody.finish(self.body)


def test_a_body_is_read_as_it_comes() -> None:
    source = BodySource()
    assert source.demands == 1
    stream = source.stream
    assert (stream.read(10), stream.is_ready()) == (b"", False)
    source.pipe.write(b"abcdef")
    assert stream.is_ready()
    assert (stream.read(4), stream.read(4), stream.read(4)) == (b"abcd", b"ef", b"")
    source.pipe.end()
    assert stream.is_ready()
    for _ in range(2):
        assert result(lambda: stream.read(4)) is StreamError.CLOSED


def test_an_empty_chunk_is_no_end() -> None:
    source = BodySource()
    for piece in (b"", b"first", b"", b"", b"last"):
        source.pipe.write(piece)
    source.pipe.end()
    assert [source.stream.read(10), source.stream.read(10)] == [b"first", b"last"]
    assert result(lambda: source.stream.read(10)) is StreamError.CLOSED


def test_a_body_that_fails() -> None:
    source = BodySource()
    source.pipe.write(b"begun")
    source.pipe.fail(HttpError(ErrorCode.HttpResponseIncomplete))
    assert source.stream.read(10) == b"begun"
    with pytest.raises(Err) as failed:
        source.stream.read(10)
    assert code(failed.value) is ErrorCode.HttpResponseIncomplete
    assert result(lambda: source.stream.read(10)) is StreamError.CLOSED


def test_a_stream_is_given_once() -> None:
    source = BodySource()
    assert result(source.body.stream) is None
    source.stream.release()
    assert result(source.body.stream) is None
    assert source.demands == 1


def test_a_body_that_is_dropped_is_cancelled() -> None:
    source = BodySource()
    source.stream.release()
    assert not source.pipe.cancelled
    source.body.release()
    assert source.pipe.cancelled


# ---- trailers -------------------------------------------------------------------------------------------------------

Trailers = list[tuple[bytes, bytes]]


def got(trailers: FutureTrailers) -> object:
    """The answer of `get`, with entries for fields."""
    answer = trailers.get()
    match answer:
        case Ok(Ok(Fields() as fields)):
            return fields.entries()
        case Ok(Ok(None)):
            return "none"
        case Ok(Err(code)):
            return code
        case Err(None):
            return "taken"
    assert answer is None
    return "pending"


RECEIVED: list[tuple[Trailers | None, object]] = [
    (None, "none"),
    ([], "none"),
    ([(b"X-Sum", b"1"), (b"x-sum", b"2")], [("x-sum", b"1"), ("x-sum", b"2")]),
    # What belongs to the host stays with the host.
    ([(b"Host", b"evil"), (b"Connection", b"close"), (b"x", b"y")], [("x", b"y")]),
    ([(b"Transfer-Encoding", b"chunked")], []),
]


@pytest.mark.parametrize(("trailers", "expected"), RECEIVED)
def test_trailers_that_arrive(trailers: Trailers | None, expected: object) -> None:
    source = BodySource()
    future = source.finish()
    assert got(future) == "pending"
    source.pipe.write(b"what nobody read")
    assert got(future) == "pending"
    source.pipe.end(trailers)
    assert got(future) == expected
    for _ in range(2):
        assert got(future) == "taken"


def test_trailers_of_a_body_that_fails() -> None:
    source = BodySource()
    future = source.finish()
    source.pipe.fail(HttpError(ErrorCode.HttpResponseIncomplete))
    assert got(future) is ErrorCode.HttpResponseIncomplete
    assert got(future) == "taken"


def test_trailers_are_immutable() -> None:
    source = BodySource(Pipe())
    source.pipe.end([(b"x", b"y")])
    answer = source.finish().get()
    assert isinstance(answer, Ok)
    fields = answer.value.value
    with pytest.raises(Err):
        fields.append("z", b"")


@pytest.mark.parametrize("taken", [True, False])
def test_waiting_for_trailers_skips_the_rest_of_the_body(taken: bool) -> None:
    async def main() -> None:
        demands: list[None] = []
        pipe = Pipe(10)
        body = IncomingBody(View(), Body(pipe, lambda: demands.append(None)))
        if taken:
            body.stream().release()
        future = IncomingBody.finish(body)
        # A guest may finish a body only to be rid of it.
        assert len(demands) == taken
        pollable = future.subscribe()
        waiting = asyncio.ensure_future(pollable.block() or asyncio.sleep(0))
        for _ in range(20):
            await asyncio.sleep(0)
            assert len(demands) == 1
            if pipe.room() == 0:
                raise AssertionError("nobody skips the body")
            pipe.write(b"0123456789")
        pipe.end()
        await waiting
        assert pollable.ready()
        assert got(future) == "none"

    asyncio.run(main())


def test_trailers_that_are_dropped_cancel_the_body() -> None:
    source = BodySource()
    future = source.finish()
    assert not source.pipe.cancelled
    future.release()
    assert source.pipe.cancelled


SENT: list[tuple[list[tuple[str, bytes]] | None, bool]] = [
    (None, True),
    ([], True),
    ([("X-Sum", b"1"), ("x-sum", b"2"), ("trailer", b"x")], True),
    ([("content-length", b"3")], False),
    ([("x", b"y"), ("Content-Length", b"3")], False),
]


@pytest.mark.parametrize("kind", ["request", "response"])
@pytest.mark.parametrize(("trailers", "allowed"), SENT)
def test_trailers_that_are_sent(kind: str, trailers: list[tuple[str, bytes]] | None, allowed: bool) -> None:
    body, pipe = outgoing(kind)
    fields = None if trailers is None else Fields.from_list(View(), trailers)
    if allowed:
        OutgoingBody.finish(body, fields)
        assert pipe.trailers == (None if fields is None else fields.entries_)
    else:
        assert result(lambda: OutgoingBody.finish(body, fields)) is PROTOCOL
        assert isinstance(pipe.error, HttpError)
        assert not pipe.ended


class Lenient(View):
    """A host that leaves the connection to its guests."""

    def is_forbidden_header(self, name: str) -> bool:
        return False


@pytest.mark.parametrize("name", ["host", "transfer-encoding", "connection", "content-length"])
def test_no_host_can_allow_trailers_that_frame_a_message(name: str) -> None:
    body, pipe = outgoing("response")
    trailers = Fields.from_list(Lenient(), [(name, b"3")])
    assert result(lambda: OutgoingBody.finish(body, trailers)) is PROTOCOL
    assert pipe.error is not None


def test_trailers_may_be_passed_on() -> None:
    source = BodySource()
    source.pipe.end([(b"Connection", b"close"), (b"X-Sum", b"1")])
    answer = source.finish().get()
    assert isinstance(answer, Ok)
    body, pipe = outgoing("response")
    OutgoingBody.finish(body, answer.value.value)
    assert pipe.trailers == [(b"x-sum", b"1")]


# ---- parents and children -------------------------------------------------------------------------------------------


class Hands:
    """A guest's handles."""

    def __init__(self) -> None:
        self._types: dict[type[Resource], ResourceType] = {}
        self._table = HandleTable(ResourceTable())

    def _type(self, resource: Resource) -> ResourceType:
        return self._types.setdefault(type(resource), ResourceType(type(resource).__name__))

    def take(self, resource: Resource) -> Callable[[], None]:
        """A function that drops the handle."""
        type_ = self._type(resource)
        handle = self._table.add(type_, resource)
        return lambda: self._table.drop(handle, type_)

    def give(self, resource: Resource) -> Callable[[], object]:
        """A function that passes the handle to the host."""
        type_ = self._type(resource)
        handle = self._table.add(type_, resource)
        return lambda: self._table.pop(handle, type_)


def pair(which: str) -> tuple[Resource, Resource]:
    """A parent and a child of it."""
    if which == "incoming-body, stream":
        source = BodySource()
        return source.body, source.stream
    if which == "input-stream, pollable":
        stream = BodySource().stream
        return stream, stream.subscribe()
    if which == "future-trailers, pollable":
        future = BodySource().finish()
        return future, future.subscribe()
    body, _ = outgoing("response")
    output = body.write()
    return (body, output) if which == "outgoing-body, stream" else (output, output.subscribe())


PAIRS = [
    "incoming-body, stream",
    "input-stream, pollable",
    "future-trailers, pollable",
    "outgoing-body, stream",
    "output-stream, pollable",
]


@pytest.mark.parametrize("which", PAIRS)
def test_parents_do_not_leave_before_their_children(which: str) -> None:
    hands = Hands()
    parent, child = pair(which)
    drop_parent, drop_child = hands.take(parent), hands.take(child)
    with pytest.raises(Trap, match="has children: drop them first"):
        drop_parent()
    drop_child()
    drop_parent()
    # To finish is to give away, which is no other matter.
    parent, child = pair(which)
    give_parent, drop_child = hands.give(parent), hands.take(child)
    with pytest.raises(Trap, match="has children: drop them first"):
        give_parent()
    drop_child()
    assert give_parent() is parent


def test_messages_may_leave_before_their_bodies_and_headers() -> None:
    hands = Hands()
    view = View()
    pipe = Pipe()
    request = IncomingRequest(view, Request.of("GET", "http", "a", "/", [(b"x", b"1"), (b"host", b"a")], Body(pipe)))
    drop = hands.take(request)
    fields, body = request.headers(), request.consume()
    drop()
    assert fields.entries() == [("x", b"1")]
    pipe.write(b"still here")
    assert body.stream().read(100) == b"still here"

    response = OutgoingResponse.new(Fields.from_list(view, [("x", b"1")]))
    give = hands.give(response)
    fields, sent = response.headers(), response.body()
    give()
    assert fields.entries() == [("x", b"1")]
    sent.write().write(b"still here")
    assert response.pipe is not None
    assert response.pipe.take(100) == b"still here"
