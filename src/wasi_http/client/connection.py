"""Client connections: one exchange after another over a transport, and a timer.

A connection has one timer, which is reset only if something is due before it fires. Usually an exchange only moves its
due time, and a timer that fires early is set again.
"""

from __future__ import annotations

import asyncio
import math
import select
import socket
from typing import Any, Final, Protocol, cast

from wasi_http.client.errors import ConnectionClosed
from wasi_http.client.exchange import Exchange
from wasi_http.client.request import ConnectionQuota
from wasi_http.client.tls_transport import TlsTransport
from wasi_http.net.authority import Address
from wasi_http.net.policy import AddressPolicy
from wasi_http.net.sockets import unread
from wasi_http.settings import LONGEST

__all__ = ["Connection", "Owner"]

# The inaccuracy of timers, in seconds: uvloop counts in milliseconds.
_SLACK: Final = 0.001

# How long, in seconds, the written part of a failed request may take to be sent.
_LINGER: Final = 1.0


class Owner(Protocol):
    """Takes idle connections back, and is notified of closed ones."""

    def release(self, connection: Connection) -> None: ...

    def on_closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """``served`` counts its exchanges; ``owner`` takes it back.

    ``address`` and ``port`` are the peer's; no address if a proxy resolved the name.
    """

    __slots__ = (
        "_admitted_by",
        "_early",
        "_poll",
        "_timer",
        "_timer_at",
        "address",
        "closed",
        "due",
        "exchange",
        "guest",
        "loop",
        "owner",
        "port",
        "reading",
        "served",
        "sock",
        "transport",
        "write_paused",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.sock: socket.socket | None = None
        self.owner: Owner | None = None
        #: The account that it is charged to while it is in use; see `Pool`.
        self.guest: ConnectionQuota | None = None
        self.address: Address | None = None
        self.port = 0
        self._admitted_by: AddressPolicy | None = None
        self._poll: select.poll | None = None
        #: What arrived before the first exchange, None afterwards.
        self._early: list[bytes] | None = []
        self.exchange: Exchange[Any] | None = None
        self.served = 0
        self.write_paused = False
        self.reading = True
        self.closed = False
        self.due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        exchange = self.exchange
        if exchange is not None:
            if error is not None and not isinstance(self.transport, TlsTransport):
                # The server may have responded before it closed.
                for data in unread(self.sock):
                    exchange.feed(data)
                    if exchange.over or not exchange.wants_more():
                        break
            exchange.fail(error if isinstance(error, OSError) else ConnectionClosed("the connection was closed"))
        self._stop_timer()
        if self.owner is not None:
            self.owner.on_closed(self)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.exchange is not None:
            self.exchange.pause()

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.resume()

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.feed(data)
        elif self._early is not None:
            self._early.append(data)
        else:
            # Unsolicited data.
            self.abort()

    def eof_received(self) -> bool:
        if self.exchange is not None:
            self.exchange.feed_eof()
        self.closed = True
        return False

    def cut_off(self) -> None:
        """Called instead of eof_received when a TLS connection ends without close_notify."""
        self.closed = True
        if self.exchange is not None:
            self.exchange.cut_off()

    def pause_reading(self) -> None:
        self.reading = False
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        self.reading = True
        self.transport.resume_reading()

    def readable(self) -> bool:
        """Returns whether data or EOF has arrived that the loop has not read yet."""
        poll = self._poll
        if poll is None:
            assert self.sock is not None
            poll = self._poll = select.poll()
            poll.register(self.sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # Exchanges

    def catch_up(self) -> None:
        """Feeds early data to the first exchange: servers that refuse connections may respond before the request."""
        early, self._early = self._early, None
        for data in early or ():
            if self.exchange is not None:
                self.exchange.feed(data)
        if self.closed and self.exchange is not None:
            self.exchange.feed_eof()

    def is_admitted(self, admit: AddressPolicy | None) -> bool:
        """Returns whether a policy admits this connection; remembers the last one that did."""
        if admit is None or admit is self._admitted_by or self.address is None:
            return True
        try:
            admit(self.address, self.port)
        except OSError:
            return False
        self._admitted_by = admit
        return True

    def finished(self, exchange: Exchange[Any]) -> None:
        """Releases or closes the connection: the response is complete."""
        if (
            exchange.sent
            and exchange.parser.reusable
            and exchange.writer.keep_alive
            and not self.closed
            and not self.transport.get_write_buffer_size()
            and self.owner is not None
        ):
            exchange.detach()
            self.served += 1
            self.owner.release(self)
        else:
            exchange.detach()
            exchange.stop_sending()
            self.close()

    def close(self) -> None:
        """Closes the connection gracefully, if everything is sent."""
        if self.transport.get_write_buffer_size():
            self.abort()
        else:
            self.closed = True
            self._stop_timer()
            self.transport.close()

    def close_when_sent(self) -> None:
        """Closes the connection once written data is sent, or after a timeout."""
        self.closed = True
        self.transport.close()
        self.due = self.loop.time() + _LINGER
        self._set_timer()

    def abort(self) -> None:
        self.closed = True
        self._stop_timer()
        self.transport.abort()

    # Time

    def set_due(self, due: float) -> None:
        """Schedules `Exchange.expired`, or closing the connection if there is no exchange, in the loop's time."""
        self.due = due
        if due < self._timer_at and not self.closed:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = min(max(self.due - self.loop.time(), 0.0), LONGEST)
        self._timer_at = self.due
        self._timer = self.loop.call_later(delay, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        now = self.loop.time()
        if self.due > now + _SLACK:
            self._set_timer()
        elif self.exchange is not None:
            self.exchange.expired(now)
        else:
            self.close()
