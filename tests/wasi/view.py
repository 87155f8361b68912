"""The ``data`` of a store, as tests need it."""

from __future__ import annotations

from typing import Any

from wasi_http.component.handles import ResourceTable
from wasi_http.wasi import WasiCtx


class View:
    def __init__(self, **arguments: Any) -> None:
        self.table = ResourceTable()
        self.ctx = WasiCtx(**arguments)
