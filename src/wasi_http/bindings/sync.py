"""Proxies for threads without an event loop: the calls block.

It is the same code: each call has an event loop of its own, on which the guest, its timers and its outgoing requests
run. `IncomingHandlerGuest.call_handle` runs it on the calling thread. `IncomingHandlerGuest.start_handle` gives it a
thread, so that a response can be read while the guest goes on. Any number of threads may do this at once, each with
stores of their own.

A store is closed when its call is over: what its guest holds belongs to a loop that is gone then.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from wasi_http import message
from wasi_http.bindings import proxy
from wasi_http.component import InstancePre
from wasi_http.engine import Store
from wasi_http.fields import Field
from wasi_http.types import IncomingRequest, ResponseOutparam

__all__ = ["Body", "Exchange", "IncomingHandlerGuest", "Proxy", "ProxyPre", "Response"]

T = TypeVar("T")


def _refuse_event_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "an event loop runs on this thread, which a call that blocks would stop: "
        "await the call of wasi_http.bindings.Proxy instead, or make this one in asyncio.to_thread"
    )


class _Thread:
    """One call and its event loop, on a thread of its own."""

    def __init__(
        self,
        handler: proxy.IncomingHandlerGuest,
        store: Store,
        request: IncomingRequest,
        response_out: ResponseOutparam,
    ) -> None:
        self.response: Future[message.Response] = Future()
        self.end: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = asyncio.Event()
        self._guest: asyncio.Task[None] | None = None
        self._thread = threading.Thread(
            target=self._run, args=(handler, store, request, response_out), name="wasi-http-guest", daemon=True
        )
        self._thread.start()

    def _run(self, *call: Any) -> None:
        try:
            asyncio.run(self._main(*call))
        except BaseException as error:
            # A KeyboardInterrupt of a host function, say: it is for those who wait, and this thread has nobody else.
            for future in (self.response, self.end):
                if not future.done():
                    future.set_exception(error)

    async def _main(
        self,
        handler: proxy.IncomingHandlerGuest,
        store: Store,
        request: IncomingRequest,
        response_out: ResponseOutparam,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        guest = self._guest = asyncio.ensure_future(handler.call_handle(store, request, response_out))
        guest.add_done_callback(lambda _: store.close())
        try:
            self.response.set_result(await response_out.response(guest))
        except Exception as error:
            self.response.set_exception(error)
        await asyncio.wait([guest])
        if guest.cancelled():
            self.end.set_exception(asyncio.CancelledError())
        elif (failure := guest.exception()) is not None:
            self.end.set_exception(failure)
        else:
            self.end.set_result(None)
        # What is left of the response can be read until it is not wanted any more.
        await self._released.wait()

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop."""
        loop = self._loop
        assert loop is not None  # there is a response, so there was a loop
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
        except RuntimeError:
            coroutine.close()
            raise

    def release(self, cancel: bool) -> None:
        """Ends the loop when the guest has finished; ``cancel`` does not wait for that. From any thread."""
        if cancel:
            self._call(lambda: self._guest is not None and self._guest.cancel())
        self._call(self._released.set)

    def _call(self, function: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            while self._loop is None and self._thread.is_alive():
                self._thread.join(0.001)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)

    def join(self) -> None:
        self._thread.join()


class Body:
    """The body of a response: iterate over it once, or `read` it whole. Each step blocks until there is more.

    Raises HttpError where the body failed. ``trailers`` are there afterwards.
    """

    def __init__(self, body: message.Body, thread: _Thread) -> None:
        self._body = body
        self._thread = thread

    @property
    def trailers(self) -> list[Field]:
        return self._body.trailers

    def __iter__(self) -> Iterator[bytes]:
        chunks = aiter(self._body)

        async def step() -> bytes | None:
            return await anext(chunks, None)

        while (chunk := self._thread.do(step())) is not None:
            yield chunk

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self)


@dataclass(slots=True)
class Response:
    """A response whose body is read by blocking; see `wasi_http.Response`."""

    status: int
    headers: list[Field] = field(default_factory=list)
    body: Body = field(kw_only=True)


class Exchange:
    """A guest at work on a request. Use it in a ``with`` statement, or `close` it."""

    def __init__(self, thread: _Thread) -> None:
        self._thread = thread
        self._response: Response | None = None

    def response(self) -> Response:
        """The response, as soon as the guest gives it; it can be read until the exchange is closed.

        Raises `NoResponse` and `HttpError` as `ResponseOutparam.response` does.
        """
        _refuse_event_loop()
        response = self._thread.response.result()
        if self._response is None:
            self._response = Response(response.status, response.headers, body=Body(response.body, self._thread))
        return self._response

    def wait(self) -> None:
        """Waits for the guest to finish; raises what stopped it. Who waits for a guest has to read its response."""
        _refuse_event_loop()
        self._thread.end.result()

    def close(self) -> None:
        """Ends the exchange. A guest that is still at work is unwound. Idempotent."""
        self._thread.release(cancel=True)
        self._thread.join()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Nobody reads any more; the guest may go on.
        self._thread.release(cancel=False)


class IncomingHandlerGuest:
    """``wasi:http/incoming-handler`` of an instance, for threads without an event loop."""

    __slots__ = ("_handler",)

    def __init__(self, handler: proxy.IncomingHandlerGuest) -> None:
        self._handler = handler

    def call_handle(self, store: Store, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        """Runs the guest's handler to its end, here; raises what stops it.

        The response goes to the receiver of ``response_out`` (see `WasiHttpView.new_response_outparam`). A body beyond
        what is buffered has to be read meanwhile: that is what `start_handle` is for.
        """
        _refuse_event_loop()

        async def call() -> None:
            try:
                await self._handler.call_handle(store, request, response_out)
            finally:
                store.close()
                await asyncio.sleep(0)  # connections that were dropped close in the loop's next turn

        with asyncio.Runner() as runner:
            runner.run(call())

    def start_handle(self, store: Store, request: IncomingRequest, response_out: ResponseOutparam) -> Exchange:
        """Starts the guest's handler on a thread of its own."""
        _refuse_event_loop()
        return Exchange(_Thread(self._handler, store, request, response_out))


class Proxy:
    """An instance of a proxy; the store holds it."""

    __slots__ = ("wasi_http_incoming_handler",)

    def __init__(self, handler: IncomingHandlerGuest) -> None:
        self.wasi_http_incoming_handler = handler


class ProxyPre:
    """A linked proxy, ready to be instantiated; raises `LinkError` when the component is none."""

    __slots__ = ("_pre",)

    def __init__(self, pre: InstancePre) -> None:
        self._pre = proxy.ProxyPre(pre)

    def instantiate(self, store: Store) -> Proxy:
        """An instance in a fresh store; raises `Trap` when a core start function fails."""
        return Proxy(IncomingHandlerGuest(self._pre.instantiate(store).wasi_http_incoming_handler))
