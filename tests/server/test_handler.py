"""What guests are given, and what is written about them."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable

import pytest

from tests.client.peers import Peer
from tests.client.peers import run as run_client
from tests.client.peers import serving as other
from wasi_http.client import OutgoingRequestConfig
from wasi_http.http.egress import Egress
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Request, Response
from wasi_http.http.values import ErrorCode
from wasi_http.server import Guests as Service
from wasi_http.service.guest import Guest

from .serving import Guests, Log, Serving, get, serve


def test_what_guests_print_is_prefixed(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        for _ in range(2):
            assert (await server.ask(get("/stdout"))).body == b"printed\n"
        lines = ["first line", "second line", "no newline"]
        assert server.log.out == "".join(f"stdout [{number}] :: {line}\n" for number in range(2) for line in lines)
        assert server.log.err == "stderr [0] :: a complaint\nstderr [1] :: a complaint\n"

    serve(loop, guests.service("c_kitchen"), test)


def test_what_guests_print_is_left_as_it_is(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        for _ in range(2):
            assert (await server.ask(get("/stdout"))).body == b"printed\n"
        assert server.log.out == "first line\nsecond line\nno newline" * 2
        assert server.log.err == "a complaint\n" * 2

    serve(loop, guests.service("c_kitchen", logging_prefix=False), test)


@pytest.mark.parametrize(
    ("prefix", "terminal", "printed"),
    [
        (True, False, "stdout [0] :: \\x1b[2J\\x0dred\udc9b\\x9b \\u202e\tgrüß\n"),
        (False, True, "\\x1b[2J\\x0dred\udc9b\\x9b \\u202e\tgrüß\n"),
        (False, False, "\x1b[2J\rred\udc9b\x9b \u202e\tgrüß\r\n"),
    ],
)
def test_what_a_terminal_would_act_upon(guests: Guests, loop: str, prefix: bool, terminal: bool, printed: str) -> None:
    async def test(server: Serving) -> None:
        server.log.stdout.terminal = terminal
        await server.ask(get("/stdout-controls"))
        assert server.log.out == printed

    serve(loop, guests.service("c_kitchen", logging_prefix=prefix), test)


def test_an_unfinished_line_precedes_the_reason_of_the_failure(guests: Guests) -> None:
    handler = guests.service("c_kitchen")
    log = handler.output = Log()
    context = handler.new_context(0)
    context.stderr.push(b"last words")  # type: ignore[union-attr]
    context.close()  # type: ignore[attr-defined]
    handler.log("error: Trap: unreachable")
    assert log.err == "stderr [0] :: last words\nerror: Trap: unreachable\n"


def test_requests_are_numbered(guests: Guests) -> None:
    handler = guests.service("c_kitchen")
    log = handler.output = Log()
    for number in range(3):
        handler.new_context(number).stdout.push(b"%d\n" % number)  # type: ignore[union-attr]
    assert log.out == "stdout [0] :: 0\nstdout [1] :: 1\nstdout [2] :: 2\n"


@pytest.mark.parametrize("logging_prefix", [True, False])
def test_environment(guests: Guests, logging_prefix: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASI_HTTP_SECRET", "of the server")
    env = {"A": "1", "B": ""}
    context = guests.service("c_kitchen", env=env, logging_prefix=logging_prefix).new_context(0)
    env["C"] = "too late"
    assert dict(context.env) == {"A": "1", "B": ""}
    assert tuple(context.args) == ()


def test_log_makes_control_characters_visible(guests: Guests) -> None:
    handler = guests.service("c_kitchen")
    log = handler.output = Log()
    handler.log("one\ttwo \x1b[31mred\x07\nthree \udcff é")
    assert log.err == "one\\x09two \\x1b[31mred\\x07\n  three \\udcff é\n"


def test_log_goes_to_standard_error(guests: Guests, capfd: pytest.CaptureFixture[str]) -> None:
    handler = guests.service("c_kitchen")
    handler.log("a line")
    handler.new_context(0).stdout.push(b"printed\n")  # type: ignore[union-attr]
    handler.output.drain()
    assert capfd.readouterr() == ("stdout [0] :: printed\n", "a line\n")


class Broken(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("state", ["broken", "closed", "missing"])
def test_a_log_that_nobody_reads(
    guests: Guests, loop: str, state: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = None if state == "missing" else io.TextIOWrapper(io.BufferedWriter(Broken()))
    if state == "closed":
        assert stream is not None
        stream.close()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setattr(sys, "stdout", stream)
        handler = guests.service("c_kitchen")
    output = handler.output

    async def test(server: Serving) -> None:
        handler.output = output
        assert (await server.ask(get("/stdout"))).body == b"printed\n"
        assert (await server.ask(get("/trap"))).status == 500

    serve(loop, handler, test)


def test_what_guests_say_of_themselves_is_bounded(guests: Guests) -> None:
    handler = guests.service("c_kitchen")
    log = handler.output = Log()
    handler.log("x" * 100_000_000)
    assert log.err == "x" * 8192 + " …\n"


@pytest.mark.parametrize(("worker", "name"), [(None, "0"), (3, "3-0")])
def test_failures_name_their_request(guests: Guests, loop: str, worker: int | None, name: str) -> None:
    async def test(server: Serving) -> None:
        await server.ask(get("/trap?" + "q" * 1000, method="DELETE"))
        assert server.log.whole.startswith(f"error: request {name} DELETE /trap?{'q' * 194} …: Trap: ")
        assert server.log.err.startswith("error: Trap: wasm `unreachable`")

    model = guests.service("c_kitchen")
    serve(loop, Service(model.engine, model.pre, model.config, worker), test)


def test_guests_have_so_many_connections(guests: Guests, loop: str) -> None:
    async def silence(peer: Peer) -> None:
        await peer.closed()

    async def main() -> None:
        handler = guests.service("c_kitchen", egress=Egress.parse("127.0.0.1"), max_egress_connections=2)
        async with other(silence) as origin:

            def send(state: Guest) -> Awaitable[Response]:
                return state.send_request(Request("GET", f"http://{origin.authority}/"), OutgoingRequestConfig())

            one, another = (Guest(handler, handler.new_context(0)) for _ in range(2))
            waiting = [send(one), send(one), send(another)]
            while origin.open < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            with pytest.raises(HttpError) as caught:
                await send(one)
            assert caught.value.code is ErrorCode.ConnectionLimitReached
            for response in waiting:
                response.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            # What was given up does not count any more.
            again = send(one)
            while origin.connections < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            again.cancel()
            await asyncio.gather(again, return_exceptions=True)
        await handler.client.close()

    run_client(loop, main())
