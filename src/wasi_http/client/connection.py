"""One connection to a server, and the exchanges that it carries one after another."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from socket import MSG_PEEK, socket
from typing import cast

from wasi_http.client.connecting import Target
from wasi_http.client.message import ClientRequest, ClientResponse, OutgoingRequestConfig
from wasi_http.error import ErrorCode, HttpError, error_code_of
from wasi_http.fields import Field
from wasi_http.pipe import Pipe
from wasi_http.wire.errors import ProtocolError
from wasi_http.wire.limits import Limits
from wasi_http.wire.response import ResponseHead, ResponseParser
from wasi_http.wire.writer import RequestWriter

__all__ = ["Connection", "Exchange", "http_error"]

# How much of a request's body is taken at a time, in bytes.
_PIECE = 65536

# asyncio's timers overflow on what 64 bits of nanoseconds can say.
_LONGEST = 365 * 86400.0


def http_error(error: BaseException) -> HttpError:
    """What the guest is told about an exception."""
    return error if isinstance(error, HttpError) else HttpError(error_code_of(error), str(error))


class Exchange:
    """One request and its response. ``response`` is done with the response's head; its body follows."""

    __slots__ = (
        "_between_bytes",
        "_body",
        "_connection",
        "_done",
        "_first_byte",
        "_has_body",
        "_head",
        "_parser",
        "_reading",
        "_sent",
        "_source",
        "_writer",
        "response",
        "touched",
    )

    def __init__(self, request: ClientRequest, config: OutgoingRequestConfig, limits: Limits) -> None:
        """Raises HttpError for a request that cannot be sent."""
        method = request.method.encode()
        headers = request.headers
        host = request.authority.encode()
        for name, value in headers:
            if name == b"host":
                host = value
                headers = [entry for entry in headers if entry[0] != b"host"]
                break
        source = self._source = request.body
        writer = self._writer = RequestWriter(method)
        try:
            self._head = writer.head(request.path.encode(), host, headers, source is not None)
            if source is None:
                writer.end()
        except ProtocolError as error:
            raise http_error(error) from error
        self._parser = ResponseParser(method, self, limits)
        self._first_byte = config.first_byte_timeout
        self._between_bytes = config.between_bytes_timeout
        self._sent = source is None
        self._body: Pipe | None = None
        self._has_body = False
        self._reading = True
        self._done = False
        self._connection: Connection | None = None
        #: Whether anything happened that forbids to send the request once more.
        self.touched = False
        self.response: asyncio.Future[ClientResponse] = asyncio.get_running_loop().create_future()

    def begin(self, connection: Connection) -> None:
        self._connection = connection
        connection.set_deadline(self._first_byte)
        source = self._source
        if source is None:
            connection.write(self._head)
            return
        # What is there of the body goes with the head.
        source.readable.add(self._send)
        self._send()

    def _send(self) -> None:
        """Moves the request's body as far as the transport and the guest let it."""
        source, connection = self._source, self._connection
        if source is None or connection is None or self._done:
            return
        parts = [self._head] if self._head else []
        try:
            while not connection.paused and not self._sent and not self._done:
                data = source.take(_PIECE)
                if data is None:
                    self._sent = self.touched = True
                    source.readable.remove(self._send)
                    parts.append(self._writer.end(source.trailers or ()))
                elif data:
                    self.touched = True
                    parts.append(self._writer.body(data))
                else:
                    break
                if len(parts) > 1:
                    self._head = b""
                    connection.write(b"".join(parts))
                    parts = []
            if parts:
                self._head = b""
                connection.write(parts[0])
        except (OSError, ProtocolError) as error:
            # The guest's body failed: the server must not take what it got for the whole.
            self.touched = True
            self.fail(http_error(error))

    # Called by the connection

    def writable(self) -> None:
        self._send()

    def received(self, data: bytes) -> None:
        self.touched = True
        if self._body is not None:
            cast(Connection, self._connection).set_deadline(self._between_bytes)
        try:
            self._parser.feed(data)
        except ProtocolError as error:
            self.fail(http_error(error))

    def ended(self) -> None:
        """The server has closed the connection."""
        try:
            self._parser.feed_eof()
        except ProtocolError as error:
            self.fail(http_error(error))

    def late(self) -> None:
        """The deadline has passed."""
        connection = cast(Connection, self._connection)
        if connection.paused:
            self.fail(HttpError(ErrorCode.ConnectionWriteTimeout, "the server takes no more of the request"))
        elif self._body is not None and not self._reading:
            # A guest that does not read is not the server's delay.
            connection.set_deadline(self._between_bytes)
        else:
            self.fail(HttpError(ErrorCode.ConnectionReadTimeout, "the server sends nothing"))

    # Called by the parser

    def on_informational(self, head: ResponseHead) -> None:
        """Guests see final responses only."""

    def on_response(self, head: ResponseHead) -> None:
        connection = cast(Connection, self._connection)
        if head.has_body:
            body = self._body = Pipe()
            body.writable.add(self._update_reading)
            connection.set_deadline(self._between_bytes)
        else:
            body = Pipe.of()
        if not self.response.done():
            self.response.set_result(ClientResponse(head.status, head.headers, body))
        if not head.has_body:
            self._complete()

    def on_body(self, data: bytes) -> None:
        body = cast(Pipe, self._body)
        body.write(data)
        if body.cancelled or body.size >= body.limit:
            self._update_reading()

    def on_end(self, trailers: list[Field]) -> None:
        body = cast(Pipe, self._body)
        body.writable.remove(self._update_reading)
        body.end(trailers)
        self._complete()

    def _update_reading(self) -> None:
        """Stops reading while the guest does, and gives up when nobody wants the rest."""
        body, connection = self._body, self._connection
        if self._done or body is None or connection is None:
            return
        if body.cancelled:
            self.fail(HttpError(ErrorCode.ConnectionTerminated, "nobody wants the rest of the response"))
        elif self._reading and body.size >= body.limit:
            self._reading = False
            connection.pause_reading()
        elif not self._reading and body.size < body.limit:
            self._reading = True
            connection.set_deadline(self._between_bytes)
            connection.resume_reading()

    # The end

    def _complete(self) -> None:
        """The response is there; the connection is good for another exchange if the request is through, too."""
        if self._done:
            return
        self._done = True
        connection = cast(Connection, self._connection)
        if not self._reading:
            connection.resume_reading()
        source = self._source
        if source is not None and not self._sent:
            # The server has answered without reading it all.
            source.readable.remove(self._send)
            source.cancel()
            connection.finished(False)
        else:
            # The parser is still at it: whether anything came behind the response is known when it is done.
            connection.loop.call_soon(connection.finished, True, self._parser)

    def fail(self, error: HttpError) -> None:
        """Ends the exchange, and with it the connection. What the guest has not got yet of a body is lost."""
        if self._done:
            return
        self._done = True
        source, body = self._source, self._body
        if source is not None and not self._sent:
            source.readable.remove(self._send)
            if self.touched:
                source.fail(error)
                source.cancel()
        if body is not None:
            body.writable.remove(self._update_reading)
            body.fail(error)
        if not self.response.done():
            self.response.set_exception(error)
            self.response.exception()  # whoever waits hears of it; nobody has to
        if self._connection is not None:
            self._connection.abort()

    def abandon(self) -> None:
        """Nobody waits for the response any more."""
        self.touched = True
        self.response.cancel()
        self.fail(HttpError(ErrorCode.ConnectionTerminated, "nobody waits for the response"))


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; ``on_idle`` is called when it could carry another, ``on_closed`` at its end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        target: Target,
        sock: socket,
        on_idle: Callable[[Connection], None],
        on_closed: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self.target = target
        self.address = str(sock.getpeername()[0]).partition("%")[0]
        self.idle_since = 0.0
        self.paused = False
        self.closed = False
        self._sock = sock
        self._on_idle = on_idle
        self._on_closed = on_closed
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Takes the socket over; raises OSError when TLS fails."""
        await self.loop.create_connection(
            lambda: self,
            sock=self._sock,
            ssl=context,
            server_hostname=self.target.host if context is not None else None,
        )

    @property
    def is_alive(self) -> bool:
        """Whether an idle connection may carry another request, as far as one can tell without sending it."""
        if self.closed or self._transport is None or self._transport.is_closing():
            return False
        try:
            self._sock.recv(1, MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        # The end, or something that nobody asked for.
        return False

    def carry(self, exchange: Exchange) -> None:
        self._exchange = exchange
        exchange.begin(self)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def finished(self, whole: bool, parser: ResponseParser | None = None) -> None:
        """The exchange is over."""
        self._exchange = None
        if whole and parser is not None and parser.reusable and not self.closed:
            self._on_idle(self)
        else:
            self.close()

    # Deadlines. There is one timer, which is set again when it was early: most exchanges end long before theirs.

    def set_deadline(self, seconds: float) -> None:
        self._deadline = self.loop.time() + min(seconds, _LONGEST)
        timer = self._timer
        if timer is None or timer.when() > self._deadline:
            if timer is not None:
                timer.cancel()
            self._timer = self.loop.call_at(self._deadline, self._check)

    def _check(self) -> None:
        self._timer = None
        exchange = self._exchange
        if exchange is None or self.closed:
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._check)
        else:
            exchange.late()

    # The transport's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.received(data)
        else:
            self.abort()

    def eof_received(self) -> bool:
        if self._exchange is not None:
            self._exchange.ended()
        return False

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self._exchange is not None:
            self._exchange.writable()

    def connection_lost(self, error: Exception | None) -> None:
        self._gone()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            lost = HttpError(ErrorCode.ConnectionTerminated, "the server closed the connection")
            exchange.fail(lost if error is None else http_error(error))

    def _gone(self) -> None:
        if not self.closed:
            self.closed = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._on_closed(self)

    def close(self) -> None:
        self._gone()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self._gone()
        if self._transport is not None:
            self._transport.abort()
        else:
            self._sock.close()
