"""HTTP/1.1 in front of a service, or a handler of the embedder's own: on one connection, or on all of a listener.

The connections are those of ``wasi-http serve``: the same parser, limits, timeouts and refusals.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, cast

from wasi_http.engine.errors import expect
from wasi_http.http.errors import HttpError, NoResponse, status_of
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.values import ErrorCode
from wasi_http.http1.date import DateCache
from wasi_http.http1.limits import Limits
from wasi_http.net.sockets import keep_alive
from wasi_http.server.access import AccessLog
from wasi_http.server.config import ConnectionConfig
from wasi_http.server.connection import Connection
from wasi_http.server.exchange import Answers
from wasi_http.server.headers import RequestHeaders
from wasi_http.service.run import Receiver
from wasi_http.service.service import Service

__all__ = ["ConnectionFactory", "RequestHandler", "serve_connection"]

#: What answers the requests of a connection.
RequestHandler = Callable[[Request], Awaitable[Response]]

# More than a reader may have read before a connection was handed over, in bytes.
_READ: Final = 1 << 40

# How often, in seconds, connections are looked at: a quarter of the shortest timeout, within these.
_SHORTEST, _LONGEST = 0.02, 1.0


class ConnectionFactory:
    """Makes the protocols of connections: give it to ``loop.create_server``, and `close` it after the server.

    ``handler`` is a `Service`, for which failures are answered and logged as in ``wasi-http serve``, or a function. It
    gets the requests of a connection one at a time, their bodies as they arrive, and returns responses, whose bodies
    are sent as they come, with back-pressure both ways. It is cancelled when the client goes away, and so is the body
    of its response (see `Body.cancel`). What it raises is answered: `HttpError` with the status that fits its code,
    `GuestTimeout` with 504, `ServiceBusy` with 503, anything else with 500, and the event loop's exception handler is
    told. A body that fails after its head was sent ends the connection behind what there is of it, with a reset if only
    the end of the connection would complete it: clients can tell. Malformed requests, and those beyond the limits,
    never reach the handler.
    """

    access: AccessLog | None = None
    request_headers: RequestHeaders | None = None

    def __init__(self, handler: RequestHandler | Service, config: ConnectionConfig | None = None) -> None:
        self.answers: Answers = handler if isinstance(handler, Service) else _Handler(handler)
        self.config = config = ConnectionConfig() if config is None else config
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self.stopping = False
        self._dates = DateCache()
        shortest = min(config.header_timeout, config.idle_timeout, config.linger_timeout)
        self._period = min(_LONGEST, max(shortest / 4, _SHORTEST))
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self.now = 0.0
        self.date = b""

    def __call__(self) -> Connection:
        """The protocol of one connection."""
        if self._timer is None:
            self._tick()
        return Connection(self)

    def connected(self, connection: Connection) -> None:
        self.connections.add(connection)
        sock = connection.socket
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            keep_alive(sock)
        if self.stopping:
            connection.shut_down()

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._changed.set()

    def _tick(self) -> None:
        self.now = self.loop.time()
        self.date = self._dates.value(time.time())
        for connection in tuple(self.connections):
            connection.check(self.now)
        # Not before the first connection, nor after the last.
        self._timer = self.loop.call_later(self._period, self._tick) if self.connections or not self._timer else None

    async def close(self, grace: float = 30.0) -> None:
        """Lets the requests that are under way finish, for ``grace`` seconds, and closes all connections."""
        self.stopping = True
        for connection in tuple(self.connections):
            connection.shut_down()
        try:
            async with asyncio.timeout(grace):
                await self.closed()
        except TimeoutError:
            for connection in tuple(self.connections):
                connection.abort()
            await self.closed()

    async def closed(self) -> None:
        """Returns when there is no connection."""
        while self.connections:
            self._changed.clear()
            await self._changed.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def serve_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    handler: RequestHandler | Service,
    *,
    limits: Limits | None = None,
    idle_timeout: float | None = None,
    config: ConnectionConfig | None = None,
) -> None:
    """Serves the requests of one connection until it ends, and closes it: for callbacks of `asyncio.start_server`.

    See `ConnectionFactory` for what becomes of requests. ``limits`` and ``idle_timeout`` (in seconds) stand for those
    of ``config``. When it is cancelled, the connection is reset.
    """
    config = ConnectionConfig() if config is None else config
    if limits is not None:
        config = replace(config, wire_limits=limits)
    if idle_timeout is not None:
        config = replace(config, idle_timeout=idle_timeout, header_timeout=min(idle_timeout, config.header_timeout))
    transport = cast(asyncio.Transport, writer.transport)
    try:
        async with asyncio.timeout(config.idle_timeout):
            data = await reader.read(_READ)
    except (TimeoutError, OSError):
        data = b""
    except BaseException:
        transport.abort()
        raise
    if not data or transport.is_closing():
        writer.close()
        return
    factory = ConnectionFactory(handler, config)
    connection = factory()
    reading = transport.get_protocol()
    transport.set_protocol(connection)
    connection.connection_made(transport)
    transport.resume_reading()  # the reader may have paused it
    connection.data_received(data)
    if reader.at_eof() and not connection.eof_received():
        transport.close()
    try:
        await factory.closed()
    except BaseException:
        connection.abort()
        raise
    finally:
        # For those who wait for the writer to close.
        reading.connection_lost(None)


class _Handler:
    """Answers with a function; see `server.exchange.Answers`."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    def prepare(self, request: Request, receiver: Receiver) -> _Answer:
        return _Answer(self._handler, request, receiver)

    def start(self, run: _Answer) -> None:
        run.start()


class _Answer:
    """A call of a handler; see `server.exchange.Running`."""

    number = -1

    def __init__(self, handler: RequestHandler, request: Request, receiver: Receiver) -> None:
        self._handler = handler
        self._request = request
        self._receiver = receiver
        self._task: asyncio.Task[None] | None = None
        self._body: Body | None = None
        self._returned = False
        self.done = False

    def start(self) -> None:
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(self._end)

    async def _run(self) -> None:
        receiver = self._receiver
        try:
            response = await self._handler(self._request)
            if not isinstance(response, Response):
                raise TypeError(f"a handler returns a Response, not {response!r}")
            expect(Body, response.body, "Response(status, headers, body)")
        except HttpError as error:
            receiver.fail(status_of(error.code), error)
            return
        except Exception as error:
            status = error.status if isinstance(error, NoResponse) else 500
            if status == 500:
                _tell("a handler failed", error)
            receiver.fail(status, error)
            return
        body = self._body = response.body
        body.demand()
        pipe = body.pipe
        pipe.writable.add(self._look)
        receiver.respond(response.status, response.headers, pipe)

    def _look(self) -> None:
        pipe = None if self._body is None else self._body.pipe
        # What is queued has still to be sent.
        if pipe is None or pipe.cancelled or ((pipe.ended or pipe.error is not None) and not pipe.size):
            self._finish()

    def _end(self, task: asyncio.Task[None]) -> None:
        """The handler has returned; the body of its response may still be on its way."""
        self._returned = True
        if task.cancelled():
            self._receiver.fail(500, HttpError(ErrorCode.InternalError("the handler was cancelled")))
        elif (error := task.exception()) is not None:
            _tell("a response cannot be sent", error)
            self._receiver.fail(500, HttpError(ErrorCode.InternalError("the response cannot be sent")))
        self._look()

    def _finish(self) -> None:
        body = self._body
        if self.done or not self._returned:
            return
        self.done = True
        if body is not None:
            body.pipe.writable.remove(self._look)
            body.cancel()
        request = self._request.body
        if request is not None and not request.wanted:
            # It is too late to ask for it.
            request.pipe.cancel(HttpError(ErrorCode.ConnectionTerminated, "the exchange is over"))
        receiver = self._receiver
        del self._receiver  # which leads back: a cycle
        receiver.finished()

    def leave(self) -> None:
        if self._request.body is not None:
            self._request.body.pipe.fail(HttpError(ErrorCode.ConnectionTerminated, "the client has gone"))
        if self._task is not None:
            self._task.cancel()
        if self._body is not None:
            self._body.cancel()

    def report(self, text: str) -> None:
        _tell(text, None)


def _tell(message: str, error: BaseException | None) -> None:
    context = {"message": message} if error is None else {"message": message, "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
