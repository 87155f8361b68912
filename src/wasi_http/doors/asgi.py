"""ASGI applications as targets of guests' requests, in this process: ASGI 3.0, HTTP messages of version 2.4.

    request ── http.request … ──► application ── http.response.start, .body …, .trailers ──► response

Both bodies are streamed with back-pressure. Behind the request's body `receive` waits until the exchange is over: the
response complete, or the guest gone. Then it gives ``http.disconnect``, and if the guest has gone `send` raises OSError
and the application has `GRACE` seconds to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

from wasi_http.client import OutgoingRequestConfig
from wasi_http.flow.pipe import Pipe
from wasi_http.flow.signal import Signal, until
from wasi_http.http.errors import HttpError
from wasi_http.http.fields import Field
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.values import ErrorCode

__all__ = ["GRACE", "Application", "AsgiTarget"]

Message: TypeAlias = MutableMapping[str, Any]

#: An ASGI 3 application.
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

#: How long, in seconds, an application may run on when the guest has gone; then it is cancelled.
GRACE: Final = 5.0

# How much of a request's body is given to the application at once.
_PIECE: Final = 65536

# What an application may send next, by the stage of the response.
_EXPECTED: Final = {
    "waiting": "http.response.start",
    "body": "http.response.body",
    "trailers": "http.response.trailers",
}

# The framing of a connection, of which there is none.
_DROPPED: Final = frozenset((b"connection", b"transfer-encoding"))


class AsgiTarget:
    """Answers requests with an application: the hook `send_request` of a view, or what the hook calls.

    Lifespan events are not sent; if something else runs the application's lifespan, ``state`` is what came of it. An
    exception of the application before it starts a response is raised to the caller. A later one fails the response's
    body, and is reported to the event loop's exception handler.
    """

    def __init__(self, application: Application, *, state: Mapping[str, Any] | None = None) -> None:
        self.application = application
        self.state = state
        # The loop keeps no reference to tasks.
        self._running: set[asyncio.Task[None]] = set()

    async def __call__(self, request: Request, config: OutgoingRequestConfig | None = None) -> Response:
        """The response, as soon as it starts. The timeouts of ``config`` do not apply.

        Raises HttpError with HTTP-response-incomplete if the application returns without a response.
        """
        exchange = _Exchange(request)
        task = asyncio.ensure_future(_run(self.application, self._scope(request), exchange))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(exchange.finish)
        exchange.task = task
        try:
            return await exchange.response
        except asyncio.CancelledError:
            exchange.abandon()
            raise

    def _scope(self, request: Request) -> dict[str, Any]:
        raw_path, _, query = request.path.encode("utf-8", "surrogatepass").partition(b"?")
        headers = [(name.lower(), value) for name, value in request.headers]
        if not any(name == b"host" for name, _ in headers):
            headers.insert(0, (b"host", (request.authority or "").encode()))
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method.upper(),
            "scheme": request.scheme,
            "path": unquote(raw_path.decode("utf-8", "replace")),
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": None,
            "server": None,
            "extensions": {"http.response.trailers": {}},
        }
        if self.state is not None:
            scope["state"] = dict(self.state)
        return scope


async def _run(application: Application, scope: dict[str, Any], exchange: _Exchange) -> None:
    await application(scope, exchange.receive, exchange.send)


class _Gone(BrokenPipeError):
    """The guest does not want the response any more."""


class _Exchange:
    """One call of an application.

    The response goes through ``waiting`` (for its start), ``body``, ``trailers`` if they were announced, and ``over``.
    """

    def __init__(self, request: Request) -> None:
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self._head = request.method == "HEAD"
        self._source = Body.of() if request.body is None else request.body
        self._received = False  # the whole request
        self._pipe = Pipe()
        self._stage = "waiting"
        self._announced = False  # trailers
        self._trailers: list[Field] = []
        self._empty = False  # whatever the application sends, this response has no body
        self._left: int | None = None  # of the declared length
        self._abandoned = False
        #: Notified when the exchange is over.
        self._ended = Signal()
        self._pipe.writable.add(self._look)

    # What the application calls

    async def receive(self) -> Message:
        self._source.demand()
        message = await until(self._receive, self._source.pipe.readable, self._ended)
        assert message is not None
        return message

    def _receive(self) -> Message | None:
        source = self._source.pipe
        if self._abandoned or self._stage == "over":
            return {"type": "http.disconnect"}
        if self._received:
            return None
        try:
            data = source.take(_PIECE)
        except OSError:
            # The rest of the request will not come: servers report a disconnect.
            return {"type": "http.disconnect"}
        if data == b"":
            return None
        self._received = source.ended and not source.size
        return {"type": "http.request", "body": data or b"", "more_body": not self._received}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self._abandoned:
            raise _Gone
        if kind != _EXPECTED.get(self._stage):
            expected = _EXPECTED.get(self._stage, "nothing, as the response is complete")
            raise RuntimeError(f"the ASGI application sent {str(kind)[:100]!r}, expected was {expected}")
        if self._stage == "waiting":
            self._start(message)
        elif self._stage == "body":
            await self._write(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                self._end_body()
        else:
            self._trailers += _fields(message.get("headers", ()))
            if not message.get("more_trailers", False):
                self._complete()

    def _start(self, message: Message) -> None:
        status, headers = int(message["status"]), _fields(message.get("headers", ()))
        self._announced = bool(message.get("trailers", False))
        self._empty = self._head or status in (204, 304)
        lengths = [value for name, value in headers if name == b"content-length"]
        if lengths and not self._empty:
            self._left = int(lengths[0])
        self._stage = "body"
        if not self.response.done():
            self.response.set_result(Response(status, headers, Body(self._pipe)))

    async def _write(self, data: bytes) -> None:
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise RuntimeError("the ASGI application sent more than the content-length of its response")
        if data and not self._empty:
            pipe = self._pipe
            await until(lambda: self._abandoned or pipe.room(), pipe.writable)
            if self._abandoned:
                raise _Gone
            pipe.write(data)

    def _end_body(self) -> None:
        if self._left:
            raise RuntimeError("the ASGI application sent less than the content-length of its response")
        if self._announced:
            self._stage = "trailers"
        else:
            self._complete()

    def _complete(self) -> None:
        self._stage = "over"
        self._pipe.end(self._trailers or None)
        self._ended.notify()

    # The end

    def _look(self) -> None:
        if self._pipe.cancelled and self._stage != "over":
            self.abandon()

    def abandon(self) -> None:
        """The guest has gone, or does not want the rest of the response."""
        if self._abandoned:
            return
        self._abandoned = True
        self._ended.notify()
        if self.task is not None and not self.task.done():
            timer = self.task.get_loop().call_later(GRACE, self.task.cancel)
            self.task.add_done_callback(lambda _: timer.cancel())

    def finish(self, task: asyncio.Task[None]) -> None:
        """The application has returned."""
        self._source.cancel()
        error = None if task.cancelled() else task.exception()
        if error is None:
            failure = HttpError(ErrorCode.HttpResponseIncomplete, "the ASGI application ended within its response")
        else:
            failure = HttpError.of(error)
        if not self.response.done():
            self.response.set_exception(failure if error is None else error)
            return
        self._pipe.fail(failure)
        if error is not None and not _comes_of(error, _Gone):
            context = {"message": "an ASGI application failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)


def _comes_of(error: BaseException | None, cause: type[BaseException]) -> bool:
    """Whether an exception is of a type, or was raised while one was handled."""
    while error is not None and not isinstance(error, cause):
        error = error.__cause__ or error.__context__
    return error is not None


def _fields(headers: Any) -> list[Field]:
    fields = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    return [field for field in fields if field[0] not in _DROPPED]
