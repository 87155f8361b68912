"""Connections: what comes after what, how much is held, and who has to wait for how long."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Awaitable, Callable

import pytest

from wasi_http.component import Err
from wasi_http.http.types import IncomingRequest, ResponseOutparam
from wasi_http.http1 import Limits

from .scripted import ScriptedService, respond, settled
from .serving import Client, Guests, Serving, chunked, get, post, serve, until

STATUS = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"

#: Timeouts are enforced four times in the shortest of them.
QUICK = {"linger_timeout": 0.1, "client_gone_grace": 0.0}

# ---- one request after another --------------------------------------------------------------------------------------


# Version and fields of the request, and of the response.
PERSISTENCE = [
    ("HTTP/1.1", [], None),
    ("HTTP/1.1", ["Connection: keep-alive"], None),
    ("HTTP/1.1", ["Connection: close"], b"close"),
    ("HTTP/1.1", ["Connection: x, Close"], b"close"),
    ("HTTP/1.0", [], b"close"),
    ("HTTP/1.0", ["Connection: keep-alive"], b"keep-alive"),
]


@pytest.mark.parametrize(("version", "headers", "connection"), PERSISTENCE)
def test_keep_alive(guests: Guests, loop: str, version: str, headers: list[str], connection: bytes | None) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        request = get("/status/200", *headers).replace(b"HTTP/1.1", version.encode())
        for _ in range(3):
            reply = await client.ask(request)
            assert (reply[b"connection"], reply.body) == (connection, b"status\n")
            if connection == b"close":
                assert await client.rest() == b""
                break
        assert len(server.log.err) == 0

    serve(loop, guests.service("c_kitchen"), test)


def test_pipelined_requests_are_answered_in_order(guests: Guests, loop: str) -> None:
    requests = [
        (get("/sleep/30"), b"slept 30\n"),
        (get("/sleep/0"), b"slept 0\n"),
        (post("/sleep/10", b"x" * 100), b"slept 10\n"),
        (chunked("/sleep/0", b"GET / HTTP/1.1\r\n\r\n"), b"slept 0\n"),
        (get("/sleep/1"), b"slept 1\n"),
    ] * 3

    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(b"".join(request for request, _ in requests))
        for _, body in requests:
            assert (await client.reply()).body == body
            assert server.worker.answers.active <= 1

    serve(loop, guests.service("c_sleep"), test)


@pytest.mark.parametrize("path", ["/status/200", "/drip/1"])
def test_many_pipelined_requests(guests: Guests, loop: str, path: str) -> None:
    async def test(server: Serving) -> None:
        client, other = await server.connect(), await server.connect()
        await client.send(get(path) * 1000)
        # They do not keep others from being served.
        assert (await other.ask(get("/status/200"))).status == 200
        assert next_number(server) < 900
        for _ in range(1000):
            assert (await client.reply()).status == 200

    serve(loop, guests.service("c_kitchen"), test)


def test_requests_that_arrive_in_one_turn_of_the_loop(guests: Guests, loop: str) -> None:
    """uvloop reads as often as there is something, up to 32 times, before anything else has its turn."""

    async def test(server: Serving) -> None:
        client = await server.connect()
        connection = await the_connection(server)
        count = next_number(server)
        for _ in range(32):
            connection.data_received(get("/status/200") * 20)
        assert next_number(server) <= count + 34
        for _ in range(640):
            assert (await client.reply()).status == 200

    serve(loop, guests.service("c_kitchen"), test)


def test_pipelined_requests_wait_for_a_client_that_does_not_read(guests: Guests, loop: str) -> None:
    total = 300

    async def test(server: Serving) -> None:
        client = await server.connect(receive_buffer=4096)
        sending = asyncio.create_task(client.send(get("/sized/100000", "X-Padding: " + "x" * 100) * total))
        connection = await the_connection(server)
        await until(lambda: connection.write_paused)
        count = next_number(server)
        # However long it takes, no more is made than fits.
        for _ in range(50):
            await asyncio.sleep(0)
        assert connection.write_paused
        assert next_number(server) <= count + 2
        assert connection._transport.get_write_buffer_size() < 1_000_000
        for _ in range(total):
            assert len((await client.reply()).body) == 100_000
        await sending

    serve(loop, guests.service("c_kitchen"), test)


def test_pipelined_requests_are_held_back_while_a_guest_is_at_work(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/sleep-forever"))
        connection = await the_connection(server)
        await until(lambda: server.worker.answers.active)
        sending = asyncio.create_task(client.send(get("/", "X-Padding: " + "x" * 10_000) * 3000))
        await until(lambda: not connection._reading)
        assert 64 * 1024 < connection._parser.pending < 1_000_000
        assert not sending.done()
        sending.cancel()
        await asyncio.wait([sending])
        client.reset()
        await until(lambda: not server.worker.answers.active)

    serve(loop, guests.service("c_kitchen", **QUICK), test)


def next_number(server: Serving) -> int:
    """How many guests there were, and one more: each has a number."""
    return next(server.worker.answers.numbers)


async def the_connection(server: Serving):  # type: ignore[no-untyped-def]
    await until(lambda: server.worker.connections)
    (connection,) = server.worker.connections
    return connection


# ---- large bodies ---------------------------------------------------------------------------------------------------

MIB = 1 << 20
PATTERN = bytes(range(256)) * 4096


@pytest.mark.parametrize("guest", ["c_echo", "c_kitchen"])
def test_large_bodies_both_ways(guests: Guests, loop: str, guest: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()

        async def send() -> None:
            await client.send(get("/splice", f"Content-Length: {16 * MIB}", method="POST"))
            for _ in range(16):
                await client.send(PATTERN)
            await client.send(get("/splice", "Transfer-Encoding: chunked", method="POST"))
            for _ in range(16):
                await client.send(b"100000\r\n" + PATTERN + b"\r\n")
            await client.send(b"0\r\n\r\n")

        sending = asyncio.create_task(send())
        for _ in range(2):
            assert (await client.reply()).body == PATTERN * 16
        await sending

    serve(loop, guests.service(guest), test)


def test_a_response_waits_for_a_client_that_does_not_read(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect(receive_buffer=4096)
        await client.send(get("/big/16"))
        connection = await the_connection(server)
        await until(lambda: connection.write_paused and connection._exchange._outgoing.size >= 262144)
        assert connection._transport.get_write_buffer_size() < MIB
        assert connection._exchange._outgoing.size <= 262144
        assert (await client.reply()).body == PATTERN * 16

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize("chunk", [False, True])
def test_a_request_waits_for_a_guest_that_does_not_read(guests: Guests, loop: str, chunk: bool) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        await read.wait()
        respond(request, out)(b"done")

    async def test(server: Serving) -> None:
        client = await server.connect()
        sending = asyncio.create_task(client.send(message))
        connection = await the_connection(server)
        await until(lambda: not connection._reading)
        assert not sending.done()
        assert connection._exchange.request.body.pipe.size < MIB
        assert connection._parser.pending < MIB
        # There is so much left that the connection is given up. The answer arrives nevertheless.
        read.set()
        assert (await client.reply()).body == b"done"
        assert await client.rest() == b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await sending

    body = (b"100000\r\n" + PATTERN + b"\r\n") * 64 + b"0\r\n\r\n" if chunk else PATTERN * 64
    how = "Transfer-Encoding: chunked" if chunk else f"Content-Length: {64 * MIB}"
    message = get("/", how, method="POST") + body
    read = asyncio.Event()
    serve(loop, ScriptedService(guests, script, **QUICK), test)


def test_an_answer_reaches_a_client_that_is_still_sending(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/ignore-body", f"Content-Length: {8 * MIB}", method="POST"))
        # Sends everything before it reads anything, as many do.
        for _ in range(8):
            await client.send(PATTERN)
        assert (await client.reply()).body == b"ignored\n"
        assert await client.rest() == b""

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize("path", ["/ignore-body", "/first-part", "/trap"])
def test_the_rest_of_a_body_is_read_past(guests: Guests, loop: str, path: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(3):
            request = post(path, b"x" * 300_000)
            await client.send(request[:1000])
            reply = await client.reply()
            assert reply.status in (200, 500)
            await client.send(request[1000:])
        assert (await client.ask(get("/status/200"))).status == 200

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize("rest", [b"zz\r\n", b"5\r\nhelloXX"])
def test_a_malformed_rest_of_a_body_is_not_answered_again(guests: Guests, loop: str, rest: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/ignore-body", "Transfer-Encoding: chunked", method="POST"))
        assert (await client.reply()).body == b"ignored\n"
        await client.send(rest)
        assert await client.rest() == b""

    serve(loop, guests.service("c_kitchen", **QUICK), test)


# ---- malformed requests ---------------------------------------------------------------------------------------------

LIMITS = Limits(start_line=1000, head=4000, headers=50, body=1000, trailer_section=1000)

MALFORMED = {
    "no request line": (b"\r\n\r\n\r\n", 400),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (get("/", "Host: b"), 400),
    "a bad target": (get("no-slash"), 400),
    "whitespace before the colon": (get("/", "X : y"), 400),
    "a folded line": (get("/", "X: y", " z"), 400),
    "NUL": (get("/", "X: \0"), 400),
    "two lengths": (get("/", "Content-Length: 1", "Content-Length: 2"), 400),
    "length and coding": (get("/", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
    "a bad length": (get("/", "Content-Length: +1"), 400),
    "a bad chunk size": (get("/discard", "Transfer-Encoding: chunked") + b"x\r\n", 400),
    "a long body": (post("/discard", b"x" * 1001), 413),
    "a long chunked body": (chunked("/discard", b"x" * 999, b"xx"), 413),
    "a long target": (get("/" + "x" * 1000), 414),
    "a long target without end": (b"GET /" + b"x" * 2000, 414),
    "long headers": (get("/", "X: " + "y" * 4000), 431),
    "many headers": (get("/", *["X: y"] * 51), 431),
    "long trailers": (chunked("/discard", trailers=b"X: " + b"y" * 1000 + b"\r\n"), 431),
    "an unknown coding": (get("/", "Transfer-Encoding: gzip, chunked"), 501),
    "an unknown version": (get("/").replace(b"HTTP/1.1", b"HTTP/3.0"), 505),
}


@pytest.mark.parametrize(("request_", "status"), MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("before", [0, 2])
def test_malformed_requests(guests: Guests, loop: str, request_: bytes, status: int, before: int) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/status/200") * before + request_)
        for _ in range(before):
            assert (await client.reply()).status == 200
        reply = await client.reply()
        assert reply.status == status
        assert reply[b"connection"] == b"close"
        assert reply.body.startswith(b"%d " % status)
        assert await client.rest() == b""

    serve(loop, guests.service("c_kitchen", wire_limits=LIMITS, **QUICK), test)


@pytest.mark.parametrize("path", ["/discard", "/sleep-forever"])
def test_a_body_that_turns_out_malformed(guests: Guests, loop: str, path: str) -> None:
    async def test(server: Serving) -> None:
        for together in (True, False):
            client = await server.connect()
            request = get(path, "Transfer-Encoding: chunked", method="POST")
            if not together:
                await client.send(request)
                await until(lambda: server.worker.answers.active)
                request = b""
            await client.send(request + b"3\r\nabc\r\nzz\r\n" + get("/status/200"))
            assert (await client.rest()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
            await server.idle()

    serve(loop, guests.service("c_kitchen", **QUICK), test)


def test_a_body_that_turns_out_malformed_after_the_head_of_the_response(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(get("/early", "Transfer-Encoding: chunked", method="POST"))
        await client.read_until(b"\r\n\r\n6\r\nearly\n\r\n")
        await client.send(b"zz\r\n")
        assert await client.rest() == b""
        await server.idle()

    serve(loop, guests.service("c_kitchen"), test)


# ---- clients that go away -------------------------------------------------------------------------------------------


async def after_part_of_a_head(client: Client, server: Serving) -> None:
    await client.send(b"GET / HTTP/1.1\r\nHos")


async def before_the_head(client: Client, server: Serving) -> None:
    await client.send(get("/sleep-forever"))
    await until(lambda: server.worker.answers.active)


async def in_an_endless_loop(client: Client, server: Serving) -> None:
    await client.send(get("/spin"))
    await until(lambda: server.worker.answers.active)


async def in_the_response(client: Client, server: Serving) -> None:
    await client.send(get("/sleep-after-head"))
    await client.read_until(b"partial")


async def in_a_response_that_waits(client: Client, server: Serving) -> None:
    await client.send(get("/big/64"))
    connection = await the_connection(server)
    await until(lambda: connection.write_paused)


async def in_a_body_that_is_read(client: Client, server: Serving) -> None:
    await client.send(post("/discard", b"x" * 1000)[:-1])
    await until(lambda: server.worker.answers.active)


async def in_a_chunk(client: Client, server: Serving) -> None:
    await client.send(get("/discard", "Transfer-Encoding: chunked", method="POST") + b"5\r\nabc")
    await until(lambda: server.worker.answers.active)


async def in_a_body_that_is_echoed(client: Client, server: Serving) -> None:
    await client.send(post("/splice", b"x" * 1000)[:-1])
    await client.read_until(b"xxx")


async def in_a_body_that_is_not_read(client: Client, server: Serving) -> None:
    await client.send(post("/sleep-forever", b"x" * 1000)[:-1])
    await until(lambda: server.worker.answers.active)


async def in_a_body_that_waits(client: Client, server: Serving) -> None:
    # Little more than what is read: the system tells that a client has left only behind all that it sent.
    await client.send(post("/sleep-forever", b"x" * MIB)[:270_000])
    connection = await the_connection(server)
    await until(lambda: not connection._reading)


async def with_the_next_requests_sent(client: Client, server: Serving) -> None:
    await client.send(get("/sleep-forever") + get("/status/200") * 10)
    await until(lambda: server.worker.answers.active)


async def with_many_requests_sent(client: Client, server: Serving) -> None:
    await client.send(get("/sleep-forever") + get("/status/200", "X-Padding: " + "x" * 10000) * 8)
    connection = await the_connection(server)
    await until(lambda: not connection._reading)


async def before_it_is_asked_for_the_body(client: Client, server: Serving) -> None:
    await client.send(post("/sleep-forever", b"x" * 1000, "Expect: 100-continue")[:-1000])
    await until(lambda: server.worker.answers.active)


async def after_it_was_asked_for_the_body(client: Client, server: Serving) -> None:
    await client.send(post("/discard", b"x" * 1000, "Expect: 100-continue")[:-1000])
    await client.read_until(b"100 Continue\r\n\r\n")


async def between_requests(client: Client, server: Serving) -> None:
    assert (await client.ask(get("/status/200"))).status == 200


async def with_a_body_left_to_read_past(client: Client, server: Serving) -> None:
    await client.send(post("/ignore-body", b"x" * 1000)[:-1])
    assert (await client.reply()).status == 200


# Where a client that closes cannot have wanted anything but to leave.
STAGES = [
    after_part_of_a_head,
    in_a_response_that_waits,
    in_a_body_that_is_read,
    in_a_chunk,
    in_a_body_that_is_echoed,
    in_a_body_that_is_not_read,
    before_it_is_asked_for_the_body,
    after_it_was_asked_for_the_body,
    between_requests,
    with_a_body_left_to_read_past,
]

# Where it may be waiting for the rest of what it asked for.
WAITING = [
    before_the_head,
    in_an_endless_loop,
    in_the_response,
    in_a_body_that_waits,
    with_the_next_requests_sent,
    with_many_requests_sent,
]

Stage = Callable[[Client, Serving], Awaitable[None]]


@pytest.mark.parametrize(
    ("stage", "leave"),
    [*itertools.product(STAGES, [Client.close, Client.reset]), *itertools.product(WAITING, [Client.reset])],
)
def test_clients_that_leave(guests: Guests, loop: str, stage: Stage, leave: Callable[[Client], None]) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await stage(client, server)
        leave(client)
        await until(lambda: not server.worker.connections)
        await server.idle()
        assert (await server.ask(get("/status/200"))).status == 200
        assert server.log.err == ""

    serve(loop, guests.service("c_kitchen", **QUICK), test)


@pytest.mark.parametrize("stage", [before_the_head, in_the_response, in_a_body_that_waits, with_many_requests_sent])
def test_clients_that_close_while_they_seem_to_wait(guests: Guests, loop: str, stage: Stage) -> None:
    """Their systems have forgotten the connection a moment later, and say so when they are asked."""

    async def test(server: Serving) -> None:
        client = await server.connect()
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
        await stage(client, server)
        connection = await the_connection(server)
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for option, seconds in ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 3)):
            assert sock.getsockopt(socket.IPPROTO_TCP, option) == seconds
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)
        client.close()
        await until(lambda: not server.worker.connections)
        await server.idle()
        assert server.log.err == ""

    serve(loop, guests.service("c_kitchen", **QUICK), test)


# What is sent before the client closes its side, and the bodies of the responses.
HALVES = {
    "a request": (get("/poll/9"), [b"timers 9\n"]),
    "a body": (post("/discard", b"x" * 100_000), [b"bytes 100000\n"]),
    "chunks": (chunked("/splice", b"x" * 100_000), [b"x" * 100_000]),
    "a body that is not read": (post("/poll/9", b"x" * 100_000), [b"timers 9\n"]),
    "requests": (
        get("/poll/9") + get("/status/200") + post("/splice", b"abc") + get("/drip/2"),
        [b"timers 9\n", b"status\n", b"abc", b"tick 0\ntick 1\n"],
    ),
    "many requests": (get("/status/200") * 200 + get("/drip/2"), [b"status\n"] * 200 + [b"tick 0\ntick 1\n"]),
    "large responses": (get("/big/4") + get("/sized/1000000"), [PATTERN * 4, (PATTERN * 4)[:1_000_000]]),
    "a request and part of another": (get("/poll/9") + b"GET /", [b"timers 9\n", b"400 "]),
    "a request and half a body": (get("/poll/9") + post("/discard", b"abc")[:-1], [b"timers 9\n", b"400 "]),
}


@pytest.mark.parametrize(("requests", "bodies"), HALVES.values(), ids=HALVES)
def test_a_client_that_closes_its_side_gets_its_answers(
    guests: Guests, loop: str, requests: bytes, bodies: list[bytes]
) -> None:
    async def test(server: Serving) -> None:
        for buffer in (None, 4096):
            client = await server.connect(receive_buffer=buffer)
            await client.send(requests)
            client.sock.shutdown(socket.SHUT_WR)
            for body in bodies:
                assert (await client.reply()).body.startswith(body)
            assert await client.rest() == b""
            await until(lambda: not server.worker.connections)
        assert server.log.err == ""

    serve(loop, guests.service("c_kitchen"), test)


def test_an_end_within_a_body_is_not_the_end_of_a_response_that_has_begun(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        body = request.consume().stream()
        finish = respond(request, out)
        await asyncio.sleep(0)  # the head goes out
        with contextlib.suppress(Err):
            while True:
                await settled(body.blocking_read(100))
        finish(b"partial")

    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(post("/", b"x" * 1000)[:-1])
        await client.read_until(b"\r\n\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        assert await client.rest() == b"7\r\npartial\r\n0\r\n\r\n"

    serve(loop, ScriptedService(guests, script), test)


@pytest.mark.parametrize("path", ["/trap", "/ignore-body", "/early"])
def test_a_client_that_leaves_before_its_answer(guests: Guests, loop: str, path: str) -> None:
    """Its system refuses what is written, so that the connection is gone when it is to be ended."""

    async def test(server: Serving) -> None:
        for _ in range(20):
            client = await server.connect()
            await client.send(get("/status/200"))
            assert (await client.reply()).status == 200
            await client.send(post(path, b"x" * 100, "Connection: close")[:-50])
            client.close()
        await until(lambda: not server.worker.connections)
        await server.idle()

    serve(loop, guests.service("c_kitchen", **QUICK), test)


def test_a_guest_that_reads_on_learns_that_the_client_left(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        body = request.consume().stream()
        respond(request, out)(b"accepted")
        await settled(body.blocking_read(10))

    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(post("/", b"x" * 1000)[:-1000])
        assert (await client.reply()).body == b"accepted"
        client.close()
        await server.idle()
        assert server.log.err.startswith("error: Err: ")

    serve(loop, ScriptedService(guests, script), test)


# ---- clients that are slow ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"G", get("/")[:-1], b"POST / HTTP/1.1\r\n"])
def test_a_slow_head(guests: Guests, loop: str, head: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(get("/status/200"))).status == 200
        await client.send(head)
        reply = await client.reply()
        assert (reply.status, reply.body) == (408, b"408 the request took too long\n")
        assert await client.rest() == b""

    serve(loop, guests.service("c_kitchen", header_timeout=0.1, **QUICK), test)


def test_a_client_that_stays_after_its_refusal(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        assert (await client.ask(b"nonsense\r\n\r\n")).status == 400
        assert await client.rest() == b""
        # Our side is closed; the client's, which it keeps open, is waited for no longer than that.
        await until(lambda: not server.worker.connections)

    serve(loop, guests.service("c_kitchen", **QUICK), test)


def test_a_head_that_drips(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                await client.send(b"X: y\r\n")
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        assert (await client.reply()).status == 408
        dripping.cancel()

    serve(loop, guests.service("c_kitchen", header_timeout=0.15, **QUICK), test)


@pytest.mark.parametrize("before", [b"", b"\r\n", get("/status/200")])
def test_idle_connections(guests: Guests, loop: str, before: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(before)
        if len(before) > 2:
            assert (await client.reply()).status == 200
        assert await client.rest() == b""

    serve(loop, guests.service("c_kitchen", idle_timeout=0.1), test)


@pytest.mark.parametrize("path", ["/discard", "/sleep-forever"])
def test_a_body_that_stalls(guests: Guests, loop: str, path: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(post(path, b"x" * 1000)[:-1])
        reply = await client.reply()
        assert (reply.status, reply.body) == (408, b"408 the body took too long\n")
        assert await client.rest() == b""
        await server.idle()

    serve(loop, guests.service("c_kitchen", idle_timeout=0.1, **QUICK), test)


def test_a_body_that_stalls_after_the_response(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        await client.send(post("/ignore-body", b"x" * 1000)[:-1])
        assert (await client.reply()).body == b"ignored\n"
        assert await client.rest_until_reset() == b""

    serve(loop, guests.service("c_kitchen", idle_timeout=0.1), test)


@pytest.mark.parametrize(
    "requests",
    [get("/big/64"), get("/sized/100000") * 1000, get("/big/64", "Connection: close"), get("/sized/9000000")],
    ids=["chunked", "pipelined", "closing", "sized"],
)
def test_a_client_that_does_not_read(guests: Guests, loop: str, requests: bytes) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect(receive_buffer=4096)
        await client.send(requests)
        await until(lambda: server.worker.connections)
        await until(lambda: not server.worker.connections)
        await server.idle()

    serve(loop, guests.service("c_kitchen", idle_timeout=0.2), test)


def test_a_client_that_does_not_read_the_end(guests: Guests, loop: str) -> None:
    """The connection is closed as soon as the response has left, which it does not."""

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        # More than the system takes at once.
        finish = respond(request, out)
        finish(b"x" * 250_000)

    async def test(server: Serving) -> None:
        client = await server.connect(receive_buffer=4096)
        await client.send(get("/") * 50 + get("/", "Connection: close"))
        await until(lambda: server.worker.connections)
        await until(lambda: not server.worker.connections)

    serve(loop, ScriptedService(guests, script, idle_timeout=0.2), test)


def test_a_slow_client_that_makes_progress_is_served(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect(receive_buffer=4096)
        await client.send(get("/big/8"))
        reading = client.reply()
        connection = await the_connection(server)
        await until(lambda: connection.write_paused)
        assert (await reading).body == PATTERN * 8

    serve(loop, guests.service("c_kitchen", idle_timeout=1.0), test)


def test_a_slow_guest_is_not_a_slow_client(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for request in (get("/sleep/200"), post("/sleep/200", b"abc"), post("/sleep/200", b"x" * 1000)):
            assert (await client.ask(request)).body == b"slept 200\n"
        # It sends the body when it is asked for it.
        await client.send(post("/sleep/200", b"abc", "Expect: 100-continue")[:-3])
        assert (await client.reply()).body == b"slept 200\n"

    serve(loop, guests.service("c_sleep", idle_timeout=0.08, header_timeout=0.08), test)


# ---- the least rate of bodies, in made-up time ----------------------------------------------------------------------

# Least rate, seconds between looks, bytes of the body that arrive in between, seconds until it is enough or None.
RATES = [
    (500, 1.0, 500, None),
    (500, 1.0, 10_000, None),
    (500, 1.0, 1, 76.0),
    (500, 60.0, 1, 120.0),
    (500, 1.0, 250, 151.0),
    (500, 1.0, 0, 76.0),
    (0, 60.0, 1, None),
    (0, 60.0, 0, 120.0),
]


@pytest.mark.parametrize("way", ["in", "out"])
@pytest.mark.parametrize(("rate", "step", "size", "over"), RATES)
def test_the_least_rate(
    guests: Guests, loop: str, way: str, rate: int, step: float, size: int, over: float | None
) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        if way == "out":
            respond(request, out)(b"x" * 200_000)
        else:
            await done.wait()

    async def test(server: Serving) -> None:
        client = await server.connect(receive_buffer=4096)
        body = b"x" * 1_000_000
        await client.send(post("/", body)[: -len(body)] if way == "in" else get("/") * 100)
        connection = await the_connection(server)
        await until(lambda: connection._receiving or connection._transport.get_write_buffer_size())
        start = now = connection._checked
        while now < start + 400 and not (connection._closing or connection.closed):
            # As if as much had arrived, or left.
            if way == "in":
                connection._arrived_bytes += size
            else:
                connection._sent = connection._written - connection._transport.get_write_buffer_size() - size
            now += step
            connection.check(now)
        if over is None:
            assert not connection.closed
        else:
            assert now - start == pytest.approx(over, abs=step)
        client.reset()
        done.set()

    done = asyncio.Event()
    config = {"min_body_rate": rate, "idle_timeout": 75.0, "client_gone_grace": 0.0}
    serve(loop, ScriptedService(guests, script, **config), test)


def test_time_in_which_the_client_has_to_wait_does_not_count(guests: Guests, loop: str) -> None:
    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        await more.wait()
        body = request.consume().stream()
        read = 0
        with contextlib.suppress(Err):
            while data := await settled(body.blocking_read(65536)):
                read += len(data)
        respond(request, out)(b"%d" % read)

    async def test(server: Serving) -> None:
        client = await server.connect()
        request = post("/", b"x" * 2_000_000)
        sending = asyncio.create_task(client.send(request[:-1000]))
        connection = await the_connection(server)
        await until(lambda: not connection._reading)
        # The guest takes its time.
        now = connection._checked
        for _ in range(1000):
            now += 1.0
            connection.check(now)
        more.set()
        await sending
        await client.send(request[-1000:])
        assert (await client.reply()).body == b"2000000"
        # What the client has not been asked for is not late, and neither is an answer that the guest delays.
        more.clear()
        for waiting in (post("/", b"x", "Expect: 100-continue")[:-1], get("/")):
            client = await server.connect()
            await client.send(waiting)
            await until(lambda: server.worker.answers.active)
            (connection,) = (each for each in server.worker.connections if each._exchange)
            for _ in range(1000):
                now += 1.0
                connection.check(now)
            assert not connection.closed
            client.reset()
            await server.idle()

    more = asyncio.Event()
    serve(loop, ScriptedService(guests, script, client_gone_grace=0.0), test)
