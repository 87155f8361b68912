"""Clients that leave at any byte, and guests that compute for ever: the others are served, and nothing is left behind.

Clients that do worse are in `tests.attack.clients`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.attack.campaign import Field
from tests.attack.clients import QUICK
from tests.guests.build import GuestUnavailable
from wasi_http.engine import Engine, EngineConfig

from .serving import Client, Guests, Serving, chunked, get, serve, until


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

    serve(loop, guests.service("c_kitchen", max_instance_reuse_count=16, **QUICK), test)


def test_deadlines_are_met_beside_guests_that_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged by the processor time of the process between the deadline and the answer: the machine may be busy."""
    count, limit, late = 200, 0.3, 0.1
    due: list[float] = []
    ordinary = asyncio.timeout

    def timeout(delay: float | None) -> asyncio.Timeout:
        if delay == limit:
            threading.Timer(limit, lambda: due.append(time.process_time())).start()
        return ordinary(delay)

    async def test(server: Serving) -> None:
        worker = server.worker
        clients = [await server.connect() for _ in range(count + 1)]
        for client in clients[:-1]:
            await client.send(get("/spin"))
        await until(lambda: worker.answers.active == count)
        worker.answers.config = replace(worker.answers.config, timeout=limit)
        assert (await clients[-1].ask(get("/spin"))).status == 504
        answered = time.process_time()
        await until(lambda: due)
        assert answered - due[0] < late
        worker.abort()
        await server.idle()

    try:
        handler = Field(Engine(EngineConfig(max_instances=count + 20))).guests.service("c_kitchen", timeout=1000.0)
    except GuestUnavailable as error:
        pytest.skip(str(error))
    monkeypatch.setattr(asyncio, "timeout", timeout)
    serve("uvloop", handler, test)
