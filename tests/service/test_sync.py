"""Guests of threads without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.embedding import State, component
from tests.server.serving import PATIENCE, live
from wasi_http import (
    Engine,
    HttpError,
    Linker,
    NoResponse,
    Request,
    Store,
    Trap,
    WasiCtx,
    add_only_http_to_linker_sync,
    add_to_linker_sync,
)
from wasi_http.bindings import sync
from wasi_http.bindings.http.types import ErrorCode, Scheme
from wasi_http.http.types import OutgoingResponse
from wasi_http.wasi import imports


def link(engine: Engine, name: str) -> sync.ProxyPre:
    linker = Linker(engine)
    add_to_linker_sync(linker)
    return sync.ProxyPre(linker.instantiate_pre(component(engine, name)))


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    gc.collect()
    before, threads = live(), threading.active_count()
    yield
    gc.collect()
    assert live() == before
    assert threading.active_count() == threads


Arguments = tuple[Store, Any, Any]


def call(engine: Engine, request: Request, ctx: WasiCtx | None = None, receiver: Any = None) -> Arguments:
    state = State(ctx)
    return (
        Store(engine, state),
        state.new_incoming_request(Scheme.HTTP, request),
        state.new_response_outparam(receiver),
    )


def start(engine: Engine, name: str, request: Request, ctx: WasiCtx | None = None) -> sync.Exchange:
    arguments = call(engine, request, ctx)
    return link(engine, name).instantiate(arguments[0]).wasi_http_incoming_handler.start_handle(*arguments)


def get(path: str, *headers: tuple[bytes, bytes]) -> Request:
    return Request("GET", path, headers, authority="example.com")


def test_call_handle_blocks_until_the_guest_is_done(engine: Engine) -> None:
    heard: list[Any] = []
    store, *arguments = call(engine, get("/sleep/30"), receiver=heard.append)
    proxy = link(engine, "c_sleep").instantiate(store)
    begin = time.monotonic()
    assert proxy.wasi_http_incoming_handler.call_handle(store, *arguments) is None
    assert time.monotonic() - begin >= 0.03
    (response,) = heard
    assert isinstance(response, OutgoingResponse)
    assert response.pipe is not None
    assert (response.status, response.pipe.take_all()) == (200, b"slept 30\n")
    with pytest.raises(RuntimeError, match="no instance"):
        proxy.wasi_http_incoming_handler.call_handle(store, *arguments)


def test_what_stops_the_guest_is_raised(engine: Engine) -> None:
    arguments = call(engine, get("/trap"))
    proxy = link(engine, "c_kitchen").instantiate(arguments[0])
    with pytest.raises(Trap, match="unreachable"):
        proxy.wasi_http_incoming_handler.call_handle(*arguments)


def test_a_response_is_read_while_the_guest_goes_on(engine: Engine) -> None:
    with start(engine, "c_kitchen", get("/drip/3")) as exchange:
        response = exchange.response()
        assert (response.status, response.headers) == (200, [])
        assert list(response.body) == [b"tick 0\n", b"tick 1\n", b"tick 2\n"]
        exchange.wait()
        assert exchange.response() is response


def test_a_large_response_is_held_back_and_arrives_whole(engine: Engine) -> None:
    with start(engine, "c_kitchen", get("/big/8")) as exchange:
        assert exchange.response().body.read() == bytes(range(256)) * (8 << 12)


def test_a_request_streams_from_what_may_block(engine: Engine) -> None:
    go_on = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert go_on.wait(PATIENCE)
        yield b"second"

    request = Request("POST", "/echo", body=pieces(), authority="example.com")
    with start(engine, "c_echo", request) as exchange:
        chunks = iter(exchange.response().body)
        # The source blocks, and yet what there was has gone through the guest.
        assert next(chunks) == b"first"
        go_on.set()
        assert list(chunks) == [b"second"]
        exchange.wait()


def test_trailers(engine: Engine) -> None:
    with start(engine, "c_kitchen", get("/trailers")) as exchange:
        body = exchange.response().body
        assert body.read() == b"with trailers\n"
        assert body.trailers == [(b"x-checksum", b"abc123")]


def test_the_reason_why_there_is_no_response(engine: Engine) -> None:
    with start(engine, "c_kitchen", get("/trap")) as exchange:
        with pytest.raises(NoResponse, match="unreachable") as raised:
            exchange.response()
        assert isinstance(raised.value.__cause__, Trap)
        with pytest.raises(Trap):
            exchange.wait()
    with start(engine, "c_kitchen", get("/no-set")) as exchange:
        with pytest.raises(NoResponse, match="never invoked"):
            exchange.response()
        exchange.wait()
    with start(engine, "c_kitchen", get("/error-set/15")) as exchange, pytest.raises(HttpError) as error:
        exchange.response()
    assert error.value.code == ErrorCode.HttpRequestDenied
    del raised, error


def test_a_body_that_the_guest_leaves_unfinished(engine: Engine) -> None:
    with start(engine, "c_kitchen", get("/abandon")) as exchange:
        response = exchange.response()
        with pytest.raises(HttpError):
            response.body.read()


@pytest.mark.parametrize("path", ["/sleep-forever", "/spin", "/sleep-after-head", "/big/64"])
def test_closing_unwinds_the_guest(engine: Engine, path: str) -> None:
    exchange = start(engine, "c_kitchen", get(path))
    exchange.close()
    exchange.close()
    with pytest.raises(asyncio.CancelledError):
        exchange.wait()


@pytest.fixture
def _torn() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def read_until_refused(body: sync.Body) -> None:
    with contextlib.suppress(HttpError):
        while True:
            with contextlib.suppress(RuntimeError):  # another reader has come to its end
                body.read()


@pytest.mark.usefixtures("_torn")
@pytest.mark.parametrize("path", ["/big/8", "/drip/20", "/empty"])
def test_those_who_read_learn_that_the_exchange_is_closed(engine: Engine, path: str) -> None:
    for number in range(40):
        exchange = start(engine, "c_kitchen", get(path))
        body = exchange.response().body
        readers = [threading.Thread(target=read_until_refused, args=(body,), daemon=True) for _ in range(3)]
        for reader in readers:
            reader.start()
        time.sleep(number * 1e-4)  # a different moment each time
        exchange.close()
        for reader in readers:
            reader.join(PATIENCE / 10)
            assert not reader.is_alive()


def test_a_body_is_not_read_after_the_end(engine: Engine) -> None:
    with start(engine, "c_kitchen", get("/drip/3")) as exchange:
        body = exchange.response().body
        chunks = iter(body)
        assert next(chunks) == b"tick 0\n"
    for read in (chunks.__next__, body.read):
        with pytest.raises(HttpError, match="the exchange is closed"):
            read()


def second(store: Store, handler: sync.IncomingHandlerGuest, engine: Engine, surface: str) -> None:
    _, *arguments = call(engine, get("/empty"))
    with pytest.raises(RuntimeError, match="the store is busy with another call"):
        getattr(handler, surface)(store, *arguments)


@pytest.mark.parametrize("surface", ["call_handle", "start_handle"])
def test_a_store_in_use_is_refused_and_left_alone(engine: Engine, surface: str) -> None:
    arguments = call(engine, get("/drip/3"))
    handler = link(engine, "c_kitchen").instantiate(arguments[0]).wasi_http_incoming_handler
    with handler.start_handle(*arguments) as exchange:
        for _ in range(2):
            second(arguments[0], handler, engine, surface)
        assert exchange.response().body.read() == b"tick 0\ntick 1\ntick 2\n"
        exchange.wait()
        # The store is closed now, and no call uses it.
        with pytest.raises(RuntimeError, match="no instance"):
            getattr(handler, surface)(*arguments)


@pytest.mark.parametrize("surface", ["call_handle", "start_handle"])
def test_a_store_that_an_event_loop_uses_is_refused_and_left_alone(engine: Engine, surface: str) -> None:
    heard: list[Any] = []
    arguments = call(engine, get("/sleep/300"), receiver=heard.append)
    handler = link(engine, "c_sleep").instantiate(arguments[0]).wasi_http_incoming_handler

    async def main() -> None:
        going = handler._handler.start_handle(*arguments)
        assert not going.poll()
        await asyncio.to_thread(second, arguments[0], handler, engine, surface)
        await going

    asyncio.run(main())
    arguments[0].close()
    assert heard[0].pipe.take_all() == b"slept 300\n"


def guests() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "wasi-http-guest"]


def until_guests_have_ended() -> None:
    for thread in guests():
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_call_that_cannot_begin_leaves_no_thread(engine: Engine) -> None:
    arguments = call(engine, get("/"))
    handler = link(engine, "hello").instantiate(arguments[0]).wasi_http_incoming_handler
    arguments[0].close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no instance"):
            handler.start_handle(*arguments)
        assert guests() == []


@pytest.mark.parametrize("surface", ["call_handle", "start_handle"])
def test_a_call_that_cannot_begin_leaves_the_store_alone(engine: Engine, surface: str) -> None:
    store, request, out = call(engine, get("/drip/3"))
    handler = link(engine, "c_kitchen").instantiate(store).wasi_http_incoming_handler
    with pytest.raises(TypeError):
        getattr(handler, surface)(store, None, out)
    with handler.start_handle(store, request, out) as exchange:
        assert exchange.response().body.read() == b"tick 0\ntick 1\ntick 2\n"


@pytest.mark.parametrize("path", ["/drip/3", "/big/64"])
@pytest.mark.parametrize("asked", [False, True])
def test_an_exchange_that_nobody_closes_ends_with_its_guest(engine: Engine, path: str, asked: bool) -> None:
    exchange = start(engine, "c_kitchen", get(path))
    if asked:
        assert exchange.response().status == 200
    del exchange
    until_guests_have_ended()


def test_a_body_is_read_without_its_exchange(engine: Engine) -> None:
    body = start(engine, "c_kitchen", get("/big/8")).response().body
    chunks = iter(body)
    del body
    assert b"".join(chunks) == bytes(range(256)) * (8 << 12)
    del chunks
    until_guests_have_ended()


@pytest.mark.parametrize("surface", ["call_handle", "response", "wait", "read"])
def test_whoever_waits_can_be_interrupted(engine: Engine, surface: str) -> None:
    arguments = call(engine, get("/sleep-after-head" if surface == "read" else "/sleep-forever"))
    handler = link(engine, "c_kitchen").instantiate(arguments[0]).wasi_http_incoming_handler
    exchange = None
    if surface == "call_handle":
        wait: Callable[[], object] = functools.partial(handler.call_handle, *arguments)
    else:
        exchange = handler.start_handle(*arguments)
        wait = exchange.response().body.read if surface == "read" else getattr(exchange, surface)
    timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        wait()
    timer.join()
    if exchange is not None:
        exchange.close()
    # The store is closed, or was by the exchange.
    with pytest.raises(RuntimeError, match="no instance"):
        handler.call_handle(*arguments)


def test_whoever_was_interrupted_reads_on(engine: Engine) -> None:
    go_on = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield b"first"
        assert go_on.wait(PATIENCE)
        yield b"second"

    request = Request("POST", "/echo", body=pieces(), authority="example.com")
    with start(engine, "c_echo", request) as exchange:
        body = exchange.response().body
        assert next(iter(body)) == b"first"
        timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                body.read()
        finally:
            go_on.set()
        timer.join()
        assert body.read() == b"second"


def test_several_threads_run_guests_at_once(engine: Engine) -> None:
    pre = link(engine, "c_sleep")
    together = threading.Barrier(4)

    def one(number: int) -> bytes:
        together.wait(PATIENCE)
        heard: list[Any] = []
        arguments = call(engine, get(f"/sleep/{number}"), receiver=heard.append)
        pre.instantiate(arguments[0]).wasi_http_incoming_handler.call_handle(*arguments)
        return bytes(heard[0].pipe.take_all())

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert list(pool.map(one, range(20, 24))) == [b"slept %d\n" % number for number in range(20, 24)]


def test_outgoing_requests(engine: Engine) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(2):
            client, _ = listener.accept()
            with client:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    server = threading.Thread(target=serve)
    server.start()
    request = get("/fetch", (b"x-url", f"http://127.0.0.1:{listener.getsockname()[1]}/".encode()))
    heard: list[Any] = []
    arguments = call(engine, request, receiver=heard.append)
    pre = link(engine, "c_fetch")
    pre.instantiate(arguments[0]).wasi_http_incoming_handler.call_handle(*arguments)
    assert heard[0].pipe.take_all() == b"hello"
    with start(engine, "c_fetch", request) as exchange:
        assert exchange.response().body.read() == b"hello"
    server.join(PATIENCE)
    listener.close()


@pytest.mark.parametrize("surface", ["call_handle", "start_handle", "response", "wait", "read"])
def test_a_thread_with_an_event_loop_is_refused(engine: Engine, surface: str) -> None:
    arguments = call(engine, get("/"))
    handler = link(engine, "hello").instantiate(arguments[0]).wasi_http_incoming_handler
    exchange = start(engine, "hello", get("/"))
    surfaces: dict[str, Callable[[], object]] = {
        "call_handle": lambda: handler.call_handle(*arguments),
        "start_handle": lambda: handler.start_handle(*arguments),
        "response": exchange.response,
        "wait": exchange.wait,
        "read": exchange.response().body.read,
    }

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await .* asyncio\.to_thread"):
            surfaces[surface]()

    asyncio.run(main())
    exchange.close()


class Odd(BaseException):
    """One that nobody expects."""


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, Odd])
def test_an_exception_of_a_host_function_is_raised_where_the_call_was_made(
    engine: Engine, kind: type[BaseException]
) -> None:
    error = kind("of the host")

    def monotonic() -> int:
        raise error

    arguments = call(engine, get("/sleep/1"), WasiCtx(monotonic=monotonic))
    handler = link(engine, "c_sleep").instantiate(arguments[0]).wasi_http_incoming_handler
    with pytest.raises(kind) as raised:
        handler.call_handle(*arguments)
    assert raised.value is error
    with start(engine, "c_sleep", get("/sleep/1"), WasiCtx(monotonic=monotonic)) as exchange:
        with pytest.raises(kind) as raised:
            exchange.wait()
        assert raised.value is error
    error.__traceback__ = None
    del raised


def test_http_alone(engine: Engine) -> None:
    linker = Linker(engine)
    add_only_http_to_linker_sync(linker)
    assert sorted(linker.interfaces()) == ["wasi:http/outgoing-handler@0.2.12", "wasi:http/types@0.2.12"]
    imports.add_to_linker(linker)
    arguments = call(engine, get("/"))
    pre = sync.ProxyPre(linker.instantiate_pre(component(engine, "hello")))
    pre.instantiate(arguments[0]).wasi_http_incoming_handler.call_handle(*arguments)
