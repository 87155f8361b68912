"""What the connections of a server share: the component, and what guests are given."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from wasi_http.bindings import Proxy, ProxyPre
from wasi_http.client import Client, ClientRequest, ClientResponse, ConnectionQuota, OutgoingRequestConfig
from wasi_http.component import ResourceTable
from wasi_http.context import WasiHttpCtx
from wasi_http.egress import EgressDenied
from wasi_http.engine import Engine, Store
from wasi_http.server.config import ServerConfig
from wasi_http.server.headers import RequestHeaders
from wasi_http.view import WasiHttpView
from wasi_http.wasi.context import WasiCtx
from wasi_http.wasi.io import LinePrefix
from wasi_http.wire.request import RequestHead

__all__ = ["Handler", "Numbered", "PrefixedCtx", "ServerState"]

# Guests could fill the log with the names of hosts.
_MAX_WARNINGS: Final = 100

# Nor should they with what they say of themselves, in characters.
_MAX_TEXT: Final = 8192

# Of a method or path in the log, in characters.
_MAX_PART: Final = 200


class Numbered(Protocol):
    """What the log tells of a request."""

    number: int
    head: RequestHead


class ServerState(WasiHttpView):
    """The state of one store: of one request, or of several, one after another."""

    __slots__ = ("_handler", "_quota", "ctx", "http", "table")

    def __init__(self, handler: Handler, ctx: WasiCtx) -> None:
        self._handler = handler
        self._quota: ConnectionQuota | None = None
        self.table = ResourceTable(handler.config.max_resources, value_limit=handler.config.value_limit)
        self.ctx = ctx
        self.http = handler.http

    def begin(self, number: int) -> None:
        """Another request is served."""
        if isinstance(self.ctx, PrefixedCtx):
            self.ctx.renumber(number)

    def end(self) -> None:
        """The request is over: its unfinished lines are written."""
        if isinstance(self.ctx, PrefixedCtx):
            self.ctx.close()

    def send_request(
        self, request: ClientRequest, config: OutgoingRequestConfig
    ) -> asyncio.Future[ClientResponse]:
        if self._quota is None:
            self._quota = ConnectionQuota(self._handler.config.max_egress_connections)
        config.quota = self._quota
        return self._handler.send_request(request, config)


class Handler:
    """Makes the stores and instances for requests. ``worker`` tells their numbers from those of other workers."""

    def __init__(self, engine: Engine, pre: ProxyPre, config: ServerConfig, worker: int | None = None) -> None:
        self.engine = engine
        self.pre = pre
        self.config = config
        self.http = WasiHttpCtx()
        self.client = Client(config.client)
        self.request_headers = RequestHeaders(config.request_headers)
        self.numbers = itertools.count()
        self._numbered = "" if worker is None else f"{worker}-"
        self._env = dict(config.env)
        self._warned: set[str | None] = set()
        self._write = _writer()
        # Without prefixes all guests share one context; with them each has sinks that know its number.
        self._shared = WasiCtx(env=self._env, stdout=self._stdout, stderr=self._stderr)

    def name(self, number: int) -> str:
        """A request's number as the log has it: no other worker's request has the same."""
        return f"{self._numbered}{number}"

    def context(self, number: int) -> WasiCtx:
        """The WASI context of a request's guest."""
        if not self.config.logging_prefix:
            return self._shared
        return cast(WasiCtx, PrefixedCtx(self._shared, number, self.name, self._write))

    def instantiate(self, state: ServerState) -> tuple[Store, Proxy]:
        store = Store(self.engine, state, self.config.store_limits)
        return store, self.pre.instantiate(store)

    def send_request(
        self, request: ClientRequest, config: OutgoingRequestConfig
    ) -> asyncio.Future[ClientResponse]:
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
        method, path = (_cut(part.decode("utf-8", "replace"), _MAX_PART) for part in (head.method, head.path))
        self.log(f"error: request {self.name(request.number)} {method} {path}: {text}")

    def log(self, text: str) -> None:
        """Lines on the server's standard error; control characters are made visible, and what is too long is cut."""
        text = _cut(text, _MAX_TEXT)
        lines = ["".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line) for line in text.splitlines()]
        self._write(2, ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))

    def _stdout(self, data: bytes) -> None:
        self._write(1, data)

    def _stderr(self, data: bytes) -> None:
        self._write(2, data)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def _writer() -> Callable[[int, bytes], None]:
    # A stream that was closed when the process began is None.
    streams = {1: getattr(sys.stdout, "buffer", None), 2: getattr(sys.stderr, "buffer", None)}

    def write(descriptor: int, data: bytes) -> None:
        stream = streams[descriptor]
        if stream is not None:
            try:
                stream.write(data)
                stream.flush()
            except (OSError, ValueError):
                pass  # nobody reads the log any more, or it was closed; the server goes on

    return write


def _prefix(name: str, number: str) -> bytes:
    return f"{name} [{number}] :: ".encode()


class PrefixedCtx:
    """The shared context with standard streams whose lines are prefixed; sinks are made when a guest first prints."""

    __slots__ = ("_name", "_number", "_shared", "_sinks", "_write")

    def __init__(
        self, shared: WasiCtx, number: int, name: Callable[[int], str], write: Callable[[int, bytes], None]
    ) -> None:
        self._shared = shared
        self._number = number
        self._name = name
        self._write = write
        self._sinks: dict[str, LinePrefix] | None = None

    def __getattr__(self, name: str) -> Any:
        # One is made for each request, and most guests ask for next to nothing.
        return getattr(self._shared, name)

    @property
    def stdout(self) -> LinePrefix:
        return self._sink("stdout", 1)

    @property
    def stderr(self) -> LinePrefix:
        return self._sink("stderr", 2)

    def _sink(self, name: str, descriptor: int) -> LinePrefix:
        if self._sinks is None:
            self._sinks = {}
        sink = self._sinks.get(name)
        if sink is None:
            write, prefix = self._write, _prefix(name, self._name(self._number))
            sink = self._sinks[name] = LinePrefix(lambda data: write(descriptor, data), prefix)
        return sink

    def renumber(self, number: int) -> None:
        """What is printed from now on belongs to another request, whichever handle it is printed to."""
        self._number = number
        if self._sinks is not None:
            for name, sink in self._sinks.items():
                sink.prefix = _prefix(name, self._name(number))

    def close(self) -> None:
        """Writes unfinished lines."""
        if self._sinks is not None:
            for sink in self._sinks.values():
                sink.close()
