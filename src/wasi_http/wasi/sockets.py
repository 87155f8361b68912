"""wasi:sockets: fully declared, without network access.

Guests have no network but ``wasi:http``: creating sockets and looking up names return ``access-denied``. So no guest
ever holds a socket; the classes are there for linking, and for embedders that subclass them to provide a network.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from wasi_http.component import (
    Borrow,
    Interface,
    Own,
    Resource,
    func,
    method,
    raises,
    u8,
    u16,
    u32,
    u64,
)
from wasi_http.component.model.values import Err, Variant, case
from wasi_http.wasi.io.error import IoError
from wasi_http.wasi.io.poll import Pollable
from wasi_http.wasi.io.streams import InputStream, OutputStream

__all__ = [
    "ErrorCode",
    "IncomingDatagram",
    "IncomingDatagramStream",
    "InstanceNetwork",
    "IpAddress",
    "IpAddressFamily",
    "IpNameLookup",
    "IpSocketAddress",
    "Ipv4Address",
    "Ipv4SocketAddress",
    "Ipv6Address",
    "Ipv6SocketAddress",
    "Network",
    "NetworkInterface",
    "OutgoingDatagram",
    "OutgoingDatagramStream",
    "ResolveAddressStream",
    "ShutdownType",
    "Tcp",
    "TcpCreateSocket",
    "TcpSocket",
    "Udp",
    "UdpCreateSocket",
    "UdpSocket",
]

F = TypeVar("F", bound=Callable[..., Any])

ErrorCode = enum.Enum(
    "ErrorCode",
    "UNKNOWN ACCESS_DENIED NOT_SUPPORTED INVALID_ARGUMENT OUT_OF_MEMORY TIMEOUT CONCURRENCY_CONFLICT NOT_IN_PROGRESS "
    "WOULD_BLOCK INVALID_STATE NEW_SOCKET_LIMIT ADDRESS_NOT_BINDABLE ADDRESS_IN_USE REMOTE_UNREACHABLE "
    "CONNECTION_REFUSED CONNECTION_RESET CONNECTION_ABORTED DATAGRAM_TOO_LARGE NAME_UNRESOLVABLE "
    "TEMPORARY_RESOLVER_FAILURE PERMANENT_RESOLVER_FAILURE",
    module=__name__,
)

IpAddressFamily = enum.Enum("IpAddressFamily", "IPV4 IPV6", module=__name__)

ShutdownType = enum.Enum("ShutdownType", "RECEIVE SEND BOTH", module=__name__)

Ipv4Address = tuple[u8, u8, u8, u8]
Ipv6Address = tuple[u16, u16, u16, u16, u16, u16, u16, u16]


class IpAddress(Variant):
    """The variant ``ip-address``."""

    Ipv4 = case("ipv4", Ipv4Address)
    Ipv6 = case("ipv6", Ipv6Address)


@dataclass(slots=True)
class Ipv4SocketAddress:
    """The record ``ipv4-socket-address``."""

    port: u16
    address: Ipv4Address


@dataclass(slots=True)
class Ipv6SocketAddress:
    """The record ``ipv6-socket-address``."""

    port: u16
    flow_info: u32
    address: Ipv6Address
    scope_id: u32


class IpSocketAddress(Variant):
    """The variant ``ip-socket-address``."""

    Ipv4 = case("ipv4", Ipv4SocketAddress)
    Ipv6 = case("ipv6", Ipv6SocketAddress)


@dataclass(slots=True)
class IncomingDatagram:
    """The record ``incoming-datagram``."""

    data: bytes
    remote_address: IpSocketAddress


@dataclass(slots=True)
class OutgoingDatagram:
    """The record ``outgoing-datagram``."""

    data: bytes
    remote_address: IpSocketAddress | None


def _fallible(function: F) -> F:
    return method(raises(ErrorCode)(function))


def _denied() -> Err[ErrorCode]:
    return Err(ErrorCode.ACCESS_DENIED)


class Network(Resource, name="network"):
    """The resource ``network``: the capability to use one. It does not suffice here."""

    __slots__ = ()


class TcpSocket(Resource, name="tcp-socket"):
    """The resource ``tcp-socket``. This one supports nothing."""

    __slots__ = ()

    @_fallible
    def start_bind(self, network: Borrow[Network], local_address: IpSocketAddress) -> None:
        raise _denied()

    @_fallible
    def finish_bind(self) -> None:
        raise _denied()

    @_fallible
    def start_connect(self, network: Borrow[Network], remote_address: IpSocketAddress) -> None:
        raise _denied()

    @_fallible
    def finish_connect(self) -> tuple[Own[InputStream], Own[OutputStream]]:
        raise _denied()

    @_fallible
    def start_listen(self) -> None:
        raise _denied()

    @_fallible
    def finish_listen(self) -> None:
        raise _denied()

    @_fallible
    def accept(self) -> tuple[Own[TcpSocket], Own[InputStream], Own[OutputStream]]:
        raise _denied()

    @_fallible
    def local_address(self) -> IpSocketAddress:
        raise _denied()

    @_fallible
    def remote_address(self) -> IpSocketAddress:
        raise _denied()

    @method
    def is_listening(self) -> bool:
        return False

    @method
    def address_family(self) -> IpAddressFamily:
        return IpAddressFamily.IPV4

    @_fallible
    def set_listen_backlog_size(self, value: u64) -> None:
        raise _denied()

    @_fallible
    def keep_alive_enabled(self) -> bool:
        raise _denied()

    @_fallible
    def set_keep_alive_enabled(self, value: bool) -> None:
        raise _denied()

    @_fallible
    def keep_alive_idle_time(self) -> u64:
        raise _denied()

    @_fallible
    def set_keep_alive_idle_time(self, value: u64) -> None:
        raise _denied()

    @_fallible
    def keep_alive_interval(self) -> u64:
        raise _denied()

    @_fallible
    def set_keep_alive_interval(self, value: u64) -> None:
        raise _denied()

    @_fallible
    def keep_alive_count(self) -> u32:
        raise _denied()

    @_fallible
    def set_keep_alive_count(self, value: u32) -> None:
        raise _denied()

    @_fallible
    def hop_limit(self) -> u8:
        raise _denied()

    @_fallible
    def set_hop_limit(self, value: u8) -> None:
        raise _denied()

    @_fallible
    def receive_buffer_size(self) -> u64:
        raise _denied()

    @_fallible
    def set_receive_buffer_size(self, value: u64) -> None:
        raise _denied()

    @_fallible
    def send_buffer_size(self) -> u64:
        raise _denied()

    @_fallible
    def set_send_buffer_size(self, value: u64) -> None:
        raise _denied()

    @method
    def subscribe(self) -> Own[Pollable]:
        return _subscribe(self)

    @_fallible
    def shutdown(self, shutdown_type: ShutdownType) -> None:
        raise _denied()


class IncomingDatagramStream(Resource, name="incoming-datagram-stream"):
    """The resource ``incoming-datagram-stream``. This one supports nothing."""

    __slots__ = ()

    @_fallible
    def receive(self, max_results: u64) -> list[IncomingDatagram]:
        raise _denied()

    @method
    def subscribe(self) -> Own[Pollable]:
        return _subscribe(self)


class OutgoingDatagramStream(Resource, name="outgoing-datagram-stream"):
    """The resource ``outgoing-datagram-stream``. This one supports nothing."""

    __slots__ = ()

    @_fallible
    def check_send(self) -> u64:
        raise _denied()

    @_fallible
    def send(self, datagrams: list[OutgoingDatagram]) -> u64:
        raise _denied()

    @method
    def subscribe(self) -> Own[Pollable]:
        return _subscribe(self)


class UdpSocket(Resource, name="udp-socket"):
    """The resource ``udp-socket``. This one supports nothing."""

    __slots__ = ()

    @_fallible
    def start_bind(self, network: Borrow[Network], local_address: IpSocketAddress) -> None:
        raise _denied()

    @_fallible
    def finish_bind(self) -> None:
        raise _denied()

    @_fallible
    def stream(
        self, remote_address: IpSocketAddress | None
    ) -> tuple[Own[IncomingDatagramStream], Own[OutgoingDatagramStream]]:
        raise _denied()

    @_fallible
    def local_address(self) -> IpSocketAddress:
        raise _denied()

    @_fallible
    def remote_address(self) -> IpSocketAddress:
        raise _denied()

    @method
    def address_family(self) -> IpAddressFamily:
        return IpAddressFamily.IPV4

    @_fallible
    def unicast_hop_limit(self) -> u8:
        raise _denied()

    @_fallible
    def set_unicast_hop_limit(self, value: u8) -> None:
        raise _denied()

    @_fallible
    def receive_buffer_size(self) -> u64:
        raise _denied()

    @_fallible
    def set_receive_buffer_size(self, value: u64) -> None:
        raise _denied()

    @_fallible
    def send_buffer_size(self) -> u64:
        raise _denied()

    @_fallible
    def set_send_buffer_size(self, value: u64) -> None:
        raise _denied()

    @method
    def subscribe(self) -> Own[Pollable]:
        return _subscribe(self)


class ResolveAddressStream(Resource, name="resolve-address-stream"):
    """The resource ``resolve-address-stream``. This one has no addresses."""

    __slots__ = ()

    @_fallible
    def resolve_next_address(self) -> IpAddress | None:
        return None

    @method
    def subscribe(self) -> Own[Pollable]:
        return _subscribe(self)


def _subscribe(resource: Resource) -> Pollable:
    pollable = Pollable()
    pollable.attach(resource)
    return pollable


#: By name, because platforms differ in the numbers they define.
_CODES: Final = {
    "EACCES": ErrorCode.ACCESS_DENIED,
    "EADDRINUSE": ErrorCode.ADDRESS_IN_USE,
    "EADDRNOTAVAIL": ErrorCode.ADDRESS_NOT_BINDABLE,
    "EAGAIN": ErrorCode.WOULD_BLOCK,
    "EALREADY": ErrorCode.CONCURRENCY_CONFLICT,
    "ECONNABORTED": ErrorCode.CONNECTION_ABORTED,
    "ECONNREFUSED": ErrorCode.CONNECTION_REFUSED,
    "ECONNRESET": ErrorCode.CONNECTION_RESET,
    "EHOSTUNREACH": ErrorCode.REMOTE_UNREACHABLE,
    "EINVAL": ErrorCode.INVALID_ARGUMENT,
    "EISCONN": ErrorCode.INVALID_STATE,
    "EMFILE": ErrorCode.NEW_SOCKET_LIMIT,
    "EMSGSIZE": ErrorCode.DATAGRAM_TOO_LARGE,
    "ENETUNREACH": ErrorCode.REMOTE_UNREACHABLE,
    "ENFILE": ErrorCode.NEW_SOCKET_LIMIT,
    "ENOBUFS": ErrorCode.OUT_OF_MEMORY,
    "ENOMEM": ErrorCode.OUT_OF_MEMORY,
    "ENOTCONN": ErrorCode.INVALID_STATE,
    "ENOTSUP": ErrorCode.NOT_SUPPORTED,
    "EOPNOTSUPP": ErrorCode.NOT_SUPPORTED,
    "EPERM": ErrorCode.ACCESS_DENIED,
    "EPIPE": ErrorCode.CONNECTION_RESET,
    "ETIMEDOUT": ErrorCode.TIMEOUT,
}


class NetworkInterface(Interface, name="wasi:sockets/network@0.2.12"):
    resources = (Network,)

    @func
    def network_error_code(err: Borrow[IoError]) -> ErrorCode | None:
        """Returns the code of an error caused by a code of this interface or an ``OSError``, None for others."""
        if isinstance(err.cause, ErrorCode):
            return err.cause
        if isinstance(err.cause, OSError):
            return _CODES.get(errno.errorcode.get(err.cause.errno or 0, ""), ErrorCode.UNKNOWN)
        return None


class InstanceNetwork(Interface, name="wasi:sockets/instance-network@0.2.12"):
    @func
    def instance_network() -> Own[Network]:
        return Network()


class IpNameLookup(Interface, name="wasi:sockets/ip-name-lookup@0.2.12"):
    resources = (ResolveAddressStream,)

    @func
    @raises(ErrorCode)
    def resolve_addresses(network: Borrow[Network], name: str) -> Own[ResolveAddressStream]:
        raise _denied()


class Tcp(Interface, name="wasi:sockets/tcp@0.2.12"):
    resources = (TcpSocket,)


class TcpCreateSocket(Interface, name="wasi:sockets/tcp-create-socket@0.2.12"):
    @func
    @raises(ErrorCode)
    def create_tcp_socket(address_family: IpAddressFamily) -> Own[TcpSocket]:
        raise _denied()


class Udp(Interface, name="wasi:sockets/udp@0.2.12"):
    resources = (UdpSocket, IncomingDatagramStream, OutgoingDatagramStream)


class UdpCreateSocket(Interface, name="wasi:sockets/udp-create-socket@0.2.12"):
    @func
    @raises(ErrorCode)
    def create_udp_socket(address_family: IpAddressFamily) -> Own[UdpSocket]:
        raise _denied()
