"""Dialling: connects to an origin, over TLS or through a proxy if required.

A name is resolved once, each address is checked by the policy, and the connection goes to a checked address, so later
changes of the name do not matter. Addresses are tried in order, alternating between families; the next attempt starts
when the previous one failed, or takes longer than ``attempt_delay`` (as in RFC 8305).
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket

from wasi_http.client.config import ClientConfig, Resolver
from wasi_http.client.connection import Connection
from wasi_http.client.errors import (
    ConfigurationError,
    InvalidName,
    LookupTimeout,
    ProtocolFailure,
    ProxyDenied,
    ProxyFailed,
)
from wasi_http.client.proxies import Proxy
from wasi_http.client.tls import context_of
from wasi_http.client.tls_transport import TlsTransport
from wasi_http.http1.errors import RemoteProtocolError
from wasi_http.http1.response import ResponseHead, ResponseParser
from wasi_http.net.authority import Address, Origin
from wasi_http.net.policy import AddressPolicy

__all__ = ["dial"]


async def dial(
    config: ClientConfig,
    resolve: Resolver,
    origin: Origin,
    protocol: Connection,
    deadline: float,
    admit: AddressPolicy | None,
) -> tuple[socket.socket, Address | None]:
    """Connects ``protocol`` to an origin, at an address that ``admit`` allows. Raises OSError.

    ``resolve`` looks names up. Returns the socket, which the protocol's transport owns, and the address, None if a
    proxy resolves the name.
    ``deadline`` is in the loop's time.
    """
    proxy = config.proxies.proxy_for(origin) if config.proxies is not None else None
    target = origin if proxy is None else proxy.origin
    try:
        async with asyncio.timeout_at(deadline):
            addresses = await _resolve(resolve, target)
    except TimeoutError as error:
        raise LookupTimeout(f"looking up {target.host} took too long") from error
    if proxy is None:
        addresses = _admitted(addresses, origin.port, admit)
    elif origin.address is not None:
        _admitted([origin.address], origin.port, admit)
    async with asyncio.timeout_at(deadline):
        sock = await _connect(addresses, target.port, config.attempt_delay)
        try:
            if proxy is not None and origin.tls:
                await _open_tunnel(sock, origin, proxy)
        except BaseException:
            sock.close()
            raise
        address = origin.address if proxy is not None else _peer(sock)
        await _attach(config, origin, protocol, sock)
        return sock, address


# Addresses


async def _resolve(resolve: Resolver, origin: Origin) -> list[Address]:
    if origin.address is not None:
        return [origin.address]
    try:
        found = await resolve(origin.host)
    except UnicodeError as error:
        raise InvalidName(str(error)) from error
    addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(found)]
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, f"{origin.host} has no address")
    first = addresses[0].version
    turns = itertools.zip_longest(
        [address for address in addresses if address.version == first],
        [address for address in addresses if address.version != first],
    )
    return [address for turn in turns for address in turn if address is not None]


def _admitted(addresses: list[Address], port: int, admit: AddressPolicy | None) -> list[Address]:
    """Returns the addresses that the policy allows; raises its error for the first if there are none."""
    if admit is None:
        return addresses
    admitted = []
    denied: OSError | None = None
    for address in addresses:
        try:
            admit(_without_zone(address), port)
        except OSError as error:
            denied = denied or error
        else:
            admitted.append(address)
    if denied is not None and not admitted:
        raise denied
    return admitted


def _without_zone(address: Address) -> Address:
    """Returns an IPv6 address without its zone, which policies ignore."""
    return ipaddress.IPv6Address(int(address)) if address.version == 6 else address


# Connections


async def _connect(addresses: list[Address], port: int, delay: float) -> socket.socket:
    """Returns a socket connected to the first address that accepts; raises the first one's error if none does."""
    if len(addresses) == 1:
        return await _attempt(addresses[0], port)
    loop = asyncio.get_running_loop()
    left = list(reversed(addresses))
    attempts: list[asyncio.Task[socket.socket]] = []
    pending: set[asyncio.Task[socket.socket]] = set()
    winner: asyncio.Task[socket.socket] | None = None
    try:
        while winner is None and (left or pending):
            if left:
                attempt = loop.create_task(_attempt(left.pop(), port))
                attempts.append(attempt)
                pending.add(attempt)
            done, pending = await asyncio.wait(
                pending, timeout=delay if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            winner = next((attempt for attempt in attempts if attempt in done and attempt.exception() is None), None)
    finally:
        for attempt in attempts:
            if not attempt.done():
                attempt.cancel()  # which closes its socket
            elif attempt is not winner and attempt.exception() is None:
                attempt.result().close()
    return attempts[0].result() if winner is None else winner.result()


async def _attempt(address: Address, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _peer(sock: socket.socket) -> Address:
    return _without_zone(ipaddress.ip_address(sock.getpeername()[0]))


async def _attach(config: ClientConfig, origin: Origin, protocol: Connection, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    # The transport owns the socket from here on.
    if not origin.tls:
        await loop.create_connection(lambda: protocol, sock=sock)
        return
    try:
        context = context_of(config.tls)
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"TLS: {error}") from error
    # An address as host is only verified, and not sent as SNI.
    transport = TlsTransport(loop, context, origin.host, sock, protocol)
    await loop.create_connection(lambda: transport, sock=sock)
    try:
        await transport.ready
    except BaseException:
        transport.abort()
        raise


# Tunnels


class _TunnelAnswer:
    """The response to CONNECT, parsed like one to HEAD: what follows belongs to the tunnel."""

    status = 0

    def on_informational(self, head: ResponseHead) -> None:
        pass

    def on_response(self, head: ResponseHead) -> None:
        self.status = head.status

    def on_body(self, data: bytes) -> None:
        pass

    def on_end(self, trailers: object) -> None:
        pass


async def _open_tunnel(sock: socket.socket, origin: Origin, proxy: Proxy) -> None:
    loop = asyncio.get_running_loop()
    name = str(origin).encode()
    request = b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n" % (name, name)
    if proxy.authorization is not None:
        request += b"proxy-authorization: %b\r\n" % proxy.authorization
    await loop.sock_sendall(sock, request + b"\r\n")
    answer = _TunnelAnswer()
    parser = ResponseParser(b"HEAD", answer)
    try:
        while not answer.status:
            data = await loop.sock_recv(sock, 4096)
            if not data:
                parser.feed_eof()  # raises
            parser.feed(data)
    except RemoteProtocolError as error:
        raise ProtocolFailure(error, f"the proxy: {error}") from error
    if not 200 <= answer.status < 300 or parser.pending:
        kind = ProxyDenied if answer.status in (403, 407) else ProxyFailed
        raise kind(f"the proxy answered {answer.status} to CONNECT {origin}")
