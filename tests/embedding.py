"""What tests of the embedder's view share: linked guests, a state, and a handler for `serve_connection`."""

from __future__ import annotations

import pytest

from tests.guests.build import GuestUnavailable, build
from wasi_http import (
    Component,
    Engine,
    Linker,
    ProxyPre,
    ResourceTable,
    WasiCtx,
    WasiHttpCtx,
    WasiHttpView,
    add_to_linker_async,
)


def component(engine: Engine, name: str) -> Component:
    """A guest; skips the test where its tools are missing."""
    try:
        return Component.from_file(engine, build(name))
    except GuestUnavailable as error:
        pytest.skip(str(error))


def link(engine: Engine, name: str) -> ProxyPre:
    """A guest with everything that a proxy imports."""
    linker = Linker(engine)
    add_to_linker_async(linker)
    return ProxyPre(linker.instantiate_pre(component(engine, name)))


class State(WasiHttpView):
    """The state of one guest."""

    def __init__(self, ctx: WasiCtx | None = None, http: WasiHttpCtx | None = None) -> None:
        self.table = ResourceTable()
        self.ctx = ctx or WasiCtx()
        self.http = http or WasiHttpCtx()
