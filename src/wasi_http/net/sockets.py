"""What sockets tell and do that transports do not: hang-ups while nothing is read, resets, what is left to read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import select
import socket
import struct
import sys
import termios
from collections.abc import Iterator
from typing import Final

__all__ = ["RESET_INTERVAL", "hung_up", "in_flight", "keep_alive", "lost", "reset", "unread"]

#: How often, in seconds, to look at a connection that is to be reset, until the peer has what was sent before.
RESET_INTERVAL: Final = 0.02

# Tells that a peer has closed its side, also while nothing is read. Not every system knows it.
_HANG_UP: Final[int] = getattr(select, "POLLRDHUP", 0)

# In seconds: a peer that has vanished is noticed within a minute, and one that closed its connection as soon as its
# system has forgotten it.
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPALIVE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}

# SO_LINGER: on, for no time at all.
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def _has(transport: asyncio.BaseTransport, events: int) -> bool:
    sock = transport.get_extra_info("socket")
    # What a closed transport says differs between event loops.
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), events)
    return bool(poll.poll(0))


def keep_alive(sock: socket.socket) -> None:
    """Has the system probe whether the peer is still there."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        # Not every system has all of them.
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def lost(transport: asyncio.BaseTransport) -> bool:
    """Whether a connection from which nothing is read is gone: reset by the peer, timed out, or closed here."""
    return _has(transport, 0)


def hung_up(transport: asyncio.BaseTransport) -> bool:
    """Whether it is gone, or the peer has closed its side."""
    return _has(transport, _HANG_UP)


def in_flight(transport: asyncio.BaseTransport) -> int:
    """How many bytes the peer's system has not acknowledged; 0 where the system does not tell, or not any more."""
    try:
        count = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return 0
    return int.from_bytes(count, sys.byteorder)


def reset(transport: asyncio.WriteTransport) -> None:
    """Closes a connection at once, with a reset. What is written and has not left is lost."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def unread(sock: socket.socket | None) -> Iterator[bytes]:
    """What has arrived on a socket whose connection is lost. A failed write does not take it away."""
    try:
        while sock is not None and sock.fileno() >= 0 and (data := sock.recv(65536)):
            yield data
    except OSError:
        pass  # that was all
