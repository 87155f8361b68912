"""Servers that answer guests' requests with anything, at any pace: each request ends in a response or an error-code."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

from tests.attack.campaign import Attack, Field, Round
from tests.client.peers import LOOPS, Peer, Script, ask, get, ok, pipe_of, run, serving, until, using
from wasi_http.client import ClientConfig
from wasi_http.http.errors import HttpError
from wasi_http.http.send import Client

__all__ = ["ATTACK"]

_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_ANSWERS = (
    ok(b"hello"),
    ok(b"x" * 100_000),
    ok(b"", b"connection: close"),
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"hello"),
    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 40 + ok(b"hello"),
    _CHUNKED + b"5\r\nhello\r\n0\r\nx: y\r\n\r\n",
    _CHUNKED + b"1;a=b\r\nx\r\n" * 20_000 + b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhello",
    b"HTTP/1.1 200 " + b"x" * 100_000,
    b"x: y\r\n" * 1000,
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
    b"",
)
_QUICK = {"connect_timeout": 2.0, "first_byte_timeout": 0.3, "between_bytes_timeout": 0.3}


def _answer(rnd: random.Random) -> bytes:
    answer = rnd.choice(_ANSWERS)
    kind = rnd.randrange(6)
    if kind == 0 and answer:
        damaged = bytearray(answer)
        for _ in range(rnd.choice([1, 1, 3])):
            damaged[rnd.randrange(min(len(damaged), 200))] = rnd.randrange(256)
        return bytes(damaged)
    if kind == 1:
        return answer[: rnd.randrange(len(answer) + 1)]
    if kind == 2:
        return answer + rnd.choice(_ANSWERS)
    return answer


def _script(rnd: random.Random) -> Script:
    async def script(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            if rnd.random() < 0.9 and not await peer.head():
                return
        data = _answer(rnd)
        step = rnd.choice([max(len(data), 1), 1000, 7]) if len(data) < 5000 else len(data)
        for position in range(0, len(data), step):
            await peer.send(data[position : position + step])
            await asyncio.sleep(0)
        # The client may be gone first.
        with contextlib.suppress(OSError, RuntimeError):
            match rnd.randrange(4):
                case 0 if not peer.writer.is_closing():
                    peer.reset()
                case 1:
                    await peer.closed()
                case 2:
                    peer.end()
                    await peer.closed()

    return script


@contextlib.contextmanager
def _open(field: Field) -> Iterator[Round]:
    def attack(rnd: random.Random) -> None:
        async def request(client: Client, authority: str) -> None:
            body = pipe_of([rnd.randbytes(rnd.choice([1, 300_000]))]) if rnd.random() < 0.3 else None
            method = rnd.choice(["GET", "HEAD", "POST"])
            with contextlib.suppress(HttpError):
                await ask(client, get(authority, method=method, body=body), **_QUICK)

        async def main() -> None:
            unhandled: list[object] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
            async with serving(_script(rnd)) as server:
                async with using(Client(ClientConfig(idle_timeout=0.1))) as client:
                    await asyncio.gather(*(request(client, server.authority) for _ in range(30)))
                await until(lambda: not server.open)
            assert unhandled == []

        run(rnd.choice(list(LOOPS)), main())

    yield attack


ATTACK = Attack("upstreams", _open, rounds=40, longest=30.0)
