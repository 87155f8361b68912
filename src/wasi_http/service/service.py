"""A component that answers requests."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Any, Final, Self

from wasi_http.client import OutgoingRequestConfig
from wasi_http.component import Component, Linker
from wasi_http.engine import Engine, EngineConfig, Store, StoreLimits
from wasi_http.engine.errors import excerpt, expect, visible
from wasi_http.flow.pipe import Pipe
from wasi_http.http.context import WasiHttpCtx
from wasi_http.http.egress import Egress, EgressDenied
from wasi_http.http.errors import HttpError
from wasi_http.http.fields import Field
from wasi_http.http.linking import add_to_linker_async
from wasi_http.http.message import Body, Request, Response, is_bodiless
from wasi_http.http.send import Client
from wasi_http.http.values import ErrorCode
from wasi_http.service.admission import ABORT_TIMEOUT, SPARE_INSTANCES, Admission
from wasi_http.service.config import ServiceConfig
from wasi_http.service.guest import Guest
from wasi_http.service.instances import InstancePool
from wasi_http.service.proxy import ProxyPre
from wasi_http.service.run import Receiver, Run
from wasi_http.wasi.context import WasiCtx

__all__ = ["Informational", "Service"]

#: Called with the status and the headers of an informational response.
Informational = Callable[[int, list[Field]], None]

_LOG: Final = logging.getLogger("wasi_http")

# Of a method or path in the log, in characters.
_MAX_PART: Final = 200

# Of why a request failed: guests may say much in an error code.
_MAX_TEXT: Final = 8192

_OTHER_LOOP: Final = "the service belongs to another event loop: make one for each"

# Guests could fill the log with the names of hosts.
_MAX_WARNINGS: Final = 100


class Service:
    """Answers requests with a component, each in an instance that no other request uses at the time.

    Use it in ``async with``, or `close` it; it belongs to one event loop. Guests have what ``config`` and ``ctx`` give
    them, and nothing else. Several services may share an engine.

    What guests do wrong goes to the logger ``wasi_http``; subclasses may override `report`, `denied`, `log`,
    `new_context` and `send_request`.
    """

    def __init__(
        self, engine: Engine, pre: ProxyPre, config: ServiceConfig | None = None, *, ctx: WasiCtx | None = None
    ) -> None:
        expect(Engine, engine, "Service(engine, pre), or Service.from_file(path)")
        expect(ProxyPre, pre, "Service(engine, pre), or Service.from_file(path)")
        if config is not None:
            expect(ServiceConfig, config, "config=ServiceConfig(timeout=10.0)")
        self.engine = engine
        self.pre = pre
        self.config = ServiceConfig() if config is None else config
        self.handler = pre.proxy.wasi_http_incoming_handler
        self.ctx = WasiCtx(env=dict(self.config.env)) if ctx is None else ctx
        self.http = WasiHttpCtx()
        self.client = Client(self.config.client)
        self.numbers: Iterator[int] = itertools.count()
        self._warned: set[str | None] = set()
        self._idle = asyncio.Event()
        self._open = False
        self._closed = False
        self.loop: asyncio.AbstractEventLoop
        self.instances: InstancePool
        self.admission: Admission | None = None

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        env: Mapping[str, str] | None = None,
        egress: Egress | None = None,
        limits: StoreLimits | None = None,
        timeout: float | None = None,
        reuse: int | None = None,
        config: ServiceConfig | None = None,
        engine: Engine | EngineConfig | None = None,
        ctx: WasiCtx | None = None,
    ) -> Self:
        """A service of the component in a file, which is compiled, or found in the compile cache.

        ``env``, ``egress``, ``limits``, ``timeout`` and ``reuse`` stand for what ``config`` has as ``env``, ``egress``,
        ``store_limits``, ``timeout`` and ``max_instance_reuse_count``. Raises OSError for an unreadable file,
        `InvalidComponent`, `CompileError`, and `LinkError` for a component that is not a proxy, or needs what this
        host does not have.
        """
        options: dict[str, Any] = {
            "env": env,
            "egress": egress,
            "store_limits": limits,
            "timeout": timeout,
            "max_instance_reuse_count": reuse,
        }
        if env is not None and ctx is not None:
            raise ValueError("give env, or a ctx that has it: WasiCtx(env=…)")
        if config is not None:
            expect(ServiceConfig, config, "config=ServiceConfig(timeout=10.0)")
        given = {name: value for name, value in options.items() if value is not None}
        config = replace(config or ServiceConfig(), **given)
        if not isinstance(engine, Engine):
            instances = config.max_concurrent_requests + SPARE_INSTANCES
            engine = Engine(replace(engine or EngineConfig(), max_instances=instances))
        linker = Linker(engine)
        add_to_linker_async(linker)
        pre = ProxyPre(linker.instantiate_pre(Component.from_file(engine, path)))
        return cls(engine, pre, config, ctx=ctx)

    # Requests

    async def handle(self, request: Request, *, informational: Informational | None = None) -> Response:
        """The response of a guest, as soon as it sets it; its body follows, and the guest may go on after it.

        ``informational`` is called with the status and headers of each informational response.

        Raises `NoResponse` if the guest traps, takes longer than ``timeout``, or ends without a response, and
        `HttpError` if it answers with an error code, or the service is closed meanwhile. A body fails with
        ``HTTP-response-incomplete`` when the guest is stopped, and with ``HTTP-protocol-error`` when it drops the body.
        When this is cancelled, or the body of the response, the guest's streams fail, and it has ``client_gone_grace``
        to end.

        Raises RuntimeError if the service is closed, or belongs to another event loop, and ValueError for a request
        whose body was sent before.
        """
        expect(Request, request, 'service.handle(Request("GET", "http://localhost/"))')
        if request.body is not None and _is_used(request.body):
            raise ValueError("the body of the request was sent before: make a Request for each call")
        loop = asyncio.get_running_loop()
        reply = _Reply(loop.create_future(), informational)
        run = reply.run = self.prepare(request, reply)
        if loop is not self.loop:
            raise RuntimeError(_OTHER_LOOP)
        self.start(run)
        try:
            return await reply.response
        except asyncio.CancelledError:
            run.leave()
            raise

    async def __call__(self, request: Request, config: OutgoingRequestConfig | None = None) -> Response:
        """`handle` as the hook `send_request` of another service or view, or as what that hook calls.

        Bodies go from guest to guest, without a socket. The times of ``config`` do not apply: ``timeout`` does.
        """
        return await self.handle(request)

    def prepare(self, request: Request, receiver: Receiver) -> Run:
        """A request that has not begun; see `Run`. Raises RuntimeError for a service that is closed."""
        if not self._open:
            self.open()
        return Run(self, request, receiver)

    def start(self, run: Run) -> None:
        """Begins a request, now or when it is its turn."""
        assert self.admission is not None
        self.admission.admit(run)

    # The driver of a guest asks for these.

    def new_guest(self, number: int) -> Guest:
        """A fresh instance for the request of that number; raises `Trap` when it cannot start."""
        guest = Guest(self, self.new_context(number))
        try:
            store = Store(self.engine, guest, self.config.store_limits)
            self.pre.instantiate(store)
        except BaseException:
            self.end(guest)
            raise
        guest.store = store
        return guest

    def send_request(self, request: Request, config: OutgoingRequestConfig) -> Awaitable[Response]:
        """Sends a guest's request if the egress policy lets it; see `WasiHttpView.send_request`."""
        try:
            response = self.config.egress.send_request(request, config, self.client)
        except EgressDenied as denied:
            self._deny(denied)
            raise
        response.add_done_callback(self._look_at)
        return response

    def _look_at(self, response: asyncio.Future[Response]) -> None:
        if not response.cancelled() and isinstance(error := response.exception(), EgressDenied):
            self._deny(error)

    def _deny(self, denied: EgressDenied) -> None:
        """Tells the log, once per host."""
        if denied.rule not in self._warned and len(self._warned) < _MAX_WARNINGS:
            self._warned.add(denied.rule)
            self.denied(denied)

    # Hooks

    def new_context(self, number: int) -> WasiCtx:
        """What WASI gives the guest of the request of that number."""
        return self.ctx

    def renumber(self, guest: Guest, number: int) -> None:
        """The guest serves another request from now on."""

    def end(self, guest: Guest) -> None:
        """The guest's request is over."""

    def report(self, run: Run, text: str) -> None:
        """Logs why a request failed."""
        method, path = (visible(part[:_MAX_PART]) for part in (run.request.method, run.request.path))
        _LOG.error("request %d %s %s: %s", run.number, method, path, excerpt(text, _MAX_TEXT, "\n"))

    def denied(self, denied: EgressDenied) -> None:
        """Logs that a guest may not send its request."""
        self.log(str(denied))

    def log(self, text: str) -> None:
        _LOG.warning("%s", text)

    # From its beginning to its end

    def open(self) -> None:
        """Binds the service to the running event loop; raises RuntimeError if it is closed, or bound to another."""
        if self._closed:
            raise RuntimeError("the service is closed: make another")
        if self._open:
            if self.loop is not asyncio.get_running_loop():
                raise RuntimeError(_OTHER_LOOP)
            return
        self._open = True
        self.loop = asyncio.get_running_loop()
        admission = self.admission = Admission(self.engine, self.config, self.loop)
        self.instances = InstancePool(self, self.loop, admission.make_way)
        # Without a step in between, for each request.
        self.start = admission.admit  # type: ignore[method-assign]
        self.readmit, self.withdraw = admission.readmit, admission.withdraw
        self.retire, self.dismiss = admission.retire, admission.dismiss

    @property
    def active(self) -> int:
        """How many guests are at work."""
        return 0 if self.admission is None else len(self.admission.active)

    def abort(self) -> None:
        """Unwinds all guests, as soon as their host functions let them."""
        if self.admission is not None:
            self.admission.abort()

    async def close(self) -> None:
        """Unwinds the guests that are at work, and releases everything. Idempotent."""
        self._open, self._closed = False, True
        admission = self.admission
        if admission is None:
            return
        admission.abort()
        admission.on_dismiss = self._idle.set
        try:
            async with asyncio.timeout(ABORT_TIMEOUT):
                while admission.active:
                    self._idle.clear()
                    await self._idle.wait()
                await self.client.close()
        except TimeoutError:
            self.log(f"error: {len(admission.active)} requests did not let themselves be cancelled")
        finally:
            admission.close()
            self.instances.close()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _is_used(body: Body) -> bool:
    pipe = body.pipe
    return pipe.cancelled or (body.wanted and pipe.ended and not pipe.size)


class _Reply:
    """The receiver of `Service.handle`."""

    __slots__ = ("_informational", "response", "run")

    def __init__(self, response: asyncio.Future[Response], informational: Informational | None) -> None:
        self.response = response
        self._informational = informational
        self.run: Run

    def inform(self, status: int, headers: list[Field]) -> None:
        if self._informational is not None:
            self._informational(status, list(headers))

    def respond(self, status: int, headers: list[Field], body: Pipe | None) -> None:
        if self.response.done():
            return
        if body is not None and is_bodiless(self.run.request.method, status):
            _skip(body)
            body = None
        pipe = Pipe.of() if body is None else body
        self.response.set_result(Response.of(status, list(headers), Body(pipe, abandon=self.run.leave)))

    def fail(self, status: int, error: Exception) -> None:
        if not self.response.done():
            self.response.set_exception(error)

    def finished(self) -> None:
        if not self.response.done():
            closed = HttpError(ErrorCode.ConnectionTerminated, "the service was closed")
            self.response.set_exception(closed)


def _skip(pipe: Pipe) -> None:
    """Drops what a guest writes to a response that has no body."""

    def drop() -> None:
        while pipe.size:
            pipe.take(pipe.size)

    pipe.readable.add(drop)
    drop()
