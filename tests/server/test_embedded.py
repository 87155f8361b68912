"""Connections in front of handlers that are no guests: what is HTTP's and what is the connection's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.guests.build import GuestUnavailable, build
from tests.server.serving import LOOPS, Client, chunked, get, post, run, until
from wasi_http.bindings.http.types import ErrorCode
from wasi_http.engine import Engine
from wasi_http.flow.pipe import Pipe
from wasi_http.http.errors import GuestTimeout, HttpError, NoResponse, ServiceBusy
from wasi_http.http.message import Body, Request, Response
from wasi_http.http1.limits import Limits
from wasi_http.server.config import ConnectionConfig
from wasi_http.server.embedded import RequestHandler, serve_connection
from wasi_http.server.exchange import Exchange
from wasi_http.service.service import Service

Trouble = list[dict[str, Any]]

#: Connections are looked at often.
QUICK = ConnectionConfig(linger_timeout=0.1)


class Connected:
    """Both ends of connections: ``tasks`` serve them, ``trouble`` is what the loop's exception handler heard."""

    def __init__(self, address: Any) -> None:
        self.address = address
        self.tasks: list[asyncio.Task[None]] = []
        self.trouble: Trouble = []

    async def connect(self) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        return Client(sock)


@asynccontextmanager
async def connected(
    handler: RequestHandler | Service, writers: list[asyncio.StreamWriter] | None = None, **options: Any
) -> AsyncIterator[Connected]:
    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writers is not None:
            writers.append(writer)
        there.tasks.append(asyncio.create_task(serve_connection(reader, writer, handler, **options)))

    before = asyncio.all_tasks()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    there = Connected(server.sockets[0].getsockname())
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: there.trouble.append(context))
    try:
        yield there
    finally:
        server.close()
    # Connections end with their clients, and leave no task behind.
    await asyncio.gather(*there.tasks)
    assert asyncio.all_tasks() == before


Test = Callable[[Client], Awaitable[None]]


def serve(handler: RequestHandler, test: Test, **options: Any) -> Trouble:
    """Runs a test with one connection; what the exception handler heard."""

    async def main() -> Trouble:
        async with connected(handler, **options) as there:
            client = await there.connect()
            try:
                await test(client)
            finally:
                client.close()
        return there.trouble

    return run("asyncio", main())


async def tell(request: Request) -> Response:
    """Says what it was asked."""
    data = await request.read()
    trailers = [] if request.body is None else request.body.trailers
    said = f"{request.method} {request.path} {request.authority} {len(data)} {trailers}"
    return Response(200, [(b"content-type", b"text/plain")], Body.of(said.encode()))


# Request, what `tell` says.
REQUESTS = [
    (get("/a?b"), b"GET /a?b example.com 0 []"),
    (post("/", b"x" * 100_000), b"POST / example.com 100000 []"),
    (post("/", b""), b"POST / example.com 0 []"),
    (chunked("/", b"12", b"345", trailers=b"a: b\r\n"), b"POST / example.com 5 [(b'a', b'b')]"),
    (get("http://other/x"), b"GET /x other 0 []"),
    (get("*", method="OPTIONS"), b"OPTIONS * example.com 0 []"),
]


def test_requests_arrive_as_they_were_sent_on_one_connection() -> None:
    async def test(client: Client) -> None:
        for request, said in REQUESTS:
            reply = await client.ask(request)
            assert (reply.status, reply.body) == (200, said)

    assert serve(tell, test) == []


def test_pipelined_requests_are_answered_in_order() -> None:
    async def test(client: Client) -> None:
        await client.send(b"".join(request for request, _ in REQUESTS))
        for _, said in REQUESTS:
            assert (await client.reply()).body == said

    assert serve(tell, test) == []


def test_http_1_0() -> None:
    async def test(client: Client) -> None:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.rest()).endswith(b"GET / None 0 []")

    assert serve(tell, test) == []


def test_a_target_beyond_ascii() -> None:
    async def test(client: Client) -> None:
        assert (await client.ask(get("/café?q=日本"))).body == "GET /café?q=日本 example.com 0 []".encode()
        await client.send(b"GET /caf\xe9 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.reply()).status == 400

    assert serve(tell, test) == []


def test_head_has_no_body() -> None:
    async def test(client: Client) -> None:
        reply = await client.ask(get("/", method="HEAD"))
        assert reply.status == 200
        assert (await client.ask(get("/"))).body == b"GET / example.com 0 []"

    assert serve(tell, test) == []


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("HEAD", 404), ("GET", 304), ("HEAD", 304)])
@pytest.mark.parametrize("pieces", [[], [5], [10], [5, 10]])
def test_lengths_of_responses_without_a_body(method: str, status: int, pieces: list[int]) -> None:
    async def body() -> AsyncIterator[bytes]:
        for size in pieces:
            yield bytes(size)

    async def handler(request: Request) -> Response:
        source: Any = body() if request.path == "/streamed" else b"".join([bytes(size) for size in pieces])
        return Response(status, [(b"content-length", b"10")], Body.of(source))

    async def test(client: Client) -> None:
        for path in ("/", "/streamed") * 2:
            await client.send(get(path, method=method))
            reply = await client.reply(bodiless=True)
            assert (reply.status, reply[b"content-length"]) == (status, b"10")

    assert serve(handler, test) == []


def test_a_body_of_unknown_length_and_its_trailers() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    async def handler(request: Request) -> Response:
        body = Body.of(pieces())
        if request.path == "/trailers":
            pipe = Pipe()
            pipe.write(b"body")
            pipe.end([(b"checksum", b"abc")])
            body = Body(pipe)
        return Response(200, [], body)

    async def test(client: Client) -> None:
        assert (await client.ask(get("/"))).body == b"012"
        reply = await client.ask(get("/trailers"))
        assert (reply.body, reply.trailers) == (b"body", b"checksum: abc\r\n")

    assert serve(handler, test) == []


def test_the_client_is_asked_for_a_body_that_is_wanted() -> None:
    async def test(client: Client) -> None:
        await client.send(get("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        assert (await client.reply()).body == b"POST / example.com 3 []"
        assert (await client.ask(get("/"))).status == 200

    assert serve(tell, test) == []


async def answer(request: Request) -> Response:
    """Does not look at the body."""
    return Response(200, [], Body.of(b"answer"))


def test_the_client_is_not_asked_for_a_body_that_nobody_wants() -> None:
    async def test(client: Client) -> None:
        await client.send(get("/", "Expect: 100-continue", "Content-Length: 3", method="POST"))
        reply = await client.reply()
        assert (reply.body, reply.interim, reply[b"connection"]) == (b"answer", [], b"close")

    assert serve(answer, test) == []


def test_a_body_that_nobody_read_is_read_past() -> None:
    async def test(client: Client) -> None:
        for _ in range(2):
            assert (await client.ask(post("/", b"x" * ConnectionConfig.max_unread_body))).body == b"answer"

    assert serve(answer, test) == []


def test_a_body_that_nobody_read_is_not_read_past_for_ever() -> None:
    async def test(client: Client) -> None:
        await client.send(get("/", f"Content-Length: {1 << 40}", method="POST"))
        assert (await client.reply()).body == b"answer"
        await client.send(b"x" * (ConnectionConfig.max_unread_body + 1))
        assert await client.rest() == b""

    assert serve(answer, test) == []


def test_clients_are_held_back_while_a_body_is_not_read() -> None:
    sizes: list[int] = []
    go_on = asyncio.Event()

    async def handler(request: Request) -> Response:
        body = request.body
        assert isinstance(body, Body)
        await go_on.wait()
        sizes.append(body.pipe.size)
        return await tell(request)

    async def test(client: Client) -> None:
        size = 32 << 20
        await client.send(get("/", f"Content-Length: {size}", method="POST"))
        sending = asyncio.create_task(client.send(bytes(size)))
        done, _ = await asyncio.wait([sending], timeout=0.2)
        assert not done
        go_on.set()
        assert (await client.reply()).body == f"POST / example.com {size} []".encode()
        await sending

    assert serve(handler, test) == []
    # Nothing is read beyond what a buffer holds, in pieces of the loop's own size.
    assert sizes[0] <= 2 * 256 * 1024


def test_clients_are_held_back_while_their_requests_wait() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def handler(request: Request) -> Response:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with connected(handler) as there:
            client = await there.connect()
            sending = asyncio.create_task(client.send(get("/", "A: " + "x" * 10_000) * 3000))
            await begun.wait()
            done, _ = await asyncio.wait([sending], timeout=0.2)
            assert not done
            sending.cancel()
            await asyncio.wait([sending])
            client.reset()

    run("asyncio", main())


def test_a_body_is_made_as_fast_as_the_client_reads_it() -> None:
    made = 0
    closed = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal made
        try:
            while True:
                made += 1 << 16
                yield bytes(1 << 16)
        finally:
            closed.set()

    async def handler(request: Request) -> Response:
        return Response(200, [], Body.of(pieces()))

    async def test(client: Client) -> None:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await client.send(get("/"))
        before = -1
        while made != before:
            before = made
            await asyncio.sleep(0.05)
        assert made < 16 << 20
        client.close()
        await closed.wait()

    assert serve(handler, test) == []


# What a handler raises, the status, whether the exception handler hears of it.
ERRORS: list[tuple[Exception, int, bool]] = [
    (HttpError(ErrorCode.HttpRequestDenied), 403, False),
    (HttpError(ErrorCode.InternalError("x")), 500, False),
    (ValueError("secret"), 500, True),
]


@pytest.mark.parametrize(("error", "status", "heard"), ERRORS)
def test_what_a_handler_raises_is_answered(error: Exception, status: int, heard: bool) -> None:
    async def handler(request: Request) -> Response:
        raise error

    async def test(client: Client) -> None:
        for _ in range(2):
            reply = await client.ask(get("/"))
            assert (reply.status, reply.body) == (status, f"{status} the handler failed\n".encode())

    assert [context["exception"] for context in serve(handler, test)] == ([error, error] if heard else [])


def changed(**changes: Any) -> Response:
    """A response into which something was put behind its back."""
    response = Response(200, [], b"x")
    for name, value in changes.items():
        setattr(response, name, value)
    return response


UNFIT: list[Response] = [
    Response(200, [(b"connection", b"close")], b"x"),
    Response(200, [(b"content-length", b"x")], b"x"),
    changed(headers=[(b"a", b"b\r\nc: d")]),
    changed(headers=[("a", "b")]),
    changed(status="200"),
]


@pytest.mark.parametrize("response", UNFIT)
def test_a_response_that_cannot_be_sent(response: Response) -> None:
    async def handler(request: Request) -> Response:
        return response

    async def test(client: Client) -> None:
        assert (await client.ask(get("/"))).status == 500

    (context,) = serve(handler, test)
    assert context["message"].startswith(("the response failed: ", "a response cannot be sent"))


def test_a_handler_that_returns_no_response() -> None:
    async def handler(request: Request) -> Any:
        return None

    async def test(client: Client) -> None:
        for _ in range(2):
            assert (await client.ask(get("/"))).status == 500

    trouble = serve(handler, test)
    assert [repr(context["exception"]) for context in trouble] == [
        "TypeError('a handler returns a Response, not None')"
    ] * 2


@pytest.mark.parametrize("length", [b"2", b"20"])
def test_a_body_of_the_wrong_length_breaks_off(length: bytes) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"12345"

    async def handler(request: Request) -> Response:
        return Response(200, [(b"content-length", length)], Body.of(pieces()))

    async def test(client: Client) -> None:
        await client.send(get("/"))
        assert (await client.rest()).partition(b"\r\n\r\n")[2] == (b"12345" if length == b"20" else b"")

    text = f"the response failed: the body has 5 bytes, content-length says {length.decode()}"
    assert [context["message"] for context in serve(handler, test)] == [text]


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_body_that_fails_breaks_off_behind_what_was_sent(version: bytes) -> None:
    """With a reset if only the end of the connection would end it."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(100_000)
        raise OSError("disk")

    async def handler(request: Request) -> Response:
        return Response(200, [], Body.of(pieces()))

    async def test(client: Client) -> None:
        await client.send(get("/").replace(b"HTTP/1.1", b"HTTP/" + version))
        received = await (client.rest() if version == b"1.1" else client.rest_until_reset())
        assert received.count(b"\0") == 400_000
        assert not received.endswith(b"0\r\n\r\n")

    assert [context["message"] for context in serve(handler, test)] == ["the response failed: disk"]


# What a client sends, the status that it gets.
NONSENSE = [
    (b"nonsense\r\n\r\n", b"400"),
    (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    (get("/", "A: " + "x" * 100_000), b"431"),
    (get("/", "Transfer-Encoding: chunked", method="POST") + b"nonsense\r\n", b"400"),
    (post("/", b"x" * 2000), b"413"),
]


@pytest.mark.parametrize(("data", "status"), NONSENSE)
def test_nonsense_is_refused(data: bytes, status: bytes) -> None:
    async def test(client: Client) -> None:
        assert (await client.ask(get("/"))).status == 200
        await client.send(data)
        rest = await client.rest()
        assert rest.startswith(b"HTTP/1.1 " + status)

    assert serve(tell, test, limits=Limits(body=1000)) == []


# The nonsense arrives before the handler is asked, or while it is at work.
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("rest", [b"", b"x" * 200_000])
def test_nonsense_behind_a_request_is_refused_after_its_response(together: bool, rest: bytes) -> None:
    async def handler(request: Request) -> Response:
        begun.set()
        if not together:
            await go_on.wait()
        return await tell(request)

    async def test(client: Client) -> None:
        nonsense = b"nonsense\r\n\r\n" + rest
        await client.send(get("/a") + nonsense if together else get("/a"))
        await begun.wait()
        if not together:
            await client.send(nonsense)
            go_on.set()
        reply = await client.reply()
        assert (reply.status, reply.body) == (200, b"GET /a example.com 0 []")
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")

    begun, go_on = asyncio.Event(), asyncio.Event()
    assert serve(handler, test) == []


# What a client sends of a request, and the statuses that it gets.
SLOW: list[tuple[bytes, list[bytes]]] = [
    (b"", []),
    (b"GET / HT", [b"408"]),
    (get("/"), [b"200"]),
    (get("/") + b"GET / HTTP/1.1\r\n", [b"200", b"408"]),
    (get("/", "Content-Length: 5", method="POST"), [b"408"]),
]


@pytest.mark.parametrize(("begun", "statuses"), SLOW)
def test_a_client_that_keeps_the_connection_waiting(begun: bytes, statuses: list[bytes]) -> None:
    async def test(client: Client) -> None:
        await client.send(begun)
        assert re.findall(rb"HTTP/1.1 (\d{3}) ", await client.rest()) == statuses

    assert serve(tell, test, idle_timeout=0.1) == []


def test_a_client_that_stays_after_its_refusal() -> None:
    async def main() -> None:
        async with connected(tell, config=ConnectionConfig(linger_timeout=0.05)) as there:
            client = await there.connect()
            assert (await client.ask(b"nonsense\r\n\r\n")).status == 400
            await there.tasks[0]  # ends although the client keeps its side open
            client.close()

    run("asyncio", main())


def test_a_client_that_does_not_read() -> None:
    failed = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 16)
        finally:
            failed.set()

    async def handler(request: Request) -> Response:
        return Response(200, [], Body.of(pieces()))

    async def test(client: Client) -> None:
        await client.send(get("/"))
        await failed.wait()

    assert serve(handler, test, idle_timeout=0.1) == []


def fill(descriptor: int) -> int:
    """Writes until the system takes no more; how much that was."""
    written = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            written += os.write(descriptor, bytes(1 << 16))
    return written


# The first is less than is held for a client before anybody waits for it.
@pytest.mark.parametrize("size", [20_000, 1 << 20])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_does_not_read_a_response_in_one_piece(version: str, size: int) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def handler(request: Request) -> Response:
        await until(lambda: fill(writers[0].get_extra_info("socket").fileno()) == 0)
        return Response(200, [], Body.of(bytes(size)))

    async def main() -> None:
        async with connected(handler, writers=writers, idle_timeout=0.1) as there:
            client = await there.connect()
            await client.send(f"GET / HTTP/{version}\r\nhost: a\r\n\r\n".encode())
            await until(lambda: there.tasks and there.tasks[0].done())
            client.close()
        assert there.trouble == []

    run("asyncio", main())


def test_a_client_that_reads_slowly_gets_a_response_in_one_piece() -> None:
    size = 24 << 20

    async def handler(request: Request) -> Response:
        return Response(200, [], Body.of(bytes(size)))

    async def test(client: Client) -> None:
        loop = asyncio.get_running_loop()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await client.send(get("/"))
        received, start = 0, loop.time()
        while received < size:
            received += len(await loop.sock_recv(client.sock, 1 << 18))
            await asyncio.sleep(0.01)
        assert loop.time() - start > 0.75

    # Long enough that the client, which shares the loop, reads something in the meantime however busy the machine is.
    assert serve(handler, test, idle_timeout=0.75) == []


class Waiting:
    """A handler that never answers; `cancelled` is how often it was made to stop."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = 0

    async def __call__(self, request: Request) -> Response:
        self.started.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


# The last is more than is read before somebody wants it, and less than the system takes.
@pytest.mark.parametrize("body", [0, 1000, 600_000])
def test_the_handler_is_cancelled_when_the_client_goes_away(body: int) -> None:
    handler = Waiting()

    async def test(client: Client) -> None:
        await client.send(post("/", bytes(body)))
        await handler.started.wait()
        client.reset()
        await until(lambda: handler.cancelled)

    assert serve(handler, test, config=QUICK) == []
    assert handler.cancelled == 1


@pytest.mark.parametrize("body", [0, 1000])
def test_a_client_that_closes_its_side_gets_its_response(body: int) -> None:
    async def test(client: Client) -> None:
        await client.send(post("/", bytes(body)))
        client.sock.shutdown(socket.SHUT_WR)
        assert (await client.rest()).endswith(f"POST / example.com {body} []".encode())

    assert serve(tell, test) == []


def test_a_client_that_closes_within_its_request() -> None:
    handler = Waiting()

    async def test(client: Client) -> None:
        await client.send(post("/", bytes(1000))[:-1])
        await handler.started.wait()
        client.sock.shutdown(socket.SHUT_WR)
        await until(lambda: handler.cancelled)
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")

    assert serve(handler, test) == []


# Where no more of the request is read, that is found by looking at the connection.
@pytest.mark.parametrize("body", [0, 600_000])
@pytest.mark.parametrize("loop", LOOPS)
def test_the_handler_is_cancelled_when_the_connection_is_closed_here(loop: str, body: int) -> None:
    handler = Waiting()
    writers: list[asyncio.StreamWriter] = []

    async def main() -> None:
        async with connected(handler, writers=writers) as there:
            client = await there.connect()
            await client.send(post("/", bytes(body)))
            await handler.started.wait()
            (writer,) = writers
            writer.transport.abort()
            await asyncio.gather(*there.tasks)
            client.close()
        assert there.trouble == []

    run(loop, main())
    assert handler.cancelled == 1


def test_the_handler_is_cancelled_with_the_connection() -> None:
    handler = Waiting()

    async def main() -> None:
        async with connected(handler) as there:
            client = await there.connect()
            await client.send(get("/"))
            await handler.started.wait()
            (task,) = there.tasks
            task.cancel()
            await client.rest_until_reset()
            await asyncio.wait([task])
            assert task.cancelled()
            there.tasks.clear()
            client.close()

    run("asyncio", main())
    assert handler.cancelled == 1


# What a handler raises, the status, and whether the exception handler hears of it.
NO_RESPONSE = [
    (NoResponse("trapped"), 500, True),
    (GuestTimeout("too slow"), 504, False),
    (ServiceBusy("too many"), 503, False),
]


@pytest.mark.parametrize(("error", "status", "told"), NO_RESPONSE, ids=[str(status) for _, status, _ in NO_RESPONSE])
def test_statuses_without_a_response(error: NoResponse, status: int, told: bool) -> None:
    async def handler(request: Request) -> Response:
        raise error

    async def test(client: Client) -> None:
        assert (await client.ask(get("/"))).status == status

    assert [context["exception"] for context in serve(handler, test)] == [error] * told


# Path, status, what the log says.
OF_A_SERVICE = [
    ("/status/418", 418, ""),
    ("/error-set/15", 403, "HttpRequestDenied"),
    ("/trap", 500, "unreachable"),
    ("/sleep-forever", 504, "guest timed out"),
]


@pytest.mark.parametrize("whole", [True, False], ids=["the service", "its method"])
def test_a_service_answers_connections(engine: Engine, caplog: pytest.LogCaptureFixture, whole: bool) -> None:
    try:
        path = build("c_kitchen")
    except GuestUnavailable as error:
        pytest.skip(str(error))

    async def main() -> Trouble:
        async with Service.from_file(path, engine=engine, timeout=0.1) as service:
            async with connected(service if whole else service.handle) as there:
                client = await there.connect()
                for path_, status, _ in OF_A_SERVICE:
                    assert (await client.ask(get(path_))).status == status
                client.close()
            return there.trouble

    trouble = run("asyncio", main())
    assert [type(context["exception"]) for context in trouble] == ([] if whole else [NoResponse])
    logged = [record.message for record in caplog.records if record.name == "wasi_http"]
    assert len(logged) == 3
    assert all(said in line for line, (_, _, said) in zip(logged, OF_A_SERVICE[1:], strict=True))


def test_informational_responses_of_a_service(engine: Engine) -> None:
    try:
        path = build("c_rules")
    except GuestUnavailable as error:
        pytest.skip(str(error))

    async def main() -> None:
        async with Service.from_file(path, engine=engine) as service, connected(service) as there:
            client = await there.connect()
            (hints,) = (await client.ask(get("/informational/103"))).interim
            assert hints.startswith(b"HTTP/1.1 103 Early Hints\r\n")
            client.close()

    run("asyncio", main())


@pytest.mark.parametrize("how", ["pieces", "declared"])
def test_a_slow_client_gets_every_byte(how: str) -> None:
    size = 50 * 65536 + 3

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield bytes(65536)
        yield b"END"

    async def handler(request: Request) -> Response:
        headers = [(b"content-length", str(size).encode())] if how == "declared" else []
        return Response(200, headers, pieces())

    async def main() -> None:
        async with connected(handler) as there:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, there.address)
            client = Client(sock)
            await client.send(get("/", "Connection: close"))
            # The handler has returned, and all of the body is made, long before this.
            await asyncio.sleep(0.2)
            reply = await client.reply()
            assert (len(reply.body), reply.body[-3:]) == (size, b"END")
            client.close()
        assert there.trouble == []

    run("asyncio", main())


def test_what_a_reader_has_read_before_is_handed_over() -> None:
    size = 3 << 20
    served = asyncio.Event()

    async def main() -> None:
        async def serve_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while len(reader._buffer) < size:  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await serve_connection(reader, writer, tell)
            await writer.wait_closed()
            served.set()

        server = await asyncio.start_server(serve_late, "127.0.0.1", 0, limit=4 << 20)
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
        client = Client(sock)
        await client.send(post("/", bytes(size)))
        assert (await client.reply()).body == f"POST / example.com {size} []".encode()
        client.close()
        await served.wait()
        server.close()

    run("asyncio", main())


def test_bodies_that_cannot_be_sent() -> None:
    async def handler(request: Request) -> Response:
        response = Response(200, [], b"x")
        if request.path == "/cancelled":
            response.body.cancel()
        else:
            response.body = b"abc"  # type: ignore[assignment]
        return response

    async def test(client: Client) -> None:
        for path in ("/cancelled", "/bytes"):
            assert (await client.ask(get(path))).status == 500

    texts = [context["message"] for context in serve(handler, test)]
    assert texts == ["the response failed: its body was cancelled before it was sent", "a handler failed"]


def test_a_refusal_of_head_has_no_body() -> None:
    async def handler(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def test(client: Client) -> None:
        await client.send(get("/", "Transfer-Encoding: chunked", method="HEAD"))
        await client.send(b"nonsense\r\n")
        assert (await client.rest()).endswith(b"\r\n\r\n")

    assert serve(handler, test) == []


def test_exchanges_leave_no_cycles() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("disk")

    async def handler(request: Request) -> Response:
        return Response(200, [], failing() if request.path == "/fails" else b"x")

    async def test(client: Client) -> None:
        await client.ask(get("/"))
        gc.collect()
        gc.disable()
        try:
            before = sum(isinstance(each, Exchange) for each in gc.get_objects())
            for _ in range(5):
                await client.ask(get("/"))
            await client.send(get("/fails"))
            await client.rest()
            assert sum(isinstance(each, Exchange) for each in gc.get_objects()) == before
        finally:
            gc.enable()

    assert [context["message"] for context in serve(handler, test)] == ["the response failed: disk"]
