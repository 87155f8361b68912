"""The ``data`` of a store, as tests of wasi:http need it."""

from __future__ import annotations

from collections.abc import Iterable

from wasi_http.component import ResourceTable
from wasi_http.http.context import DEFAULT_FIELD_SIZE_LIMIT, WasiHttpCtx
from wasi_http.http.view import WasiHttpView
from wasi_http.wasi import WasiCtx


class View(WasiHttpView):
    """``forbidden`` are names of fields that belong to this host beside those that always do."""

    def __init__(self, field_size_limit: int = DEFAULT_FIELD_SIZE_LIMIT, forbidden: Iterable[str] = ()) -> None:
        self.table = ResourceTable()
        self.ctx = WasiCtx()
        self.http = WasiHttpCtx(field_size_limit=field_size_limit)
        self._forbidden = frozenset(forbidden)

    def is_forbidden_header(self, name: str) -> bool:
        return name in self._forbidden or super().is_forbidden_header(name)
