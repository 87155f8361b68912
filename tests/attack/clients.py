"""Clients that mean no good, in front of guests that behave and guests that do not: nothing of them is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.attack.campaign import Attack, Field, Round
from tests.client.peers import sockets
from tests.server.serving import LOOPS, Client, Serving, chunked, get, post, serve, until

__all__ = ["ATTACK", "QUICK"]

#: Short times, so that what waits for nothing is not waited for.
QUICK: dict[str, Any] = {
    "timeout": 0.2,
    "header_timeout": 0.2,
    "idle_timeout": 0.3,
    "linger_timeout": 0.1,
    "idle_instance_timeout": 0.1,
    "max_concurrent_requests": 20,
    "max_resources": 2000,
}

_CLIENTS = 60

_PATHS = [
    "/trap", "/no-set", "/exit/0", "/exit/1", "/spin", "/sleep-forever", "/recurse", "/trap-after-head",
    "/spin-after-head", "/sleep-after-head", "/exit-after-head", "/no-finish", "/abandon", "/content-length-short",
    "/content-length-long", "/double-drop", "/set-twice", "/drop-parent", "/many-handles/100", "/many-handles",
    "/status/200", "/status/100", "/status/204", "/headers", "/big/1", "/sized/100000", "/empty", "/trailers",
    "/drip/3", "/after", "/over-budget", "/ignore-body", "/discard", "/early", "/first-part", "/splice",
    "/consume-twice", "/request-trailers", "/huge-alloc", "/poll-nothing", "/stdout", "/stdout-kept",
]  # fmt: skip


def _request(rnd: random.Random) -> bytes:
    path = rnd.choice(_PATHS)
    headers = [header for header in ("Expect: 100-continue", "Connection: close") if rnd.random() < 0.15]
    whole = rnd.choice(
        [
            get(path, *headers, method=rnd.choice(["GET", "HEAD", "POST"])),
            post(path, rnd.randbytes(rnd.choice([1, 1000, 70_000, 300_000])), *headers),
            chunked(path, *(rnd.randbytes(rnd.choice([1, 5, 70_000])) for _ in range(3)), trailers=b"X: y\r\n"),
            chunked(path, *(b"x" for _ in range(rnd.choice([10, 10_000])))),
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


@dataclass(frozen=True)
class _Plan:
    """What a client does, made up before the event loop runs, whose turns are measured."""

    sends: bytes
    receive_buffer: int | None
    patience: float
    manner: int
    leave: Callable[[Client], None]

    @classmethod
    def make(cls, rnd: random.Random) -> _Plan:
        data = b"".join(_request(rnd) for _ in range(rnd.choice([1, 1, 2, 10])))
        return cls(
            data[: rnd.choice([len(data), rnd.randrange(len(data) + 1)])],
            rnd.choice([None, 4096]),
            rnd.choice([0.01, 0.1, 0.3]),
            rnd.randrange(5),
            rnd.choice([Client.close, Client.reset]),
        )


async def _misbehave(server: Serving, plan: _Plan) -> None:
    """Sends some requests, whole or not, and leaves, sooner or later and in one way or another."""
    client = await server.connect(receive_buffer=plan.receive_buffer)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(plan.patience):
            await client.send(plan.sends)
            match plan.manner:
                case 0:
                    await client._receive()
                case 1:
                    await asyncio.sleep(1)  # and never reads
                case 2:
                    client.sock.shutdown(socket.SHUT_WR)
                    await client.rest()
                case 3:
                    await client.rest()
    plan.leave(client)


@contextlib.contextmanager
def _open(field: Field) -> Iterator[Round]:
    def attack(rnd: random.Random) -> None:
        loop, guest, count = rnd.choice(list(LOOPS)), rnd.choice(["c_kitchen", "c_echo"]), rnd.choice([1, 16])
        plans = [_Plan.make(rnd) for _ in range(_CLIENTS)]

        async def test(server: Serving) -> None:
            unhandled: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            await asyncio.gather(*(_misbehave(server, plan) for plan in plans))
            # A client that means well is served as if nothing had been.
            assert (await server.ask(get("/status/200"))).status == 200
            await until(lambda: not server.worker.connections)
            await server.idle()
            await until(lambda: not len(server.worker.answers.instances))
            assert not server.worker.answers.admission._waiting
            assert unhandled == []

        before = sockets()
        serve(loop, field.guests.service(guest, max_instance_reuse_count=count, **QUICK), test)
        assert sockets() <= before

    yield attack


ATTACK = Attack("clients", _open, rounds=12, longest=60.0)
