"""HTTP/1.1 on one asyncio connection, in front of a handler of your own.

`serve_connection` is what embedders give to `asyncio.start_server`. One coroutine handles the requests of a connection
one after another; beside it a task reads what the client sends, also while a request is handled: that is how it learns
that the client has gone. The command line's server does the same with fewer tasks, and has more limits.

A client that closes its side while a request is under way counts as gone, as it does there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final

from wasi_http.flow.pipe import Pipe
from wasi_http.flow.signal import Signal, until
from wasi_http.http.errors import HttpError, status_of
from wasi_http.http.fields import Field
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.values import ErrorCode
from wasi_http.http1.date import DateCache
from wasi_http.http1.errors import RemoteProtocolError
from wasi_http.http1.limits import Limits
from wasi_http.http1.request import RequestHead, RequestParser
from wasi_http.http1.writer import Framing, ResponseWriter, render_informational, render_response
from wasi_http.net.sockets import RESET_INTERVAL, hung_up, in_flight, reset

__all__ = ["MAX_UNREAD_BODY", "RequestHandler", "serve_connection"]

#: What answers the requests of a connection.
RequestHandler = Callable[[Request], Awaitable[Response]]

#: How much of a request's body that nobody read is read past, in bytes, to keep the connection.
MAX_UNREAD_BODY: Final = 1024 * 1024

_TEXT: list[Field] = [(b"content-type", b"text/plain; charset=utf-8")]

# How much of a pipelined request may be held while another is handled.
_MAX_PENDING: Final = 64 * 1024

# How often, in seconds, a connection from which nothing is read is looked at.
_LOOK: Final = 1.0

# How long, in seconds, a client that sent nonsense may take to read what is said about it.
_LINGER: Final = 2.0

_DATES: Final = DateCache()


async def serve_connection(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    handler: RequestHandler,
    *,
    limits: Limits | None = None,
    idle_timeout: float = 60.0,
) -> None:
    """Serves the requests of one connection until it ends, and closes it.

    ``handler`` gets one request at a time, its body as it arrives, and returns the response, whose body is sent as it
    comes; both ways the faster side is held back. It is cancelled when the client goes away, and so is the body of its
    response (see `Body.cancel`). What it raises is answered: `HttpError` with the status that fits its code, anything
    else with 500, and the event loop's exception handler hears of it. A body that fails after its head was sent ends
    the connection behind what is there of it, with a reset if only the end of the connection would complete it: clients
    can tell. Malformed requests, and those beyond ``limits``, never reach the handler. ``idle_timeout``, in seconds, is
    how long a client may keep us waiting for a request, for the rest of one that is answered, or with a response that
    it does not read.
    """
    connection = _Connection(reader, writer, handler, limits or Limits(), idle_timeout)
    receiving = asyncio.ensure_future(connection.receive())
    try:
        await connection.serve(receiving)
    except BaseException:
        connection.reset()
        raise
    finally:
        receiving.cancel()
        writer.close()
        await asyncio.wait([receiving])
    if not receiving.cancelled():
        receiving.result()
    try:
        async with asyncio.timeout(idle_timeout):
            await writer.wait_closed()
    except TimeoutError:
        # There is something that it could read, and it does not.
        connection.reset()
    except OSError:
        pass


class _Connection:
    """What the two coroutines of a connection share."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        handler: RequestHandler,
        limits: Limits,
        idle_timeout: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._idle_timeout = idle_timeout
        self._parser = RequestParser(self, limits)
        self._request: tuple[RequestHead, Pipe | None] | None = None  # that nobody has taken up yet
        self._body: Pipe | None = None  # that has not arrived to its end
        self._discarded = 0
        self._awaited = False  # the client sends the body only when it is asked for it
        self._begun = False  # something of the response is written
        self._framed = False  # its end can be told from the end of the connection
        self._exchange: asyncio.Task[bool] | None = None
        self._ended = False
        self._error: RemoteProtocolError | None = None
        #: A request has arrived, or its end, or nothing more will.
        self._arrived = Signal()
        #: There is room for more.
        self._room = Signal()

    # What the client sends

    async def receive(self) -> None:
        """Reads until the connection ends, as fast as requests are handled."""
        try:
            while True:
                await self._wait_for_room()
                data = await self._reader.read(65536)
                if not data:
                    self._parser.feed_eof()
                    break
                self._parser.feed(data)
        except RemoteProtocolError as error:
            self._error = error
        except OSError:
            pass  # the client has gone
        finally:
            self._ended = True
            if self._body is not None:
                self._body.fail(HttpError(ErrorCode.ConnectionTerminated, "the client has gone"))
            if self._exchange is not None:
                self._exchange.cancel()
            self._arrived.notify()

    async def _wait_for_room(self) -> None:
        while not self._has_room():
            signals = [self._room] if self._body is None else [self._room, self._body.writable]
            try:
                async with asyncio.timeout(_LOOK):
                    await until(self._has_room, *signals)
            except TimeoutError:
                if hung_up(self._writer.transport):
                    raise ConnectionResetError from None

    def _has_room(self) -> bool:
        body = self._body
        if body is None:
            return self._parser.pending <= _MAX_PENDING
        return body.cancelled or body.error is not None or body.size < body.limit

    def on_request(self, head: RequestHead) -> None:
        self._body = Pipe() if head.has_body else None
        self._request = head, self._body
        self._discarded = 0
        self._awaited = head.expect_continue
        self._arrived.notify()

    def on_body(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        if body.cancelled or body.error is not None:
            self._discarded += len(data)
            if self._discarded > MAX_UNREAD_BODY:
                self._arrived.notify()
        else:
            body.write(data)

    def on_end(self, trailers: list[Field]) -> None:
        body, self._body = self._body, None
        assert body is not None
        body.end(trailers)
        self._arrived.notify()

    # Exchanges

    async def serve(self, receiving: asyncio.Task[None]) -> None:
        """Handles one request after another until there are no more; ``receiving`` is the task of `receive`."""
        while True:
            request = await self._next_request()
            if request is None:
                break
            exchange = self._exchange = asyncio.ensure_future(self._answer(*request))
            try:
                await asyncio.wait([exchange])
            finally:
                self._exchange = None
                if not exchange.done():
                    exchange.cancel()
                    await asyncio.wait([exchange])
            if exchange.cancelled():
                if self._error is None or self._begun:
                    self.reset()
                    return
            elif not exchange.result():
                await self._finish_request()
                if self._body is not None:
                    await self._linger()
                return
            elif not await self._finish_request():
                await self._linger()
                return
        if self._error is not None:
            # Requests that wait for their turn are read here, and then the other task does not know yet.
            receiving.cancel()
            await asyncio.wait([receiving])
            text = f"{self._error.status} {self._error}\n".encode()
            self._writer.write(render_response(self._error.status, _TEXT, text, _date(), keep_alive=False))
            await self._linger()

    async def _next_request(self) -> tuple[RequestHead, Pipe | None] | None:
        """The next request; None if there is none: the client closed, took too long, or sent nonsense."""
        if self._parser.complete:
            try:
                self._parser.next_message()
            except RemoteProtocolError as error:
                self._error = error
                return None
            self._room.notify()
        try:
            async with asyncio.timeout(self._idle_timeout):
                await until(lambda: self._request is not None or self._ended, self._arrived)
        except TimeoutError:
            return None
        request, self._request = self._request, None
        return request

    async def _finish_request(self) -> bool:
        """Waits for what is left of a request that is answered; false if the connection cannot be used again."""
        body = self._body
        if body is None:
            return True
        try:
            async with asyncio.timeout(self._idle_timeout):
                await until(
                    lambda: self._body is None or self._ended or self._discarded > MAX_UNREAD_BODY, self._arrived
                )
        except TimeoutError:
            pass
        return self._body is None

    async def _answer(self, head: RequestHead, body: Pipe | None) -> bool:
        """Handles a request; whether the connection may carry another."""
        self._begun = False
        wanted = False

        def demand() -> None:
            nonlocal wanted
            wanted = True
            if self._awaited and not self._begun and not self._ended:
                self._awaited = False
                self._writer.write(render_informational(100))

        request = Request(
            head.method.decode("ascii"),
            head.path.decode(),
            head.headers,
            b"" if body is None else Body(body, demand),
            # Clients of HTTP/1.0 need not say whom they ask.
            "localhost" if head.authority is None else head.authority.decode("latin-1"),
        )
        try:
            response = await self._handler(request)
            if not isinstance(response, Response):
                raise TypeError(f"a handler returns a Response, not {response!r}")
        except HttpError as error:
            response = _plain(status_of(error.code))
        except Exception as error:
            self._report("a handler failed", error)
            response = _plain(500)
        if self._ended:
            # The client has gone, or what it sent turned out malformed: this is an answer to nothing.
            response.body.cancel()
            raise asyncio.CancelledError
        try:
            return await self._send(head, body, response)
        finally:
            if body is not None and not wanted:
                # Nobody asked for it until now; who does from now on learns that it is too late.
                body.cancel(HttpError(ErrorCode.ConnectionTerminated, "the exchange is over"))

    async def _send(self, head: RequestHead, body: Pipe | None, response: Response) -> bool:
        try:
            return await self._write(head, body, response)
        except Exception as error:
            # Headers that are no bytes, for example.
            if not isinstance(error, OSError):
                self._report("a response cannot be sent", error)
            if not self._begun:
                return await self._write(head, body, _plain(500))
            if isinstance(error, ConnectionResetError):
                self.reset()
            elif not self._framed:
                await self._reset_when_sent()
            return False
        finally:
            response.body.cancel()

    async def _write(self, head: RequestHead, body: Pipe | None, response: Response) -> bool:
        # If the client was not asked for a body that it holds back, there is no telling what comes next.
        keep_alive = head.keep_alive and not (self._awaited and self._body is body is not None)
        source = response.body
        source.demand()
        pipe = source.pipe
        if pipe.ended and not pipe.trailers:
            data = render_response(
                response.status, response.headers, pipe.take_all(), _date(), head.method, head.version, keep_alive
            )
            self._begun = True
            self._writer.write(data)
            await self._drain()
            return keep_alive
        writer = ResponseWriter(head.method, head.version, keep_alive)
        start = writer.head(response.status, response.headers, _date())
        self._begun = True
        self._framed = writer.framing is not Framing.CLOSE
        self._writer.write(start)
        try:
            async for data in source:
                self._writer.write(writer.body(data))
                await self._drain()
            self._writer.write(writer.end(source.trailers))
        except HttpError:
            # Where there is no body in the response, there is none to get wrong.
            if writer.framing is not Framing.NONE:
                raise
        await self._drain()
        return writer.keep_alive

    async def _reset_when_sent(self) -> None:
        """Resets the connection once the client has all that is written: with a reset its system forgets the rest."""
        transport = self._writer.transport
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._idle_timeout):
                while transport.get_write_buffer_size() or in_flight(transport):  # noqa: ASYNC110
                    await asyncio.sleep(RESET_INTERVAL)
        self.reset()

    async def _drain(self) -> None:
        transport = self._writer.transport
        left = transport.get_write_buffer_size()
        while True:
            try:
                async with asyncio.timeout(self._idle_timeout):
                    return await self._writer.drain()
            except TimeoutError:
                # A response in one piece may be large, and its client slow.
                before, left = left, transport.get_write_buffer_size()
                if left >= before:
                    raise ConnectionResetError("the client does not read its response") from None

    def _report(self, message: str, error: BaseException) -> None:
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})

    # The end

    async def _linger(self) -> None:
        """Lets the client read the last response.

        Were bytes to come in after the end, the system would take back what the client has not read yet.
        """
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._writer.drain()
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                if self._body is not None:
                    self._body.cancel()
                    await until(lambda: self._ended, self._arrived)
                while self._error is not None and await self._reader.read(65536):
                    pass

    def reset(self) -> None:
        """Ends the connection so that the client can tell that something is missing, whatever the framing."""
        reset(self._writer.transport)


def _plain(status: int) -> Response:
    return Response(status, _TEXT, Body.of(f"{status} the handler failed\n".encode()))


def _date() -> bytes:
    return _DATES.value(time.time())
