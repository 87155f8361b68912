"""Guests in every language that we build, over a real socket."""

from __future__ import annotations

import json

import pytest

from .serving import Guests, Serving, chunked, get, post, serve

# Guest, body of the answer to a plain GET.
HELLOS = [
    ("hello", b"Hello, WASI!\n"),
    ("wat_hello", b"Hello, WASI!\n"),
    ("c_hello", None),
    ("py_hello", b"Hello from Python!\n"),
    ("js_hello", b"Hello from JavaScript!\n"),
    ("js_fetch", b"Hello from a fetch event!\n"),
    ("js_hono", b"Hello from Hono!\n"),
]


@pytest.mark.parametrize(("name", "body"), HELLOS, ids=[name for name, _ in HELLOS])
def test_each_language_says_hello(guests: Guests, loop: str, name: str, body: bytes | None) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(3):
            reply = await client.ask(get("/"))
            assert reply.status == 200
            assert reply.body == body or (body is None and reply.body.lower().startswith(b"hello"))

    serve(loop, guests.service(name), test)


def test_a_fetch_event_is_served_where_instances_are_used_again(guests: Guests, loop: str) -> None:
    """Its runtime sets no response to a second request."""

    async def test(server: Serving) -> None:
        client = await server.connect()
        for _ in range(4):
            assert (await client.ask(get("/"))).body == b"Hello from a fetch event!\n"
            await server.idle()
        said = [line for line in server.log.err.splitlines() if not line.startswith("stderr [")]
        assert len(said) == 1
        assert said[0].startswith("warning: an instance that had served 1 requests failed with the next")

    serve(loop, guests.service("js_fetch", max_instance_reuse_count=20, idle_instance_timeout=1000.0), test)


@pytest.mark.parametrize("name", ["c_echo", "py_echo", "js_echo", "js_fetch", "js_hono"])
def test_each_language_echoes_a_stream(guests: Guests, loop: str, name: str) -> None:
    data = bytes(range(256)) * 1200  # more than one buffer of anybody

    async def test(server: Serving) -> None:
        client = await server.connect()
        reply = await client.ask(post("/echo", data))
        assert (reply.status, reply.body) == (200, data)
        reply = await client.ask(chunked("/echo", b"first", data, b"last"))
        assert (reply.status, reply.body) == (200, b"first" + data + b"last")

    serve(loop, guests.service(name), test)


def test_a_web_framework_routes_requests(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        client = await server.connect()
        reply = await client.ask(get("/items/7?q=caf%C3%A9"))
        assert (reply.status, json.loads(reply.body)) == (200, {"id": "7", "query": "café"})
        assert (await client.ask(get("/nowhere"))).status == 404
        assert (await client.ask(get("/echo"))).status == 404

    serve(loop, guests.service("js_hono"), test)


def test_a_python_guest_sees_what_it_was_given_and_nothing_else(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        reply = await (await server.connect()).ask(get("/"))
        told = json.loads(reply.body)
        assert told["environment"] == {"value": [["GREETING", "hi"]]}
        assert told["arguments"] == {"value": []}
        assert told["directories"] == {"value": []}
        assert len(bytes.fromhex(told["random-bytes"]["value"])) == 16
        assert told["monotonic-clock"]["value"] > 0
        assert "error" in told["open"]
        denied = [value for name, value in told.items() if "socket" in name or "tcp" in name or "udp" in name]
        assert denied
        assert all("value" not in value for value in denied)
        assert "a line on stdout" in server.log.out
        assert "a line on stderr" in server.log.err

    serve(loop, guests.service("py_wasi", env={"GREETING": "hi"}), test)


def test_a_guest_with_a_c_library_runs_through_the_adapter(guests: Guests, loop: str) -> None:
    async def test(server: Serving) -> None:
        reply = await (await server.connect()).ask(get("/"))
        assert b"HOME=/nowhere\nvariables 1\n" in reply.body
        assert b"monotonic yes" in reply.body

    serve(loop, guests.service("c_libc", env={"HOME": "/nowhere"}), test)


@pytest.mark.parametrize(("name", "starts"), [("c_libc", b"HOME="), ("py_hello", b""), ("js_hello", b"")])
def test_instances_with_a_runtime_serve_several_requests(guests: Guests, loop: str, name: str, starts: bytes) -> None:
    """Allocators, garbage collectors and cached handles have to bear it."""

    async def test(server: Serving) -> None:
        client = await server.connect()
        for number in range(20):
            reply = await client.ask(get("/"))
            assert (number, reply.status) == (number, 200)
            assert reply.body.startswith(starts)
        assert [instance.served for instance in server.worker.answers.instances._idle] == [20]

    serve(loop, guests.service(name, max_instance_reuse_count=128, idle_instance_timeout=1000.0), test)
