"""``outgoing-handler``: what becomes of a guest's request on its way to the hook that sends it, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.client.peers import LOOPS, PATIENCE, Peer, Server, forever, ok, run, serving
from wasi_http.client import (
    DEFAULT_TIMEOUT,
    OutgoingRequestConfig,
)
from wasi_http.component import Err, Ok, ResourceTable
from wasi_http.flow.pipe import Pipe
from wasi_http.http import send
from wasi_http.http.context import WasiHttpCtx
from wasi_http.http.egress import Egress
from wasi_http.http.errors import HttpError
from wasi_http.http.fields import Fields
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.outgoing import OutgoingHandler
from wasi_http.http.send import Client, default_send_request
from wasi_http.http.types import FutureIncomingResponse, OutgoingRequest, RequestOptions
from wasi_http.http.values import ErrorCode, Method, Scheme
from wasi_http.http.view import WasiHttpView
from wasi_http.wasi.context import WasiCtx


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass
class View(WasiHttpView):
    """Keeps what it is to send, and answers as it is told."""

    answer: Callable[[], Awaitable[Response]] | None = None
    table: ResourceTable = field(default_factory=ResourceTable)
    ctx: WasiCtx = field(default_factory=WasiCtx)
    http: WasiHttpCtx = field(default_factory=WasiHttpCtx)
    sent: list[tuple[Request, OutgoingRequestConfig]] = field(default_factory=list)

    async def send_request(self, request: Request, config: OutgoingRequestConfig) -> Response:
        self.sent.append((request, config))
        if self.answer is not None:
            return await self.answer()
        return await super().send_request(request, config)


async def answered() -> Response:
    return Response(204, [(b"X", b"1"), (b"Connection", b"close")])


def request_of(view: View, **settings: Any) -> OutgoingRequest:
    request = OutgoingRequest(Fields(view, settings.pop("headers", [])))
    pipe = settings.pop("body", None)
    if pipe is not None:
        request.message.body = Body(pipe)
    for name, value in {"authority": "a.example", "path_with_query": "/", **settings}.items():
        getattr(request, f"set_{name}")(value)
    return request


def handle(view: View, request: OutgoingRequest, options: RequestOptions | None = None) -> FutureIncomingResponse:
    return OutgoingHandler.handle(view, request, options)  # type: ignore[arg-type]


async def result_of(future: FutureIncomingResponse) -> Any:
    """What `get` gives in the end."""
    assert future.get() is None or future.subscribe().ready()
    ready = future.subscribe()
    waiting = ready.block()
    if waiting is not None:
        await waiting
    outcome = future.get()
    assert isinstance(outcome, Ok)
    assert future.get() == Err(None)
    return outcome.value


# Settings of the request, what the hook gets: method, scheme, authority, path, whether with TLS.
SENT: list[tuple[dict[str, Any], tuple[str, str, str, str, bool]]] = [
    ({}, ("GET", "https", "a.example", "/", True)),
    ({"scheme": Scheme.HTTP}, ("GET", "http", "a.example", "/", False)),
    ({"scheme": Scheme.HTTPS, "path_with_query": "/b?c"}, ("GET", "https", "a.example", "/b?c", True)),
    ({"path_with_query": "?c"}, ("GET", "https", "a.example", "/?c", True)),
    ({"path_with_query": ""}, ("GET", "https", "a.example", "/", True)),
    ({"path_with_query": None}, ("GET", "https", "a.example", "/", True)),
    ({"method": Method.Options, "path_with_query": None}, ("OPTIONS", "https", "a.example", "/", True)),
    ({"method": Method.Options, "path_with_query": "*"}, ("OPTIONS", "https", "a.example", "*", True)),
    ({"method": Method.Other("PURGE")}, ("PURGE", "https", "a.example", "/", True)),
    ({"authority": "a.example:1"}, ("GET", "https", "a.example:1", "/", True)),
]


@pytest.mark.parametrize(("settings", "sent"), SENT)
def test_what_is_sent(loop: str, settings: dict[str, Any], sent: tuple[str, str, str, str, bool]) -> None:
    async def main() -> None:
        view = View(answered)
        outcome = await result_of(handle(view, request_of(view, headers=[(b"x", b"1")], **settings)))
        ((request, config),) = view.sent
        assert (request.method, request.scheme, request.authority, request.path, config.use_tls) == sent
        host = (b"host", request.authority.encode())
        assert (request.headers, request.body) == ([host, (b"x", b"1")], None)
        response = outcome.value
        assert response.status() == 204
        assert response.headers().entries() == [("x", b"1")]  # without what belongs to the host

    run(loop, main())


# Settings of the request, which error it is.
REFUSED: list[tuple[dict[str, Any], ErrorCode]] = [
    ({"scheme": Scheme.Other("ftp")}, ErrorCode.HttpProtocolError),
    ({"authority": None}, ErrorCode.HttpRequestUriInvalid),
    ({"path_with_query": "*"}, ErrorCode.HttpRequestUriInvalid),
]


@pytest.mark.parametrize(("settings", "code"), REFUSED)
def test_what_is_refused(loop: str, settings: dict[str, Any], code: ErrorCode) -> None:
    async def main() -> None:
        view, body = View(answered), Pipe()
        with pytest.raises(Err) as raised:
            handle(view, request_of(view, body=body, **settings))
        assert raised.value.value == code
        assert not view.sent
        assert body.cancelled

    run(loop, main())


# Nanoseconds, seconds.
DURATIONS: list[tuple[int | None, float]] = [
    (None, DEFAULT_TIMEOUT),
    (0, 0.0),
    (1, 1e-9),
    (1_500_000_000, 1.5),
    (2**64 - 1, 365 * 86400.0),
]


@pytest.mark.parametrize(("nanoseconds", "seconds"), DURATIONS)
def test_timeouts(loop: str, nanoseconds: int | None, seconds: float) -> None:
    async def main() -> None:
        for position in range(3):
            view, options = View(answered), RequestOptions()
            setters = options.set_connect_timeout, options.set_first_byte_timeout, options.set_between_bytes_timeout
            setters[position](nanoseconds)
            await result_of(handle(view, request_of(view), options))
            config = view.sent[0][1]
            found = [config.connect_timeout, config.first_byte_timeout, config.between_bytes_timeout]
            assert found == [seconds if number == position else DEFAULT_TIMEOUT for number in range(3)]

    run(loop, main())


@pytest.mark.parametrize("nanoseconds", [0, 1, 2**64 - 1])
def test_timeouts_are_enforced(loop: str, nanoseconds: int) -> None:
    async def main() -> None:
        async with serving(forever) as server:
            codes = [
                (RequestOptions.set_connect_timeout, ErrorCode.ConnectionTimeout),
                (RequestOptions.set_first_byte_timeout, ErrorCode.ConnectionReadTimeout),
            ]
            for setter, code in codes:
                view, options = View(), RequestOptions()
                setter(options, nanoseconds)
                outcome = await result_of(
                    handle(view, request_of(view, scheme=Scheme.HTTP, authority=server.authority), options)
                )
                if nanoseconds > 1:
                    assert outcome.value.status() == 200
                    outcome.value.release()
                else:
                    assert outcome == Err(code)
            await close_default()

    run(loop, main())


async def close_default() -> None:
    await send._client.close()


def test_failures_reach_the_guest_and_its_body(loop: str) -> None:
    async def refuse() -> Response:
        raise HttpError(ErrorCode.DnsTimeout)

    async def main() -> None:
        view = View(refuse)
        body = Pipe()
        outcome = await result_of(handle(view, request_of(view, body=body)))
        assert outcome == Err(ErrorCode.DnsTimeout)
        with pytest.raises(HttpError) as raised:
            body.room()
        assert raised.value.code is ErrorCode.DnsTimeout

    run(loop, main())


def test_a_broken_hook_is_reported(loop: str) -> None:
    async def broken() -> Response:
        raise KeyError("x")

    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        view = View(broken)
        assert await result_of(handle(view, request_of(view))) == Err(ErrorCode.InternalError("KeyError"))
        assert isinstance(reports[0]["exception"], KeyError)

    run(loop, main())


@pytest.mark.parametrize("body", [None, Pipe()])
def test_a_future_of_another_loop_is_reported(loop: str, body: Pipe | None) -> None:
    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
        view = View()
        view.send_request = lambda *_: other.create_future()  # type: ignore[method-assign]
        outcome = await asyncio.wait_for(result_of(handle(view, request_of(view, body=body))), PATIENCE)
        assert isinstance(outcome.value, ErrorCode.InternalError)
        assert reports

    other = asyncio.new_event_loop()
    try:
        run(loop, main())
    finally:
        other.close()


@pytest.mark.parametrize("phase", ["waiting", "answered"])
def test_dropping_the_future_gives_the_exchange_up(loop: str, phase: str) -> None:
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        assert await peer.head()
        if phase == "answered":
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        seen.set()
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server:
            view = View()
            body = Pipe()
            future = handle(
                view, request_of(view, scheme=Scheme.HTTP, authority=server.authority, body=body, method=Method.Put)
            )
            await seen.wait()
            if phase == "answered":
                waiting = future.subscribe().block()
                if waiting is not None:
                    await waiting
            future.release()
            while server.open:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            assert body.cancelled

    run(loop, main())


class Faulty(View):
    """Whatever `answer` does is done at once."""

    def send_request(self, request: Request, config: OutgoingRequestConfig) -> Awaitable[Response]:
        assert self.answer is not None
        return self.answer()


def divide() -> Any:
    raise ZeroDivisionError


async def soon(response: Any) -> Any:
    return response


# What the hook does, which kind of exception that is for whoever wrote it.
FAULTS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (divide, ZeroDivisionError, ""),
    (
        lambda: Response(200),
        TypeError,
        "send_request gave Response, which cannot be awaited: declare it with `async def`, or return what",
    ),
    (lambda: None, TypeError, "send_request gave NoneType, which cannot be awaited: declare it with `async def`"),
    (lambda: soon(None), TypeError, "send_request gave NoneType: it has to give a Response"),
    (lambda: soon((200, [], b"")), TypeError, "send_request gave tuple: it has to give a Response"),
    (lambda: soon(Response.of(200, [("x", "y")], Body.of())), AttributeError, ""),  # type: ignore[list-item]
    (lambda: soon(Response.of(70_000, [], Body.of())), TypeError, "a response with status 70000"),
    (lambda: soon(Response.of(200, [], b"body")), TypeError, "a body of bytes"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("answer", "kind", "said"), FAULTS)
@pytest.mark.parametrize("has_body", [False, True])
def test_a_faulty_hook_is_no_fault_of_the_guest(
    loop: str, answer: Callable[[], Any], kind: type[Exception], said: str, has_body: bool
) -> None:
    async def main() -> None:
        reported: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        view, body = Faulty(answer), Pipe() if has_body else None
        outcome = await result_of(handle(view, request_of(view, body=body)))
        assert outcome == Err(ErrorCode.InternalError(kind.__name__))
        assert [type(error) for error in reported] == [kind]
        assert said in str(reported[0])
        assert body is None or isinstance(body.error, HttpError)

    run(loop, main())


def test_a_hook_that_is_cancelled_at_once(loop: str) -> None:
    def give_up() -> Any:
        raise asyncio.CancelledError

    async def main() -> None:
        view = Faulty(give_up)
        assert await result_of(handle(view, request_of(view))) == Err(ErrorCode.ConnectionTerminated)

    run(loop, main())


def test_a_hook_that_does_not_mind_to_be_cancelled(loop: str) -> None:
    pipe = Pipe()

    async def stubborn() -> Response:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        return Response(200, [], Body(pipe))

    async def main() -> None:
        view = View(stubborn)
        future = handle(view, request_of(view))
        await asyncio.sleep(0)
        future.release()
        while not pipe.cancelled:  # noqa: ASYNC110
            await asyncio.sleep(0)

    run(loop, main())


# ---- without a task -------------------------------------------------------------------------------------------------


@dataclass
class QuickView(View):
    """Sends by a client of its own, behind a policy; ``tasks`` counts the requests that needed a task."""

    client: Client = field(default_factory=Client)
    egress: Egress = field(default_factory=lambda: Egress.parse("127.0.0.1"))
    tasks: int = 0

    def send_request(self, request: Request, config: OutgoingRequestConfig) -> Awaitable[Response]:
        self.sent.append((request, config))
        before = len(asyncio.all_tasks())
        response = self.egress.send_request(request, config, self.client)
        self.tasks += len(asyncio.all_tasks()) - before
        return response


def plain(view: View, authority: str, **settings: Any) -> OutgoingRequest:
    return request_of(view, scheme=Scheme.HTTP, authority=authority, **settings)


def test_an_idle_connection_takes_a_request_at_once(loop: str) -> None:
    async def main() -> None:
        async with serving(forever) as server:
            view = QuickView()
            for _ in range(3):
                response = (await result_of(handle(view, plain(view, server.authority)))).value
                assert response.status() == 200
                response.release()
            assert (len(view.sent), view.tasks, server.connections) == (3, 1, 1)
            await view.client.close()

    run(loop, main())


def test_a_request_that_cannot_be_sent_at_once_or_ever(loop: str) -> None:
    async def main() -> None:
        view = QuickView(egress=Egress())
        future = handle(view, request_of(view))
        assert await result_of(future) == Err(ErrorCode.HttpRequestDenied)
        future.release()

    run(loop, main())


def test_a_dead_connection_does_not_take_the_request_along(loop: str) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(ok(b"hello"))
        if server.connections == 1:
            await peer.head()  # and goes
        else:
            await peer.closed()

    async def main() -> None:
        nonlocal server
        async with serving(script) as server:
            view = QuickView()
            for number in (1, 2):
                future = handle(view, plain(view, server.authority))
                assert (await result_of(future)).value.status() == 200
                assert (server.connections, len(view.sent), view.tasks) == (number, number, 1)
            await view.client.close()

    server: Server
    run(loop, main())


@pytest.mark.parametrize("phase", ["waiting", "again", "answered", "failed"])
def test_dropping_a_future_without_a_task(loop: str, phase: str) -> None:
    seen = asyncio.Event()

    async def script(peer: Peer) -> None:
        assert await peer.head()
        if server.connections == 1:
            await peer.send(ok(b"hello"))
            await peer.head()
            if phase == "again":
                return
        if phase == "answered":
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
        if phase == "failed":
            await peer.send(b"nonsense\r\n\r\n")
        seen.set()
        await peer.closed()

    async def main() -> None:
        nonlocal server
        async with serving(script) as server:
            view = QuickView()
            (await result_of(handle(view, plain(view, server.authority)))).value.release()
            future = handle(view, plain(view, server.authority))
            await seen.wait()
            if phase in ("answered", "failed"):
                waiting = future.subscribe().block()
                if waiting is not None:
                    await waiting
            future.release()
            while server.open:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            await view.client.close()

    server: Server
    run(loop, main())


def test_the_default_client_uses_connections_again(loop: str) -> None:
    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(ok(b"x"))

    async def main() -> None:
        async with serving(script) as server:
            for _ in range(3):
                request = Request("GET", f"http://{server.authority}/")
                assert (await default_send_request(request, OutgoingRequestConfig())).status == 200
            assert server.connections == 1
            await close_default()

    run(loop, main())
