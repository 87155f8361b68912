"""What clients get for what guests do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.view import View
from wasi_http.component import Err, Ok
from wasi_http.engine import Trap
from wasi_http.flow.signal import Signal
from wasi_http.http.fields import Fields
from wasi_http.http.types import IncomingRequest, OutgoingRequest, OutgoingResponse, ResponseOutparam
from wasi_http.http.values import ErrorCode, Method, Scheme
from wasi_http.wasi.io.inputs import BytesInput
from wasi_http.wasi.io.poll import Poll, Pollable
from wasi_http.wasi.io.streams import OutputStream, StreamError

from .scripted import ScriptedService, respond, settled
from .serving import Guests, Serving, chunked, get, post, run, serve, serving, until

NEVER_SET = "error: guest never invoked `response-outparam::set` method\n"
FAILED = b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 23\r\n\r\n"
STATUS = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"

# How a response begins whose body has not ended with the guest's first wait.
STREAMING = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

# ---- responses ------------------------------------------------------------------------------------------------------

# Path, head, body, trailers.
RESPONSES = [
    ("/status/200", STATUS, b"status\n", b""),
    ("/status/404", b"HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\n", b"status\n", b""),
    ("/status/999", b"HTTP/1.1 999 \r\ncontent-length: 7\r\n\r\n", b"status\n", b""),
    ("/status/204", b"HTTP/1.1 204 No Content\r\n\r\n", b"", b""),
    ("/status/304", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", b"", b""),
    ("/no-body", b"HTTP/1.1 200 OK\r\nx-body: none\r\ncontent-length: 0\r\n\r\n", b"", b""),
    ("/empty", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", b""),
    ("/sized/3", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", b"\x00\x01\x02", b""),
    (
        "/trailers",
        b"HTTP/1.1 200 OK\r\ntrailer: x-checksum\r\ntransfer-encoding: chunked\r\n\r\n",
        b"with trailers\n",
        b"x-checksum: abc123\r\n",
    ),
    ("/drip/3", STREAMING, b"tick 0\ntick 1\ntick 2\n", b""),
]


@pytest.mark.parametrize(("path", "head", "body", "trailers"), RESPONSES)
def test_responses(guests: Guests, loop: str, path: str, head: bytes, body: bytes, trailers: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            reply = await client.ask(get(path))
            assert (reply.head, reply.body, reply.trailers) == (head, body, trailers)

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize(
    ("path", "head"),
    [
        ("/status/200", STATUS),
        ("/sized/100000", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"),
        ("/big/2", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("/trailers", b"HTTP/1.1 200 OK\r\ntrailer: x-checksum\r\n\r\n"),
        ("/drip/3", b"HTTP/1.1 200 OK\r\n\r\n"),
        # The guest does wrong what is not sent anyway.
        ("/content-length-short", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
        ("/content-length-long", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("/no-finish", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("/set-twice", FAILED.replace(b"content-length: 23\r\n", b"")),
        ("/abandon", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("/no-body", b"HTTP/1.1 200 OK\r\nx-body: none\r\n\r\n"),
        ("/trap", FAILED.replace(b"content-length: 23\r\n", b"")),
    ],
)
def test_head(guests: Guests, loop: str, path: str, head: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            reply = await client.ask(get(path, method="HEAD"))
            assert reply.head == head
        assert (await client.ask(get("/status/200"))).body == b"status\n"

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize(
    ("method", "status", "declared"),
    [("HEAD", 200, b"10"), ("HEAD", 404, b"10"), ("HEAD", 304, b"10"), ("GET", 304, b"10"), ("GET", 204, None)],
)
@pytest.mark.parametrize("pieces", [None, [], [5], [10], [5, 10]])
@pytest.mark.parametrize("waits", [False, True])
def test_lengths_of_responses_without_a_body(
    guests: Guests, loop: str, method: str, status: int, declared: bytes | None, pieces: list[int] | None, waits: bool
) -> None:
    """Frameworks answer HEAD and 304 with the length that GET would have (RFC 9110 §8.6); none of it is the guest's
    fault, and what it writes nevertheless is dropped."""

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields(request._view, [(b"content-length", b"10")]))
        response.set_status_code(status)
        body = response.body()
        ResponseOutparam.set(out, Ok(response))
        if pieces is not None:
            stream = body.write()
            for piece in pieces:
                if waits:
                    await asyncio.sleep(0)
                stream.write(b"x" * piece)
            stream.release()
        if waits:
            await asyncio.sleep(0)
        body.finish(body, None)

    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            await client.send(get("/", method=method))
            reply = await client.reply(bodiless=True)
            assert (reply.status, reply[b"content-length"]) == (status, declared)
        await server.idle()
        assert server.log.err == ""

    serve(loop, ScriptedService(guests, script), test)


@pytest.mark.parametrize(
    ("method", "status", "answered"), [("HEAD", 200, 200), ("GET", 304, 304), ("GET", 200, 500), ("PUT", 201, 500)]
)
def test_a_body_that_is_finished_before_its_response_is_set(
    guests: Guests, loop: str, method: str, status: int, answered: int
) -> None:
    """Whether an empty body is what was declared depends on the request, and on a status that may yet change."""

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields(request._view, [(b"content-length", b"10")]))
        body = response.body()
        body.finish(body, None)
        response.set_status_code(status)
        ResponseOutparam.set(out, Ok(response))

    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            assert (await client.ask(get("/", method=method))).status == answered
        assert ("the body has 0 bytes, content-length says 10" in server.log.err) == (answered == 500)

    serve(loop, ScriptedService(guests, script), test)


async def settle(value: Awaitable[object] | object) -> None:
    """Waits for what a method may have to wait for."""
    if isinstance(value, Awaitable):
        await value


async def _blocking_write(stream: OutputStream) -> None:
    await settle(stream.blocking_write_and_flush(b"more"))


async def _blocking_flush(stream: OutputStream) -> None:
    await settle(stream.blocking_flush())


async def _blocking_splice(stream: OutputStream) -> None:
    await settle(stream.blocking_splice(BytesInput(b"more"), 4))


async def _block(stream: OutputStream) -> None:
    await settle(stream.subscribe().block())


async def _poll(stream: OutputStream) -> None:
    await settle(Poll.poll(View(), [stream.subscribe(), stream.subscribe()]))


@pytest.mark.parametrize("wait", [_blocking_write, _blocking_flush, _blocking_splice, _block, _poll])
@pytest.mark.parametrize("kind", [OutgoingResponse, OutgoingRequest])
def test_a_body_that_nobody_can_take(
    guests: Guests, loop: str, kind: type[OutgoingResponse | OutgoingRequest], wait: Callable[..., Awaitable[None]]
) -> None:
    """A guest that waits for room in a message that it still has in its hands waits for itself."""

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        message = kind(Fields(request._view, []))
        stream = message.body().write()
        stream.write(bytes(stream.check_write()))
        await wait(stream)

    async def test(server: Serving) -> None:
        reply = await server.ask(get("/"))
        assert reply.status == 500
        assert "Trap: deadlock: the guest waits for room in the body of a message that it has not" in server.log.err

    serve(loop, ScriptedService(guests, script), test)


def test_a_full_body_is_no_deadlock_beside_something_else(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields(request._view, []))
        body = response.body()
        stream = body.write()
        stream.write(bytes(stream.check_write()))
        timer, fired = Signal(), asyncio.Event()
        asyncio.get_running_loop().call_soon(lambda: (fired.set(), timer.notify()))
        assert await Poll.poll(View(), [stream.subscribe(), Pollable(fired.is_set, timer)]) == [1]
        ResponseOutparam.set(out, Ok(response))
        await settle(stream.blocking_write_and_flush(b"more"))
        body.finish(body, None)

    async def test(server: Serving) -> None:
        assert len((await server.ask(get("/"))).body) == 256 * 1024 + 4

    serve(loop, ScriptedService(guests, script), test)


# Path, head, body to a client that knows HTTP/1.0 only: the end of the body may be the end of the connection.
OLD_RESPONSES = [
    ("/status/200", STATUS[:-2] + b"connection: close\r\n\r\n", b"status\n"),
    ("/drip/2", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"tick 0\ntick 1\n"),
    (
        "/trailers",
        b"HTTP/1.1 200 OK\r\ntrailer: x-checksum\r\nconnection: close\r\n\r\n",
        b"with trailers\n",
    ),
]


@pytest.mark.parametrize(("path", "head", "body"), OLD_RESPONSES)
def test_responses_to_http_1_0(guests: Guests, loop: str, path: str, head: bytes, body: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        reply = await client.ask(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        assert (reply.head, reply.body) == (head, body)
        assert await client.rest() == b""

    serve(loop, guests.service("c_kitchen"), test)


def test_a_body_is_sent_as_it_comes(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        finish = respond(request, out)
        await more.wait()
        finish(b"more")

    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/"))
        await client.read_until(b"\r\n\r\n")
        more.set()
        assert await client.read(len(b"4\r\nmore\r\n0\r\n\r\n")) == b"4\r\nmore\r\n0\r\n\r\n"

    more = asyncio.Event()
    serve(loop, ScriptedService(guests, script), test)


def test_informational_responses(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        hints = [(b"link", b"</style.css>")]
        fields = type(request.headers())(request._view, hints)
        out.send_informational(103, fields)
        with pytest.raises(Err) as refused:
            out.send_informational(102, type(fields)(request._view, [(b"content-length", b"3")]))
        assert refused.value == Err(ErrorCode.HttpProtocolError)
        respond(request, out)(b"done")

    async def test(server: Serving) -> None:
        reply = await server.ask(get("/"))
        assert reply.interim == [b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n"]
        assert reply.body == b"done"
        client = await server.connect()
        reply = await client.ask(b"GET / HTTP/1.0\r\n\r\n")
        assert (reply.interim, reply.body) == ([], b"done")

    serve(loop, ScriptedService(guests, script), test)


def test_informational_responses_are_bounded(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        fields = request.headers()
        for _ in range(32):
            out.send_informational(102, fields)
        with pytest.raises(Err) as refused:
            out.send_informational(102, fields)
        assert refused.value == Err(ErrorCode.HttpProtocolError)
        respond(request, out)(b"done")

    async def test(server: Serving) -> None:
        reply = await server.ask(get("/"))
        assert len(reply.interim) == 32
        assert reply.body == b"done"

    serve(loop, ScriptedService(guests, script), test)


def test_the_order_of_headers(guests: Guests, loop: str) -> None:
    fields = [(b"set-cookie", b"a=1"), (b"x", b"1"), (b"set-cookie", b"b=2; Path=/"), (b"y", b"\xff\xe9"), (b"x", b"2")]

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields(request._view, fields))
        ResponseOutparam.set(out, Ok(response))

    async def test(server: Serving) -> None:
        reply = await server.ask(get("/"))
        assert [field for field in reply.headers if field[0] not in (b"date", b"content-length")] == fields

    serve(loop, ScriptedService(guests, script), test)


# ---- what guests see of requests ------------------------------------------------------------------------------------

# Request line, then method, authority and path as the guest sees them; Host is example.com.
TARGETS = [
    ("GET /a?b=%20c", "GET", "example.com", "/a?b=%20c"),
    ("GET //a", "GET", "example.com", "//a"),
    ("FROB /", "FROB", "example.com", "/"),
    ("get /", "get", "example.com", "/"),
    ("GET http://other.example:81/a?b", "GET", "other.example:81", "/a?b"),
    ("GET HTTP://other.example", "GET", "other.example", "/"),
    ("GET https://other.example?q", "GET", "other.example", "/?q"),
    ("OPTIONS *", "OPTIONS", "example.com", "*"),
    ("OPTIONS http://other.example/", "OPTIONS", "other.example", "/"),
    ("CONNECT other.example:443", "CONNECT", "other.example:443", None),
]


@pytest.mark.parametrize(("line", "method", "authority", "path"), TARGETS)
def test_targets(guests: Guests, loop: str, line: str, method: str, authority: str, path: str | None) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        seen.append((request.method_(), request.scheme(), request.authority(), request.path_with_query()))
        respond(request, out)(b"seen")

    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(f"{line} HTTP/1.1\r\nHost: example.com\r\n\r\n".encode() + get("/next"))
        reply = await client.reply(bodiless=method == "CONNECT")
        assert reply.status == 200
        if method == "CONNECT":
            # There is no tunnel: what the guest says ends with the connection, and what follows is no request.
            assert await client.rest() == b"seen"
            assert len(seen) == 1
        else:
            assert (await client.reply()).body == b"seen"
        # The scheme is that of the connection, whatever the client says of it.
        assert seen[0] == (Method.parse(method), Scheme.HTTP, authority, path)

    seen: list[object] = []
    serve(loop, ScriptedService(guests, script), test)


def test_the_headers_of_a_request(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        await server_sees(server, b"X: \xff\xe9\r\nx:  2 \r\nCookie: a=1\r\nX-\x21: y\r\nCookie: b=2\r\nEmpty:\r\n")
        assert (await server.ask(get("/headers", "X: a\rb"))).status == 400

    async def server_sees(server: Serving, lines: bytes) -> None:
        client = await server.connect()
        hidden = b"Connection: x-a, keep-alive\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\nX-A: 1\r\n"
        await client.send(b"GET /headers HTTP/1.1\r\nHost: example.com\r\n" + lines + hidden + b"\r\n")
        said = (await client.reply()).body
        assert said == b"x: \xff\xe9\nx: 2\ncookie: a=1\nx-!: y\ncookie: b=2\nempty: \nx-a: 1\n"

    serve(loop, guests.service("c_kitchen"), test)


# ---- guests that fail -----------------------------------------------------------------------------------------------

# Path, what stands on standard error.
FAILURES = [
    ("/trap", "error: Trap: wasm `unreachable` instruction executed\n  guest backtrace:\n"),
    ("/no-set", NEVER_SET),
    ("/drop-outparam", NEVER_SET),
    ("/exit/0", NEVER_SET),
    ("/exit/1", "error: the guest exited with code 1\n"),
    ("/error-set", "error: the guest answered with the error ErrorCode.InternalError('the guest said so')\n"),
    ("/recurse", "error: Trap: call stack exhausted\n"),
    ("/bad-handle", "error: Trap: unknown handle index 123456\n"),
    ("/double-drop", "error: Trap: unknown handle index "),
    ("/bad-pointer", "error: Trap: pointer out of bounds"),
    ("/poll-nothing", "error: Trap: poll: the list of pollables is empty\n"),
    ("/many-handles/1000000", "error: Trap: resource table has no free keys"),
    ("/status/100", "error: the response failed: 100 is not the status of a final response\n"),
    # A response is set, but nothing of it was sent when it turns out that it cannot be completed.
    ("/set-twice", "error: Trap: handle index "),
    ("/over-budget", "error: Trap: write: 262145 bytes exceed the 262144 that check-write permits\n"),
    ("/content-length-short", "error: the response failed: the guest declared content-length 10 and wrote 5 bytes\n"),
    ("/content-length-long", "error: the response failed: the guest declared content-length 5 and wrote 10 bytes\n"),
]


@pytest.mark.parametrize(("path", "reason"), FAILURES)
def test_failures_before_the_head(guests: Guests, loop: str, path: str, reason: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            reply = await client.ask(get(path))
            assert (reply.head, reply.body) == (FAILED, b"500 the handler failed\n")
        # Neither the connection nor the server has suffered.
        assert (await client.ask(get("/status/200"))).status == 200
        assert server.log.err.count(reason) == 2

    serve(loop, guests.service("c_kitchen"), test)


DROPPED = "error: the response failed: the guest dropped the body unfinished\n"

# Path, the response as far as it comes, what stands on standard error.
ABORTED = [
    ("/trap-after-head", STREAMING + b"7\r\npartial\r\n", "error: Trap: wasm `unreachable` instruction executed\n"),
    ("/exit-after-head", STREAMING + b"7\r\npartial\r\n", "error: the guest exited with code 1\n"),
    ("/abandon", STREAMING + b"7\r\npartial\r\n", DROPPED),
    ("/no-finish", STREAMING + b"7\r\npartial\r\n", DROPPED),
    ("/drop-parent", STREAMING + b"7\r\npartial\r\n", "error: Trap: resource outgoing-body has children"),
]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    ("fails", "complete", "status"),
    [(True, False, 500), (False, False, 500), (True, True, 200), (False, True, 200)],
)
def test_what_was_not_sent_can_be_taken_back(
    guests: Guests, loop: str, waits: bool, fails: bool, complete: bool, status: int
) -> None:
    """Whether in its first step or later: a guest ends in the same step in which it set a response."""

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        if waits:
            await asyncio.sleep(0)
        response = OutgoingResponse(Fields(request._view, []))
        body = response.body()
        body.write().write(b"partial")
        ResponseOutparam.set(out, Ok(response))
        if complete:
            body.finish(body, None)
        else:
            body.release()  # as when its instance is dropped
        if fails:
            raise RuntimeError("broken")

    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            reply = await client.ask(get("/"))
            assert (reply.status, reply.body) == (status, b"partial" if status == 200 else b"500 the handler failed\n")

    serve(loop, ScriptedService(guests, script), test)


@pytest.mark.parametrize(("path", "expected", "reason"), ABORTED)
def test_failures_after_the_head(guests: Guests, loop: str, path: str, expected: bytes, reason: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        head = await client.begun(get(path))
        # No last chunk, which tells enough.
        rest = await client.rest()
        assert head.split(b"\r\ndate: ")[0] == expected.split(b"\r\n")[0]
        assert rest == expected.partition(b"\r\n\r\n")[2]
        await server.log.until(reason)

    serve(loop, guests.service("c_kitchen"), test)


def test_failures_are_visible_in_bodies_that_end_with_the_connection(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(b"GET /abandon HTTP/1.0\r\n\r\n")
        assert (await client.rest_until_reset()).endswith(b"\r\n\r\npartial")
        await until(lambda: not server.worker.connections)

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize("how", ["trap", "drop"])
@pytest.mark.parametrize(("version", "fields"), [("1.0", []), ("1.1", []), ("1.1", [(b"content-length", b"250001")])])
def test_what_was_written_before_a_failure_reaches_a_client_that_is_slow(
    guests: Guests, loop: str, how: str, version: str, fields: list[tuple[bytes, bytes]]
) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields(request._view, fields))
        body = response.body()
        stream: OutputStream = body.write()
        ResponseOutparam.set(out, Ok(response))
        for _ in range(20):
            await until(lambda: stream.check_write() >= 12_500)
            stream.write(b"x" * 12_500)
        await asyncio.sleep(0)
        body.release()
        if how == "trap":
            raise Trap("broken")

    async def test(server: Serving) -> None:
        # For both: the system of neither side takes it all.
        client = await server.connect(receive_buffer=4096)
        await client.send(f"GET / HTTP/{version}\r\nHost: example.com\r\n\r\n".encode())
        await until(lambda: server.worker.connections)
        await server.idle()
        response = await (client.rest_until_reset() if version == "1.0" else client.rest())
        assert response.count(b"x") == 250_000
        assert not response.endswith(b"0\r\n\r\n")

    serve(loop, ScriptedService(guests, script, linger_timeout=1000.0), test)


# The number of the error-code's case, the status that it becomes.
ERROR_CODES = [(15, 403), (33, 504), (8, 504), (9, 504), (6, 502), (7, 502), (3, 502), (36, 508), (0, 500), (37, 500)]


def test_error_codes_become_statuses(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for code, status in ERROR_CODES:
            reply = await client.ask(get(f"/error-set/{code}"))
            assert (code, reply.status) == (code, status)
            assert reply.body == f"{status} the handler failed\n".encode()

    serve(loop, guests.service("c_kitchen"), test)


class Unexpected(BaseException):
    pass


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    "error",
    # The last three mean something to the server when it raises them itself.
    [RuntimeError, Unexpected, TimeoutError, ConnectionAbortedError, asyncio.CancelledError],
)
def test_exceptions_of_host_functions(guests: Guests, loop: str, waits: bool, error: type[BaseException]) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        if waits:
            await asyncio.sleep(0)
        raise error("broken")

    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            assert (await client.ask(get("/"))).head == FAILED
        assert server.log.err == f"error: {error.__name__}: broken\n" * 2

    handler = ScriptedService(guests, script)
    serve(loop, handler, test)
    assert handler.unreleased == 0


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("complete", [False, True])
def test_failures_have_nothing_to_do_with_each_other(guests: Guests, loop: str, waits: bool, complete: bool) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        if waits:
            await asyncio.sleep(0)
        if complete:
            ResponseOutparam.set(out, Ok(OutgoingResponse(Fields(request._view, [(b"content-length", b"x")]))))
        error = RuntimeError("broken")
        errors.append(error)
        raise error

    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/") * 5)
        for _ in range(5):
            assert (await client.reply()).status == 500
        assert [error.__context__ for error in errors] == [None] * 5
        errors.clear()

    errors: list[RuntimeError] = []
    serve(loop, ScriptedService(guests, script), test)


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_exceptions_that_end_the_process(guests: Guests, loop: str, waits: bool, error: type[BaseException]) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        if waits:
            await asyncio.sleep(0)
        raise error

    async def main() -> None:
        async with serving(handler) as server:
            client = await server.connect()
            await client.send(get("/"))
            await server.ended

    handler = ScriptedService(guests, script)
    with pytest.raises(error):
        run(loop, main())
    assert handler.unreleased == 0


# ---- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/spin", "/sleep-forever", "/spin-poll"])
@pytest.mark.parametrize("timeout", [0.0, 0.0001, 0.05])
def test_timeout(guests: Guests, loop: str, path: str, timeout: float) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        reply = await client.ask(get(path))
        assert (reply.status, reply.body) == (504, b"504 the handler took too long\n")
        assert server.log.err == "error: guest timed out\n"
        assert (await client.ask(get("/status/200"))).status == 200

    serve(loop, guests.service("c_kitchen", timeout=timeout), test)


@pytest.mark.parametrize("path", ["/spin-after-head", "/sleep-after-head"])
def test_timeout_after_the_head(guests: Guests, loop: str, path: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get(path))
        assert (await client.rest()).endswith(b"\r\n\r\n7\r\npartial\r\n")
        assert server.log.err.startswith("error: guest timed out\n")

    serve(loop, guests.service("c_kitchen", timeout=0.05), test)


def test_an_endless_loop_delays_nobody(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        spinning = [await server.connect() for _ in range(2)]
        for client in spinning:
            await client.send(get("/spin"))
        await until(lambda: server.worker.answers.active == 2)
        client = await server.connect()
        for _ in range(10):
            assert (await client.ask(get("/status/200"))).status == 200
        assert server.worker.answers.active == 2

    serve(loop, guests.service("c_kitchen"), test)


def test_guests_that_wait_do_not_stand_in_line(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        clients = [await server.connect() for _ in range(50)]
        start = asyncio.get_running_loop().time()
        for client in clients:
            await client.send(get("/sleep/300"))
        for client in clients:
            assert (await client.reply()).body == b"slept 300\n"
        assert asyncio.get_running_loop().time() - start < 50 * 0.3 / 3

    serve(loop, guests.service("c_sleep"), test)


def test_the_guest_may_go_on_after_its_response(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/after"))).body == b"answered\n"
        # The connection has moved on, to other guests.
        assert (await client.ask(get("/status/200"))).status == 200
        assert server.worker.answers.active == 1
        client.close()
        await server.log.until("still here\n")

    serve(loop, guests.service("c_kitchen"), test)


def test_a_guest_that_fails_after_its_response_harms_nobody(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        respond(request, out)(b"done")
        await fail.wait()
        raise RuntimeError("too late")

    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/"))).body == b"done"
        await client.send(get("/"))
        assert (await client.reply()).body == b"done"
        fail.set()
        await server.idle()
        assert server.log.err == "error: RuntimeError: too late\n" * 2
        assert (await client.ask(get("/"))).body == b"done"

    fail = asyncio.Event()
    serve(loop, ScriptedService(guests, script), test)


# ---- request bodies -------------------------------------------------------------------------------------------------

BODIES = [
    post("{}", b"0123456789"),
    chunked("{}", b"0123456789"),
    chunked("{}", b"0", b"1", b"2345678", b"9", trailers=b"X-Checksum: abc\r\n"),
]


@pytest.mark.parametrize("template", BODIES)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/discard", b"bytes 10\n"),
        ("/splice", b"0123456789"),
        ("/early", b"early\nbytes 10\n"),
        ("/ignore-body", b"ignored\n"),
        ("/status/200", b"status\n"),
        ("/trap", b"500 the handler failed\n"),
        ("/consume-twice", b"consume: error\nstream: error\n"),
    ],
)
def test_request_bodies(guests: Guests, loop: str, template: bytes, path: str, body: bytes) -> None:
    request = template.replace(b"{}", path.encode())
    cuts = [[request], [request[i : i + 1] for i in range(len(request))]]

    async def test(server: Serving) -> None:
        client = await server.connect()
        for pieces in cuts:
            for piece in pieces:
                await client.send(piece)
            assert (await client.reply()).body == body
        assert (await client.ask(get("/status/200"))).status == 200

    serve(loop, guests.service("c_kitchen"), test)


def test_request_trailers(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        request = chunked("/request-trailers", b"abc", trailers=b"X-One: 1\r\nConnection: x\r\nX-Two: 2\r\n")
        assert (await server.ask(request)).body == b"bytes 3\nx-one: 1\nx-two: 2\n"
        assert (await server.ask(post("/request-trailers", b"abc"))).body == b"bytes 3\nno trailers\n"

    serve(loop, guests.service("c_kitchen"), test)


EXPECT = "Expect: 100-continue"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "body"), [("/discard", b"bytes 10\n"), ("/splice", b"0123456789"), ("/first-part", b"first 10\n")]
)
def test_a_body_is_asked_for_when_the_guest_wants_it(guests: Guests, loop: str, path: str, body: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            request = post(path, b"0123456789", EXPECT)
            await client.send(request[:-10])
            assert await client.read(len(CONTINUE)) == CONTINUE
            await client.send(request[-10:])
            reply = await client.reply()
            assert (reply.interim, reply.body) == ([], body)
            assert reply[b"connection"] is None

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize("path", ["/ignore-body", "/trap", "/sleep/20"])
def test_a_body_that_the_guest_does_not_want_is_not_asked_for(guests: Guests, loop: str, path: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(post(path, b"0123456789", EXPECT)[:-10])
        reply = await client.reply()
        # The client may send it nevertheless, or not: nobody can tell what comes next.
        assert (reply.interim, reply[b"connection"]) == ([], b"close")
        assert await client.rest() == b""

    serve(loop, guests.service("c_sleep" if "sleep" in path else "c_kitchen"), test)


def test_nothing_is_asked_for_once_the_response_has_begun(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        request = post("/early", b"0123456789", EXPECT)
        await client.send(request[:-10])
        assert (await client.read_until(b"early\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        await client.send(request[-10:])
        assert await client.rest() == b"\r\n9\r\nbytes 10\n\r\n0\r\n\r\n"

    async def slowly(request: IncomingRequest, out: ResponseOutparam) -> None:
        finish = respond(request, out)
        await asyncio.sleep(0)  # the head goes out
        body = request.consume().stream()
        finish(await settled(body.blocking_read(100)))

    async def test_slowly(server: Serving) -> None:
        client = await server.connect()
        request = post("/", b"0123456789", EXPECT)
        await client.send(request[:-10])
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        await client.send(request[-10:])
        assert await client.rest() == b"a\r\n0123456789\r\n0\r\n\r\n"

    serve(loop, ScriptedService(guests, slowly), test_slowly)


def test_a_guest_may_read_on_after_its_response(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        body = request.consume().stream()
        respond(request, out)(b"accepted")
        while sum(map(len, read)) < 10:
            read.append(await settled(body.blocking_read(100)))
        with pytest.raises(Err) as ended:
            await settled(body.blocking_read(100))
        assert ended.value.value is StreamError.CLOSED

    async def test(server: Serving) -> None:
        client = await server.connect()
        for header in ("X-Nothing: special", "Connection: close"):
            request = post("/", b"0123456789", header)
            await client.send(request[:-10])
            assert (await client.reply()).body == b"accepted"
            for digit in range(10):
                await client.send(b"%d" % digit)
                await until(lambda: b"".join(read) == b"0123456789"[: digit + 1])  # noqa: B023
            await server.idle()
            read.clear()
        assert await client.rest() == b""
        assert server.log.err == ""

    read: list[bytes] = []
    serve(loop, ScriptedService(guests, script), test)
