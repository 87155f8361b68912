"""The egress policy in front of a guest that fetches what its clients ask for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from wasi_http.client import OutgoingRequestConfig
from wasi_http.http.egress import Egress
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Request

from .serving import Guests, Log, Reply, Serving, get, run, serving

DENIED = b"error-code 15\n"
PROHIBITED = b"error-code 4\n"
SAID = "a guest's request to "


class Target:
    """A server on loopback, and the authorities of the requests that reached it."""

    def __init__(self) -> None:
        self.hosts: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.hosts += [line[6:] for line in head.split(b"\r\n") if line.lower().startswith(b"host: ")]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nfetched\n")
        writer.close()
        await writer.wait_closed()


Test = Callable[[Serving, Target], Awaitable[None]]


def fetching(guests: Guests, rules: str, test: Test) -> None:
    """Runs a test with a guest and a target; PORT in the rules is the target's."""

    async def main() -> None:
        target = Target()
        async with await asyncio.start_server(target.serve, "127.0.0.1", 0) as listener:
            target.port = listener.sockets[0].getsockname()[1]
            handler = guests.service("c_fetch", egress=Egress.parse(*rules.replace("PORT", str(target.port)).split()))
            async with serving(handler) as server:
                await test(server, target)

    run("asyncio", main())


async def fetch(server: Serving, url: str) -> Reply:
    return await server.ask(get("/fetch", f"X-Url: {url}"))


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name leads to loopback."""
    lookup = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> object:
        if flags & socket.AI_NUMERICHOST:
            return lookup(host, port, family, type, proto, flags)
        return lookup("127.0.0.1", port, family, type, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


# Rules, host of the URL, what the guest is told (None: the response), the flag that the log proposes.
FETCHES: list[tuple[str, str, bytes | None, str | None]] = [
    ("", "127.0.0.1", DENIED, "127.0.0.1"),
    ("", "example.com", DENIED, "example.com"),
    ("", "Localhost", DENIED, "localhost"),
    ("all", "127.0.0.1", PROHIBITED, "127.0.0.1"),
    ("all", "example.com", PROHIBITED, "127.0.0.1"),
    ("all", "localhost", PROHIBITED, "localhost"),
    ("127.0.0.1:PORT", "127.0.0.1", None, None),
    ("127.0.0.1:1", "127.0.0.1", DENIED, "127.0.0.1"),
    ("127.0.0.0/8", "127.0.0.1", None, None),
    ("https://127.0.0.1", "127.0.0.1", DENIED, "127.0.0.1"),
    ("127.0.0.1:PORT", "localhost", DENIED, "localhost"),
    ("localhost:PORT", "LOCALHOST.", None, None),
    ("example.com:PORT", "example.com", PROHIBITED, "127.0.0.1"),
    ("*.com 127.0.0.1:PORT", "example.com", None, None),
]


@pytest.mark.parametrize(("rules", "host", "told", "flag"), FETCHES)
def test_fetches(guests: Guests, rules: str, host: str, told: bytes | None, flag: str | None) -> None:
    async def test(server: Serving, target: Target) -> None:
        authority = f"{host}:{target.port}"
        for _ in range(3):
            reply = await fetch(server, f"http://{authority}/")
            assert (reply.status, reply.body) == ((200, b"fetched\n") if told is None else (502, told))
        assert target.hosts == ([authority.encode()] * 3 if told is None else [])
        # Said once, with the port, which is not that of the scheme.
        why = f", as it leads to {flag}" if told == PROHIBITED and flag != host else ""
        if flag == "localhost" and told == PROHIBITED:
            why = ", as it leads to 127.0.0.1"
        line = f"{SAID}{authority!r} was denied{why}; allow it with --allow-egress {flag}:{target.port}\n"
        assert server.log.err == ("" if told is None else line)

    fetching(guests, rules, test)


def test_what_a_client_calls_the_server_is_no_target(guests: Guests) -> None:
    async def test(server: Serving, target: Target) -> None:
        own = f"GET /fetch HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nX-Url: http://example.com/\r\n\r\n"
        assert (await server.ask(own.encode())).body == DENIED
        own = f"GET http://127.0.0.1:{target.port}/fetch HTTP/1.1\r\nHost: a\r\nX-Url: http://example.com/\r\n\r\n"
        assert (await server.ask(own.encode())).body == DENIED
        assert not target.hosts

    fetching(guests, "127.0.0.1:PORT", test)


def test_each_host_is_said_once(guests: Guests) -> None:
    async def test(server: Serving, target: Target) -> None:
        for url in (
            "http://a.example/",
            "http://b.example/",
            "https://A.example:8443/",
            "http://127.1/",
            "http://0x7f/",
        ):
            assert (await fetch(server, url)).body == DENIED
        assert server.log.err == (
            f"{SAID}'a.example' was denied; allow it with --allow-egress a.example\n"
            f"{SAID}'b.example' was denied; allow it with --allow-egress b.example\n"
            f"{SAID}'A.example:8443' was denied; allow it with --allow-egress a.example:8443\n"
            f"{SAID}'127.1' was denied: it names no host\n"
        )

    fetching(guests, "", test)


def test_what_is_said_is_bounded(guests: Guests) -> None:
    handler = guests.service("c_fetch")
    log = handler.output = Log()

    async def main() -> None:
        for number in range(1000):
            with pytest.raises(HttpError):
                await handler.send_request(Request("GET", f"http://host-{number}/"), OutgoingRequestConfig())

    asyncio.run(main())
    assert log.err.count("\n") == 100
