"""Clients that mean no good: whatever they do, nothing of them is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest

from .serving import Client, Guests, Serving, chunked, get, post, serve, until

#: Whoever waits for nothing is not waited for.
QUICK = {
    "timeout": 0.2,
    "header_timeout": 0.2,
    "idle_timeout": 0.3,
    "linger_timeout": 0.1,
    "idle_instance_timeout": 0.1,
    "max_concurrent_requests": 20,
    "max_resources": 2000,
}

PATHS = [
    "/trap", "/no-set", "/exit/0", "/exit/1", "/spin", "/sleep-forever", "/recurse", "/trap-after-head",
    "/spin-after-head", "/sleep-after-head", "/exit-after-head", "/no-finish", "/abandon", "/content-length-short",
    "/content-length-long", "/double-drop", "/set-twice", "/drop-parent", "/many-handles/100", "/many-handles",
    "/status/200", "/status/100", "/status/204", "/headers", "/big/1", "/sized/100000", "/empty", "/trailers",
    "/drip/3", "/after", "/over-budget", "/ignore-body", "/discard", "/early", "/first-part", "/splice",
    "/consume-twice", "/request-trailers", "/huge-alloc", "/poll-nothing", "/stdout", "/stdout-kept",
]


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def request(rnd: random.Random) -> bytes:
    path = rnd.choice(PATHS)
    headers = [header for header in ("Expect: 100-continue", "Connection: close") if rnd.random() < 0.15]
    whole = rnd.choice(
        [
            get(path, *headers, method=rnd.choice(["GET", "HEAD", "POST"])),
            post(path, rnd.randbytes(rnd.choice([1, 1000, 70_000, 300_000])), *headers),
            chunked(path, *(rnd.randbytes(rnd.choice([1, 5, 70_000])) for _ in range(3)), trailers=b"X: y\r\n"),
        ]
    )
    kind = rnd.randrange(10)
    if kind == 0:
        return rnd.randbytes(rnd.choice([1, 10, 1000]))
    if kind == 1:
        damaged = bytearray(whole)
        damaged[rnd.randrange(min(len(whole), 100))] = rnd.randrange(256)
        return bytes(damaged)
    return whole


async def misbehave(server: Serving, rnd: random.Random) -> None:
    client = await server.connect(receive_buffer=rnd.choice([None, 4096]))
    data = b"".join(request(rnd) for _ in range(rnd.choice([1, 1, 2, 10])))
    leave = rnd.choice([Client.close, Client.reset])
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(rnd.choice([0.01, 0.1, 0.3])):
            await client.send(data[: rnd.choice([len(data), rnd.randrange(len(data) + 1)])])
            match rnd.randrange(5):
                case 0:
                    await client._receive()
                case 1:
                    await asyncio.sleep(1)  # and never reads
                case 2:
                    client.sock.shutdown(socket.SHUT_WR)
                    await client.rest()
                case 3:
                    await client.rest()
    leave(client)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="counts descriptors")
@pytest.mark.parametrize("count", [1, 16])
@pytest.mark.parametrize("guest", ["c_kitchen", "c_echo"])
def test_hostile_clients(guests: Guests, loop: str, guest: str, count: int) -> None:
    async def test(server: Serving) -> None:
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        rnd = random.Random(count)
        before = None
        for _ in range(4):
            await asyncio.gather(*(misbehave(server, rnd) for _ in range(40)))
            await until(lambda: not server.worker.connections)
            await server.idle()
            before = before or descriptors()
        assert (await server.ask(get("/status/200"))).status == 200
        await until(lambda: not server.worker.connections and not len(server.worker.instances))
        assert not server.worker._waiting
        assert descriptors() == before
        assert unhandled == []

    serve(loop, guests.handler(guest, max_instance_reuse_count=count, **QUICK), test)


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
@pytest.mark.parametrize("path", ["/discard", "/splice", "/drip/2"])
def test_clients_that_leave_at_every_byte(
    guests: Guests, loop: str, path: str, leave: Callable[[Client], None]
) -> None:
    whole = chunked(path, b"abc", b"defgh", trailers=b"X: y\r\n")

    async def test(server: Serving) -> None:
        reply = len((await server.ask(whole)).head)
        for end in range(len(whole)):
            client = await server.connect()
            await client.send(whole[:end])
            if end % 2:
                await asyncio.sleep(0)
            leave(client)
        for count in range(1, reply):
            client = await server.connect()
            await client.send(whole)
            await asyncio.get_running_loop().sock_recv(client.sock, count)
            leave(client)
        await until(lambda: not server.worker.connections)
        await server.idle()

    serve(loop, guests.handler("c_kitchen", max_instance_reuse_count=16, **QUICK), test)
