"""Uses what WASI offers beside HTTP, through Python's own library where that reaches it, and reports as JSON.

Each entry of the report is `{"value": …}` or `{"error": name of the exception, "errno": its symbol or None}`.
"""

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import (
    environment,
    insecure,
    insecure_seed,
    instance_network,
    ip_name_lookup,
    monotonic_clock,
    preopens,
    random,
    stdin,
    tcp_create_socket,
    terminal_stdout,
    udp_create_socket,
    wall_clock,
)
from wit_world.imports.network import IpAddressFamily, IpSocketAddress_Ipv4, Ipv4SocketAddress
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.wasi_http_types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    """wasi:http/incoming-handler."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        """Answers with the report, whatever the request."""
        print("a line on stdout")
        print("a line on stderr", file=sys.stderr)
        sys.stdout.flush()
        report = {name: attempt(function) for name, function in ATTEMPTS.items()}
        response = OutgoingResponse(Fields.from_list([("content-type", b"application/json")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        content = json.dumps(report, sort_keys=True).encode() + b"\n"
        with body.write() as stream:
            for start in range(0, len(content), 4096):
                stream.blocking_write_and_flush(content[start : start + 4096])
        OutgoingBody.finish(body, None)


def attempt(function: Callable[[], Any]) -> dict[str, Any]:
    """What came of one call."""
    try:
        return {"value": function()}
    except Err as error:
        return {"error": getattr(error.value, "name", type(error.value).__name__), "errno": None}
    except OSError as error:
        return {"error": type(error).__name__, "errno": errno.errorcode.get(error.errno or 0)}


def sleep() -> float:
    """Seconds by the monotonic clock that 50 ms of sleep took."""
    start = time.monotonic()
    time.sleep(0.05)
    return time.monotonic() - start


def pollable() -> list[bool]:
    """A timer before and after it was waited for."""
    with monotonic_clock.subscribe_duration(20_000_000) as timer:
        before = timer.ready()
        timer.block()
        return [before, timer.ready()]


def read_stdin() -> str:
    """There is nothing to read."""
    with stdin.get_stdin() as stream:
        try:
            return stream.blocking_read(10).decode()
        except Err as error:
            return "closed" if isinstance(error.value, StreamError_Closed) else "failed"


def tcp_connect() -> str:
    """Through the interface itself."""
    with tcp_create_socket.create_tcp_socket(IpAddressFamily.IPV4) as endpoint:
        address = IpSocketAddress_Ipv4(Ipv4SocketAddress(9, (127, 0, 0, 1)))
        endpoint.start_connect(instance_network.instance_network(), address)
        endpoint.subscribe().block()
        endpoint.finish_connect()
        return "connected"


def udp_bind() -> str:
    """Through the interface itself."""
    with udp_create_socket.create_udp_socket(IpAddressFamily.IPV4) as endpoint:
        address = IpSocketAddress_Ipv4(Ipv4SocketAddress(0, (127, 0, 0, 1)))
        endpoint.start_bind(instance_network.instance_network(), address)
        endpoint.finish_bind()
        return "bound"


def resolve() -> str:
    """Through the interface itself."""
    with ip_name_lookup.resolve_addresses(instance_network.instance_network(), "localhost") as addresses:
        addresses.subscribe().block()
        return str(addresses.resolve_next_address())


def socket_connect() -> str:
    """Through the socket module."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as endpoint:
        endpoint.connect(("127.0.0.1", 9))
        return "connected"


ATTEMPTS: dict[str, Callable[[], Any]] = {
    "time": time.time,
    "wall-clock": lambda: wall_clock.now().seconds,
    "wall-clock-resolution": lambda: wall_clock.resolution().nanoseconds,
    "monotonic": time.monotonic_ns,
    "monotonic-clock": monotonic_clock.now,
    "monotonic-clock-resolution": monotonic_clock.resolution,
    "sleep": sleep,
    "pollable": pollable,
    "urandom": lambda: os.urandom(16).hex(),
    "random-bytes": lambda: random.get_random_bytes(16).hex(),
    "random-u64": random.get_random_u64,
    "insecure-random-bytes": lambda: insecure.get_insecure_random_bytes(16).hex(),
    "insecure-seed": insecure_seed.insecure_seed,
    "environ": lambda: dict(os.environ),
    "environment": environment.get_environment,
    "arguments": environment.get_arguments,
    "initial-cwd": environment.initial_cwd,
    "terminal-stdout": lambda: terminal_stdout.get_terminal_stdout() is not None,
    "stdin": read_stdin,
    "directories": lambda: [path for _, path in preopens.get_directories()],
    "listdir": lambda: os.listdir("/"),
    "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "tcp-connect": tcp_connect,
    "udp-bind": udp_bind,
    "resolve": resolve,
    "socket-connect": socket_connect,
}
