"""The access log."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from tests.guests.build import GuestUnavailable, build
from wasi_http.http1.limits import Limits
from wasi_http.server.access import AccessLog

from .processes import started
from .serving import Guests, Serving, get, serve, until

LINE = re.compile(
    r'(\S+) - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "(.*)" (\d{3}|-) (\d+) (\d+\.\d{3}|-) (\S+)'
).fullmatch


def record(server: Serving) -> None:
    server.worker.access = AccessLog(server.log.stdout, server.worker.answers.name)


# Request, how the log has it, status.
REQUESTS: list[tuple[bytes, str, str]] = [
    (get("/status/200"), "GET /status/200 HTTP/1.1", "200"),
    (get("/status/404?a=b"), "GET /status/404?a=b HTTP/1.1", "404"),
    (get("/trap", method="PUT"), "PUT /trap HTTP/1.1", "500"),
    (get("/error-set"), "GET /error-set HTTP/1.1", "500"),
    (get("/drip/3"), "GET /drip/3 HTTP/1.1", "200"),
    (get('/\\"/\\x1b'), 'GET /\\\\\\"/\\\\x1b HTTP/1.1', "404"),
    (get('/"quoted"/' + "x" * 5000), 'GET /\\"quoted\\"/' + "x" * 2038 + " … HTTP/1.1", "404"),
]


@pytest.mark.parametrize(("request_", "line", "status"), REQUESTS)
def test_each_request_has_a_line(guests: Guests, loop: str, request_: bytes, line: str, status: str) -> None:
    async def test(server: Serving) -> None:
        record(server)
        client = await server.connect()
        for number in range(2):
            reply = await client.ask(request_)
            found = LINE(server.log.out.splitlines()[number])
            assert found is not None
            assert found.groups()[:3] == ("127.0.0.1", line, status)
            assert int(found[4]) > len(reply.head) + len(reply.body)  # the date is left out of the head
            assert found[6] == str(number)

    serve(loop, guests.service("c_kitchen"), test)


def test_responses_that_break_off(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        record(server)
        client = await server.connect()
        await client.send(get("/trap-after-head"))
        await server.log.until("error: ")
        client.close()
        client = await server.connect()
        await client.send(get("/sleep-forever"))
        await until(lambda: server.worker.answers.active)
        client.reset()
        await server.idle()
        first, second = (LINE(line) for line in server.log.out.splitlines())
        assert first is not None
        assert second is not None
        # The guest may trap before its response could be sent.
        assert first[3] in ("200", "500")
        assert (first[2], second[2], second[3], second[4]) == (
            "GET /trap-after-head HTTP/1.1",
            "GET /sleep-forever HTTP/1.1",
            "-",
            "0",
        )
        access = server.worker.access
        assert access is not None
        assert not access._begun

    serve(loop, guests.service("c_kitchen", client_gone_grace=0.0), test)


# What a client sends, how the log has it, status.
REFUSED: dict[str, tuple[bytes, str, int]] = {
    "nonsense": (b"nonsense\r\n\r\n", "nonsense", 400),
    "TLS": (b"\x16\x03\x01\x02\0\r\n\r\n", r"\x16\x03\x01\x02\x00", 400),
    "escapes and quotes": (b'G\x1b[2J "\\ HTTP/1.1\r\n\r\n', r"G\x1b[2J \"\\ HTTP/1.1", 400),
    "no UTF-8": (b"GET /\xff HTTP/1.1\r\n\r\n", "GET /\ufffd HTTP/1.1", 400),
    "a line of another": (b"\r\nGET /\x0b2 HTTP/1.1\r\nX: y\r\n\r\n", r"GET /\x0b2 HTTP/1.1", 400),
    "blank lines": (b"\r\n\r\n", "-", 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1", 400),
    "a version": (b"GET / HTTP/2.0\r\n\r\n", "GET / HTTP/2.0", 505),
    "a coding": (get("/", "Transfer-Encoding: gzip, chunked"), "GET / HTTP/1.1", 501),
    "a long line": (b"GET /" + b"x" * 90_000, "GET /" + "x" * 2043 + " …", 414),
    "many fields": (get("/many", *["X: y"] * 5000), "GET /many HTTP/1.1", 431),
    "a long body": (get("/", "Content-Length: 1001", method="PUT"), "PUT / HTTP/1.1", 413),
}


@pytest.mark.parametrize("before", [b"", get("/status/200")], ids=["first", "second"])
@pytest.mark.parametrize("case", REFUSED)
def test_requests_that_are_refused(guests: Guests, loop: str, case: str, before: bytes) -> None:
    sent, line, status = REFUSED[case]

    async def test(server: Serving) -> None:
        record(server)
        client = await server.connect()
        await client.send(before + sent)
        if before:
            assert (await client.reply()).status == 200
        reply = await client.reply()
        assert reply.status == status
        assert await client.rest() == b""
        *_, last = server.log.out.splitlines()
        found = LINE(last)
        assert found is not None
        assert (found[1], found[2], found[3], found[5], found[6]) == ("127.0.0.1", line, str(status), "-", "-")
        assert int(found[4]) > len(reply.head) + len(reply.body)
        assert server.log.out.count("\n") == 1 + bool(before)

    serve(loop, guests.service("c_kitchen", wire_limits=Limits(body=1000), linger_timeout=0.1), test)


def test_a_head_that_ends_early(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        record(server)
        client = await server.connect()
        await client.send(b"GET /early HT")
        client.sock.shutdown(socket.SHUT_WR)
        assert (await client.reply()).status == 400
        slow = await server.connect()
        await slow.send(b"GET /slow HTTP/1.1\r\n")
        assert (await slow.reply()).status == 408
        found = [LINE(line) for line in server.log.out.splitlines()]
        assert [(one[2], one[3]) for one in found if one] == [("GET /early HT", "400"), ("GET /slow HTTP/1.1", "408")]

    serve(loop, guests.service("c_kitchen", header_timeout=0.1, linger_timeout=0.1), test)


# A request whose body goes wrong, how the log has it.
BROKEN: dict[str, tuple[bytes, bytes, str, str]] = {
    "malformed": (get("/discard", "Transfer-Encoding: chunked", method="POST"), b"x\r\n", "/discard", "400"),
    "slow": (get("/discard", "Content-Length: 9", method="POST"), b"", "/discard", "408"),
    "late": (get("/early", "Transfer-Encoding: chunked", method="POST"), b"1\r\na\r\nx\r\n", "/early", "200"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_requests_whose_bodies_are_refused(guests: Guests, loop: str, case: str) -> None:
    head, body, path, status = BROKEN[case]

    async def test(server: Serving) -> None:
        record(server)
        client = await server.connect()
        await client.send(head)
        await until(lambda: server.worker.answers.active)
        await client.send(body)
        await until(lambda: server.log.out)
        found = LINE(server.log.out.rstrip("\n"))
        assert found is not None
        assert (found[2], found[3], found[6]) == (f"POST {path} HTTP/1.1", status, "0")
        assert server.worker.access is not None
        assert not server.worker.access._begun

    serve(loop, guests.service("c_kitchen", idle_timeout=0.1, linger_timeout=0.1), test)


def test_a_request_that_was_never_handled(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        record(server)
        client = await server.connect()
        reply = await client.ask(get("/early", "Transfer-Encoding: chunked", method="POST") + b"x\r\n")
        assert reply.status == 400
        found = LINE(server.log.out.rstrip("\n"))
        assert found is not None
        assert (found[2], found[3], found[6]) == ("POST /early HTTP/1.1", "400", "-")

    serve(loop, guests.service("c_kitchen"), test)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_file(tmp_path: Path, workers: str) -> None:
    try:
        guest = build("c_kitchen")
    except GuestUnavailable as error:
        pytest.skip(str(error))
    file = tmp_path / "access.log"
    file.write_text("kept\n")
    with started(tmp_path, guest, "--workers", workers, "--access-log", str(file)) as server:
        for _ in range(10):
            server.ask(get("/status/200", "Connection: close"))
        server.signal(signal.SIGTERM)
        assert server.end() == 0
    kept, *lines = file.read_text().splitlines()
    assert kept == "kept"
    found = [LINE(line) for line in lines]
    assert len({one[6] for one in found if one is not None}) == 10


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with started(tmp_path, Path("examples/hello.wat"), "--access-log", str(tmp_path)) as server:
        assert server.end() == 1
        assert server.err.splitlines()[-1] == f"error: cannot write the access log: {tmp_path}: Is a directory"
