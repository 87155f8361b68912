"""One client's connection: bytes in, bytes out, one exchange after another.

Two things can be under way: a response (``_exchange``) and the arrival of a request's body (``_receiving``). Mostly
they belong to one exchange and the body ends first. But a guest may answer before it has read everything: then it goes
on reading, or what is left is read past, and only after that comes the next request.

What the client's end of its side (FIN) and its reset (RST) mean:

    state                                   FIN                                     RST
    no request, or part of a head           close; 400 for the part                 gone
    body arrives, response not begun        400, the guest has a while to end       gone, likewise
    body arrives, response begun            the body fails, the response goes on    gone, likewise
    request complete, also pipelined ones   all responses are sent, then close      gone, likewise
    response complete, body read past       close                                   gone
    lingering: refused, or broken off       close, or the reset that is due         gone

A client that closed its side when it had sent its requests may still read, and one that went away looks the same: that
one is noticed by its system's answer to the next thing that is written, or to the probes of the listener's keep-alive.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol, cast

from wasi_http.http.fields import Field
from wasi_http.http.values import Scheme
from wasi_http.http1.errors import RemoteProtocolError
from wasi_http.http1.request import RequestHead, RequestParser
from wasi_http.http1.writer import render_response
from wasi_http.net.sockets import RESET_INTERVAL, in_flight, lost, reset
from wasi_http.server.exchange import Exchange
from wasi_http.server.handler import Handler
from wasi_http.server.instances import Instances

__all__ = ["Connection", "Owner"]

_TEXT: list[Field] = [(b"content-type", b"text/plain; charset=utf-8")]

# How much of a pipelined request may be held while another is handled.
_MAX_PENDING: Final = 64 * 1024

# How many requests are handled before other connections get their turn. They are counted over all that arrives: a loop
# may deliver megabytes in one turn, in many pieces.
_MAX_BURST: Final = 32


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

    def readmit(self, exchange: Exchange) -> None: ...

    def retire(self, exchange: Exchange) -> None: ...

    def dismiss(self, exchange: Exchange) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol of one connection. ``closed`` says that nothing can be written any more."""

    __slots__ = (
        "_access",
        "_arrived",
        "_burst",
        "_checked",
        "_closing",
        "_discarded",
        "_eof",
        "_exchange",
        "_lingering",
        "_parser",
        "_patience",
        "_reading",
        "_receiving",
        "_request_headers",
        "_resetting",
        "_resuming",
        "_sent",
        "_transport",
        "_worker",
        "_written",
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
        self._access = worker.handler.access
        self._request_headers = worker.handler.request_headers
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
        self._eof = False
        self._resuming = False
        # For the rates, see `check`: bytes of bodies that arrived since, bytes written, and bytes that had left then.
        self._checked = worker.now
        self._arrived = 0
        self._written = 0
        self._sent = 0
        self._patience = worker.handler.config.idle_timeout
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
            if self._access is not None:
                self._access.end(exchange, self._written)
            exchange.leave()
        elif receiving is not None:
            receiving.cut_short()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        parser = self._parser
        if self._receiving is not None or not parser.held:
            self.since = self._worker.now
        self._resuming = True
        try:
            parser.feed(data)
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            self.update_reading()
        finally:
            self._resuming = False

    def eof_received(self) -> bool:
        if self._lingering:
            # An ordinary end would complete the response that is to be reset.
            return self._resetting
        self._eof = True
        exchange = self._exchange
        try:
            self._parser.feed_eof()
        except RemoteProtocolError as error:
            if exchange is None or not exchange.begun:
                self._reject(error)
                return False  # the transport closes itself when everything written has left
            self._receiving = None
            self._closing = True
            exchange.cut_short()
        return exchange is not None or self._parser.complete

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
        if self._request_headers is not None:
            self._request_headers.apply(head)
        exchange = self._exchange = Exchange(self, head)
        if self._access is not None:
            self._access.begin(exchange, self._transport, self._written)
        if head.has_body:
            self._receiving = exchange
            self._discarded = 0
            self._patience = self.handler.config.idle_timeout
        self._worker.admit(exchange)

    def on_body(self, data: bytes) -> None:
        exchange = self._receiving
        assert exchange is not None
        assert exchange.body is not None
        self._arrived += len(data)
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
            self._written += len(data)
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
        if transport is None or self.closed or self._eof:
            return
        if self._lingering:
            full = False
        elif exchange is None:
            parser = self._parser
            full = parser.held != b"" and parser.complete and parser.pending > _MAX_PENDING
        else:
            body = exchange.body
            full = body is not None and not body.cancelled and body.size >= body.limit
        if full is not self._reading:
            return
        if full:
            self._reading = False
            transport.pause_reading()
        else:
            self._reading = True
            self.since = self._worker.now
            transport.resume_reading()

    def response_complete(self, exchange: Exchange, keep_alive: bool) -> None:
        """The response is written; the guest may still be at work."""
        self.since = self._worker.now
        if exchange is not self._exchange:
            return
        self._exchange = None
        if self._access is not None:
            self._access.end(exchange, self._written)
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
        if self._access is not None:
            self._access.end(exchange, self._written)
        self._end_early(framed)

    def _break_off(self, exchange: Exchange) -> None:
        """The request turned out to be none, and part of its response is written."""
        framed = exchange.framed
        exchange.leave()
        if self._access is not None:
            self._access.end(exchange, self._written)
        self._end_early(framed)

    def _end_early(self, framed: bool) -> None:
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

    def readmit(self, exchange: Exchange) -> None:
        """The exchange is to start once more."""
        self._worker.readmit(exchange)

    def retire(self, exchange: Exchange) -> None:
        """The exchange's client has gone, or cannot be answered any more."""
        self._worker.retire(exchange)

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
        if self._resuming:
            self._parser.next_message()
            return  # to `data_received` or the call below, which goes on with it
        self._resuming = True
        try:
            self._parser.next_message()
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            if self._eof and self._exchange is None and not self._parser.complete:
                self.close()
            else:
                self.update_reading()
        finally:
            self._resuming = False

    # The end

    def _reject(self, error: RemoteProtocolError) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            # The body of a request turned out malformed; its guest cannot answer it any more.
            if exchange.begun:
                self._break_off(exchange)
                return
            self._receiving = None
            exchange.leave()
        elif self._receiving is not None:
            # Likewise, but the request is answered already.
            self._receiving.cut_short()
            self._linger()
            return
        self._refuse(error.status, str(error), exchange)

    def _refuse(self, status: int, reason: str, exchange: Exchange | None = None) -> None:
        """Answers in the place of the guest, of the exchange if there is one, and ends the connection."""
        text = f"{status} {reason}\n".encode()
        before = self._written
        self.write(render_response(status, _TEXT, text, self.date(), keep_alive=False))
        if self._access is None:
            pass
        elif exchange is not None:
            self._access.end(exchange, self._written, status)
        else:
            self._access.refuse(self._parser.first_line, self._transport, status, self._written - before)
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
            if self._eof:
                self._transport.close()
        self.update_reading()

    def _reset_when_sent(self) -> None:
        """Resets the connection once the client has all that is written: with a reset its system forgets the rest."""
        transport = self._transport
        if transport is None or self.closed:
            return
        if transport.get_write_buffer_size() or in_flight(transport):
            self.loop.call_later(RESET_INTERVAL, self._reset_when_sent)
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
        reset(self._transport)

    def shut_down(self) -> None:
        """Closes as soon as no request is being handled."""
        self._closing = True
        if self._exchange is None and (self._receiving is None or self._receiving.done):
            self.close()

    def expire(self, exchange: Exchange) -> None:
        """The exchange has waited for its turn too long."""
        if exchange is self._exchange:
            self._exchange = self._receiving = None
            exchange.leave()
            self._refuse(503, "the server has too many requests under way", exchange)

    @property
    def idle(self) -> bool:
        """Whether the connection waits for a request, and has nothing to send."""
        transport = self._transport
        return (
            transport is not None
            and self._exchange is None
            and self._receiving is None
            and not self._closing
            and not self._parser.pending
            and not self._parser.complete
            and not transport.get_write_buffer_size()
        )

    def check(self, now: float) -> None:
        """Called about once a second: enforces the timeouts, and the least rate of bodies.

        While a client keeps the server waiting, with a body that it sends or takes, its patience runs out, from
        ``idle_timeout`` on; what arrives, or leaves, restores it by as much time as it takes at the least rate.
        """
        transport, config = self._transport, self.handler.config
        if transport is None:
            return
        elapsed, self._checked = now - self._checked, now
        arrived, self._arrived = self._arrived, 0
        unsent = transport.get_write_buffer_size()
        sent = self._written - unsent
        left, self._sent = sent - self._sent, sent
        receiving = self._receiving
        if unsent:
            # Whatever comes next waits until it has left.
            self.since = now
            if self._too_slow(elapsed, left):
                self.abort()
        elif self.closed:
            pass
        elif self._lingering:
            if now - self.since > config.linger_timeout:
                if self._resetting:
                    self.abort()
                else:
                    self.close()
        elif self._exchange is None and receiving is None:
            self._patience = config.idle_timeout
            if self._parser.pending and not self._parser.complete:
                if now - self.since > config.header_timeout:
                    self._refuse(408, "the request took too long")
            elif now - self.since > config.idle_timeout:
                self.close()
        elif self._eof or not self._reading:
            if lost(transport):
                self.abort()
        elif receiving is None or receiving.awaited:
            # The client is waiting for the server.
            self._patience = config.idle_timeout
        elif self._too_slow(elapsed, arrived):
            exchange = self._exchange
            if exchange is None or exchange.begun:
                self.abort()
            else:
                self._exchange = self._receiving = None
                exchange.leave()
                self._refuse(408, "the body took too long", exchange)

    def _too_slow(self, elapsed: float, moved: int) -> bool:
        """Whether the client's patience is over, ``elapsed`` seconds and ``moved`` bytes after the last time."""
        config = self.handler.config
        most, rate = config.idle_timeout, config.min_body_rate
        gained = moved / rate if rate else most * (moved > 0)
        self._patience = min(most, self._patience - elapsed + gained)
        return self._patience < 0
