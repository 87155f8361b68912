from __future__ import annotations

import errno
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from wasi_http.component.model.values import Err
from wasi_http.wasi.io import IoError
from wasi_http.wasi.sockets import (
    ErrorCode,
    IncomingDatagramStream,
    InstanceNetwork,
    IpAddressFamily,
    IpNameLookup,
    Network,
    NetworkInterface,
    OutgoingDatagramStream,
    ResolveAddressStream,
    Tcp,
    TcpCreateSocket,
    TcpSocket,
    Udp,
    UdpCreateSocket,
    UdpSocket,
)


@pytest.mark.parametrize(
    "call",
    [
        *[lambda family=family: TcpCreateSocket.create_tcp_socket(family) for family in IpAddressFamily],
        *[lambda family=family: UdpCreateSocket.create_udp_socket(family) for family in IpAddressFamily],
        lambda: IpNameLookup.resolve_addresses(InstanceNetwork.instance_network(), "example.com"),
        lambda: IpNameLookup.resolve_addresses(Network(), "\0" * 100_000),
    ],
)
def test_there_is_no_network(call: Callable[[], Any]) -> None:
    with pytest.raises(Err) as caught:
        call()
    assert caught.value.value is ErrorCode.ACCESS_DENIED


PLAIN = {
    "[method]tcp-socket.is-listening": False,
    "[method]tcp-socket.address-family": IpAddressFamily.IPV4,
    "[method]udp-socket.address-family": IpAddressFamily.IPV4,
    "[method]resolve-address-stream.resolve-next-address": None,
}

METHODS = [
    (resource, function)
    for interface in (Tcp(), Udp(), IpNameLookup())
    for resource in interface.resources
    for function in interface.functions().values()
    if function.name.startswith(f"[method]{resource.__resource_type__.name}.")
]


@pytest.mark.parametrize(("resource", "function"), METHODS, ids=lambda value: getattr(value, "name", ""))
def test_sockets_can_do_nothing(resource: type[Any], function: Any) -> None:
    arguments = [2**64 - 1] * (len(inspect.signature(function.call).parameters) - 1)
    if function.name.endswith(".subscribe"):
        assert function.call(resource()).ready()
    elif function.name in PLAIN:
        assert function.call(resource()) is PLAIN[function.name]
    else:
        with pytest.raises(Err) as caught:
            function.call(resource(), *arguments)
        assert caught.value.value is ErrorCode.ACCESS_DENIED


def test_every_method_was_tried() -> None:
    resources = [resource for resource, _ in METHODS]
    counts = {
        TcpSocket: 28,
        UdpSocket: 13,
        IncomingDatagramStream: 2,
        OutgoingDatagramStream: 3,
        ResolveAddressStream: 2,
    }
    assert {resource: resources.count(resource) for resource in resources} == counts


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (None, None),
        (ValueError(), None),
        (ErrorCode.TIMEOUT, ErrorCode.TIMEOUT),
        (ConnectionResetError(errno.ECONNRESET, ""), ErrorCode.CONNECTION_RESET),
        (OSError(errno.EHOSTUNREACH, ""), ErrorCode.REMOTE_UNREACHABLE),
        (OSError(errno.EIO, ""), ErrorCode.UNKNOWN),
        (OSError(), ErrorCode.UNKNOWN),
    ],
)
def test_error_code(cause: object, expected: ErrorCode | None) -> None:
    assert NetworkInterface.network_error_code(IoError(cause)) is expected
