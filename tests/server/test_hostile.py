"""Clients that leave at any byte: nothing of them is left behind. Those that do worse are in `tests.attack.clients`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.attack.clients import QUICK

from .serving import Client, Guests, Serving, chunked, serve, until


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
