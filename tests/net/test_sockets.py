"""What sockets tell of their other end while nothing is read, on both event loops."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.client.peers import LOOPS, run
from wasi_http.net.sockets import in_flight, lost, reset, unread


async def connected() -> tuple[asyncio.Transport, socket.socket]:
    """A transport that does not read, and its other end, which blocks."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    transport.pause_reading()
    return transport, theirs


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_that_closes_its_side_hangs_up(loop: str) -> None:
    async def main() -> None:
        transport, theirs = await connected()
        assert not lost(transport)
        theirs.shutdown(socket.SHUT_WR)
        assert not lost(transport)
        theirs.close()
        transport.abort()
        await turns()
        assert (lost(transport), in_flight(transport)) == (True, 0)

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_reset_is_seen_by_the_peer(loop: str) -> None:
    async def main() -> None:
        transport, theirs = await connected()
        reset(transport)
        await turns()
        assert (lost(transport), in_flight(transport)) == (True, 0)
        with theirs, pytest.raises(ConnectionResetError):
            theirs.recv(1)

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_bytes_are_in_flight_until_the_peer_has_them(loop: str) -> None:
    async def main() -> None:
        transport, theirs = await connected()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport.write(bytes(4 << 20))
        assert in_flight(transport) > 0
        reset(transport)
        await turns()
        theirs.close()

    run(loop, main())


def test_what_arrived_is_read_until_there_is_no_more() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"last words")
        assert list(unread(ours)) == [b"last words"]
        theirs.sendall(b"more")
        theirs.close()
        assert list(unread(ours)) == [b"more"]
    assert list(unread(ours)) == []
    assert list(unread(None)) == []
