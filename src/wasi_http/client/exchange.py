"""One request and its response on a connection.

    sending   ── head, body, trailers, as far as back-pressure allows ────────────────► sent
    waiting   ── first byte of a response, maybe informational ones ── head ──► reading ── end ──► ended

Both proceed concurrently: a response may begin, and end, while the request is still being sent. If the response ends
well after the request was sent, the connection can be reused; otherwise it is closed.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from wasi_http.client.errors import (
    ConnectionClosed,
    ConnectionDropped,
    IncompleteResponse,
    InvalidMethod,
    InvalidTarget,
    ProtocolFailure,
    ReadTimeout,
    ResponseTimeout,
    WriteTimeout,
)
from wasi_http.client.request import Outgoing, OutgoingRequestConfig
from wasi_http.flow.pipe import Pipe
from wasi_http.flow.pump import Pump
from wasi_http.http1.abnf import is_token_text
from wasi_http.http1.errors import BodyLengthError, ProtocolError, Reason, RemoteProtocolError
from wasi_http.http1.fieldsection import Field
from wasi_http.http1.limits import Limits
from wasi_http.http1.response import ResponseHead, ResponseParser
from wasi_http.http1.writer import RequestWriter

__all__ = ["IDEMPOTENT", "Carrier", "Exchange", "Respond"]

R = TypeVar("R")

#: Makes a response from its status, its headers and the pipe of its body.
Respond = Callable[[int, list[Field], Pipe], R]

#: Methods whose requests may be retried (RFC 9110 §9.2.2).
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

_VISIBLE: Final = re.compile("[!-~\x80-\ud7ff\ue000-\U0010ffff]+").fullmatch

# Bytes of a body moved at once.
_PIECE: Final = 256 * 1024


class Carrier(Protocol):
    """What an exchange needs of the connection that carries it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    exchange: Exchange[Any] | None
    #: The number of its earlier exchanges.
    served: int
    #: Whether writing is paused by back-pressure, and whether it reads.
    write_paused: bool
    reading: bool
    #: When `Exchange.expired` is called, in the loop's time. Assign to postpone it, else use `set_due`.
    due: float

    def write(self, data: bytes) -> None: ...

    def set_due(self, due: float) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def finished(self, exchange: Exchange[Any]) -> None: ...

    def close_when_sent(self) -> None: ...

    def abort(self) -> None: ...


class Exchange(Generic[R]):
    """``receiver`` is called once, with the response when its head has arrived, or with an error before.

    ``respond`` makes the response; ``failure`` maps an error to the one that users of the bodies see.
    """

    __slots__ = (
        "_body",
        "_connection",
        "_pump",
        "_quota",
        "_source",
        "_watching",
        "between_bytes",
        "ended",
        "failure",
        "first_byte",
        "heard",
        "over",
        "parser",
        "receiver",
        "request",
        "respond",
        "responded",
        "sent",
        "stalled",
        "writer",
    )

    def __init__(
        self,
        connection: Carrier,
        request: Outgoing,
        config: OutgoingRequestConfig,
        limits: Limits,
        receiver: Callable[[R | OSError], None],
        respond: Respond[R],
        failure: Callable[[OSError], OSError],
    ) -> None:
        method = request.method.encode("utf-8", "surrogatepass")
        self.request = request
        self.receiver = receiver
        self.respond = respond
        self.failure = failure
        self.parser = ResponseParser(method, self, limits)
        self.writer = RequestWriter(method)
        self.first_byte = config.first_byte_timeout
        self.between_bytes = config.between_bytes_timeout
        self._connection = connection
        self._source: Pipe | None = None
        self._quota = config.quota
        self._body: Pipe | None = None
        self._pump: Pump | None = None
        self._watching = False
        self.sent = False
        self.heard = False
        self.responded = False
        self.ended = False
        self.over = False
        #: Unsent bytes when writing was paused, -1 while it is not.
        self.stalled = -1

    # The request

    def start(self, target: bytes, host: bytes, headers: list[Field]) -> None:
        """Sends what is available of the request. Raises OSError, before anything is sent, for an invalid one."""
        body, writer, connection = self.request.body, self.writer, self._connection
        if self.first_byte <= 0:
            raise ReadTimeout("the timeout leaves no time to respond")
        try:
            if body is None:
                data = writer.head(target, host, headers)
                writer.end()
                self.sent = True
            else:
                source = body.pipe
                length = source.size if source.ended and not source.trailers else None
                data = writer.head(target, host, headers, True, length)
        except ProtocolError as error:
            raise _unsendable(self.request, error) from error
        if self._quota is not None:
            self._quota.used += 1
        connection.exchange = self
        connection.set_due(connection.loop.time() + self.first_byte)
        if body is None:
            connection.write(data)
        else:
            self._source = source
            body.demand()
            self._pump = Pump(source, writer, connection, _PIECE)
            self._send(data)
            if not self.sent and not self.over:
                source.readable.add(self._resume)

    def _resume(self) -> None:
        if not (self._connection.write_paused or self.over or (self._pump is not None and self._pump.busy)):
            self._send()

    def _send(self, head: bytes = b"") -> None:
        """Moves the request's body as far as back-pressure allows."""
        source, pump = self._source, self._pump
        assert source is not None
        assert pump is not None
        try:
            self.sent = pump.run(head)
        except (OSError, ProtocolError) as error:
            # The guest's body failed: the server gets the part before, and must not take it for the whole.
            self.fail(error if isinstance(error, OSError) else ProtocolFailure(error), flush=True)
            return
        if self.sent:
            source.readable.remove(self._resume)
        if not self.over and not self._connection.write_paused:
            self._give_time()

    def _give_time(self) -> None:
        """Restarts the timeout: the server has received part of the request."""
        connection = self._connection
        connection.set_due(connection.loop.time() + (self.between_bytes if self.responded else self.first_byte))

    def pause(self) -> None:
        """Starts the write timeout: the transport is full."""
        connection = self._connection
        self.stalled = connection.transport.get_write_buffer_size()
        connection.set_due(connection.loop.time() + min(self.between_bytes, self.first_byte))

    def resume(self) -> None:
        self.stalled = -1
        self._give_time()
        if not self.sent and not self.over:
            self._send()

    # The response

    def feed(self, data: bytes) -> None:
        self.heard = True
        try:
            self.parser.feed(data)
        except ProtocolError as error:
            self.fail(ProtocolFailure(error))
            return
        if self.over:
            return
        connection = self._connection
        if self.ended:
            connection.finished(self)
        elif self.responded:
            assert self._body is not None
            if not self._watching:
                self._watching = True
                self._body.writable.add(self._update_reading)
            connection.set_due(connection.loop.time() + self.between_bytes)
            self._update_reading()

    def feed_eof(self) -> None:
        try:
            self.parser.feed_eof()
        except RemoteProtocolError as error:
            none = error.reason is Reason.NO_RESPONSE
            self.fail(ConnectionClosed(str(error)) if none else ProtocolFailure(error))
        else:
            if self.ended and not self.over:
                self._connection.finished(self)

    def cut_off(self) -> None:
        """Handles a connection that was truncated: only framing can show that the response is complete."""
        if self.responded:
            self.fail(IncompleteResponse("the TLS connection was truncated"))
        else:
            self.feed_eof()

    def on_informational(self, head: ResponseHead) -> None:
        """Guests see final responses only."""

    def on_response(self, head: ResponseHead) -> None:
        body = self._body = Pipe()
        self.responded = True
        if not head.has_body:
            body.end()
            self.ended = True
        self.receiver(self.respond(head.status, head.headers, body))

    def on_body(self, data: bytes) -> None:
        assert self._body is not None
        self._body.write(data)

    def on_end(self, trailers: list[Field]) -> None:
        assert self._body is not None
        self.ended = True
        self._body.end(trailers or None)

    def wants_more(self) -> bool:
        """Returns whether there is room for more of the response."""
        return self._body is None or self._body.size < self._body.limit

    def _update_reading(self) -> None:
        """Pauses reading while the guest does, and abandons the exchange when the rest is not wanted."""
        body, connection = self._body, self._connection
        assert body is not None
        if self.over or self.ended:
            return
        if body.cancelled:
            self.abandon()
        elif connection.reading:
            if body.size >= body.limit:
                connection.pause_reading()
        elif body.size <= body.limit // 2:
            connection.resume_reading()
            connection.set_due(connection.loop.time() + self.between_bytes)

    # Completion

    def expired(self, now: float) -> None:
        """Handles a timeout: fails the exchange, unless the server made progress or waits for the guest."""
        connection = self._connection
        unsent = connection.transport.get_write_buffer_size()
        if self.stalled >= 0 and unsent < self.stalled:
            self.stalled = unsent
            connection.set_due(now + min(self.between_bytes, self.first_byte))
        elif unsent and not self.ended:
            self.fail(WriteTimeout("the server does not take the request"))
        elif not connection.reading or not (self.sent or self.responded or self.writer.full):
            # Waiting for the guest: the server's timeout starts when it reads or sends.
            connection.due = math.inf
        elif self.responded:
            self.fail(ReadTimeout("the server sends nothing more of the response"))
        elif self.heard:
            self.fail(ResponseTimeout("the head of the response took too long"))
        else:
            self.fail(ReadTimeout("the server does not answer"))

    def fail(self, error: OSError, again: bool = True, flush: bool = False) -> None:
        """Fails the exchange. ``again``: the request may be retried, if possible. ``flush``: sends what is written."""
        if self.over:
            return
        self.detach()
        if flush:
            self._connection.close_when_sent()
        else:
            self._connection.abort()
        if (
            again
            and isinstance(error, ConnectionError)
            and self._connection.served
            and not self.heard
            and not self.writer.sent
            and self.request.method in IDEMPOTENT
        ):
            self.receiver(ConnectionDropped(str(error)))
            return
        if self.request.body is not None and not self.sent:
            self.request.body.cancel(self.failure(error))
        if self._body is not None:
            self._body.fail(self.failure(error))
        if not self.responded:
            self.receiver(error)

    def abandon(self) -> None:
        """Aborts the exchange: the rest of the response is not wanted, so the guest cannot send any more, either."""
        if not self.over:
            self.detach()
            self._connection.abort()
            self.stop_sending()
            if self._body is not None:
                # Later reads must not wait.
                self._body.cancel(self.failure(ConnectionClosed("the response was abandoned")))

    def stop_sending(self) -> None:
        if self.request.body is not None and not self.sent:
            self.request.body.cancel()

    def detach(self) -> None:
        """Detaches the exchange from the connection; it does nothing afterwards."""
        self.over = True
        del self.parser  # which refers to this exchange: avoids a cycle
        self._connection.exchange = None
        if self._quota is not None:
            self._quota.used -= 1
        if self._watching:
            assert self._body is not None
            self._body.writable.remove(self._update_reading)
        if self._source is not None:
            self._source.readable.remove(self._resume)


def _unsendable(request: Outgoing, error: ProtocolError) -> OSError:
    """Returns the error for a request that the writer refuses."""
    if not isinstance(error, BodyLengthError):
        if not is_token_text(request.method):
            return InvalidMethod(str(error))
        if _VISIBLE(request.path) is None:
            return InvalidTarget(str(error))
    return ProtocolFailure(error)
