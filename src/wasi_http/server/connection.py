"""One client's connection: bytes in, bytes out, one exchange after another.

Two things can be under way: a response (``_exchange``) and the arrival of a request's body (``_receiving``). Mostly
they belong to one exchange and the body ends first. But a guest may answer before it has read everything: then it goes
on reading, or what is left is read past, and only after that comes the next request.

A client that closes its side while either is under way counts as gone. There is no telling one that only closed half
of the connection from one that went away, and guests have to learn of the latter.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from typing import Final, Protocol, cast

from wasi_http.fields import Field
from wasi_http.io import hung_up
from wasi_http.resources import Scheme
from wasi_http.server.exchange import Exchange
from wasi_http.server.handler import Handler
from wasi_http.server.instances import Instances
from wasi_http.wire.errors import RemoteProtocolError
from wasi_http.wire.request import RequestHead, RequestParser
from wasi_http.wire.writer import render_response

__all__ = ["Connection", "Owner"]

_TEXT: list[Field] = [(b"content-type", b"text/plain; charset=utf-8")]

# How much of a pipelined request may be held while another is handled.
_MAX_PENDING: Final = 64 * 1024

# How many requests are handled before other connections get their turn. They are counted over all that arrives: a loop
# may deliver megabytes in one turn, in many pieces.
_MAX_BURST: Final = 32

# SO_LINGER: on, for no time at all.
_RESET: Final = struct.pack("ii", 1, 0)

# How often, in seconds, a connection that is to be reset is looked at until the client has what was sent before.
_RESET_INTERVAL: Final = 0.02


def _in_flight(transport: asyncio.Transport) -> int:
    """How many bytes the client's system has not acknowledged; 0 where the system does not tell."""
    try:
        count = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)


class Owner(Protocol):
    """What a connection needs of the worker that it belongs to."""

    handler: Handler
    instances: Instances
    loop: asyncio.AbstractEventLoop
    now: float
    date: bytes
    stopping: bool

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection) -> None: ...

    def admit(self, exchange: Exchange) -> None: ...

    def withdraw(self, exchange: Exchange) -> None: ...

    def dismiss(self, exchange: Exchange) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol of one connection. ``closed`` says that nothing can be written any more."""

    __slots__ = (
        "_burst",
        "_closing",
        "_discarded",
        "_exchange",
        "_lingering",
        "_parser",
        "_reading",
        "_receiving",
        "_resetting",
        "_transport",
        "_unsent",
        "_worker",
        "closed",
        "handler",
        "instances",
        "loop",
        "scheme",
        "since",
        "write_paused",
    )

    def __init__(self, worker: Owner) -> None:
        self._worker = worker
        self.handler = worker.handler
        self.instances = worker.instances
        self.loop = worker.loop
        self.scheme = Scheme.HTTP
        self._transport: asyncio.Transport | None = None
        self._parser = RequestParser(self, worker.handler.config.wire_limits)
        self._exchange: Exchange | None = None
        self._receiving: Exchange | None = None
        self._reading = True
        self._closing = False
        self._lingering = False
        self._resetting = False
        self._burst = 0
        self._discarded = 0
        self._unsent = 0
        self.write_paused = False
        self.closed = False
        #: When the connection last made progress, for the timeouts. Another piece of a head is none.
        self.since = worker.loop.time()

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        self._worker.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        # To abort it now would be too much for asyncio's.
        self._transport = None
        exchange, self._exchange = self._exchange, None
        receiving, self._receiving = self._receiving, None
        self._worker.disconnected(self)
        if exchange is not None:
            exchange.cancel()
        elif receiving is not None:
            receiving.cut_short()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if not self._parser.pending or self._receiving is not None:
            self.since = self._worker.now
        try:
            self._parser.feed(data)
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            self.update_reading()

    def eof_received(self) -> bool:
        receiving = self._receiving
        if self._lingering:
            # An ordinary end would complete the response that is to be reset.
            return self._resetting
        if self._exchange is not None or (receiving is not None and not receiving.done):
            self.abort()
        elif receiving is None:
            try:
                self._parser.feed_eof()
            except RemoteProtocolError as error:
                self._reject(error)
        # The transport closes itself when everything written has left.
        return False

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._exchange is not None:
            self._exchange.resume()
        elif self._parser.complete:
            self._next()

    # Parser

    def on_request(self, head: RequestHead) -> None:
        if self.handler.request_headers:
            self.handler.request_headers.apply(head)
        exchange = self._exchange = Exchange(self, head)
        if head.has_body:
            self._receiving = exchange
            self._discarded = 0
        self._worker.admit(exchange)

    def on_body(self, data: bytes) -> None:
        exchange = self._receiving
        assert exchange is not None
        assert exchange.body is not None
        if not exchange.body.cancelled:
            exchange.body.write(data)
            return
        self._discarded += len(data)
        if self._discarded > self.handler.config.max_unread_body:
            self._closing = True
            if self._exchange is None:
                self._linger()

    def on_end(self, trailers: list[Field]) -> None:
        exchange, self._receiving = self._receiving, None
        assert exchange is not None
        assert exchange.body is not None
        exchange.body.end(trailers)
        if self._exchange is not None:
            return
        if self._closing:
            self.close()
        else:
            self._next()

    # Exchange

    def write(self, data: bytes) -> None:
        if data and self._transport is not None and not self.closed:
            self._transport.write(data)

    def date(self) -> bytes:
        return self._worker.date

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Whether the connection may carry another request after this one."""
        if exchange.awaited and self._receiving is exchange:
            # The client may send the body or may not: there is no telling what comes next.
            return False
        return exchange.head.keep_alive and not self._closing and not self._worker.stopping

    def receives(self, exchange: Exchange) -> bool:
        """Whether there is more to come of the exchange's request."""
        return self._receiving is exchange

    def update_reading(self) -> None:
        """Stops reading while what was read has nowhere to go, and goes on when it has."""
        transport, exchange = self._transport, self._receiving
        if transport is None or self.closed:
            return
        if self._lingering:
            full = False
        elif exchange is None:
            full = self._parser.complete and self._parser.pending > _MAX_PENDING
        else:
            body = exchange.body
            full = body is not None and not body.cancelled and body.size >= body.limit
        if full and self._reading:
            self._reading = False
            transport.pause_reading()
        elif not full and not self._reading:
            self._reading = True
            self.since = self._worker.now
            transport.resume_reading()

    def response_complete(self, exchange: Exchange, keep_alive: bool) -> None:
        """The response is written; the guest may still be at work."""
        self.since = self._worker.now
        if exchange is not self._exchange:
            return
        self._exchange = None
        if not keep_alive:
            self._closing = True
        if self._receiving is not None:
            if exchange.done:
                self._read_past(exchange)
            elif self._closing and self._transport is not None:
                # The guest goes on reading. This tells the client that the response is complete.
                self._write_eof(self._transport)
        elif self._closing:
            self.close()
        elif exchange.done:
            self._next()
        else:
            # Perhaps this is the guest's own stack, on which another guest must not be started.
            self.loop.call_soon(self._next)

    def response_failed(self, exchange: Exchange, framed: bool) -> None:
        """The response breaks off after its head; ``framed`` says that an early end tells the client."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.cut_short()
        self._resetting = not framed
        self._linger()
        if not framed:
            self._reset_when_sent()

    def exchange_done(self, exchange: Exchange) -> None:
        """The guest has finished."""
        self._worker.dismiss(exchange)
        if self._receiving is exchange and self._exchange is None:
            self._read_past(exchange)

    def withdraw(self, exchange: Exchange) -> None:
        """The exchange does not wait for its turn any more."""
        self._worker.withdraw(exchange)

    def _read_past(self, exchange: Exchange) -> None:
        """Guest and response are done, but the request is not."""
        if exchange.body is not None:
            exchange.body.cancel()
        if self._closing:
            self._linger()
        else:
            self.update_reading()

    def _next(self) -> None:
        """Goes on to the next request, of which some bytes may have arrived."""
        if self.closed or self._closing or self.write_paused or self._exchange is not None:
            return
        self._burst += 1
        if self._burst > _MAX_BURST:
            self._burst = 0
            self.loop.call_soon(self._next)
            return
        try:
            self._parser.next_message()
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            self.update_reading()

    # The end

    def _reject(self, error: RemoteProtocolError) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            # The body of a request turned out malformed; its guest cannot answer it any more.
            self._receiving = None
            if exchange.begun:
                self._exchange = exchange
                framed = exchange.framed
                exchange.cancel()
                self.response_failed(exchange, framed)
                return
            exchange.cancel()
        elif self._receiving is not None:
            # Likewise, but the request is answered already.
            self._receiving.cut_short()
            self._linger()
            return
        text = f"{error.status} {error}\n".encode()
        self.write(render_response(error.status, _TEXT, text, self.date(), keep_alive=False))
        self._linger()

    def _linger(self) -> None:
        """Closes as soon as the client does, or a moment later.

        Were bytes to come in after the end, the system would take back what the client has not read yet.
        """
        if self._lingering or self.closed or self._transport is None:
            return
        self._lingering = self._closing = True
        self.since = self._worker.now
        if not self._resetting:
            self._write_eof(self._transport)
        self.update_reading()

    def _reset_when_sent(self) -> None:
        """Resets the connection once the client has all that is written: with a reset its system forgets the rest."""
        transport = self._transport
        if transport is None or self.closed:
            return
        if transport.get_write_buffer_size() or _in_flight(transport):
            self.loop.call_later(_RESET_INTERVAL, self._reset_when_sent)
        else:
            self.abort()

    def _write_eof(self, transport: asyncio.Transport) -> None:
        # A client that has gone may have refused what was just written: then there is nothing to end.
        with contextlib.suppress(OSError):
            transport.write_eof()

    def close(self) -> None:
        """Closes when everything written has left."""
        self._closing = True
        if self._transport is not None and not self.closed:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once, with a reset. What is written and has not left is lost."""
        if self._transport is None:
            return
        self.closed = True
        with contextlib.suppress(OSError):
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def shut_down(self) -> None:
        """Closes as soon as no request is being handled."""
        self._closing = True
        if self._exchange is None and (self._receiving is None or self._receiving.done):
            self.close()

    def check(self, now: float) -> None:
        """Called about once a second: enforces the timeouts."""
        transport, config = self._transport, self.handler.config
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent = unsent
            self.since = now
            return
        waited = now - self.since
        if unsent:
            if waited > config.idle_timeout:
                self.abort()
        elif self.closed:
            pass
        elif self._lingering:
            if waited > config.linger_timeout:
                if self._resetting:
                    self.abort()
                else:
                    self.close()
        elif self._exchange is None and self._receiving is None:
            if self._parser.pending and not self._parser.complete:
                if waited > config.header_timeout:
                    text = b"408 the request took too long\n"
                    self.write(render_response(408, _TEXT, text, self.date(), keep_alive=False))
                    self._linger()
            elif waited > config.idle_timeout:
                self.close()
        elif not self._reading:
            if hung_up(transport):
                self.abort()
        elif self._receiving is not None and not self._receiving.awaited and waited > config.idle_timeout:
            self.abort()
