"""Adding what a proxy imports to a linker: everything, HTTP alone, or one interface after the other."""

from __future__ import annotations

from typing import Final

from wasi_http.component import Interface, Linker
from wasi_http.component.link.linker import Provider
from wasi_http.engine.errors import expect
from wasi_http.http.outgoing import OutgoingHandler
from wasi_http.http.types import Types
from wasi_http.wasi import imports

__all__ = [
    "HTTP_INTERFACES",
    "INTERFACES",
    "add_only_http_to_linker_async",
    "add_only_http_to_linker_sync",
    "add_to_linker_async",
    "add_to_linker_sync",
]

#: The interfaces of wasi:http that guests import. ``linker.define`` takes any of them alone, or a subclass of it.
HTTP_INTERFACES: Final[tuple[type[Interface], ...]] = (Types, OutgoingHandler)

#: All that `add_to_linker_async` defines.
INTERFACES: Final[tuple[type[Interface], ...]] = (*imports.INTERFACES, *HTTP_INTERFACES)

# What a LinkError says when these have been forgotten.
Linker.providers += [
    Provider(f"wasi_http.{call}(linker)", (interface.name for interface in interfaces))
    for call, interfaces in (
        ("add_only_http_to_linker_async", HTTP_INTERFACES),
        ("wasi.add_to_linker", imports.INTERFACES),
        ("add_to_linker_async", INTERFACES),
    )
]


def add_to_linker_async(linker: Linker) -> None:
    """Defines all interfaces of ``wasi:http/proxy``, and the rest of WASI that components built for it import.

    The store's ``data`` must be a `WasiHttpView`.
    """
    expect(Linker, linker, "add_to_linker_async(linker)")
    for interface in INTERFACES:
        linker.define(interface)


def add_only_http_to_linker_async(linker: Linker) -> None:
    """Defines ``wasi:http/types`` and ``wasi:http/outgoing-handler`` alone."""
    expect(Linker, linker, "add_only_http_to_linker_async(linker)")
    for interface in HTTP_INTERFACES:
        linker.define(interface)


def add_to_linker_sync(linker: Linker) -> None:
    """`add_to_linker_async` for `wasi_http.bindings.sync`, whose guests run on event loops of their own.

    The interfaces are the same: one linker serves both forms.
    """
    add_to_linker_async(linker)


def add_only_http_to_linker_sync(linker: Linker) -> None:
    """`add_only_http_to_linker_async` for `wasi_http.bindings.sync`."""
    add_only_http_to_linker_async(linker)
