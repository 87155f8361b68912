"""One client's connection, HTTP/1.1 on an asyncio transport: bytes in, bytes out, one exchange after another.

Two things can be under way: a response (``_exchange``) and the arrival of a request's body (``_receiving``). Mostly
they belong to one exchange and the body ends first. If the response is complete before, the guest may read on; what
it leaves is discarded, and only then comes the next request.

    state       what it is                                      next
    idle        neither a response nor a body is under way      a head arrives: busy; FIN, or idle for too long: closed
    busy        a response is under way                         it is complete: idle, draining, or closed
    draining    responded; the rest of the body is discarded    its end: idle; too much of it: lingering
    lingering   refused, or broken off: nothing else is read    the client closes, or a moment has passed: closed

What the client's end of its side (FIN) and its reset (RST) mean:

    state                                   FIN                                     RST
    no request, or part of a head           close; 400 for the part                 gone
    body arrives, response not begun        400, the guest has a while to end       gone, likewise
    body arrives, response begun            the body fails, the response goes on    gone, likewise
    request complete, also pipelined ones   all responses are sent, then close      gone, likewise
    response complete, body discarded       close                                   gone
    lingering                               close, or the reset that is due         gone

A client that closed its side when it had sent its requests may still read, and one that went away looks the same: that
one is noticed by its system's answer to the next thing that is written, or to the probes of the listener's keep-alive.

A request is read first, and handled when the parser has returned: guests never run on the parser's stack.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final, Protocol, cast

from wasi_http.flow.pipe import Pipe
from wasi_http.http.fields import Field
from wasi_http.http.message import Body, Request
from wasi_http.http1.errors import RemoteProtocolError
from wasi_http.http1.request import RequestHead, RequestParser
from wasi_http.http1.writer import Framing, ResponseWriter, render_informational, render_response
from wasi_http.net.sockets import RESET_INTERVAL, in_flight, lost, reset
from wasi_http.server.access import AccessLog
from wasi_http.server.config import ConnectionConfig
from wasi_http.server.exchange import TEXT, Answers, Exchange
from wasi_http.server.headers import RequestHeaders

__all__ = ["Connection", "Owner"]

# How much of a pipelined request may be held while another is handled.
_MAX_PENDING: Final = 64 * 1024

# How many requests are handled before other connections get their turn. They are counted over all that arrives: a loop
# may deliver megabytes in one turn, in many pieces.
_MAX_BURST: Final = 32


class Owner(Protocol):
    """What connections share. ``now`` is the loop's time and ``date`` the field's value, both a second old at most."""

    @property
    def answers(self) -> Answers: ...

    @property
    def config(self) -> ConnectionConfig: ...

    access: AccessLog | None
    request_headers: RequestHeaders | None
    loop: asyncio.AbstractEventLoop
    now: float
    date: bytes
    #: Connections end with the request that they are at.
    stopping: bool

    def connected(self, connection: Connection) -> None: ...

    def disconnected(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol of one connection. ``closed`` says that nothing can be written any more."""

    __slots__ = (
        "_access",
        "_arrived",
        "_arrived_bytes",
        "_burst",
        "_checked",
        "_closing",
        "_config",
        "_discarded",
        "_due",
        "_eof",
        "_exchange",
        "_lingering",
        "_owner",
        "_parser",
        "_patience",
        "_proceeding",
        "_reading",
        "_receiving",
        "_request_headers",
        "_resetting",
        "_sent",
        "_transport",
        "_writer",
        "_written",
        "closed",
        "scheme",
        "since",
        "write_paused",
    )

    def __init__(self, owner: Owner) -> None:
        config = owner.config
        self._owner = owner
        self._config = config
        self._access = owner.access
        self._request_headers = owner.request_headers
        self.scheme = "http"
        self._transport: asyncio.Transport | None = None
        self._parser = RequestParser(self, config.wire_limits)
        #: The exchange whose response is under way, and the one whose request's body is.
        self._exchange: Exchange | None = None
        self._receiving: Exchange | None = None
        # A request that was read and has not been handled.
        self._arrived: Exchange | None = None
        # Of a response whose body is on its way.
        self._writer: ResponseWriter | None = None
        self._reading = True
        self._closing = False
        self._lingering = False
        self._resetting = False
        # The parser is at work, or requests are handled one after another; the next is due behind it.
        self._proceeding = False
        self._due = False
        self._burst = 0
        self._discarded = 0
        self._eof = False
        # For the rates, see `check`: bytes of bodies that arrived since, bytes written, and bytes that had left then.
        self._checked = owner.now
        self._arrived_bytes = 0
        self._written = 0
        self._sent = 0
        self._patience = config.idle_timeout
        self.write_paused = False
        self.closed = False
        #: When the connection last made progress, for the timeouts. Another piece of a head is none.
        self.since = owner.loop.time()

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        self._owner.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        # To abort it now would be too much for asyncio's.
        self._transport = None
        exchange, self._exchange = self._exchange, None
        receiving, self._receiving = self._receiving, None
        self._owner.disconnected(self)
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
            self.since = self._owner.now
        self._proceeding = True
        try:
            parser.feed(data)
        except RemoteProtocolError as error:
            self._proceeding = False
            self._reject(error)
        else:
            self._proceed()

    def eof_received(self) -> bool:
        if self._lingering:
            # An ordinary end would complete the response that is to be reset.
            return self._resetting
        self._eof = True
        exchange = self._exchange
        try:
            self._parser.feed_eof()
        except RemoteProtocolError as error:
            if exchange is None or not (exchange.begun or exchange.responded):
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
        # Not on the transport's stack: asyncio's does not expect to be closed there.
        self._owner.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self.write_paused or self.closed:
            return
        if self._exchange is not None:
            self._exchange.resume()
        elif self._parser.complete:
            self._next()

    # What the parser calls

    def on_request(self, head: RequestHead) -> None:
        if self._request_headers is not None:
            self._request_headers.apply(head)
        body = None
        if head.has_body:
            body = Body(Pipe())
        request = Request.of(
            head.method.decode("ascii"),
            self.scheme,
            None if head.authority is None else head.authority.decode("latin-1"),
            head.path.decode(),
            head.headers,
            body,
        )
        exchange = self._exchange = self._arrived = Exchange(
            self, request, head.method, head.version, head.keep_alive, head.expect_continue
        )
        exchange.run = self._owner.answers.prepare(request, exchange)
        if self._access is not None:
            self._access.begin(exchange, self._transport, self._written)
        if body is not None:
            body.on_demand(exchange.demand)
            body.pipe.writable.add(self.update_reading)
            self._receiving = exchange
            self._discarded = 0
            self._patience = self._config.idle_timeout

    def on_body(self, data: bytes) -> None:
        pipe = self._body()
        self._arrived_bytes += len(data)
        if not pipe.cancelled:
            pipe.write(data)
            return
        self._discarded += len(data)
        if self._discarded > self._config.max_unread_body:
            self._closing = True
            if self._exchange is None:
                self._linger()

    def on_end(self, trailers: list[Field]) -> None:
        self._body().end(trailers)
        self._receiving = None
        if self._exchange is not None:
            return
        if self._closing:
            self.close()
        else:
            self._next()

    def _body(self) -> Pipe:
        """Where the body that arrives goes."""
        exchange = self._receiving
        assert exchange is not None
        assert exchange.request.body is not None
        return exchange.request.body.pipe

    # One request after another

    def _proceed(self) -> None:
        """Handles what the parser has read, and goes on as long as responses are complete at once."""
        self._proceeding = True
        try:
            while True:
                if self._due:
                    self._due = False
                    self._burst += 1
                    if self._burst > _MAX_BURST:
                        self._burst = 0
                        self._owner.loop.call_soon(self._next)
                        break
                    self._parser.next_message()
                exchange, self._arrived = self._arrived, None
                if exchange is not None:
                    self._owner.answers.start(exchange.run)
                if not self._due:
                    break
        except RemoteProtocolError as error:
            self._proceeding = False
            self._reject(error)
            return
        finally:
            self._proceeding = False
        if self._eof and self._exchange is None and not self._parser.complete:
            self.close()
        elif self._receiving is not None or self._parser.held or not self._reading:
            self.update_reading()

    def _next(self) -> None:
        """Goes on to the next request, of which some bytes may have arrived."""
        if self.closed or self._closing or self.write_paused or self._exchange is not None:
            return
        self._due = True
        if not self._proceeding:
            self._proceed()

    # What exchanges call

    def receives(self, exchange: Exchange) -> bool:
        return self._receiving is exchange

    def proceed(self, exchange: Exchange) -> None:
        self._write(render_informational(100))

    def informational(self, exchange: Exchange, status: int, headers: list[Field]) -> None:
        writer = ResponseWriter(exchange.method, exchange.version)
        self._write(writer.informational(status, headers))

    def respond(self, exchange: Exchange, status: int, headers: list[Field], body: bytes) -> None:
        keep_alive = self._keeps_alive(exchange)
        date, method = self._owner.date, exchange.method
        self._write(render_response(status, headers, body, date, method, exchange.version, keep_alive))
        self._complete(exchange, keep_alive)

    def head(self, exchange: Exchange, status: int, headers: list[Field]) -> None:
        writer = ResponseWriter(exchange.method, exchange.version, self._keeps_alive(exchange))
        self._write(writer.head(status, headers, self._owner.date))
        self._writer = writer

    def data(self, exchange: Exchange, data: bytes) -> None:
        assert self._writer is not None
        self._write(self._writer.body(data))

    def end(self, exchange: Exchange, trailers: list[Field]) -> None:
        writer = self._writer
        assert writer is not None
        self._write(writer.end(trailers))
        self._complete(exchange, writer.keep_alive)

    def reset(self, exchange: Exchange) -> None:
        if exchange is not self._exchange:
            return
        writer = self._writer
        self._forget(exchange)
        self._end_early(writer)

    def refuse(self, exchange: Exchange, status: int, reason: str) -> None:
        if exchange is self._exchange:
            exchange.close()
            exchange.status = status
            self._receiving = None
            self._refuse(status, reason, exchange.method)
            self._forget(exchange)

    def exchange_done(self, exchange: Exchange) -> None:
        if self._receiving is exchange and self._exchange is None:
            self._drain(exchange)

    def _write(self, data: bytes) -> None:
        if data and self._transport is not None and not self.closed:
            self._written += len(data)
            self._transport.write(data)

    def _keeps_alive(self, exchange: Exchange) -> bool:
        """Whether the connection may carry another request after this one."""
        if exchange.awaited and self._receiving is exchange:
            # The client may send the body or may not: there is no telling what comes next.
            return False
        return exchange.keep_alive and not self._closing and not self._owner.stopping

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
            pipe = self._body()
            full = not pipe.cancelled and pipe.size >= pipe.limit
        if full is not self._reading:
            return
        if full:
            self._reading = False
            transport.pause_reading()
        else:
            self._reading = True
            self.since = self._owner.now
            transport.resume_reading()

    def _forget(self, exchange: Exchange) -> None:
        """Nothing more is written of its response."""
        self._exchange = self._writer = None
        if self._access is not None:
            self._access.end(exchange, self._written)

    def _complete(self, exchange: Exchange, keep_alive: bool) -> None:
        """The response is written; its guest may still be at work."""
        if self._writer is not None:
            exchange.close()
        exchange.responded = True
        self.since = self._owner.now
        if exchange is not self._exchange:
            return
        self._exchange = self._writer = None
        if self._access is not None:
            self._access.end(exchange, self._written)
        if not keep_alive:
            self._closing = True
        if self._receiving is not None:
            if exchange.run.done:
                self._drain(exchange)
            elif self._closing and self._transport is not None:
                # The guest goes on reading. This tells the client that the response is complete.
                self._write_eof(self._transport)
        elif self._closing:
            self.close()
        elif exchange.run.done:
            self._next()
        else:
            # Perhaps this is the guest's own stack, on which another guest must not be started.
            self._owner.loop.call_soon(self._next)

    def _end_early(self, writer: ResponseWriter | None) -> None:
        """The response breaks off behind its head; what was written of it is delivered."""
        framed = writer is not None and writer.framing is not Framing.CLOSE
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            receiving.cut_short()
        # Where only the end of the connection ends the response, an ordinary end would complete it.
        self._resetting = not framed
        self._linger()
        if not framed:
            self._reset_when_sent()

    def _drain(self, exchange: Exchange) -> None:
        """Discards the rest of a request whose response is complete."""
        if exchange.request.body is not None:
            exchange.request.body.pipe.cancel()
        if self._closing:
            self._linger()
        else:
            self.update_reading()

    # The end

    def _reject(self, error: RemoteProtocolError) -> None:
        exchange, self._arrived = self._exchange, None
        if exchange is not None:
            # The body of a request turned out malformed; it cannot be answered any more.
            exchange.leave()
            if self._writer is not None:
                self.reset(exchange)
            else:
                self.refuse(exchange, error.status, str(error))
            return
        if self._receiving is not None:
            # Likewise, but the request is answered already.
            self._receiving.cut_short()
            self._linger()
            return
        self._refuse(error.status, str(error))

    def _refuse(self, status: int, reason: str, method: bytes = b"GET") -> None:
        """Answers in the guest's place, and ends the connection."""
        text = f"{status} {reason}\n".encode()
        before = self._written
        self._write(render_response(status, TEXT, text, self._owner.date, method, keep_alive=False))
        if self._access is not None and self._exchange is None:
            self._access.refuse(self._parser.first_line, self._transport, status, self._written - before)
        self._linger()

    def _linger(self) -> None:
        """Closes as soon as the client does, or a moment later.

        Were bytes to come in after the end, the system would take back what the client has not read yet.
        """
        if self._lingering or self.closed or self._transport is None:
            return
        self._lingering = self._closing = True
        self.since = self._owner.now
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
            self._owner.loop.call_later(RESET_INTERVAL, self._reset_when_sent)
        else:
            self.abort()

    def _write_eof(self, transport: asyncio.Transport) -> None:
        # A client that has gone may have refused what was just written: then there is nothing to end.
        with contextlib.suppress(OSError):
            if transport.can_write_eof():
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
        if self._exchange is None and (self._receiving is None or self._receiving.run.done):
            self.close()

    @property
    def socket(self) -> socket.socket | None:
        return None if self._transport is None else self._transport.get_extra_info("socket")

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
        transport, config = self._transport, self._config
        if transport is None:
            return
        elapsed, self._checked = now - self._checked, now
        arrived, self._arrived_bytes = self._arrived_bytes, 0
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
            if exchange is None or exchange.begun or exchange.responded:
                self.abort()
            else:
                exchange.leave()
                self.refuse(exchange, 408, "the body took too long")

    def _too_slow(self, elapsed: float, moved: int) -> bool:
        """Whether the client's patience is over, ``elapsed`` seconds and ``moved`` bytes after the last time."""
        config = self._config
        most, rate = config.idle_timeout, config.min_body_rate
        gained = moved / rate if rate else most * (moved > 0)
        self._patience = min(most, self._patience - elapsed + gained)
        return self._patience < 0
