"""What the connections of a server share: the component, and what guests are given."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any, Final, Protocol

from wasi_http.client import ClientRequest, ClientResponse, ConnectionQuota, OutgoingRequestConfig
from wasi_http.component import ResourceTable
from wasi_http.engine import Engine, Store
from wasi_http.engine.errors import visible
from wasi_http.http.context import WasiHttpCtx
from wasi_http.http.egress import EgressDenied
from wasi_http.http.send import Client
from wasi_http.http.view import WasiHttpView
from wasi_http.http1.request import RequestHead
from wasi_http.server.access import AccessLog
from wasi_http.server.config import ServerConfig
from wasi_http.server.headers import RequestHeaders
from wasi_http.server.log import GuestOutput, Log, cut, visible_lines
from wasi_http.server.spool import Spool
from wasi_http.service.proxy import Proxy, ProxyPre
from wasi_http.wasi.context import WasiCtx
from wasi_http.wasi.io import LinePrefix

__all__ = ["GuestCtx", "Handler", "Numbered", "ServerState"]

# Guests could fill the log with the names of hosts.
_MAX_WARNINGS: Final = 100

# Of a method or path in the log, in characters.
_MAX_PART: Final = 200


class Numbered(Protocol):
    """What the log tells of a request."""

    number: int
    head: RequestHead


class ServerState(WasiHttpView):
    """The state of one store: of one request, or of several, one after another.

    ``requested`` says that the guest has sent a request for the present one.
    """

    __slots__ = ("_guest", "_handler", "_quota", "ctx", "http", "requested", "table")

    def __init__(self, handler: Handler, ctx: GuestCtx) -> None:
        self._handler = handler
        self._quota: ConnectionQuota | None = None
        self.table = ResourceTable(handler.config.max_resources, value_limit=handler.config.value_limit)
        self._guest = ctx
        self.ctx: WasiCtx = ctx  # type: ignore[assignment]  # it behaves like one
        self.http = handler.http
        self.requested = False

    def begin(self, number: int) -> None:
        """Another request is served."""
        self.requested = False
        self._guest.renumber(number)

    def end(self) -> None:
        """The request is over: its unfinished lines are written."""
        self._guest.close()

    def send_request(self, request: ClientRequest, config: OutgoingRequestConfig) -> asyncio.Future[ClientResponse]:
        self.requested = True
        if self._quota is None:
            self._quota = ConnectionQuota(self._handler.config.max_egress_connections)
        config.quota = self._quota
        return self._handler.send_request(request, config)


class Handler:
    """Makes the stores and instances for requests.

    ``worker`` tells their numbers from those of other workers, ``output`` is where they are written about (the standard
    streams of the process).
    """

    def __init__(
        self,
        engine: Engine,
        pre: ProxyPre,
        config: ServerConfig,
        worker: int | None = None,
        output: Log | None = None,
    ) -> None:
        self.engine = engine
        self.pre = pre
        self.config = config
        self.http = WasiHttpCtx()
        self.client = Client(config.client)
        self.request_headers = RequestHeaders(config.request_headers) if config.request_headers else None
        self.numbers = itertools.count()
        self._numbered = "" if worker is None else f"{worker}-"
        self._warned: set[str | None] = set()
        self.output = Log.standard() if output is None else output
        #: Says what was served, if anything does.
        self.access: AccessLog | None = None
        self.shared = WasiCtx(env=dict(config.env))

    def name(self, number: int) -> str:
        """A request's number as the log has it: no other worker's request has the same."""
        return f"{self._numbered}{number}"

    def context(self, number: int) -> GuestCtx:
        """The WASI context of a request's guest."""
        return GuestCtx(self, number)

    def instantiate(self, state: ServerState) -> tuple[Store, Proxy]:
        store = Store(self.engine, state, self.config.store_limits)
        return store, self.pre.instantiate(store)

    def send_request(self, request: ClientRequest, config: OutgoingRequestConfig) -> asyncio.Future[ClientResponse]:
        """Sends a guest's request if the egress policy lets it; what it does not let out is logged, once per host."""
        try:
            response = self.config.egress.send_request(request, config, self.client)
        except EgressDenied as denied:
            self._report(denied)
            raise
        response.add_done_callback(self._look_at)
        return response

    def _look_at(self, response: asyncio.Future[ClientResponse]) -> None:
        if not response.cancelled() and isinstance(error := response.exception(), EgressDenied):
            self._report(error)

    def _report(self, denied: EgressDenied) -> None:
        if denied.rule not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(denied.rule)
            self.log(f"{denied}; allow it with --allow-egress {denied.rule}" if denied.rule else str(denied))

    def report(self, request: Numbered, text: str) -> None:
        """Logs why a request failed. What the client sent of it is cut."""
        head = request.head
        method, path = (visible(cut(part.decode("utf-8", "replace"), _MAX_PART)) for part in (head.method, head.path))
        self.log(f"error: request {self.name(request.number)} {method} {path}: {text}")

    def log(self, text: str) -> None:
        """A line on the server's standard error; see `Log.line`."""
        self.output.line(text)


class GuestCtx:
    """The shared context with standard streams of a request's own; their sinks are made when a guest first prints.

    Lines are prefixed, and control characters in them made visible. What is printed as it is has neither, unless a
    terminal would act upon it.
    """

    __slots__ = ("_handler", "_number", "_sinks")

    def __init__(self, handler: Handler, number: int) -> None:
        self._handler = handler
        self._number = number
        self._sinks: dict[str, LinePrefix] | None = None

    def __getattr__(self, name: str) -> Any:
        # One is made for each request, and most guests ask for next to nothing.
        return getattr(self._handler.shared, name)

    @property
    def stdout(self) -> GuestOutput:
        return self._stream("stdout", self._handler.output.stdout)

    @property
    def stderr(self) -> GuestOutput:
        return self._stream("stderr", self._handler.output.stderr)

    def _stream(self, name: str, spool: Spool) -> GuestOutput:
        if not self._handler.config.logging_prefix and not spool.terminal:
            return GuestOutput(spool, spool.write)
        if self._sinks is None:
            self._sinks = {}
        sink = self._sinks.get(name)
        if sink is None:
            prefix = self._prefix(name)
            sink = self._sinks[name] = LinePrefix(lambda data: spool.write(visible_lines(data)), prefix)
        return GuestOutput(spool, sink)

    def _prefix(self, name: str) -> bytes:
        if not self._handler.config.logging_prefix:
            return b""
        return f"{name} [{self._handler.name(self._number)}] :: ".encode()

    def renumber(self, number: int) -> None:
        """What is printed from now on belongs to another request, whichever handle it is printed to."""
        self._number = number
        if self._sinks is not None:
            for name, sink in self._sinks.items():
                sink.prefix = self._prefix(name)

    def close(self) -> None:
        """Writes unfinished lines."""
        if self._sinks is not None:
            for sink in self._sinks.values():
                sink.close()
