"""Cancellation at every await of an exchange, and exceptions of host functions at every surface of a call.

An exchange is driven again and again; at its n-th suspension it is cancelled, for n = 0, 1, 2 … until it completes.
Whatever the moment, nothing may be left: no store, no call, no resource, no task, no socket.
"""

from __future__ import annotations

import asyncio
import gc
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.embedding import State, component, link
from tests.server.serving import live, run, until
from wasi_http import (
    Body,
    Engine,
    HttpError,
    Linker,
    NoResponse,
    ProxyPre,
    Request,
    Response,
    Store,
    WasiCtx,
    add_to_linker_async,
)
from wasi_http.bindings.http.types import Scheme
from wasi_http.client import OutgoingRequestConfig
from wasi_http.component import Borrow, func, u32
from wasi_http.http.send import Client
from wasi_http.server.embedded import serve_connection
from wasi_http.wasi.io.poll import Poll, Pollable

DESCRIPTORS = Path("/dev/fd")


class Interrupted:
    """Awaits a coroutine and cancels the task in which it runs at the n-th suspension. ``count``: how many there were.

    The task is cancelled just before it would wait, so what it waits for sees a request that is already under way.
    """

    def __init__(self, awaited: Coroutine[Any, Any, Any], n: int) -> None:
        self._awaited = awaited
        self._n = n
        self.count = 0

    async def run(self) -> Any:
        return await self

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._awaited.__await__()
        advance: Callable[[], Any] = lambda: inner.send(None)  # noqa: E731
        while True:
            try:
                waited_for = advance()
            except StopIteration as stop:
                return stop.value
            if self.count == self._n:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            self.count += 1
            try:
                yield waited_for
            except BaseException as error:
                failure = error
                advance = lambda: inner.throw(failure)  # noqa: B023, E731
            else:
                advance = lambda: inner.send(None)  # noqa: E731


def left() -> tuple[tuple[int, int, int], int, int]:
    """What may leak: stores, calls and resources; tasks; sockets."""
    gc.collect()
    return live(), len(asyncio.all_tasks()), sum(is_socket(int(name)) for name in os.listdir(DESCRIPTORS))


def is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False  # it was that of the directory


async def pieces(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(0)
        yield bytes(size)


@dataclass(frozen=True)
class Case:
    """An exchange: its guest, the request, the body that comes back, and how often it waits at least."""

    guest: str
    target: str
    size: int
    suspensions: int
    body: Callable[[], AsyncIterator[bytes]] | None = None
    fetch: str = ""

    def request(self, upstream: str) -> Request:
        headers = [(b"x-url", f"http://{upstream}{self.fetch}".encode())] if self.fetch else []
        return Request(
            "POST" if self.body else "GET",
            self.target,
            headers,
            self.body() if self.body else b"",
            "example.com",
        )


CASES = {
    "sleep": Case("c_sleep", "/sleep/2", 8, 1),
    "poll": Case("c_kitchen", "/poll/3", 9, 1),
    "drip": Case("c_kitchen", "/drip/2", 14, 1),
    "request body": Case("c_kitchen", "/discard", 12, 4, lambda: pieces(8, 10_000)),
    "response body": Case("c_kitchen", "/big/2", 2 << 20, 3),
    "both bodies": Case("c_echo", "/echo", 600_000, 5, lambda: pieces(12, 50_000)),
    "early response": Case("c_kitchen", "/early", 18, 4, lambda: pieces(8, 10_000)),
    "fetch": Case("c_fetch", "/fetch", 14, 1, fetch="/drip/2"),
    "fetch, large": Case("c_fetch", "/fetch", 2 << 20, 3, fetch="/big/2"),
    "fetch with a body": Case("c_fetch", "/fetch-post", 300_000, 3, lambda: pieces(6, 50_000), fetch="/echo"),
}


def handler_of(engine: Engine, pre: ProxyPre) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """A handler as embedders write it."""

    async def handle(request: Request) -> Response:
        return (await begin(engine, pre, request, Client()))[0]

    return handle


class Fetching(State):
    """Requests go out over connections that the test can close."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client

    async def send_request(self, request: Request, config: OutgoingRequestConfig) -> Response:
        return await self._client.send_request(request, config)


async def begin(
    engine: Engine, pre: ProxyPre, request: Request, client: Client, n: int | None = None
) -> tuple[Response, asyncio.Task[Any], Interrupted]:
    """Starts a guest, to be interrupted at its n-th suspension, and waits for its response."""
    state = Fetching(client)
    store = Store(engine, state)
    req = state.new_incoming_request(Scheme.HTTP, request)
    out = state.new_response_outparam()
    proxy = await pre.instantiate_async(store)
    call = Interrupted(proxy.wasi_http_incoming_handler.call_handle(store, req, out), -1 if n is None else n)
    guest = asyncio.create_task(call.run())
    guest.add_done_callback(lambda _: store.close())
    return await out.response(guest), guest, call


async def cancel_the_guest(
    engine: Engine, pre: ProxyPre, request: Request, n: int, client: Client
) -> tuple[int, bytes] | None:
    try:
        response, guest, call = await begin(engine, pre, request, client, n)
        body = await response.body.read()
        await asyncio.wait([guest])
    except (NoResponse, HttpError):
        return None
    # The guest may be cancelled after its last byte.
    return None if guest.cancelled() else (call.count, body)


async def cancel_the_embedder(
    engine: Engine, pre: ProxyPre, request: Request, n: int, client: Client
) -> tuple[int, bytes] | None:
    async def exchange() -> bytes:
        response, guest, _ = await begin(engine, pre, request, client)
        try:
            body = await response.body.read()
            await guest
        except BaseException:
            response.body.cancel()
            guest.cancel()
            raise
        return body

    call = Interrupted(exchange(), n)
    task = asyncio.create_task(call.run())
    await asyncio.wait([task])
    return None if task.cancelled() else (call.count, task.result())


WHO = {"guest": cancel_the_guest, "embedder": cancel_the_embedder}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", CASES)
def test_cancelled_at_every_await(engine: Engine, name: str, who: str) -> None:
    case = CASES[name]
    pre = link(engine, case.guest)
    upstream = {"/echo": "c_echo"}.get(case.fetch, "c_kitchen")

    async def main() -> None:
        connections: set[asyncio.Task[None]] = set()
        handler = handler_of(engine, link(engine, upstream))

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.add(task := asyncio.create_task(serve_connection(reader, writer, handler)))
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        try:
            before = left()
            n, completed = 0, None
            # On a busy machine some of the waits may be over before they begin: then it is done once more.
            while completed is None or (who == "guest" and completed[0] < case.suspensions):
                assert n < 1000
                client = Client()
                completed = await WHO[who](engine, pre, case.request(f"{host}:{port}"), n, client)
                await client.close()  # what it keeps is not what the exchange left behind
                await until(lambda: not connections and len(asyncio.all_tasks()) == before[1])
                await until(lambda: left() == before)
                n += 1
            count, body = completed
            assert len(body) == case.size
            # Every one of them was interrupted, also where timers make them more or fewer.
            assert n > count
        finally:
            server.close()

    run("asyncio", main())


# ---- exceptions of host functions -----------------------------------------------------------------------------------


class Odd(BaseException):
    """One that nobody expects."""


ERRORS: list[type[BaseException]] = [
    ValueError,
    StopIteration,
    asyncio.CancelledError,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    Odd,
]


def failing_clock(error: BaseException) -> tuple[WasiCtx, type[Poll]]:
    """A plain host function that raises."""

    def monotonic() -> int:
        raise error

    return WasiCtx(monotonic=monotonic), Poll


def failing_poll(error: BaseException, waits: bool) -> tuple[WasiCtx, type[Poll]]:
    class Failing(Poll, name="wasi:io/poll@0.2.12"):
        @func
        async def poll(in_: list[Borrow[Pollable]]) -> list[u32]:
            if waits:
                await asyncio.sleep(0)
            raise error

    return WasiCtx(), Failing


HOSTS: dict[str, Callable[[BaseException], tuple[WasiCtx, type[Poll]]]] = {
    "plain": failing_clock,
    "async, at once": lambda error: failing_poll(error, False),
    "async, after a wait": lambda error: failing_poll(error, True),
}


async def by_call_handle(proxy: Any, store: Store, req: Any, out: Any) -> None:
    await proxy.wasi_http_incoming_handler.call_handle(store, req, out)


async def by_start_handle(proxy: Any, store: Store, req: Any, out: Any) -> None:
    await proxy.wasi_http_incoming_handler.start_handle(store, req, out)


async def by_poll(proxy: Any, store: Store, req: Any, out: Any) -> None:
    call = proxy.wasi_http_incoming_handler.start_handle(store, req, out)
    if not call.poll():
        await call


SURFACES: dict[str, Callable[..., Awaitable[None]]] = {
    "call_handle": by_call_handle,
    "start_handle": by_start_handle,
    "poll, then await": by_poll,
}


# A coroutine cannot raise StopIteration.
RAISING = [(kind, host) for kind in ERRORS for host in HOSTS if kind is not StopIteration or host == "plain"]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("kind", "host"), RAISING)
@pytest.mark.usefixtures("no_leaks")
def test_an_exception_of_a_host_function_surfaces_where_the_call_was_awaited(
    engine: Engine, kind: type[BaseException], host: str, surface: str
) -> None:
    error = kind("of the host")
    ctx, poll = HOSTS[host](error)
    pre = proxy_pre(engine, poll)

    async def main() -> None:
        state = State(ctx)
        store = Store(engine, state)
        req = state.new_incoming_request(Scheme.HTTP, Request("GET", "/sleep/1", authority="example.com"))
        proxy = await pre.instantiate_async(store)
        with pytest.raises(BaseException) as raised:  # noqa: PT011
            await SURFACES[surface](proxy, store, req, state.new_response_outparam())
        # Python itself does not let a StopIteration out of a coroutine.
        assert raised.value is error or (kind is StopIteration and isinstance(raised.value, RuntimeError))
        with pytest.raises(RuntimeError, match="spent"):
            await SURFACES[surface](
                proxy,
                store,
                state.new_incoming_request(Scheme.HTTP, Request(authority="a")),
                state.new_response_outparam(),
            )
        store.close()
        assert len(asyncio.all_tasks()) == 2  # this one, and the one that sees to it that nothing hangs

    run("asyncio", main())
    error.__traceback__ = None


def proxy_pre(engine: Engine, poll: type[Poll]) -> ProxyPre:
    linker = Linker(engine)
    add_to_linker_async(linker)
    linker.define(poll)
    return ProxyPre(linker.instantiate_pre(component(engine, "c_sleep")))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, GeneratorExit, Odd])
def test_an_exception_of_a_host_function_is_the_reason_why_there_is_no_response(
    engine: Engine, kind: type[BaseException], host: str
) -> None:
    error = kind("of the host")
    ctx, poll = HOSTS[host](error)
    pre = proxy_pre(engine, poll)

    async def main() -> None:
        state = State(ctx)
        store = Store(engine, state)
        req = state.new_incoming_request(Scheme.HTTP, Request("GET", "/sleep/1", authority="example.com"))
        out = state.new_response_outparam()
        proxy = await pre.instantiate_async(store)
        with pytest.raises(NoResponse) as raised:
            await out.response(proxy.wasi_http_incoming_handler.call_handle(store, req, out))
        assert raised.value.__cause__ is (None if kind is asyncio.CancelledError else error)
        store.close()

    run("asyncio", main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("host", HOSTS)
def test_an_interrupt_in_a_guest_ends_the_loop(engine: Engine, kind: type[BaseException], host: str) -> None:
    ctx, poll = HOSTS[host](kind("of the host"))
    pre = proxy_pre(engine, poll)

    async def main() -> None:
        state = State(ctx)
        store = Store(engine, state)
        req = state.new_incoming_request(Scheme.HTTP, Request("GET", "/sleep/1", authority="example.com"))
        out = state.new_response_outparam()
        proxy = await pre.instantiate_async(store)
        await out.response(proxy.wasi_http_incoming_handler.call_handle(store, req, out))

    with pytest.raises(kind, match="of the host"):
        run("asyncio", main())


class Sending(State):
    """One whose hook fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def send_request(self, request: Request, config: OutgoingRequestConfig) -> Response:
        raise self._error


@pytest.mark.parametrize("error", [ValueError("of the hook"), OSError("of the hook"), TimeoutError()])
def test_an_exception_of_a_hook_is_an_error_code_for_the_guest(engine: Engine, error: Exception) -> None:
    pre = link(engine, "c_fetch")
    heard: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
        state = Sending(error)
        store = Store(engine, state)
        request = Request("GET", "/fetch", [(b"x-url", b"http://a/")], authority="example.com")
        req, out = state.new_incoming_request(Scheme.HTTP, request), state.new_response_outparam()
        proxy = await pre.instantiate_async(store)
        guest = asyncio.create_task(proxy.wasi_http_incoming_handler.call_handle(store, req, out))
        response = await out.response(guest)
        assert (response.status, isinstance(response.body, Body)) == (502, True)
        assert (await response.body.read()).startswith(b"error-code ")
        await guest
        store.close()

    run("asyncio", main())
    # It is the embedder's own fault, unless it is the network's.
    assert heard == ([] if isinstance(error, OSError) else [error])
