"""One request and its response: who answers on one side, the connection on the other.

    waiting ──respond, whole──────────────────────────────────────────► responded
       │  └──respond, with a body on its way──► begun ──end─────────────► responded
       │                                          └──the body fails────► responded, and the connection breaks it off
       └──fail, or a response that cannot be sent: a response of the server's own ──► responded

An exchange speaks in messages, and the connection puts them on the wire. The connection may take its next request when
the response is complete; the guest, or whatever answers, may go on.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from wasi_http.flow.pipe import Pipe
from wasi_http.http.errors import GuestTimeout, HttpError, ServiceBusy
from wasi_http.http.fields import Field
from wasi_http.http.message import Request, is_bodiless
from wasi_http.http.values import ErrorCode
from wasi_http.http1.errors import ProtocolError
from wasi_http.service.run import Receiver

__all__ = ["TEXT", "Answers", "Exchange", "Running", "Stream"]

#: Of responses of the server's own.
TEXT: Final[list[Field]] = [(b"content-type", b"text/plain; charset=utf-8")]

# How much of a body is moved at once, in bytes.
_PIECE: Final = 65536


class Running(Protocol):
    """An answer in the making; `service.Run` is one. ``number`` is -1 until it begins."""

    number: int

    @property
    def done(self) -> bool: ...

    def leave(self) -> None:
        """The client has gone."""

    def report(self, text: str) -> None:
        """Logs why the response failed."""


class Answers(Protocol):
    """Who answers the requests of a server; a `Service` does."""

    def prepare(self, request: Request, receiver: Receiver) -> Any: ...

    def start(self, run: Any) -> None:
        """Begins what was prepared, now or later."""


class Stream(Protocol):
    """What an exchange says to the connection that it came over. ``closed``: nothing can be written any more."""

    closed: bool
    #: Whether nothing should be written for the moment; `Exchange.resume` says when.
    write_paused: bool

    def receives(self, exchange: Exchange) -> bool:
        """Whether there is more to come of the exchange's request."""

    def update_reading(self) -> None:
        """The body of a request has room, or has not."""

    def proceed(self, exchange: Exchange) -> None:
        """Asks the client for the body of the request."""

    def informational(self, exchange: Exchange, status: int, headers: list[Field]) -> None: ...

    def respond(self, exchange: Exchange, status: int, headers: list[Field], body: bytes) -> None:
        """A whole response. Nothing of one that raises ProtocolError is written; likewise with `head`."""

    def head(self, exchange: Exchange, status: int, headers: list[Field]) -> None: ...

    def data(self, exchange: Exchange, data: bytes) -> None: ...

    def end(self, exchange: Exchange, trailers: list[Field]) -> None: ...

    def reset(self, exchange: Exchange) -> None:
        """The response breaks off behind its head."""

    def refuse(self, exchange: Exchange, status: int, reason: str) -> None:
        """Answers in the guest's place, and ends the connection."""

    def exchange_done(self, exchange: Exchange) -> None:
        """The body of the request is not read any more."""


class Exchange:
    """A request that is being handled.

    ``method`` and ``version`` are as they were received; ``keep_alive`` is what the client wants. ``awaited``: the
    client sends the body only when it is asked for it, and was not yet. ``begun``: the head of a response is written,
    whose body is on its way; ``responded``: nothing more is to be written. ``status`` is the response's, or 0.
    """

    __slots__ = (
        "_outgoing",
        "_stream",
        "awaited",
        "begun",
        "keep_alive",
        "method",
        "request",
        "responded",
        "run",
        "status",
        "version",
    )

    def __init__(
        self, stream: Stream, request: Request, method: bytes, version: bytes, keep_alive: bool, awaited: bool
    ) -> None:
        self._stream = stream
        self.request = request
        self.method = method
        self.version = version
        self.keep_alive = keep_alive
        self.awaited = awaited
        self.status = 0
        self.begun = False
        self.responded = False
        self._outgoing: Pipe | None = None
        self.run: Running

    @property
    def number(self) -> int:
        """Its number in the log, -1 if it was never handled."""
        return self.run.number

    @property
    def _bodiless(self) -> bool:
        return is_bodiless(self.request.method, self.status)

    def demand(self) -> None:
        """The body is wanted, which the client may hold back."""
        if self.awaited:
            self.awaited = False
            if not self.begun and not self.responded and self._stream.receives(self):
                self._stream.proceed(self)

    # The receiver of the response

    def inform(self, status: int, headers: list[Field]) -> None:
        if self.begun or self.responded or self._stream.closed:
            return
        try:
            self._stream.informational(self, status, headers)
        except ProtocolError:
            raise HttpError(ErrorCode.HttpProtocolError) from None

    def respond(self, status: int, headers: list[Field], body: Pipe | None) -> None:
        stream = self._stream
        if self.responded or stream.closed:
            if body is not None:
                body.cancel()
            return
        self.status = status
        try:
            if body is not None and body.cancelled:
                raise BrokenPipeError("its body was cancelled before it was sent")
            if body is None or (body.ended and not body.trailers):
                stream.respond(self, status, headers, b"" if body is None else body.take_all())
                return
            if body.error is not None and not self._bodiless:
                raise body.error  # while the client can still be told
            stream.head(self, status, headers)
        except (OSError, ProtocolError) as error:
            refused = str(error)
            error.__traceback__ = None  # which leads back here: a cycle
        else:
            self.begun = True
            self._outgoing = body
            body.readable.add(self.resume)
            self.resume()
            return
        self.run.report(f"the response failed: {refused}")
        if body is not None:
            body.cancel()
        self.fail(500)

    def resume(self) -> None:
        """Sends as much of the body as there is and the client takes."""
        stream, pipe = self._stream, self._outgoing
        if pipe is None or self.responded or stream.closed:
            return
        try:
            while not stream.write_paused:
                data = pipe.take(_PIECE)
                if data is None:
                    stream.end(self, pipe.trailers or [])
                    return
                if not data:
                    return
                stream.data(self, data)
            return
        except (OSError, ProtocolError) as error:
            refused = str(error)
            error.__traceback__ = None  # which leads back here: a cycle
        if self._bodiless:
            # There is no body in this response to get wrong.
            stream.end(self, [])
            return
        self.run.report(f"the response failed: {refused}")
        self.close()
        stream.reset(self)

    def fail(self, status: int, error: Exception | None = None) -> None:
        """A response of the server's own."""
        stream = self._stream
        if self.responded or stream.closed:
            return
        self.status = status
        if isinstance(error, ServiceBusy):
            stream.refuse(self, status, "the server has too many requests under way")
            return
        text = f"{status} the handler {'took too long' if isinstance(error, GuestTimeout) else 'failed'}\n"
        stream.respond(self, status, TEXT, b"" if self.request.method == "HEAD" else text.encode())

    def finished(self) -> None:
        body = self.request.body
        if body is not None:
            # Handles to it may be left with the instance.
            body.on_demand(None)
            body.pipe.writable.remove(self._stream.update_reading)
            self._stream.exchange_done(self)

    # The connection

    def close(self) -> None:
        """Nothing more is written of the response."""
        self.responded = True
        pipe, self._outgoing = self._outgoing, None
        if pipe is not None:
            pipe.readable.remove(self.resume)

    def leave(self) -> None:
        """The client has gone, or cannot be answered any more."""
        self.close()
        self.run.leave()

    def cut_short(self) -> None:
        """The rest of the request will not come."""
        if self.request.body is not None:
            self.request.body.pipe.fail(HttpError(ErrorCode.ConnectionTerminated, "the client has gone"))
