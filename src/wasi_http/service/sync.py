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
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from wasi_http.component import InstancePre
from wasi_http.engine import Store
from wasi_http.engine.errors import expect
from wasi_http.http import message
from wasi_http.http.errors import HttpError
from wasi_http.http.fields import Field
from wasi_http.http.types import IncomingRequest, ResponseOutparam
from wasi_http.http.values import ErrorCode
from wasi_http.service import proxy

__all__ = ["Body", "Exchange", "IncomingHandlerGuest", "Proxy", "ProxyPre", "Response", "Steps", "refuse_event_loop"]

T = TypeVar("T")


def refuse_event_loop() -> None:
    """Raises RuntimeError where an event loop runs: a call that blocks would stop it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "an event loop runs on this thread, which a call that blocks would stop: "
        "await the call of wasi_http.bindings.Proxy instead, or make this one in asyncio.to_thread"
    )


def _closed() -> HttpError:
    return HttpError(ErrorCode.ConnectionTerminated, "the exchange is closed")


class _Claim:
    """Says that a store is used by one call: of two at once, one would close it under the other."""

    _lock = threading.Lock()
    _claimed: ClassVar[set[int]] = set()

    def __init__(self, store: Store) -> None:
        with self._lock:
            if id(store) in self._claimed:
                raise RuntimeError("the store is busy with another call")
            self._claimed.add(id(store))
        self._store: Store | None = store

    def release(self) -> None:
        """Idempotent."""
        store, self._store = self._store, None
        if store is not None:
            self._claimed.discard(id(store))


class Steps:
    """Runs coroutines on an event loop of another thread, and waits for them.

    ``closed`` makes the error of those that the end of the loop overtakes.
    """

    def __init__(self, closed: Callable[[], Exception]) -> None:
        self._closed = closed
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] | None = set()
        #: Set before the first step.
        self.loop: asyncio.AbstractEventLoop

    @property
    def refused(self) -> bool:
        return self._waiting is None

    def do(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        refuse_event_loop()
        loop = self.loop
        future: Future[T] = Future()
        tasks: list[asyncio.Task[None]] = []

        async def run() -> None:
            try:
                result = await step()
            except BaseException as error:
                if not future.done():
                    future.set_exception(self._closed() if isinstance(error, asyncio.CancelledError) else error)
            else:
                if not future.done():
                    future.set_result(result)

        with self._lock:
            if self._waiting is None:
                raise self._closed()
            self._waiting.add(future)
            loop.call_soon_threadsafe(lambda: tasks.append(loop.create_task(run())))
        try:
            return future.result()
        except BaseException:
            # A KeyboardInterrupt, say: what arrives is not for this step any more.
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
            raise
        finally:
            with self._lock:
                if self._waiting is not None:
                    self._waiting.discard(future)

    def refuse(self) -> None:
        """Ends all steps, and lets no other begin. Called on the loop, before it ends."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        for future in waiting or ():
            if not future.done():
                future.set_exception(self._closed())


class _Thread:
    """One call and its event loop, on a thread of its own. Raises what keeps the call from beginning."""

    def __init__(
        self,
        handler: proxy.IncomingHandlerGuest,
        store: Store,
        request: IncomingRequest,
        response_out: ResponseOutparam,
    ) -> None:
        self.response: Future[message.Response] = Future()
        self.end: Future[None] = Future()
        self._begun: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._released = asyncio.Event()
        self._cancelled = False
        self._guest: asyncio.Task[None] | None = None
        self._steps = Steps(_closed)
        claim = _Claim(store)
        self._thread = threading.Thread(
            target=self._run, args=(claim, handler, store, request, response_out), name="wasi-http-guest", daemon=True
        )
        try:
            self._thread.start()
            self._begun.result()
        except BaseException:
            # The call does not begin, or this is a KeyboardInterrupt: the caller will not know of the call.
            self.release(cancel=True)
            if self._begun.done():
                self._thread.join()
            elif not self._thread.is_alive():
                claim.release()
            raise

    def _run(self, claim: _Claim, *call: Any) -> None:
        try:
            try:
                asyncio.run(self._main(claim, *call))
            finally:
                claim.release()
        except BaseException as error:
            # A KeyboardInterrupt of a host function, say: it is for the threads that wait for this one.
            for future in (self._begun, self.response, self.end):
                if not future.done():
                    future.set_exception(error)

    async def _main(
        self,
        claim: _Claim,
        handler: proxy.IncomingHandlerGuest,
        store: Store,
        request: IncomingRequest,
        response_out: ResponseOutparam,
    ) -> None:
        def over(_: object) -> None:
            store.close()
            claim.release()

        self._loop = self._steps.loop = asyncio.get_running_loop()
        try:
            call = handler.begin(store, request, response_out)
            guest = self._guest = asyncio.ensure_future(call.wait())
            guest.add_done_callback(over)
            if self._cancelled:  # before there was a loop to say so
                self.release(cancel=True)
            self._begun.set_result(None)
            await self._follow(guest, response_out)
        finally:
            # Before the loop closes: that waits for the sources of requests, which may block.
            self._steps.refuse()

    async def _follow(self, guest: asyncio.Task[None], response_out: ResponseOutparam) -> None:
        released = asyncio.ensure_future(self._released.wait())
        response = None
        try:
            response = await response_out.response(guest)
        except Exception as error:
            self.response.set_exception(error)
        else:
            self.response.set_result(response)
        await asyncio.wait([guest, released], return_when=asyncio.FIRST_COMPLETED)
        if response is not None and not guest.done():
            # The body is not read any more: the guest may go on, and need not wait for that.
            response.body.pipe.cancel()
        await asyncio.wait([guest])
        if guest.cancelled():
            self.end.set_exception(asyncio.CancelledError())
        elif (failure := guest.exception()) is not None:
            self.end.set_exception(failure)
        else:
            self.end.set_result(None)
        # What is left of the response can be read until it is not wanted any more.
        await released

    def do(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs a coroutine on the loop, and waits for it. Raises HttpError when the exchange is closed meanwhile."""
        return self._steps.do(step)

    def release(self, cancel: bool) -> None:
        """Ends the loop when the guest has finished; ``cancel`` does not wait for that. From any thread."""
        if cancel:
            self._cancelled = True
            self._call(lambda: self._guest is not None and self._guest.cancel())
        self._call(self._released.set)

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)

    def join(self) -> None:
        self._thread.join()


class _Reader:
    """What an `Exchange` and the body of its response share: the loop ends when both are gone."""

    def __init__(self, thread: _Thread) -> None:
        self.thread = thread

    def do(self, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self.thread.do(step)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # The guest may go on. When the interpreter ends its thread has stopped, and this module's globals may be gone.
        if not is_finalizing():
            self.thread.release(cancel=False)


class Body:
    """The body of a response: iterate over it once, or `read` it whole. Each step blocks until there is more.

    Raises HttpError where the body failed, and when the exchange is closed, also on another thread. ``trailers`` are
    there afterwards.
    """

    def __init__(self, body: message.Body, steps: Steps | _Reader) -> None:
        self._body = body
        self._steps = steps

    @property
    def trailers(self) -> list[Field]:
        return self._body.trailers

    def __iter__(self) -> Iterator[bytes]:
        async def step() -> bytes | None:
            async with contextlib.aclosing(aiter(self._body)) as chunks:
                return await anext(chunks, None)

        while (chunk := self._steps.do(step)) is not None:
            yield chunk

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self)

    def cancel(self) -> None:
        """Says that the rest is not wanted: the guest is told."""

        async def step() -> None:
            self._body.cancel()

        self._steps.do(step)


@dataclass(slots=True)
class Response:
    """A response whose body is read by blocking; see `wasi_http.Response`."""

    status: int
    headers: list[Field] = field(default_factory=list)
    body: Body = field(kw_only=True)


class Exchange:
    """A guest at work on a request. Use it in a ``with`` statement, or `close` it.

    Otherwise the guest goes on to its end, and its thread ends when neither the exchange nor the body of the response
    is in use any more.
    """

    def __init__(self, thread: _Thread) -> None:
        self._reader = _Reader(thread)
        self._thread = thread
        self._lock = threading.Lock()
        self._response: Response | None = None

    def response(self) -> Response:
        """The response, as soon as the guest gives it; it can be read until the exchange is closed.

        Raises `NoResponse` and `HttpError` as `ResponseOutparam.response` does.
        """
        refuse_event_loop()
        response = self._thread.response.result()
        with self._lock:
            if self._response is None:
                self._response = Response(response.status, response.headers, body=Body(response.body, self._reader))
            return self._response

    def wait(self) -> None:
        """Waits for the guest to finish; raises what stopped it. Who waits for a guest has to read its response."""
        refuse_event_loop()
        self._thread.end.result()

    def close(self) -> None:
        """Ends the exchange. A guest that is still at work is unwound, and those who wait get an error. Idempotent.

        A request whose body comes from an iterable that blocks has to be given what it waits for: no thread can be
        stopped, and this one waits for it.
        """
        self._thread.release(cancel=True)
        self._thread.join()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class IncomingHandlerGuest:
    """``wasi:http/incoming-handler`` of an instance, for threads without an event loop."""

    __slots__ = ("_handler",)

    def __init__(self, handler: proxy.IncomingHandlerGuest) -> None:
        self._handler = handler

    def call_handle(self, store: Store, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        """Runs the guest's handler to its end, here; raises what stops it.

        The response goes to the receiver of ``response_out`` (see `WasiHttpView.new_response_outparam`). A body beyond
        what is buffered has to be read meanwhile: that is what `start_handle` is for. Raises RuntimeError, and leaves
        the store alone, when another call uses it.
        """
        expect(Store, store, "call_handle(store, request, response_out)")
        refuse_event_loop()

        async def run() -> None:
            call = self._handler.begin(store, request, response_out)
            try:
                await call.wait()
            finally:
                store.close()
                await asyncio.sleep(0)  # connections that were dropped close in the loop's next turn

        claim = _Claim(store)
        try:
            with asyncio.Runner() as runner:
                runner.run(run())
        finally:
            claim.release()

    def start_handle(self, store: Store, request: IncomingRequest, response_out: ResponseOutparam) -> Exchange:
        """Starts the guest's handler on a thread of its own.

        Raises RuntimeError, and leaves the store alone, when another call uses it.
        """
        expect(Store, store, "start_handle(store, request, response_out)")
        refuse_event_loop()
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
