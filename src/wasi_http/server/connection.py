"""One client's connection: bytes in, bytes out, one exchange after another."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from wasi_http.fields import Field
from wasi_http.server.exchange import Exchange
from wasi_http.server.handler import Handler
from wasi_http.types import Scheme
from wasi_http.wire.errors import RemoteProtocolError
from wasi_http.wire.request import RequestHead, RequestParser
from wasi_http.wire.writer import render_response

if TYPE_CHECKING:
    from wasi_http.server.server import Worker

__all__ = ["Connection"]

_TEXT: list[Field] = [(b"content-type", b"text/plain; charset=utf-8")]

# How much of a pipelined request may be held while another is handled.
_MAX_PENDING = 64 * 1024


class Connection(asyncio.Protocol):
    """The protocol of one connection. ``closed`` says that nothing can be written any more."""

    __slots__ = (
        "_closing",
        "_discarded",
        "_exchange",
        "_parser",
        "_reading",
        "_transport",
        "closed",
        "handler",
        "loop",
        "scheme",
        "since",
        "worker",
        "write_paused",
    )

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.handler: Handler = worker.handler
        self.loop = worker.loop
        self.scheme = Scheme.HTTP
        self._transport: asyncio.Transport | None = None
        self._parser = RequestParser(self, worker.handler.config.wire_limits)
        self._exchange: Exchange | None = None
        self._reading = True
        self._closing = False
        self._discarded = 0
        self.write_paused = False
        self.closed = False
        #: When the connection last made progress, for the timeouts.
        self.since = worker.loop.time()

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        self.worker.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        exchange, self._exchange = self._exchange, None
        self.worker.disconnected(self)
        if exchange is not None:
            exchange.cancel()

    def data_received(self, data: bytes) -> None:
        self.since = self.worker.now
        try:
            self._parser.feed(data)
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            self.update_reading()

    def eof_received(self) -> bool:
        try:
            self._parser.feed_eof()
        except RemoteProtocolError as error:
            if self._exchange is None:
                self._reject(error)
                return False
            # A body was cut short: nobody wants the answer to half a request.
            self.abort()
            return False
        self._closing = True
        # A client may close its side and still wait for the response.
        return self._exchange is not None

    def pause_writing(self) -> None:
        self.write_paused = True
        self.since = self.worker.now

    def resume_writing(self) -> None:
        self.write_paused = False
        self.since = self.worker.now
        if self._exchange is not None:
            self._exchange.resume()

    # Parser

    def on_request(self, head: RequestHead) -> None:
        exchange = self._exchange = Exchange(self, head)
        self._discarded = 0
        self.worker.admit(exchange)

    def on_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.body is None or exchange.body.cancelled:
            self._discarded += len(data)
            if self._discarded > self.handler.config.max_unread_body:
                if exchange is None or exchange.responded:
                    self.close()
                else:
                    self._closing = True
        else:
            exchange.body.write(data)

    def on_end(self, trailers: list[Field]) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.body is not None:
            exchange.body.end(trailers)
        if exchange is None:
            self._next()

    # Exchange

    def write(self, data: bytes) -> None:
        if data and self._transport is not None and not self.closed:
            self._transport.write(data)

    def date(self) -> bytes:
        return self.worker.date

    def keeps_alive(self, head: RequestHead) -> bool:
        return head.keep_alive and not self._closing and not self.worker.stopping

    def send_continue(self) -> None:
        exchange = self._exchange
        if exchange is not None and not exchange.responded and not self._parser.complete:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def update_reading(self) -> None:
        """Stops reading while what was read has nowhere to go, and goes on when it has."""
        transport, exchange = self._transport, self._exchange
        if transport is None or self.closed:
            return
        full = self._parser.complete and self._parser.pending > _MAX_PENDING
        if exchange is not None and exchange.body is not None and not exchange.body.cancelled:
            full = full or exchange.body.size >= exchange.body.limit
        if full and self._reading:
            self._reading = False
            transport.pause_reading()
        elif not full and not self._reading:
            self._reading = True
            self.since = self.worker.now
            transport.resume_reading()

    def response_complete(self, exchange: Exchange, keep_alive: bool) -> None:
        """The response is written; the guest may still be at work."""
        self.since = self.worker.now
        if exchange is not self._exchange:
            return
        self._exchange = None
        if not keep_alive or self._closing:
            self.close()
            return
        if exchange.body is not None and not self._parser.complete:
            # What is left of the request is read past.
            exchange.body.cancel()
            if exchange.head.expect_continue:
                self.close()
                return
            self.update_reading()
            return
        self._next()

    def exchange_done(self, exchange: Exchange) -> None:
        """The guest has finished."""
        self.worker.dismiss(exchange)

    def _next(self) -> None:
        if self.closed:
            return
        try:
            self._parser.next_message()
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            self.update_reading()

    # The end

    def _reject(self, error: RemoteProtocolError) -> None:
        exchange = self._exchange
        if exchange is not None and not exchange.responded:
            # The body of a request turned out malformed; its guest cannot answer it any more.
            self._exchange = None
            exchange.cancel()
        self.write(
            render_response(error.status, _TEXT, f"{error.status} {error}\n".encode(), self.date(), keep_alive=False)
        )
        self.close()

    def close(self) -> None:
        """Closes when everything written has left."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def abort(self) -> None:
        """Closes at once, so that the client can tell that something is missing."""
        if self._transport is not None:
            self._transport.abort()

    def shut_down(self) -> None:
        """Closes as soon as no request is being handled."""
        self._closing = True
        if self._exchange is None:
            self.close()

    def check(self, now: float) -> None:
        """Called about once a second: enforces the timeouts."""
        config = self.handler.config
        waited = now - self.since
        if self._exchange is None:
            if self._parser.pending and not self._parser.complete:
                if waited > config.header_timeout:
                    self.write(render_response(408, _TEXT, b"408 the request took too long\n", self.date(), keep_alive=False))
                    self.close()
            elif waited > config.idle_timeout:
                self.close()
        elif self.write_paused and waited > config.idle_timeout:
            self.abort()
        elif self._reading and not self._parser.complete and waited > config.idle_timeout:
            self.abort()
