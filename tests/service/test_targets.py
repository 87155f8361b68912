"""A service as the target of another guest's requests: from guest to guest, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.client.peers import PATIENCE, received, run, until
from tests.guests.build import GuestUnavailable, build
from tests.server.scripted import ScriptedService, respond, settled
from tests.server.serving import Guests
from wasi_http import OutgoingRequestConfig, Request, Response, Service, ServiceConfig
from wasi_http.component import Err, Ok
from wasi_http.engine import Engine, Trap
from wasi_http.flow.pipe import BODY_BUFFER, Pipe
from wasi_http.http.body import IncomingBody, OutgoingBody
from wasi_http.http.errors import GuestTimeout, NoResponse, ServiceBusy, error_code_of
from wasi_http.http.fields import Fields
from wasi_http.http.message import Body
from wasi_http.http.outgoing import OutgoingHandler
from wasi_http.http.types import (
    FutureIncomingResponse,
    IncomingRequest,
    IncomingResponse,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
)
from wasi_http.http.values import ErrorCode, Method, Scheme
from wasi_http.service.guest import Guest
from wasi_http.wasi.io.streams import StreamError


class Quiet(Service):
    """Keeps what it would log."""

    reports: list[str]

    def report(self, run: Any, text: str) -> None:
        self.reports.append(text)


class Front(Quiet):
    """Its guests' requests go to another service."""

    target: Callable[[Request, OutgoingRequestConfig], Awaitable[Response]]

    def send_request(self, request: Request, config: OutgoingRequestConfig) -> Awaitable[Response]:
        return self.target(request, config)


def service(kind: type[Any], engine: Engine, name: str, **config: Any) -> Any:
    try:
        path = build(name)
    except GuestUnavailable as error:
        pytest.skip(str(error))
    made = kind.from_file(path, engine=engine, config=ServiceConfig(**config))
    made.reports = []
    return made


def pair(engine: Engine, target: str, **config: Any) -> tuple[Front, Quiet]:
    """A guest that forwards to another one."""
    front = service(Front, engine, "c_fetch", client_gone_grace=0.0)
    back = service(Quiet, engine, target, client_gone_grace=0.0, **config)
    front.target = back
    return front, back


def fetch(url: str, path: str = "/fetch", body: Any = None, method: str = "GET") -> Request:
    return Request(method, path, [(b"x-url", f"http://back{url}".encode())], body, "front")


async def idle(*services: Service) -> None:
    await until(lambda: not any(one.active for one in services))


def test_a_response_comes_from_the_other_guest(engine: Engine, loop: str) -> None:
    async def main() -> None:
        front, back = pair(engine, "c_hello")
        async with front, back:
            for _ in range(3):
                response = await front.handle(fetch("/"))
                assert (response.status, await response.read()) == (200, b"Hello from C!\n")
            await idle(front, back)
        assert front.reports + back.reports == []

    run(loop, main())


def test_bodies_are_streamed_both_ways(engine: Engine, loop: str) -> None:
    """A piece is sent when the last one has come back: nothing waits for the end of anything."""

    async def main() -> None:
        front, back = pair(engine, "c_echo")
        async with front, back:
            source = Pipe()
            response = await front.handle(fetch("/", "/duplex", Body(source), "POST"))
            pieces = aiter(response.body)
            for piece in (b"first", b"second", b"third"):
                source.write(piece)
                assert await anext(pieces) == piece
            source.end()
            assert [piece async for piece in pieces] == []
            await idle(front, back)

    run(loop, main())


def test_more_than_any_buffer_holds(engine: Engine, loop: str) -> None:
    async def main() -> None:
        given = 0

        async def source() -> AsyncIterator[bytes]:
            nonlocal given
            for number in range(64):
                given += 1
                yield bytes([number]) * 65536

        front, back = pair(engine, "c_echo")
        async with front, back:
            response = await front.handle(fetch("/", "/duplex", source(), "POST"))
            pieces = aiter(response.body)
            data = await anext(pieces)
            for _ in range(200):
                await asyncio.sleep(0)
            # Nobody reads: both guests, and the source, are held back.
            assert given * 65536 <= 5 * BODY_BUFFER
            async for piece in pieces:
                data += piece
            assert data == b"".join(bytes([number]) * 65536 for number in range(64))
            await idle(front, back)

    run(loop, main())


# A path of the target, what the first guest answers.
FAILURES: list[tuple[str, ErrorCode, str]] = [
    ("/trap", ErrorCode.HttpResponseIncomplete, "unreachable"),
    ("/no-set", ErrorCode.HttpResponseIncomplete, "guest never invoked"),
    ("/error-set", ErrorCode.InternalError(None), "the guest answered with the error"),
]


def number_of(code: ErrorCode) -> int:
    return next(n for n, (_, _, form) in enumerate(ErrorCode.__cases__) if form in (code, type(code)))


@pytest.mark.parametrize(("path", "code", "report"), FAILURES)
def test_failures(engine: Engine, loop: str, path: str, code: ErrorCode, report: str) -> None:
    async def main() -> None:
        unhandled: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        front, back = pair(engine, "c_kitchen")
        async with front, back:
            response = await front.handle(fetch(path))
            assert (response.status, await response.read()) == (502, b"error-code %d\n" % number_of(code))
            await idle(front, back)
        assert front.reports == []
        assert report in back.reports[0]
        # The log of the target has it; the hook did nothing wrong.
        assert unhandled == []

    run(loop, main())


def test_what_no_response_means() -> None:
    assert error_code_of(NoResponse()) is ErrorCode.HttpResponseIncomplete
    assert error_code_of(GuestTimeout()) is ErrorCode.HttpResponseTimeout
    assert error_code_of(ServiceBusy()) is ErrorCode.ConnectionLimitReached


def test_a_target_that_takes_too_long(engine: Engine, loop: str) -> None:
    async def main() -> None:
        front, back = pair(engine, "c_kitchen", timeout=0.05)
        async with front, back:
            response = await front.handle(fetch("/sleep-forever"))
            assert await response.read() == b"error-code %d\n" % number_of(ErrorCode.HttpResponseTimeout)

    run(loop, main())


def test_a_body_that_breaks_off(engine: Engine, loop: str) -> None:
    async def main() -> None:
        front, back = pair(engine, "c_kitchen")
        async with front, back:
            response = await front.handle(fetch("/trap-after-head"))
            data, code = await received(response.body)
            # Not taken for the whole.
            assert (b"partial".startswith(data), code is None) == (True, False)
            await idle(front, back)

    run(loop, main())


@pytest.mark.parametrize("path", ["/sleep-forever", "/sleep-after-head"])
def test_the_target_is_cancelled_when_the_first_gives_up(engine: Engine, loop: str, path: str) -> None:
    async def main() -> None:
        front, back = pair(engine, "c_kitchen")
        async with front, back:
            if path == "/sleep-forever":
                asking = asyncio.ensure_future(front.handle(fetch(path)))
                await until(lambda: back.active)
                asking.cancel()
                await asyncio.wait([asking])
            else:
                response = await front.handle(fetch(path))
                await anext(aiter(response.body))
                assert back.active
                response.body.cancel()
            async with asyncio.timeout(PATIENCE):
                await idle(front, back)

    run(loop, main())


# ---- guests of a test's own -----------------------------------------------------------------------------------------


class ScriptedFront(ScriptedService):
    target: Service

    def send_request(self, request: Request, config: OutgoingRequestConfig) -> Awaitable[Response]:
        return self.target(request, config)


async def ready(resource: Any) -> None:
    """Waits as a guest does, that blocks on what it subscribed to."""
    waiting = resource.subscribe().block()
    if waiting is not None:
        await waiting


def to_back(view: Any, method: Method = Method.Post) -> OutgoingRequest:
    request = OutgoingRequest(Fields(view, []))
    request.set_method(method)
    request.set_scheme(Scheme.HTTP)
    request.set_authority("back")
    return request


async def response_of(future: FutureIncomingResponse) -> IncomingResponse:
    await ready(future)
    outcome = future.get()
    assert isinstance(outcome, Ok)
    assert isinstance(outcome.value, Ok)
    return outcome.value.value


async def trailers_of(body: IncomingBody) -> list[tuple[str, bytes]]:
    """Of a body whose bytes are skipped."""
    future = IncomingBody.finish(body)
    await ready(future)
    outcome = future.get()
    assert isinstance(outcome, Ok)
    assert isinstance(outcome.value, Ok)
    fields = outcome.value.value
    return [] if fields is None else fields.entries()


def test_trailers_go_both_ways(guests: Guests, loop: str) -> None:
    heard: list[list[tuple[str, bytes]]] = []

    async def back(request: IncomingRequest, out: ResponseOutparam) -> None:
        heard.append(await trailers_of(request.consume()))
        response = OutgoingResponse(Fields(request._view, []))
        body = response.body()
        ResponseOutparam.set(out, Ok(response))
        OutgoingBody.finish(body, Fields.from_list(request._view, [("x-back", b"1")]))

    async def front(request: IncomingRequest, out: ResponseOutparam) -> None:
        view = request._view
        outgoing = to_back(view)
        body = outgoing.body()
        future = OutgoingHandler.handle(view, outgoing, None)
        body.write().write(b"whole")
        OutgoingBody.finish(body, Fields.from_list(view, [("x-front", b"2")]))
        heard.append(await trailers_of((await response_of(future)).consume()))
        respond(request, out)(b"done")

    async def main() -> None:
        one, other = ScriptedFront(guests, front), ScriptedService(guests, back)
        one.target = other
        async with one, other:
            assert await (await one.handle(Request("GET", "http://front/"))).read() == b"done"
            await idle(one, other)

    run(loop, main())
    assert heard == [[("x-front", b"2")], [("x-back", b"1")]]


@pytest.mark.parametrize("reuse", [1, 100])
def test_a_request_that_the_target_does_not_read(guests: Guests, loop: str, reuse: int) -> None:
    """The first guest sees a closed stream, and no error: the target has what it wants."""
    seen: list[Any] = []

    async def back(request: IncomingRequest, out: ResponseOutparam) -> None:
        respond(request, out)(b"enough")

    async def front(request: IncomingRequest, out: ResponseOutparam) -> None:
        view = request._view
        outgoing = to_back(view)
        body = outgoing.body()
        stream = body.write()
        response = await response_of(OutgoingHandler.handle(view, outgoing, None))
        await until(lambda: not one.target.active)
        with pytest.raises(Err) as raised:
            stream.check_write()
        seen.append(raised.value.value)
        stream.release()
        OutgoingBody.finish(body, None)
        seen.append(await settled(response.consume().stream().read(100)))
        respond(request, out)(b"done")

    one = ScriptedFront(guests, front)

    async def main() -> None:
        one.target = ScriptedService(guests, back, max_instance_reuse_count=reuse)
        async with one, one.target:
            assert await (await one.handle(Request("GET", "http://front/"))).read() == b"done"

    run(loop, main())
    assert seen == [StreamError.CLOSED, b"enough"]


def test_a_body_that_is_still_written_survives_its_first_guest(guests: Guests, loop: str) -> None:
    """An instance that served before fails untouched; the fresh one that takes its place gets all of the body."""
    calls: list[str] = []

    async def back(request: IncomingRequest, out: ResponseOutparam) -> None:
        calls.append(request.path_with_query())
        if calls == ["/1", "/2"]:
            handles.append(request.consume())
            failing.set()
            await going_on.wait()
            raise Trap("worn out")
        if request.path_with_query() == "/1":
            respond(request, out)(b"")
            return
        stream = request.consume().stream()
        data = b""
        while not data.endswith(b"after"):
            await ready(stream)
            data += await settled(stream.read(1000))
        respond(request, out)(data)

    async def main() -> None:
        async with Dropping(guests, back, max_instance_reuse_count=9, idle_instance_timeout=1000.0) as target:
            await (await target(Request("GET", "http://a/1"))).read()
            source = Pipe()
            source.write(b"before, ")
            asking = asyncio.ensure_future(target(Request("POST", "http://a/2", (), Body(source))))
            await failing.wait()
            going_on.set()
            await until(lambda: len(calls) == 3)
            source.write(b"after")
            source.end()
            assert await (await asking).read() == b"before, after"

    class Dropping(ScriptedService):
        """The handles of an instance are dropped with it."""

        def new_guest(self, number: int) -> Guest:
            guest = super().new_guest(number)
            close = guest.store.close

            def drop() -> bool:
                while handles:
                    handles.pop().release()
                return close()

            guest.store.close = drop  # type: ignore[method-assign]
            return guest

    handles: list[IncomingBody] = []
    failing, going_on = asyncio.Event(), asyncio.Event()
    run(loop, main())


def test_a_response_without_a_body_has_none(guests: Guests, loop: str) -> None:
    """Whatever the guest writes, and however much."""
    written: list[int] = []

    async def script(request: IncomingRequest, out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields(request._view, [(b"content-length", b"1000000")]))
        response.set_status_code(int(request.path_with_query()[1:]))
        body = response.body()
        stream = body.write()
        ResponseOutparam.set(out, Ok(response))
        for _ in range(10):
            await ready(stream)
            stream.write(bytes(stream.check_write()))
        await ready(stream)
        written.append(stream.check_write())
        OutgoingBody.finish(body, None)

    async def main() -> None:
        async with ScriptedService(guests, script) as target:
            for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
                response = await target(Request(method, f"http://a/{status}"))
                assert (response.status, await response.read()) == (status, b"")
                await idle(target)
        assert len(written) == 3

    run(loop, main())
