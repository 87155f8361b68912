"""The world ``wasi:cli/imports``: WASI 0.2 without HTTP."""

from __future__ import annotations

from typing import Final

from wasi_http.component import Interface
from wasi_http.component.link.linker import Linker
from wasi_http.engine.errors import expect
from wasi_http.wasi import cli, clocks, filesystem, io, random, sockets

__all__ = ["INTERFACES", "add_to_linker"]

#: Every interface of the world, at version 0.2.12. Each can be defined alone, or be replaced by a subclass.
INTERFACES: Final[tuple[type[Interface], ...]] = (
    io.Error,
    io.Poll,
    io.Streams,
    clocks.MonotonicClock,
    clocks.WallClock,
    clocks.Timezone,
    random.Random,
    random.Insecure,
    random.InsecureSeed,
    cli.Environment,
    cli.ExitInterface,
    cli.Stdin,
    cli.Stdout,
    cli.Stderr,
    cli.TerminalInputInterface,
    cli.TerminalOutputInterface,
    cli.TerminalStdin,
    cli.TerminalStdout,
    cli.TerminalStderr,
    filesystem.Types,
    filesystem.Preopens,
    sockets.NetworkInterface,
    sockets.InstanceNetwork,
    sockets.IpNameLookup,
    sockets.Tcp,
    sockets.TcpCreateSocket,
    sockets.Udp,
    sockets.UdpCreateSocket,
)


def add_to_linker(linker: Linker) -> None:
    """Defines all `INTERFACES`. The ``data`` of stores that use them must be a `WasiView`."""
    expect(Linker, linker, "wasi_http.wasi.add_to_linker(linker)")
    for interface in INTERFACES:
        linker.define(interface)
