"""A guest: one instance of the component, and the state that its store carries."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from wasi_http.client import ConnectionQuota, OutgoingRequestConfig
from wasi_http.component import ResourceTable
from wasi_http.engine import Store
from wasi_http.http.context import WasiHttpCtx
from wasi_http.http.message import Request, Response
from wasi_http.http.view import WasiHttpView
from wasi_http.service.config import ServiceConfig
from wasi_http.wasi.context import WasiCtx

__all__ = ["Guest", "Host"]


class Host(Protocol):
    """What guests of one service share."""

    config: ServiceConfig
    http: WasiHttpCtx

    def send_request(self, request: Request, config: OutgoingRequestConfig) -> Awaitable[Response]: ...


class Guest(WasiHttpView):
    """It serves one request, or several, one after another.

    ``served`` counts its requests, the one it is at included. ``requested`` says that it has sent a request for the
    present one. ``since`` is when it became idle, in the loop's time.
    """

    __slots__ = ("_host", "_quota", "ctx", "http", "requested", "served", "since", "store", "table")

    def __init__(self, host: Host, ctx: WasiCtx) -> None:
        config = host.config
        self._host = host
        self._quota: ConnectionQuota | None = None
        self.table = ResourceTable(config.max_resources, value_limit=config.value_limit)
        self.ctx = ctx
        self.http = host.http
        self.requested = False
        self.served = 1
        self.since = 0.0
        self.store: Store

    def send_request(self, request: Request, config: OutgoingRequestConfig) -> Awaitable[Response]:
        self.requested = True
        if self._quota is None:
            self._quota = ConnectionQuota(self._host.config.max_egress_connections)
        config.quota = self._quota
        return self._host.send_request(request, config)
