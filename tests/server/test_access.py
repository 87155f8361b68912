"""The access log."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.guests.build import GuestUnavailable, build
from wasi_http.server.access import AccessLog

from .processes import started
from .serving import Guests, Serving, get, serve, until

LINE = re.compile(
    r'(\S+) - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "(.*)" (\d{3}|-) (\d+) (\d+\.\d{3}) (\S+)'
).fullmatch


def record(server: Serving) -> None:
    server.worker.handler.access = AccessLog(server.log.stdout, server.worker.handler.name)


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

    serve(loop, guests.handler("c_kitchen"), test)


def test_responses_that_break_off(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        record(server)
        client = await server.connect()
        await client.send(get("/trap-after-head"))
        await server.log.until("error: ")
        client.close()
        client = await server.connect()
        await client.send(get("/sleep-forever"))
        await until(lambda: server.worker.active)
        client.reset()
        await server.idle()
        first, second = (LINE(line) for line in server.log.out.splitlines())
        assert first is not None
        assert second is not None
        assert (first[2], first[3], second[2], second[3], second[4]) == (
            "GET /trap-after-head HTTP/1.1",
            "200",
            "GET /sleep-forever HTTP/1.1",
            "-",
            "0",
        )
        access = server.worker.handler.access
        assert access is not None
        assert not access._begun

    serve(loop, guests.handler("c_kitchen"), test)


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
