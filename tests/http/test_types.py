"""Requests and responses in the hands of a guest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.view import View
from wasi_http.component import Err, Ok
from wasi_http.engine import Trap
from wasi_http.flow.pipe import BODY_BUFFER, Pipe
from wasi_http.http.errors import HttpError, NoResponse
from wasi_http.http.fields import Fields, HeaderError
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.types import (
    FutureIncomingResponse,
    IncomingRequest,
    IncomingResponse,
    OutgoingRequest,
    OutgoingResponse,
    RequestOptions,
    ResponseOutparam,
    Types,
)
from wasi_http.http.values import ErrorCode, Method, Scheme
from wasi_http.wasi.cli import Exit
from wasi_http.wasi.io.error import IoError


def refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except Err as error:
        assert error.value is None  # noqa: PT017 - the error has no payload in the WIT
        return True
    return False


def outgoing_request() -> OutgoingRequest:
    return OutgoingRequest.new(Fields.new(View()))


# ---- methods, schemes -----------------------------------------------------------------------------------------------

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


def test_methods() -> None:
    for name in METHODS:
        method = Method.parse(name)
        assert not isinstance(method, Method.Other)
        assert str(method) == name
    assert len(Method.__cases__) == len(METHODS) + 1
    # They are case-sensitive.
    for name in ("get", "Get", "PROPFIND", "other"):
        assert Method.parse(name) == Method.Other(name)
        assert str(Method.parse(name)) == name


def test_schemes() -> None:
    assert [str(Scheme.HTTP), str(Scheme.HTTPS), str(Scheme.Other("ws"))] == ["http", "https", "ws"]


# ---- what outgoing requests take ------------------------------------------------------------------------------------

SET_METHOD = [
    (Method.Head, True),
    (Method.Other("PROPFIND"), True),
    (Method.Other("a-token!#$%&'*+.^_`|~"), True),
    (Method.Other(""), False),
    (Method.Other("bad\nmethod"), False),
    (Method.Other("invalid method"), False),
    (Method.Other("GET\r\nx: y"), False),
    (Method.Other("GET "), False),
    (Method.Other("M\u00c9TH"), False),
    (Method.Other("\0"), False),
]


@pytest.mark.parametrize(("method", "good"), SET_METHOD)
def test_set_method(method: Method, good: bool) -> None:
    request = outgoing_request()
    assert request.method_() is Method.Get
    assert refused(lambda: request.set_method(method)) is not good
    assert request.method_() == (method if good else Method.Get)


SET_SCHEME = [
    (None, True),
    (Scheme.HTTP, True),
    (Scheme.HTTPS, True),
    (Scheme.Other("WS"), True),
    (Scheme.Other("git+ssh.v2-x"), True),
    (Scheme.Other(""), False),
    (Scheme.Other("bad\nscheme"), False),
    (Scheme.Other("http:"), False),
    (Scheme.Other("1http"), False),
    (Scheme.Other("h\u00e9"), False),
]


@pytest.mark.parametrize(("scheme", "good"), SET_SCHEME)
def test_set_scheme(scheme: Scheme | None, good: bool) -> None:
    request = outgoing_request()
    assert request.scheme() is None
    assert refused(lambda: request.set_scheme(scheme)) is not good
    assert request.scheme() == (scheme if good else None)


SET_AUTHORITY = [
    (None, True),
    ("example.com", True),
    ("EXAMPLE.com:443", True),
    ("example.com:0", True),
    ("localhost:65535", True),
    ("127.0.0.1:80", True),
    ("[::]", True),
    ("[::]:443", True),
    ("[2001:db8::1]", True),
    ("[::ffff:127.0.0.1]:80", True),
    ("a%20b", True),
    ("", False),
    ("bad-\nhost", False),
    ("a b", False),
    ("a\r\nHost: b", False),
    ("localhost:99999", False),
    ("localhost:65536", False),
    ("localhost:000080", False),
    ("localhost:", False),
    ("localhost:abc", False),
    ("localhost:+80", False),
    ("localhost:-1", False),
    ("localhost:8\u0660", False),
    (":80", False),
    ("[::]:", False),
    ("[::1]:abc", False),
    ("[::1", False),
    ("::1", False),
    ("[]", False),
    ("[:::]", False),
    ("[1.2.3.4]", False),
    ("[::1%25eth0]", False),
    ("[::1]x", False),
    # An authority says where a request goes; a password in it, or a path behind it, has misled many.
    ("user@example.com", False),
    ("example.com@evil.org", False),
    ("example.com/path", False),
    ("example.com?x", False),
    ("example.com#x", False),
    ("a%2", False),
    ("a\\b", False),
    ("b\u00fccher.example", False),
]


@pytest.mark.parametrize(("authority", "good"), SET_AUTHORITY)
def test_set_authority(authority: str | None, good: bool) -> None:
    request = outgoing_request()
    request.set_authority("before")
    assert refused(lambda: request.set_authority(authority)) is not good
    assert request.authority() == (authority if good else "before")


SET_PATH = [
    (None, True),
    ("", True),
    ("/", True),
    ("/a/b?c=d&e=%20", True),
    ("?query", True),
    ("*", True),
    ("//a", True),
    ("/bad\npath", False),
    ("/a b", False),
    ("/a\r\nHost: b", False),
    ("/a#fragment", False),
    ("/\0", False),
    ("/\x7f", False),
    ("/café?q=日本", True),
    ("?é", True),
    ("/\U0010ffff", True),
    ("é", False),
    ("/é ", False),
    ("/é#", False),
    ("/é\n", False),
    ("a", False),
    ("http://a/", False),
    ("**", False),
    ("*/", False),
]


@pytest.mark.parametrize(("path", "good"), SET_PATH)
def test_set_path_with_query(path: str | None, good: bool) -> None:
    request = outgoing_request()
    request.set_path_with_query("/before")
    assert refused(lambda: request.set_path_with_query(path)) is not good
    assert request.path_with_query() == (path if good else "/before")


@given(st.text())
def test_nothing_that_is_accepted_can_split_a_message(text: str) -> None:
    request = outgoing_request()
    for setter, value in (
        (request.set_method, Method.Other(text)),
        (request.set_scheme, Scheme.Other(text)),
        (request.set_authority, text),
        (request.set_path_with_query, text),
    ):
        if not refused(lambda: setter(value)):  # noqa: B023 - called at once
            assert not re.search(r"[\0-\x20\x7f]", text)
            assert text.isascii() or text == request.path_with_query()


def test_headers_of_what_a_guest_makes_are_immutable() -> None:
    fields = Fields.from_list(View(), [("x", b"1")])
    for message in (OutgoingRequest.new(fields), OutgoingResponse.new(fields)):
        headers = message.headers()
        for change in (
            lambda h=headers: h.set("Content-Length", [b"10"]),
            lambda h=headers: h.append("Content-Length", b"10"),
            lambda h=headers: h.delete("Content-Length"),
        ):
            with pytest.raises(Err) as caught:
                change()
            assert caught.value.value is HeaderError.Immutable
        assert headers.clone().entries() == [("x", b"1")]


STATUSES = [(0, False), (99, False), (100, True), (200, True), (599, True), (999, True), (1000, False), (65535, False)]


@pytest.mark.parametrize(("status", "good"), STATUSES)
def test_set_status_code(status: int, good: bool) -> None:
    response = OutgoingResponse.new(Fields.new(View()))
    assert response.status_code() == 200
    assert refused(lambda: response.set_status_code(status)) is not good
    assert response.status_code() == (status if good else 200)


def test_request_options() -> None:
    options = RequestOptions.new()
    for name in ("connect_timeout", "first_byte_timeout", "between_bytes_timeout"):
        read, write = getattr(options, name), getattr(options, f"set_{name}")
        assert read() is None
        for value in (0, 1, 2**64 - 1, None):
            write(value)
            assert read() == value


@pytest.mark.parametrize("make", [OutgoingRequest.new, OutgoingResponse.new])
def test_messages_with_bodies_are_charged(make: Callable[[Fields], OutgoingRequest | OutgoingResponse]) -> None:
    view = View()
    kept: list[object] = []

    def hoard() -> None:
        for _ in range(1000):
            message = make(Fields.new(view))
            assert view.table.charged == len(kept) * BODY_BUFFER
            message.body()
            kept.append(message)

    with pytest.raises(Trap, match="more than 33554432 bytes"):
        hoard()
    assert len(kept) == 33554432 // BODY_BUFFER
    kept.clear()
    assert view.table.charged == 0


def test_what_is_dropped_unsent_is_cancelled() -> None:
    for message in (outgoing_request(), OutgoingResponse.new(Fields.new(View()))):
        message.body()
        body = message.message.body if isinstance(message, OutgoingRequest) else message
        assert body is not None
        pipe = body.pipe
        assert pipe is not None
        message.release()
        assert pipe.cancelled
    outgoing_request().release()
    OutgoingResponse.new(Fields.new(View())).release()


# ---- what arrives ---------------------------------------------------------------------------------------------------

# Method, target, authority, Host fields; what the guest sees as path and authority, None: no request.
REQUESTS: list[tuple[str, str, str | None, list[bytes], tuple[str | None, str] | None]] = [
    ("GET", "/a?b", None, [b"example.com"], ("/a?b", "example.com")),
    ("GET", "/", "over.example", [b"example.com"], ("/", "over.example")),
    ("GET", "http://a.example/p?q#f", None, [], ("/p?q", "a.example")),
    ("GET", "http://a.example", None, [b"b.example"], ("/", "a.example")),
    ("GET", "http://a.example?q", None, [], ("/?q", "a.example")),
    ("GET", "HTTPS://a.example:8443/", None, [], ("/", "a.example:8443")),
    ("GET", "http://a.example/", "over.example", [], ("/", "over.example")),
    ("OPTIONS", "*", None, [b"a.example"], ("*", "a.example")),
    ("CONNECT", "a.example:443", None, [], (None, "a.example:443")),
    ("CONNECT", "a.example:443", None, [b"b.example"], (None, "a.example:443")),
    ("CONNECT", "http://localhost/", None, [], ("/", "localhost")),
    ("GET", "/", None, [], None),
    ("GET", "/", None, [b""], None),
    ("GET", "http:///nowhere", None, [], None),
]


@pytest.mark.parametrize(("method", "target", "authority", "hosts", "expected"), REQUESTS)
def test_requests_of_embedders(
    method: str, target: str, authority: str | None, hosts: list[bytes], expected: tuple[str | None, str] | None
) -> None:
    headers = [(b"Host", host) for host in hosts]
    if expected is None:
        with pytest.raises(ValueError, match="has no authority"):
            Request(method, target, headers, authority=authority)
        return
    request = View().new_incoming_request(Scheme.HTTP, Request(method, target, headers, authority=authority))
    assert request.method_() == Method.parse(method)
    assert (request.path_with_query(), request.authority()) == expected
    assert request.scheme() is Scheme.HTTP
    assert request.headers().entries() == []


def test_incoming_requests() -> None:
    view = View(forbidden=["custom-forbidden-header"])
    headers = [(b"Host", b"a"), (b"Custom-Forbidden-Header", b"x"), (b"X", b"1"), (b"x", b"2")]
    request = view.new_incoming_request(Scheme.HTTPS, Request("POST", "/", headers, b"whole body"))
    assert request.scheme() is Scheme.HTTPS
    for _ in range(2):
        fields = request.headers()
        assert fields.entries() == [("x", b"1"), ("x", b"2")]
        with pytest.raises(Err) as caught:
            fields.delete("x")
        assert caught.value.value is HeaderError.Immutable
        with pytest.raises(Err):
            fields.append("y", b"")
    body = request.consume()
    assert refused(request.consume)
    assert body.stream().read(100) == b"whole body"


def test_a_request_that_is_dropped_unread_is_cancelled() -> None:
    for consumed in (True, False):
        pipe = Pipe()
        request = IncomingRequest(View(), Request.of("GET", "http", "a", "/", [], Body(pipe)))
        body = request.consume() if consumed else None
        request.release()
        assert pipe.cancelled is not consumed
        del body
    request = IncomingRequest(View(), Request.of("GET", "http", "a", "", [], None))
    assert request.path_with_query() is None
    with pytest.raises(Err):
        request.consume().stream().read(1)
    IncomingRequest(View(), Request.of("GET", "http", "a", "", [], None)).release()


def test_incoming_responses() -> None:
    pipe = Pipe()
    headers = [(b"Connection", b"close"), (b"Set-Cookie", b"\xe9")]
    response = IncomingResponse(View(), Response(299, headers, Body(pipe)))
    assert response.status() == 299
    fields = response.headers()
    assert fields.entries() == [("set-cookie", b"\xe9")]
    with pytest.raises(Err):
        fields.append("x", b"")
    body = response.consume()
    assert refused(response.consume)
    response.release()
    assert not pipe.cancelled
    pipe.write(b"x")
    assert body.stream().read(10) == b"x"
    pipe = Pipe()
    IncomingResponse(View(), Response(200, [], Body(pipe))).release()
    assert pipe.cancelled


def test_a_request_that_is_sent_on_brings_nothing_of_the_host_along() -> None:
    headers = [(b"Host", b"a"), (b"Connection", b"x"), (b"Transfer-Encoding", b"chunked"), (b"foo", b"bar")]
    request = View().new_incoming_request(Scheme.HTTP, Request("GET", "/", headers))
    for fields in (request.headers(), request.headers().clone()):
        assert OutgoingRequest.new(fields).fields.entries_ == [(b"foo", b"bar")]


# ---- futures --------------------------------------------------------------------------------------------------------


def test_a_response_is_given_once() -> None:
    async def main() -> None:
        pending: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        future = FutureIncomingResponse(View(), pending)
        pollable = future.subscribe()
        assert future.get() is None
        assert not pollable.ready()
        pending.set_result(Response(203, [(b"X", b"1")]))
        await (pollable.block() or asyncio.sleep(0))
        outcome = future.get()
        assert isinstance(outcome, Ok)
        assert isinstance(outcome.value, Ok)
        assert outcome.value.value.status() == 203
        assert outcome.value.value.headers().entries() == [("x", b"1")]
        assert [future.get(), future.get()] == [Err(None), Err(None)]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HttpError(ErrorCode.HttpRequestDenied), ErrorCode.HttpRequestDenied),
        (ConnectionRefusedError(), ErrorCode.ConnectionRefused),
        (ValueError("a secret"), ErrorCode.InternalError("ValueError")),
        (None, ErrorCode.ConnectionTerminated),
    ],
)
def test_a_response_that_fails(error: Exception | None, code: ErrorCode) -> None:
    async def main() -> None:
        pending: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        future = FutureIncomingResponse(View(), pending)
        reported: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context["exception"]))
        if error is None:
            pending.cancel()
        else:
            pending.set_exception(error)
        pollable = future.subscribe()
        await (pollable.block() or asyncio.sleep(0))
        assert future.get() == Ok(Err(code))
        # Whose fault it is hears of it.
        assert reported == ([error] if isinstance(error, ValueError) else [])
        assert future.get() == Err(None)

    asyncio.run(main())


@pytest.mark.parametrize("state", ["pending", "done", "just done", "failed", "taken"])
def test_dropping_a_response_that_is_on_its_way(state: str) -> None:
    async def main() -> None:
        pending: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        future, pipe = FutureIncomingResponse(View(), pending), Pipe()
        if state == "failed":
            pending.set_exception(OSError())
        elif state != "pending":
            pending.set_result(Response(200, [], Body(pipe)))
        if state != "just done":
            await asyncio.sleep(0)
        if state == "taken":
            assert isinstance(future.get(), Ok)
        future.release()
        await asyncio.sleep(0)
        assert pending.cancelled() == (state == "pending")
        # Nobody will read it; one that the guest took is the guest's.
        assert pipe.cancelled == (state in ("done", "just done"))

    asyncio.run(main())


@pytest.mark.parametrize("error", [ConnectionRefusedError(), None])
def test_the_body_of_a_request_ends_with_its_exchange(error: Exception | None) -> None:
    async def main() -> None:
        pending: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        body = Pipe()
        future = FutureIncomingResponse(View(), pending, Body(body))
        if error is None:
            future.release()
        else:
            pending.set_exception(error)
        await asyncio.sleep(0)
        assert body.cancelled
        assert (body.error is None) == (error is None)

    asyncio.run(main())


# ---- responses ------------------------------------------------------------------------------------------------------


def simple_response(status: int = 201) -> OutgoingResponse:
    response = OutgoingResponse.new(Fields.from_list(View(), [("x", b"1")]))
    response.set_status_code(status)
    return response


def test_the_receiver_is_told_at_once() -> None:
    told: list[Any] = []
    response = simple_response()
    ResponseOutparam.set(ResponseOutparam(told.append), Ok(response))
    ResponseOutparam.set(ResponseOutparam(told.append), Err(ErrorCode.LoopDetected))
    assert told == [response, ErrorCode.LoopDetected]


def test_set_does_not_mind_that_nobody_waits() -> None:
    ResponseOutparam.set(ResponseOutparam(), Ok(simple_response()))


def test_informational_responses() -> None:
    told: list[Any] = []
    out = ResponseOutparam(None, lambda status, headers: told.append((status, headers)))
    for status in (100, 102, 103, 199):
        out.send_informational(status, Fields.from_list(View(), [("link", b"</a>")]))
    assert told == [(status, [(b"link", b"</a>")]) for status in (100, 102, 103, 199)]
    for status in (0, 99, 101, 200, 65535):
        with pytest.raises(Err) as caught:
            out.send_informational(status, Fields.new(View()))
        assert caught.value.value is ErrorCode.HttpProtocolError
    assert len(told) == 4


def test_informational_responses_that_nobody_sends() -> None:
    with pytest.raises(Err) as caught:
        ResponseOutparam().send_informational(103, Fields.new(View()))
    assert isinstance(caught.value.value, ErrorCode.InternalError)
    with pytest.raises(Err) as caught:
        ResponseOutparam().send_informational(200, Fields.new(View()))
    assert caught.value.value is ErrorCode.HttpProtocolError


def test_the_response_of_a_call() -> None:
    async def main() -> None:
        out, gone = ResponseOutparam(), asyncio.Event()

        async def guest() -> None:
            await asyncio.sleep(0)
            response = simple_response()
            stream = response.body().write()
            ResponseOutparam.set(out, Ok(response))
            stream.write(b"part")
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()

        response = await out.response(guest())
        assert (response.status, response.headers) == (201, [(b"x", b"1")])
        assert await anext(aiter(response.body)) == b"part"
        # The guest has no other purpose.
        response.body.cancel()
        await gone.wait()

    asyncio.run(main())


def test_a_response_without_a_body_has_an_empty_one() -> None:
    async def main() -> None:
        out = ResponseOutparam()

        async def guest() -> None:
            ResponseOutparam.set(out, Ok(simple_response()))

        response = await out.response(guest())
        assert await response.body.read() == b""

    asyncio.run(main())


def test_a_call_without_a_response() -> None:
    async def main() -> None:
        async def silent() -> None:
            pass

        async def broken() -> None:
            raise RuntimeError("broken")

        async def cancelled() -> None:
            raise asyncio.CancelledError

        async def refusing() -> None:
            ResponseOutparam.set(out, Err(ErrorCode.LoopDetected))

        with pytest.raises(NoResponse, match="guest never invoked `response-outparam::set` method"):
            await ResponseOutparam().response(silent())
        with pytest.raises(NoResponse, match="the host failed: RuntimeError: broken") as caught:
            await ResponseOutparam().response(broken())
        assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(NoResponse, match="cancelled"):
            await ResponseOutparam().response(cancelled())
        out = ResponseOutparam()
        with pytest.raises(HttpError) as failed:
            await out.response(refusing())
        assert failed.value.code is ErrorCode.LoopDetected

    asyncio.run(main())


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (RuntimeError("broken"), "the host failed: RuntimeError: broken"),
        (Trap("unreachable"), "the guest failed: unreachable"),
        (Exit(1), "the guest exited with code 1"),
        (asyncio.CancelledError(), "the guest was cancelled"),
        (None, "the guest ended before its response's body"),
    ],
)
@pytest.mark.parametrize("reads", ["before", "after"])
def test_a_body_fails_with_its_guest(end: BaseException | None, text: str, reads: str) -> None:
    """It ends with the guest's task, whether or not the store has been closed."""

    async def main() -> None:
        out, go = ResponseOutparam(), asyncio.Event()

        async def guest() -> None:
            response = simple_response()
            response.body().write().write(b"part")
            ResponseOutparam.set(out, Ok(response))
            await go.wait()
            if end is not None:
                raise end

        task = asyncio.ensure_future(guest())
        response = await out.response(task)
        if reads == "before":
            assert await anext(aiter(response.body)) == b"part"
            reading = asyncio.ensure_future(response.body.read())
            await asyncio.sleep(0)
            go.set()
        else:
            go.set()
            await asyncio.wait([task])
            reading = asyncio.ensure_future(response.body.read())
        with pytest.raises(HttpError, match=text) as failed:
            await reading
        assert failed.value.code is ErrorCode.HttpResponseIncomplete

    asyncio.run(main())


def test_the_guest_is_cancelled_with_whoever_waits() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def guest() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()

        waiting = asyncio.ensure_future(ResponseOutparam().response(guest()))
        for _ in range(3):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        await gone.wait()

    asyncio.run(main())


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (HttpError(ErrorCode.HttpRequestBodySize(18)), ErrorCode.HttpRequestBodySize(18)),
        (BrokenPipeError(), None),
        ("a text", None),
        (None, None),
    ],
)
def test_http_error_code(cause: object, code: ErrorCode | None) -> None:
    assert Types.http_error_code(IoError(cause)) == code


def test_body_of_a_request_keeps_its_trailers() -> None:
    pipe = Pipe.of(b"x")
    request = View().new_incoming_request(Scheme.HTTP, Request("POST", "/", [(b"host", b"a")], Body(pipe)))
    assert request.consume().stream().read(10) == b"x"
