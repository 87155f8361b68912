"""Adding everything that a proxy imports to a linker."""

from __future__ import annotations

from wasi_http.component import Linker
from wasi_http.outgoing import OutgoingHandler
from wasi_http.types import Types
from wasi_http.wasi.imports import add_to_linker

__all__ = ["add_only_http_to_linker_async", "add_to_linker_async"]


def add_to_linker_async(linker: Linker) -> None:
    """Defines all interfaces of ``wasi:http/proxy``, and the rest of WASI that components built for it import.

    The store's ``data`` must be a `WasiHttpView`.
    """
    add_to_linker(linker)
    add_only_http_to_linker_async(linker)


def add_only_http_to_linker_async(linker: Linker) -> None:
    """Defines ``wasi:http/types`` and ``wasi:http/outgoing-handler`` alone."""
    linker.define(Types)
    linker.define(OutgoingHandler)
