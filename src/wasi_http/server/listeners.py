"""Where a server listens: at every address that a host name, or no name at all, stands for."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from wasi_http.net.authority import join
from wasi_http.net.sockets import keep_alive

__all__ = ["Address", "authority", "bind", "listen", "resolve"]

#: A family, and an address as sockets of the family have it.
Address: TypeAlias = tuple[int, tuple[Any, ...]]

# The machine has no such address, or nothing of the family at all.
_ABSENT: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT))

# How many ports are tried until one is free at all addresses.
_ATTEMPTS: Final = 16


def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host, those of every interface for ``""``. Raises OSError, or UnicodeError for no name."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def bind(addresses: Sequence[Address], *, reuse_port: bool = False) -> list[socket.socket]:
    """Sockets that have the addresses but do not listen yet; with port 0 all get the same free one.

    An address that this machine does not have is left out if there is another. Raises OSError, whose ``filename`` is
    the address. With ``reuse_port`` several sockets that ask for it share the port.
    """
    attempt = 1
    while True:
        try:
            return _bind_all(addresses, reuse_port)
        except OSError as error:
            free = any(not address[1] for _, address in addresses)
            if error.errno != errno.EADDRINUSE or not free or attempt == _ATTEMPTS:
                raise
        attempt += 1


def _bind_all(addresses: Sequence[Address], reuse_port: bool) -> list[socket.socket]:
    bound: list[socket.socket] = []
    absent: OSError | None = None
    port = 0
    try:
        for family, address in addresses:
            try:
                listener = _bind(family, (address[0], address[1] or port, *address[2:]), reuse_port, len(addresses) > 1)
            except OSError as error:
                named = OSError(error.errno, error.strerror, _authority(*address[:2]))
                if error.errno not in _ABSENT:
                    raise named from None
                absent = absent or named
            else:
                bound.append(listener)
                port = listener.getsockname()[1]
        if not bound:
            raise absent or OSError(errno.EADDRNOTAVAIL, "No address")
    except BaseException:
        for listener in bound:
            listener.close()
        raise
    return bound


def _bind(family: int, address: tuple[Any, ...], reuse_port: bool, several: bool) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are not quite gone can be bound again at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if several and family == socket.AF_INET6:
            # IPv4 has a socket of its own.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        keep_alive(listener)  # which hands it on to its connections
        listener.bind(address)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def listen(host: str, port: int, backlog: int, *, reuse_port: bool = False) -> list[socket.socket]:
    """Listening sockets at all addresses of a host; raises OSError. See `bind`."""
    listeners = bind(resolve(host, port), reuse_port=reuse_port)
    try:
        for listener in listeners:
            listener.listen(backlog)
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def authority(listener: socket.socket) -> str:
    """The address of a socket as URLs have it."""
    host, port = listener.getsockname()[:2]
    return _authority(host, port)


def _authority(host: str, port: int) -> str:
    # RFC 6874, section 2: the sign before a zone is escaped.
    return join(host.replace("%", "%25"), port)
