"""From an authority to a connected socket."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wasi_http.error import DnsErrorPayload, ErrorCode, HttpError

__all__ = ["Allows", "Target", "connect"]

#: Whether a connection to an address and a port is allowed.
Allows = Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address, int], bool]

_Found = tuple[int, int, int, str, Any]


class Target(NamedTuple):
    """Where a connection leads; ``host`` is without brackets."""

    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, authority: str, tls: bool) -> Target:
        """The target of a request; raises HttpError when the authority is no ``host[:port]``."""
        host, colon, port = authority.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = authority, "443" if tls else "80"
        if not (host and port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536):
            raise HttpError(ErrorCode.HttpRequestUriInvalid, f"{authority!r} is no host[:port]")
        return cls(host.strip("[]"), int(port), tls)


async def connect(target: Target, allows: Allows | None, delay: float) -> socket.socket:
    """A socket connected to one of the target's addresses; raises OSError, of which `HttpError` is one.

    Addresses are tried in the order of the resolver, families in turn; each has ``delay`` seconds before the next is
    tried as well.
    """
    found = _in_turn(await _resolve(target))
    if allows is not None:
        found = [one for one in found if allows(_address(one), target.port)]
        if not found:
            raise HttpError(ErrorCode.DestinationIpProhibited, f"{target.host} leads to no address that is allowed")
    if len(found) == 1:
        return await _connected(*found[0][:3], found[0][4])
    return await _first_of(found, delay)


def _address(found: _Found) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    # An IPv6 address may have a zone.
    return ipaddress.ip_address(str(found[4][0]).partition("%")[0])


async def _resolve(target: Target) -> Sequence[_Found]:
    host, port = target.host, target.port
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        pass
    try:
        found: Sequence[_Found] = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise HttpError(ErrorCode.DnsError(DnsErrorPayload("invalid host name", None)), str(error)) from error
    if not found:
        raise HttpError(ErrorCode.DestinationNotFound, f"{host} has no address")
    return found


def _in_turn(found: Sequence[_Found]) -> list[_Found]:
    """The families take turns, beginning with that of the first address (RFC 8305, section 4)."""
    first = [one for one in found if one[0] == found[0][0]]
    others = [one for one in found if one[0] != found[0][0]]
    return [one for pair in itertools.zip_longest(first, others) for one in pair if one is not None]


async def _connected(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


async def _first_of(found: Sequence[_Found], delay: float) -> socket.socket:
    """The first address that answers; what the first of them said if none does."""
    waiting = list(found)
    attempts: set[asyncio.Task[socket.socket]] = set()
    refused: OSError | None = None
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.ensure_future(_connected(*waiting[0][:3], waiting.pop(0)[4])))
            done, _ = await asyncio.wait(
                attempts, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                attempts.discard(attempt)
                try:
                    return attempt.result()
                except OSError as error:
                    refused = refused or error
        assert refused is not None
        raise refused
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close)


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """One that was cancelled when it had its connection already."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
