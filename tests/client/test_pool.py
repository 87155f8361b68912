"""Shares of connections: whatever a guest does with its own, others have some, and none waits for what is free."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from wasi_http.client import ClientConfig, ConnectionQuota, OutgoingRequestConfig
from wasi_http.client.pool import Pool
from wasi_http.http.message import Response
from wasi_http.http.send import Client

from .peers import Peer, ask, get, ok, read, run, serving, until, using


async def hang(peer: Peer) -> None:
    """A server that answers no request."""
    await peer.closed()


def send(client: Client, authority: str, quota: ConnectionQuota | None, count: int) -> list[asyncio.Future[Any]]:
    config = OutgoingRequestConfig(quota=quota)
    return [client.send_request(get(authority), config) for _ in range(count)]


async def drop(replies: list[asyncio.Future[Any]]) -> None:
    for reply in replies:
        reply.cancel()
    await asyncio.gather(*replies, return_exceptions=True)


def pool_of(client: Client) -> Pool:
    return client._pool(asyncio.get_running_loop())


def test_guests_that_hold_connections_to_a_host_leave_some_to_the_others(loop: str) -> None:
    async def main() -> None:
        config = ClientConfig(max_connections_per_host=16)
        async with serving(hang) as server, using(Client(config)) as client:
            replies = []
            for connections in (8, 12, 14, 15, 16, 16):
                replies += send(client, server.authority, ConnectionQuota(100), 10 if connections > 8 else 20)
                await until(lambda n=connections: server.open == n)  # type: ignore[misc]
            await drop(replies)
            await until(lambda: not server.open)
            assert not pool_of(client)._hosts

    run(loop, main())


def test_guests_that_hold_connections_to_one_host_leave_some_to_another(loop: str) -> None:
    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(ok(b"hello"))

    async def main() -> None:
        config = ClientConfig(max_connections=8)
        async with serving(hang) as server, serving(script) as other, using(Client(config)) as client:
            replies = send(client, server.authority, ConnectionQuota(100), 50)
            await until(lambda: server.open == 4)
            for quota in (ConnectionQuota(1), None):
                assert (await ask(client, get(other.authority), quota=quota)).body == b"hello"
            # What is idle is somebody's for the asking, and no guest's share.
            assert (server.open, other.open, pool_of(client).idle) == (4, 1, 1)
            await drop(replies)
            await client.close()

    run(loop, main())


def test_requests_without_a_quota_have_all_that_there_are(loop: str) -> None:
    async def main() -> None:
        async with serving(hang) as server, using(Client(ClientConfig(max_connections_per_host=8))) as client:
            replies = send(client, server.authority, None, 10)
            await until(lambda: server.open == 8)
            await drop(replies)

    run(loop, main())


def test_a_share_grows_when_others_are_done(loop: str) -> None:
    """Also when their connections are kept, or are those of another host."""
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.head():
            await go_on.wait()
            await peer.send(ok(b"hello"))

    async def main() -> None:
        config = ClientConfig(max_connections=8)
        async with serving(script) as busy, serving(hang) as server, using(Client(config)) as client:
            first = send(client, busy.authority, ConnectionQuota(100), 4)
            await until(lambda: busy.open == 4)
            second = send(client, server.authority, ConnectionQuota(100), 4)
            await until(lambda: server.open == 2)
            go_on.set()
            assert [(await read(await reply)).body for reply in first] == [b"hello"] * 4
            await until(lambda: server.open == 4)
            await drop(second)
            await client.close()

    run(loop, main())


def test_guests_take_turns(loop: str) -> None:
    order: list[bytes] = []
    go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            order.append(head.split()[1])
            await go_on.wait()
            await peer.send(ok())

    async def main() -> None:
        async with serving(script) as server, using(Client(ClientConfig(max_connections_per_host=1))) as client:
            replies = [client.send_request(get(server.authority, "/first"), OutgoingRequestConfig())]
            await until(lambda: order)
            for guest in "ab":
                config = OutgoingRequestConfig(quota=ConnectionQuota(10))
                replies += [client.send_request(get(server.authority, f"/{guest}{n}"), config) for n in range(3)]
            await asyncio.sleep(0)
            go_on.set()
            await asyncio.gather(*replies)
            assert order == [b"/first", b"/a0", b"/b0", b"/a1", b"/b1", b"/a2", b"/b2"]
            await client.close()

    run(loop, main())


def test_the_books_are_kept(loop: str) -> None:
    """Whatever becomes of requests: at the end nothing is held, open or waited for, and limits hold all the time."""
    choose = random.Random(7)
    config = ClientConfig(max_connections=6, max_connections_per_host=4, max_idle_connections=2)

    async def script(peer: Peer) -> None:
        while await peer.head():
            match choose.randrange(6):
                case 0:
                    return
                case 1:
                    peer.reset()
                    return
                case 2:
                    await peer.send(ok(b"hello", b"connection: close"))
                    return
                case 3:
                    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
                    await peer.closed()
                case _:
                    await peer.send(ok(b"hello"))

    async def main() -> None:
        async with serving(script) as one, serving(script) as two, using(Client(config)) as client:
            quotas = [None, *[ConnectionQuota(choose.randrange(1, 8)) for _ in range(4)]]

            async def request() -> None:
                quota = choose.choice(quotas)
                authority = choose.choice((one, two)).authority
                reply = client.send_request(get(authority), OutgoingRequestConfig(quota=quota, connect_timeout=5))
                for _ in range(choose.randrange(30)):
                    await asyncio.sleep(0)
                if choose.randrange(4) == 0:
                    reply.cancel()
                (outcome,) = await asyncio.gather(reply, return_exceptions=True)
                if isinstance(outcome, Response):
                    outcome.body.cancel()

            for _ in range(12):
                await asyncio.gather(*[request() for _ in range(20)])
                assert one.open + two.open <= 6
            pool = pool_of(client)
            await client.close()
            assert (pool.open, pool.idle, pool._held, pool._hosts, pool._waiting) == (0, 0, {}, {}, {})
            assert [quota.used for quota in quotas if quota is not None] == [0] * 4

    run(loop, main())


def test_closing_waits_for_no_server(loop: str) -> None:
    """Not for one that answers nothing, takes nothing, or has not accepted the connection."""

    async def main() -> None:
        async with serving(hang) as server, using(Client()) as client:
            replies = send(client, server.authority, ConnectionQuota(100), 10)
            await until(lambda: server.open == 10)
            turns: Counter[str] = Counter()

            async def count() -> None:
                while True:
                    turns["turns"] += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            await client.close()
            counting.cancel()
            assert turns["turns"] < 50
            await drop(replies)

    run(loop, main())
