"""Socket operations that transports lack: hang-ups while reading is paused, resets, reading the rest."""

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

__all__ = ["RESET_INTERVAL", "in_flight", "keep_alive", "lost", "reset", "unread"]

#: Poll interval, in seconds, before a reset: until the peer has acknowledged what was sent.
RESET_INTERVAL: Final = 0.02

# In seconds: detects a vanished peer within a minute, and one that closed its connection once its system has forgotten
# it.
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPALIVE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 3}

# SO_LINGER {1, 0}: close() sends RST.
_NO_LINGER: Final = struct.pack("ii", 1, 0)


def keep_alive(sock: socket.socket) -> None:
    """Enables TCP keep-alive probes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        # Systems differ in the options they have.
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def lost(transport: asyncio.BaseTransport) -> bool:
    """Returns whether a connection is gone, also while reading is paused: reset, timed out, or closed here."""
    sock = transport.get_extra_info("socket")
    # Event loops differ in what a closed transport returns.
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return bool(poll.poll(0))


def in_flight(transport: asyncio.BaseTransport) -> int:
    """Returns the number of bytes that the peer has not acknowledged; 0 if the system cannot tell."""
    try:
        count = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return 0
    return int.from_bytes(count, sys.byteorder)


def reset(transport: asyncio.WriteTransport) -> None:
    """Closes a connection with a reset. Unsent data is lost."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):  # it may be closed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def unread(sock: socket.socket | None) -> Iterator[bytes]:
    """Yields what arrived on a socket before its connection was lost. It survives a failed write."""
    try:
        while sock is not None and sock.fileno() >= 0 and (data := sock.recv(65536)):
            yield data
    except OSError:
        pass  # that was all
