"""ASGI applications: the contract of both directions, and what becomes of one whose guest goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from tests.client.peers import outgoing, received, until
from tests.client.peers import run as run_on
from tests.embedding import State
from wasi_http import HttpError, OutgoingRequestConfig, Request, Response
from wasi_http.doors import asgi
from wasi_http.doors.asgi import AsgiTarget
from wasi_http.flow.pipe import Pipe
from wasi_http.http.values import ErrorCode

START: dict[str, Any] = {"type": "http.response.start", "status": 200}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def request(path: str = "/", body: Pipe | None = None, method: str = "GET", **more: Any) -> Request:
    return outgoing(method, "http", "app:81", path, body=body, **more)


def run(main: Coroutine[Any, Any, None], *reports: str) -> None:
    """Runs a test that leaves no task and reports these exceptions to the loop's exception handler."""
    assert reports_of(main) == list(reports)


def reports_of(main: Coroutine[Any, Any, None]) -> list[str]:
    reported: list[str] = []

    async def alone() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(repr(context["exception"])))
        await main
        await settle()

    run_on("asyncio", alone())
    return reported


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# ---- the request ----------------------------------------------------------------------------------------------------


async def scope_of(sent: Request, **options: Any) -> dict[str, Any]:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send(START)
        await send(body())

    await AsgiTarget(app, **options)(sent)
    return scopes[0]  # type: ignore[no-any-return]


def test_the_scope() -> None:
    async def main() -> None:
        sent = request("/caf%C3%A9/a%2Fb?q=%C3%A9&r", method="get", headers=[(b"X-A", b"1"), (b"x-a", b"2")])
        assert await scope_of(sent) == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/café/a/b",
            "raw_path": b"/caf%C3%A9/a%2Fb",
            "query_string": b"q=%C3%A9&r",
            "root_path": "",
            "headers": [(b"host", b"app:81"), (b"x-a", b"1"), (b"x-a", b"2")],
            "client": None,
            "server": None,
            "extensions": {"http.response.trailers": {}},
        }

    run(main())


# A path, what is decoded of it, and how it was written.
PATHS = [
    ("/", "/", b"/"),
    ("/?", "/", b"/"),
    ("/%zz%", "/%zz%", b"/%zz%"),
    ("/%ff", "/\ufffd", b"/%ff"),
    ("/café?q", "/café", "/café".encode()),
    ("*", "*", b"*"),
]


@pytest.mark.parametrize(("path", "decoded", "raw"), PATHS)
def test_paths(path: str, decoded: str, raw: bytes) -> None:
    async def main() -> None:
        scope = await scope_of(request(path))
        assert (scope["path"], scope["raw_path"]) == (decoded, raw)

    run(main())


def test_a_host_header_is_kept() -> None:
    async def main() -> None:
        scope = await scope_of(request(headers=[(b"Host", b"other")]))
        assert scope["headers"] == [(b"host", b"other")]

    run(main())


def test_each_request_has_its_own_state() -> None:
    shared = {"counter": 0}

    async def main() -> None:
        scope = await scope_of(request(), state=shared)
        scope["state"]["counter"] += 1
        assert (await scope_of(request(), state=shared))["state"] == {"counter": 0}

    run(main())


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await send({**START, "status": 201, "headers": [(b"Content-Type", b"text/plain"), (b"connection", b"close")]})
    more = True
    while more:
        message = await receive()
        assert message["type"] == "http.request"
        more = message["more_body"]
        await send(body(message["body"], more))


@pytest.mark.parametrize("pieces", [[], [b"all"], [b"some ", b"more"], [bytes(200_000), b"end"]])
def test_bodies(pieces: list[bytes]) -> None:
    async def main() -> None:
        source = Pipe()
        for piece in pieces[:1]:
            source.write(piece)
        reply = asyncio.ensure_future(AsgiTarget(echo)(request(body=source, method="POST")))
        await settle()
        for piece in pieces[1:]:
            source.write(piece)
            await settle()
        source.end()
        response = await reply
        assert (response.status, response.headers) == (201, [(b"content-type", b"text/plain")])
        assert await response.body.read() == b"".join(pieces)

    run(main())


def test_a_body_of_an_embedder_is_read_when_the_application_asks() -> None:
    async def main() -> None:
        asked = Request("POST", "http://app:81/", (), iter([b"some ", b"more"]))
        response = await AsgiTarget(echo)(asked)
        assert await response.body.read() == b"some more"

    run(main())


def test_a_request_without_a_body() -> None:
    async def main() -> None:
        messages = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            messages.append(await receive())
            await send(START)
            await send(body())
            messages.append(await receive())

        await AsgiTarget(app)(request())
        await settle()
        assert messages == [
            {"type": "http.request", "body": b"", "more_body": False},
            {"type": "http.disconnect"},
        ]

    run(main())


def test_receive_waits_behind_the_body() -> None:
    """It costs no turns of the loop, and ends with the response."""

    async def main() -> None:
        received: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def listen() -> None:
                while (message := await receive())["type"] != "http.disconnect":
                    received.append(message["type"])
                received.append("http.disconnect")

            listening = asyncio.create_task(listen())
            await send(START)
            await go_on.wait()
            await send(body(b"late"))
            await listening

        go_on = asyncio.Event()
        response = await AsgiTarget(app)(request())
        for _ in range(100):
            await asyncio.sleep(0)
        assert received == ["http.request"]
        go_on.set()
        assert await response.body.read() == b"late"
        await settle()
        assert received == ["http.request", "http.disconnect"]

    run(main())


def test_two_may_receive_at_once() -> None:
    async def main() -> None:
        types: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def one() -> None:
                types.append((await receive())["type"])

            both = [asyncio.create_task(one()), asyncio.create_task(one())]
            await send(START)
            await send(body())
            await asyncio.gather(*both)

        source = Pipe()
        await AsgiTarget(app)(request(body=source, method="POST"))
        source.write(b"one")
        source.end()
        await settle()
        assert types == ["http.disconnect", "http.disconnect"]

    run(main())


def test_a_request_that_is_cut_off() -> None:
    """What arrived comes first; then it looks as if the client had gone."""

    async def main() -> None:
        received: list[dict[str, Any]] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            received.extend([await receive(), await receive(), await receive()])
            await send(START)
            await send(body(b"noticed"))

        source = Pipe()
        source.write(b"begun")
        source.fail(HttpError(ErrorCode.HttpProtocolError, "dropped"))
        response = await AsgiTarget(app)(request(body=source, method="POST"))
        assert await response.body.read() == b"noticed"
        gone = {"type": "http.disconnect"}
        assert received == [{"type": "http.request", "body": b"begun", "more_body": True}, gone, gone]

    run(main())


def test_a_body_that_the_application_does_not_read() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(body())

        source = Pipe()
        source.write(bytes(source.room()))
        await AsgiTarget(app)(request(body=source, method="POST"))
        await settle()
        with pytest.raises(BrokenPipeError):  # the guest need not wait for room
            source.room()

    run(main())


def test_a_guest_is_held_back() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await go_on.wait()
            while (await receive())["more_body"]:
                pass
            await send(body())

        go_on = asyncio.Event()
        source = Pipe()
        response = await AsgiTarget(app)(request(body=source, method="POST"))
        source.write(bytes(source.room()))
        await settle()
        assert source.room() == 0
        go_on.set()
        await until(source.room)
        source.end()
        assert await response.body.read() == b""

    run(main())


# ---- the response ---------------------------------------------------------------------------------------------------


def test_an_application_is_held_back() -> None:
    async def main() -> None:
        sent = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await send(START)
            for _ in range(64):
                await send(body(bytes(65536), True))
                sent += 65536
            await send(body())

        response = await AsgiTarget(app)(request())
        await settle()
        assert sent <= response.body.pipe.limit + 65536
        assert len(await response.body.read()) == 64 * 65536

    run(main())


# The method, the status, whether the response has the body that the application sends.
WITHOUT_BODY = [
    ("HEAD", 200, False),
    ("HEAD", 404, False),
    ("GET", 204, False),
    ("GET", 304, False),
    ("GET", 200, True),
]


@pytest.mark.parametrize(("method", "status", "there"), WITHOUT_BODY)
def test_responses_without_a_body(method: str, status: int, there: bool) -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({**START, "status": status, "headers": [(b"content-length", b"5")]})
            await send(body(b"hello"))

        response = await AsgiTarget(app)(request(method=method))
        assert (response.status, response.headers) == (status, [(b"content-length", b"5")])
        assert await response.body.read() == (b"hello" if there else b"")

    run(main())


def test_trailers() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({**START, "trailers": True})
            await send(body(b"data"))
            trailers = {"type": "http.response.trailers"}
            await send({**trailers, "headers": [(b"X-A", b"1")], "more_trailers": True})
            await send({**trailers, "headers": [(b"x-b", b"2")]})

        response = await AsgiTarget(app)(request())
        assert await response.body.read() == b"data"
        assert response.body.trailers == [(b"x-a", b"1"), (b"x-b", b"2")]

    run(main())


# What an application sends, how far the guest gets, what is raised where it is sent, and in the end.
WRONG: list[tuple[list[dict[str, Any]], bytes | None, str]] = [
    ([body()], None, "expected was http.response.start"),
    ([{"type": "lifespan.startup.complete"}], None, "expected was http.response.start"),
    ([START, START], b"", "expected was http.response.body"),
    ([START, body(b"a", True), START], b"a", "expected was http.response.body"),
    ([START, {"type": "http.response.trailers"}], b"", "expected was http.response.body"),
    ([{**START, "headers": [("x", "y")]}], None, "string argument without an encoding"),
    ([START, {"type": "http.response.body", "body": "text"}], b"", "string argument without an encoding"),
    ([{**START, "headers": [(b"content-length", b"1")]}, body(b"ab")], b"", "more than the content-length"),
    ([{**START, "headers": [(b"content-length", b"3")]}, body(b"ab")], b"ab", "less than the content-length"),
]


@pytest.mark.parametrize(("messages", "data", "text"), WRONG)
def test_what_an_application_may_not_send(messages: list[dict[str, Any]], data: bytes | None, text: str) -> None:
    errors: list[Exception] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            try:
                await send(message)
            except Exception as error:
                errors.append(error)
                raise

    async def main() -> None:
        if data is None:
            with pytest.raises((RuntimeError, TypeError), match=text):
                await AsgiTarget(app)(request())
            return
        response = await AsgiTarget(app)(request())
        arrived, code = await received(response.body)
        assert arrived == data
        assert code is not None

    reported = reports_of(main())
    assert len(errors) == 1
    assert text in str(errors[0])
    assert reported == ([] if data is None else [repr(errors[0])])


def test_nothing_may_follow_a_complete_response() -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(body(b"all"))
            with pytest.raises(RuntimeError, match="the response is complete"):
                await send(body(b"more"))

        response = await AsgiTarget(app)(request())
        assert await response.body.read() == b"all"

    run(main())


# ---- failures -------------------------------------------------------------------------------------------------------


def test_an_application_that_returns_without_a_response() -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        pass

    async def main() -> None:
        with pytest.raises(HttpError) as incomplete:
            await AsgiTarget(nothing)(request())
        assert incomplete.value.code == ErrorCode.HttpResponseIncomplete

    run(main())


def test_an_application_that_fails_at_once() -> None:
    async def at_once(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("at once")

    async def main() -> None:
        with pytest.raises(KeyError):
            await AsgiTarget(at_once)(request())

    run(main())


@pytest.mark.parametrize("error", [None, KeyError("late")])
def test_an_application_that_ends_within_its_response(error: Exception | None) -> None:
    async def half_way(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"half", True))
        if error is not None:
            raise error

    async def main() -> None:
        response = await AsgiTarget(half_way)(request())
        data, code = await received(response.body)
        assert data == b"half"
        assert code == (ErrorCode.HttpResponseIncomplete if error is None else ErrorCode.InternalError("KeyError"))

    run(main(), *([repr(error)] if error is not None else []))


def test_an_application_that_fails_after_its_response() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"all"))
        raise KeyError("later")

    async def main() -> None:
        response = await AsgiTarget(app)(request())
        assert await response.body.read() == b"all"

    run(main(), "KeyError('later')")


# ---- guests that go -------------------------------------------------------------------------------------------------


def test_an_application_is_told_that_the_guest_does_not_want_the_rest() -> None:
    async def main() -> None:
        told: list[object] = []

        async def endless(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(START)
            try:
                while True:
                    await send(body(bytes(65536), True))
            except OSError as error:
                told.append(error)
                told.append(await receive())
                raise

        response = await AsgiTarget(endless)(request())
        async for _ in response.body:
            break
        response.body.cancel()
        await until(lambda: len(told) == 2)
        assert isinstance(told[0], BrokenPipeError)
        assert told[1] == {"type": "http.disconnect"}

    run(main())


@pytest.mark.parametrize("started", [False, True])
def test_an_application_that_ignores_the_disconnect_is_cancelled(
    started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "GRACE", 0.02)

    async def main() -> None:
        states: list[str] = []

        async def deaf(scope: Any, receive: Any, send: Any) -> None:
            if started:
                await send(START)
            states.append("running")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                states.append("cancelled")
                raise

        call = asyncio.ensure_future(AsgiTarget(deaf)(request()))
        await until(lambda: states)
        if started:
            (await call).body.cancel()
        else:
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert states == ["running"]
        await until(lambda: states == ["running", "cancelled"])

    run(main())


def test_an_application_has_time_to_end() -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            while (await receive())["type"] != "http.disconnect":
                pass
            await asyncio.sleep(0)
            ended.set()

        (await AsgiTarget(app)(request())).body.cancel()
        await ended.wait()

    run(main())


def test_what_follows_a_response_is_left_alone() -> None:
    async def main() -> None:
        go_on = asyncio.Event()
        done = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(body(b"all"))
            await go_on.wait()
            done.set()

        response = await AsgiTarget(app)(request())
        response.body.cancel()
        await settle()
        go_on.set()
        await done.wait()

    run(main())


# ---- Starlette ------------------------------------------------------------------------------------------------------


def older(app: Any) -> Any:
    """Starlette listens for the disconnect by itself in servers whose `send` does not tell of it."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["asgi"] = {"version": "3.0", "spec_version": "2.0"}
        await app(scope, receive, send)

    return wrapped


@pytest.mark.parametrize("wrap", [older, lambda app: app], ids=["2.0", "2.4"])
def test_a_streaming_response_costs_no_time_while_it_waits(wrap: Callable[[Any], Any]) -> None:
    async def main() -> None:
        go_on, background = asyncio.Event(), asyncio.Event()

        async def stream() -> AsyncIterator[bytes]:
            yield b"one "
            await go_on.wait()
            yield b"two"

        async def later() -> None:
            background.set()

        async def endpoint(asked: StarletteRequest) -> StreamingResponse:
            assert await asked.body() == b"asked"
            return StreamingResponse(stream(), background=BackgroundTask(later))

        target = AsgiTarget(wrap(Starlette(routes=[Route("/", endpoint, methods=["POST"])])))
        response = await target(request(body=Pipe.of(b"asked"), method="POST"))
        pieces = aiter(response.body)
        assert await anext(pieces) == b"one "
        spent = time.thread_time()
        await asyncio.sleep(0.3)
        assert time.thread_time() - spent < 0.15
        go_on.set()
        assert await anext(pieces) == b"two"
        assert await anext(pieces, None) is None
        await background.wait()

    run(main())


@pytest.mark.parametrize("wrap", [older, lambda app: app], ids=["2.0", "2.4"])
def test_a_streaming_response_that_is_dropped(wrap: Callable[[Any], Any]) -> None:
    async def main() -> None:
        ended = asyncio.Event()

        async def stream() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(65536)
            finally:
                ended.set()

        async def endpoint(asked: StarletteRequest) -> StreamingResponse:
            return StreamingResponse(stream())

        target = AsgiTarget(wrap(Starlette(routes=[Route("/", endpoint)])))
        response = await target(request())
        await settle()
        response.body.cancel()
        await until(lambda: not target._running)
        await asyncio.get_running_loop().shutdown_asyncgens()
        await ended.wait()

    run(main())


def test_it_is_a_hook() -> None:
    async def endpoint(asked: StarletteRequest) -> JSONResponse:
        return JSONResponse([str(asked.url), asked.query_params["q"]])

    class Mounted(State):
        send_request = AsgiTarget(Starlette(routes=[Route("/a/{name}", endpoint)]))  # type: ignore[assignment]

    async def main() -> None:
        send: Callable[..., Awaitable[Response]] = Mounted().send_request
        response = await send(request("/a/b?q=1"), OutgoingRequestConfig())
        assert await response.body.read() == b'["http://app:81/a/b?q=1","1"]'

    run(main())
