"""Header fields that take the place of the client's."""

from __future__ import annotations

import pytest

from .serving import Guests, Serving, get, serve

# What is set, the request, what the guest sees.
HEADERS = [
    ((), get("/headers", "A: 1", "B: 2"), b"a: 1\nb: 2\n"),
    (((b"a", b"new"),), get("/headers", "A: 1", "B: 2", "a: 3"), b"b: 2\na: new\n"),
    (((b"A", b"x"), (b"C", b""), (b"a", b"y")), get("/headers", "B: 2"), b"b: 2\na: x\nc: \na: y\n"),
    (((b"expect", b"x"),), get("/headers"), b"expect: x\n"),
    (((b"host", b"new:8080"),), get("/headers"), b""),
]


@pytest.mark.parametrize(("fields", "request_", "seen"), HEADERS)
def test_headers(
    guests: Guests, loop: str, fields: tuple[tuple[bytes, bytes], ...], request_: bytes, seen: bytes
) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(2):
            assert (await client.ask(request_)).body == seen

    serve(loop, guests.service("c_kitchen", request_headers=fields), test)


# The request, the authority and the path that the guest sees when Host is replaced.
TARGETS = [
    (get("/method"), b"new:8080", b"/method"),
    (get("/method", "X: y"), b"new:8080", b"/method"),
    (b"GET /method HTTP/1.0\r\n\r\n", b"new:8080", b"/method"),
    # This says itself whom it is for.
    (get("http://other.example/method"), b"other.example", b"/method"),
]


@pytest.mark.parametrize(("request_", "authority", "path"), TARGETS)
def test_host_is_the_authority(guests: Guests, loop: str, request_: bytes, authority: bytes, path: bytes) -> None:
    async def test(server: Serving) -> None:
        said = b"method: GET\nscheme: HTTP\nauthority: " + authority + b"\npath: " + path + b"\n"
        assert (await server.ask(request_)).body == said

    serve(loop, guests.service("c_kitchen", request_headers=((b"Host", b"new:8080"),)), test)
