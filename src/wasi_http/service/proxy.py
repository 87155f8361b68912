"""Proxies: components that export ``wasi:http/incoming-handler``."""

from __future__ import annotations

from wasi_http.component import Call, InstancePre, Lifted, LinkError
from wasi_http.component.model.errors import MADE_FOR_WASI_0_3
from wasi_http.engine import Store
from wasi_http.engine.errors import expect
from wasi_http.http.types import IncomingHandler, IncomingRequest, ResponseOutparam

__all__ = ["IncomingHandlerGuest", "Proxy", "ProxyPre"]

# What components are that export these and no incoming handler.
_OTHERS = {
    "wasi:cli/run": "it is a command, which runs once, and no proxy",
    "wasi:http/handler": MADE_FOR_WASI_0_3,
}


_USAGE = "call_handle(store, request, response_out)"


class IncomingHandlerGuest:
    """``wasi:http/incoming-handler`` of an instance."""

    __slots__ = ("_handle",)

    def __init__(self, handle: Lifted) -> None:
        self._handle = handle

    def start_handle(self, store: Store, request: IncomingRequest, response_out: ResponseOutparam) -> Call:
        """A call that has not begun: poll it once, and make a task of it only when it has to wait.

        Each request and outparam is for one call; `begin` sees to it. One that waits may not be forgotten,
        it has to be ended: see `wasi_http.component.Call`.
        """
        response_out.request = request
        return self._handle.start(store, request, response_out)

    def begin(self, store: Store, request: IncomingRequest, response_out: ResponseOutparam) -> Call:
        """`start_handle` with arguments of embedders: raises TypeError, and ValueError for those used before."""
        expect(Store, store, _USAGE)
        expect(IncomingRequest, request, _USAGE)
        expect(ResponseOutparam, response_out, _USAGE)
        self._handle.expect_free(store)
        if request.given:
            raise ValueError("the request was given to a guest before: make one for each with new_incoming_request")
        if response_out.request is not None:
            raise ValueError("the outparam was given to a guest before: make one for each with new_response_outparam")
        call = self._handle.start(store, request, response_out)
        request.give()
        response_out.request = request
        return call

    async def call_handle(self, store: Store, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        """Runs the guest's handler to its end; raises what stops it. The response comes out of ``response_out``.

        If the guest is stopped before it has finished its response's body, the body fails at once.
        Cancelled, the guest is unwound. A task of it may not be forgotten, nor its loop closed, before it is done: see
        `wasi_http.component.Call`. Raises ValueError for a request or an outparam that was used before.
        """
        call = self.begin(store, request, response_out)
        try:
            await call
        except BaseException as error:
            response_out.break_off(error)
            raise


class Proxy:
    """An instance of a proxy; the store holds it."""

    __slots__ = ("wasi_http_incoming_handler",)

    def __init__(self, handler: IncomingHandlerGuest) -> None:
        self.wasi_http_incoming_handler = handler


class ProxyPre:
    """A linked proxy, ready to be instantiated; raises `LinkError` when the component is none."""

    __slots__ = ("_pre", "proxy")

    def __init__(self, pre: InstancePre) -> None:
        expect(InstancePre, pre, "ProxyPre(linker.instantiate_pre(component))")
        self._pre = pre
        try:
            functions = pre.export(IncomingHandler)
        except LinkError as error:
            names = {export.partition("@")[0] for export in pre.component.exports}
            others = "".join(f"; {what}" for name, what in _OTHERS.items() if name in names)
            raise LinkError([*error.problems[:-1], error.problems[-1] + others]) from None
        self.proxy = Proxy(IncomingHandlerGuest(functions["handle"]))

    def instantiate(self, store: Store) -> Proxy:
        """An instance in a fresh store; raises `Trap` when a core start function fails."""
        self._pre.instantiate(store)
        return self.proxy

    async def instantiate_async(self, store: Store) -> Proxy:
        """`instantiate`; it does not wait, the form is that of asynchronous embedders."""
        return self.instantiate(store)
