"""Bodies as guests hold them, in both directions; the bytes go through a `Pipe`.

For a guest's outgoing body the declared length is enforced: a write beyond it fails, so does finishing short of it, and
in both cases the message is aborted, as it is when the body is dropped unfinished. Where the message has no body (a
response to HEAD, 204, 304) the declared length is that of another one: what is written is dropped, and never wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wasi_http.component import Err, Ok, Own, Resource, method, raises, static
from wasi_http.flow.pipe import BODY_BUFFER, Pipe
from wasi_http.http.context import HttpState
from wasi_http.http.errors import HttpError, error_code_of
from wasi_http.http.fields import Fields
from wasi_http.http.message import Body
from wasi_http.http.values import ErrorCode
from wasi_http.http1.abnf import FORBIDDEN_TRAILERS
from wasi_http.wasi.io.poll import Pollable
from wasi_http.wasi.io.streams import InputStream, OutputStream, StreamError

__all__ = [
    "DEFAULT_OUTGOING_BODY_BUFFER_CHUNKS",
    "DEFAULT_OUTGOING_BODY_CHUNK_SIZE",
    "BodyInput",
    "BodyOutput",
    "FutureTrailers",
    "IncomingBody",
    "OutgoingBody",
]

#: How many writes of full size a guest's body buffers.
DEFAULT_OUTGOING_BODY_BUFFER_CHUNKS: Final = 1

#: The most bytes that a guest may write to a body at once.
DEFAULT_OUTGOING_BODY_CHUNK_SIZE: Final = BODY_BUFFER


class BodyInput(InputStream):
    """What a guest reads a body from."""

    __slots__ = ("is_ready", "pull")

    def __init__(self, pipe: Pipe) -> None:
        super().__init__(pipe.readable)
        self.pull = pipe.take  # type: ignore[method-assign]
        self.is_ready = pipe.is_readable  # type: ignore[method-assign]


class IncomingBody(Resource, name="incoming-body"):
    """The body of a request or response that arrives: a handle onto it."""

    __slots__ = ("_body", "_finished", "_taken", "_view")

    def __init__(self, view: HttpState, body: Body) -> None:
        self._view = view
        self._body = body
        self._taken = False
        self._finished = False

    @method
    @raises()
    def stream(self) -> Own[InputStream]:
        if self._taken:
            raise Err(None)
        self._taken = True
        self._body.demand()
        stream = BodyInput(self._body.pipe)
        stream.attach(self)
        return stream

    @static
    def finish(this: Own[IncomingBody]) -> Own[FutureTrailers]:
        this._finished = True
        this.release()
        return FutureTrailers(this._view, this._body)

    def drop(self) -> None:
        if not self._finished:
            self._body.cancel()


class FutureTrailers(Resource, name="future-trailers"):
    """What comes after a body; what is left of the body itself is skipped."""

    __slots__ = ("_body", "_consumed", "_view")

    def __init__(self, view: HttpState, body: Body) -> None:
        self._view = view
        self._body = body
        self._consumed = False

    def _is_ready(self) -> bool:
        # A guest may finish a body only to be rid of it: trailers are wanted when it waits for them.
        self._body.demand()
        pipe = self._body.pipe
        while pipe.size:
            pipe.take(pipe.size)
        return self._consumed or pipe.ended or pipe.error is not None

    @method
    def subscribe(self) -> Own[Pollable]:
        pollable = Pollable(self._is_ready, self._body.pipe.readable)
        pollable.attach(self)
        return pollable

    @method
    def get(self) -> Ok[Ok[Own[Fields] | None] | Err[ErrorCode]] | Err[None] | None:
        if self._consumed:
            return Err(None)
        if not self._is_ready():
            return None
        self._consumed = True
        pipe = self._body.pipe
        if pipe.error is not None:
            return Ok(Err(error_code_of(pipe.error)))
        if not pipe.trailers:
            return Ok(Ok(None))
        trailers = Fields.received(self._view, pipe.trailers)
        trailers.charge_received()
        return Ok(Ok(trailers))

    def drop(self) -> None:
        self._body.cancel()


class BodyOutput(OutputStream):
    """What a guest writes a body to."""

    __slots__ = ("_body", "permit")

    def __init__(self, body: OutgoingBody) -> None:
        # What the base class would do: one of these is made for each request.
        pipe = body.pipe
        self.signal = pipe.writable
        self.closed = False
        self._flushing = False
        self._body = body
        self.permit = pipe.room  # type: ignore[method-assign]
        chunk = body.chunk
        if chunk < pipe.limit:
            self.permit = lambda: min(pipe.room(), chunk)  # type: ignore[method-assign]

    def push(self, data: bytes) -> None:
        body = self._body
        if body.declared is not None:
            body.written += len(data)
            if body.written > body.declared:
                raise body.fail_size()
        body.pipe.write(data)

    def deadlock(self) -> str | None:
        return self._body.deadlock()

    @method
    def subscribe(self) -> Own[Pollable]:
        pollable = _BodyPollable(self)
        pollable.attach(self)
        return pollable

    def _over(self, error: Err[StreamError] | OSError) -> Err[StreamError]:
        if isinstance(error, BrokenPipeError):
            # Nothing failed: the other side has what it wants.
            error = Err(StreamError.CLOSED)
        return super()._over(error)


class _BodyPollable(Pollable):
    """Readiness of a `BodyOutput`, and whether it can still come."""

    __slots__ = ("deadlock",)

    def __init__(self, stream: BodyOutput) -> None:
        super().__init__(stream.is_ready, stream.signal)
        self.deadlock = stream.deadlock  # type: ignore[method-assign]


class OutgoingBody(Resource, name="outgoing-body"):
    """The body of a request or response that a guest sends.

    ``size_error`` makes the error of a wrong length. ``handed`` says that the guest has handed the message over; until
    then nothing reads the body. ``optional``: handing over may show that the message has no body.
    """

    __slots__ = ("_finished", "_taken", "chunk", "declared", "handed", "optional", "pipe", "size_error", "written")

    def __init__(
        self,
        view: HttpState,
        declared: int | None,
        size_error: Callable[[int], ErrorCode],
        optional: bool = False,
    ) -> None:
        chunk, chunks = view.outgoing_body_chunk_size(), view.outgoing_body_buffer_chunks()
        if chunk < 1 or chunks < 1:
            raise ValueError(f"a body needs room for at least one byte, not for {chunks} chunks of {chunk}")
        self.chunk = chunk
        self.pipe = Pipe(chunk * chunks)
        self.declared = declared
        self.size_error = size_error
        self.handed = False
        self.optional = optional
        self.written = 0
        self._taken = False
        self._finished = False

    @method
    @raises()
    def write(self) -> Own[OutputStream]:
        if self._taken:
            raise Err(None)
        self._taken = True
        stream = BodyOutput(self)
        stream.attach(self)
        return stream

    @static
    @raises(ErrorCode)
    def finish(this: Own[OutgoingBody], trailers: Own[Fields] | None) -> None:
        this._finished = True
        this.release()
        pipe = this.pipe
        if pipe.error is not None and not isinstance(pipe.error, BrokenPipeError):
            raise Err(error_code_of(pipe.error))
        if (
            this.declared is not None
            and this.written != this.declared
            # Nothing written is right for a response to HEAD; whether it is one will be seen when it is handed over.
            and (this.written or this.handed or not this.optional)
        ):
            raise Err(this.fail_size().code)
        entries = None if trailers is None else trailers.entries_
        if entries and not FORBIDDEN_TRAILERS.isdisjoint(name for name, _ in entries):
            error = HttpError(ErrorCode.HttpProtocolError, "a trailer that frames the message")
            pipe.fail(error)
            raise Err(error.code)
        pipe.end(entries)

    def fail_size(self) -> HttpError:
        """Aborts the message: what was written is not what was declared."""
        text = f"the guest declared content-length {self.declared} and wrote {self.written} bytes"
        error = HttpError(self.size_error(self.written), text)
        self.pipe.fail(error)
        return error

    def deadlock(self) -> str | None:
        """Why there can never be room in the body again, if that is certain."""
        pipe = self.pipe
        if self.handed or pipe.size < pipe.limit or pipe.cancelled or pipe.error is not None or len(pipe.readable):
            return None
        return (
            f"deadlock: the guest waits for room in the body of a message that it has not handed over, and {pipe.size} "
            "bytes are all that is kept: call response-outparam.set (or outgoing-handler.handle) first, and write then"
        )

    def drop(self) -> None:
        if not self._finished:
            self.pipe.fail(HttpError(ErrorCode.HttpProtocolError, "the guest dropped the body unfinished"))
