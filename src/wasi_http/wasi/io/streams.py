"""wasi:io/streams: the state machines of both directions.

A concrete stream implements a few small hooks that move bytes and never wait; `InputStream` and `OutputStream`
implement everything that guests call on top of them.

==============  =====================================================================================================
`InputStream`   ``pull(limit)``    bytes available now: ``b""`` for none yet, ``None`` for the end
                ``is_ready()``     whether ``pull`` would return bytes or the end, or raise (default: always)
`OutputStream`  ``push(data)``     takes bytes: never none, never more than permitted
                ``permit()``       how many bytes may be pushed now, 0 while it is full (default: `MAX_PERMIT`)
                ``start_flush()``  starts delivering what was pushed, also when called again (default: nothing)
                ``flushed()``      whether it has arrived (default: always)
                ``deadlock()``     why there will never be room, if that is certain (default: it is not)
==============  =====================================================================================================

* A hook reports a failure by raising ``failed(cause)`` or an ``OSError``, and the end of the stream by raising
  ``Err(StreamError.CLOSED)`` (or by ``None`` from ``pull``). Failure is a state: the hook keeps raising it, because
  readiness may be checked first. Guests see a failure once; afterwards the stream is closed.
* A stream that was completed by its last byte is ``flushed``, without failure; ``permit`` raises the end.
* When a hook's result changes from "not yet" to another, the owner notifies ``signal``. A stream that is always ready
  needs no signal.
* While a flush is under way ``permit`` is not called, and ``check-write`` is 0.
* Empty writes reach no hook, so they cannot pile up anywhere.

A write must not exceed what ``check-write`` would permit at that moment, whether or not the guest has called it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import ClassVar, Final

from wasi_http.component import Borrow, Interface, Own, Resource, method, raises, u64
from wasi_http.component.model.values import Err, Variant, case
from wasi_http.engine import Trap
from wasi_http.flow.signal import SILENT, Signal, until
from wasi_http.wasi.io.error import IoError
from wasi_http.wasi.io.poll import Pollable
from wasi_http.wasi.io.wait import Wait

__all__ = [
    "MAX_BLOCKING_WRITE",
    "MAX_PERMIT",
    "MAX_READ",
    "InputStream",
    "OutputStream",
    "StreamError",
    "Streams",
    "failed",
]

#: The most bytes that one ``read``, ``skip`` or ``splice`` moves, however many the guest asks for.
MAX_READ: Final = 1024 * 1024

#: The most bytes that ``check-write`` permits, whatever the stream offers. It bounds ``write-zeroes``, too.
MAX_PERMIT: Final = 1024 * 1024

#: The most bytes that ``blocking-write-and-flush`` and its twin for zeroes take (wasi:io/streams says 4096).
MAX_BLOCKING_WRITE: Final = 4096


class StreamError(Variant):
    """The variant ``stream-error``."""

    LastOperationFailed = case("last-operation-failed", Own[IoError])
    CLOSED: ClassVar[StreamError] = case("closed")


def failed(cause: object) -> Err[StreamError]:
    """Returns the exception to raise for an operation that failed because of ``cause`` (see `IoError`)."""
    return Err(StreamError.LastOperationFailed(IoError(cause)))


class InputStream(Resource, name="input-stream"):
    """The resource ``input-stream``; subclasses implement `pull`, and `is_ready` unless it is always true.

    ``closed`` says that the guest has learnt of the end, or of a failure.
    """

    __slots__ = ("closed", "signal")

    def __init__(self, signal: Signal = SILENT) -> None:
        self.signal = signal
        self.closed = False

    def pull(self, limit: int) -> bytes | None:
        """Returns at most ``limit`` (1 to `MAX_READ`) bytes, ``b""`` for none yet, ``None`` at the end."""
        raise NotImplementedError(f"{type(self).__qualname__}.pull")

    def is_ready(self) -> bool:
        """Returns whether `pull` would return bytes or None, or raise. Must not raise itself."""
        return True

    def _ready(self) -> bool:
        return self.closed or self.is_ready()

    @method
    @raises(StreamError)
    def read(self, len_: u64) -> bytes:
        if self.closed:
            raise Err(StreamError.CLOSED)
        if not len_:
            return b""
        try:
            data = self.pull(len_ if len_ < MAX_READ else MAX_READ)
        except Err:
            self.closed = True
            raise
        except OSError as error:
            self.closed = True
            raise failed(error) from None
        if data is None:
            self.closed = True
            raise Err(StreamError.CLOSED)
        return data

    @method
    @raises(StreamError)
    def blocking_read(self, len_: u64) -> bytes | Awaitable[bytes]:
        if not len_:
            return self.read(0) if self._ready() else self._read_none()
        return self.read(len_) or Wait(lambda: self.read(len_), self.signal)

    async def _read_none(self) -> bytes:
        await until(self._ready, self.signal)
        return self.read(0)

    @method
    @raises(StreamError)
    def skip(self, len_: u64) -> u64:
        return len(self.read(len_))

    @method
    @raises(StreamError)
    def blocking_skip(self, len_: u64) -> u64 | Awaitable[u64]:
        if not len_:
            return self.skip(0) if self._ready() else self._skip_none()
        return self.skip(len_) or Wait(lambda: self.skip(len_), self.signal)

    async def _skip_none(self) -> int:
        await until(self._ready, self.signal)
        return self.skip(0)

    @method
    def subscribe(self) -> Own[Pollable]:
        pollable = Pollable(self._ready, self.signal)
        pollable.attach(self)
        return pollable


class OutputStream(Resource, name="output-stream"):
    """The resource ``output-stream``; subclasses implement `push`, and the other hooks where it can be full.

    ``closed`` says that the guest has learnt of the end, or of a failure.
    """

    __slots__ = ("_flushing", "closed", "signal")

    def __init__(self, signal: Signal = SILENT) -> None:
        self.signal = signal
        self.closed = False
        self._flushing = False

    def push(self, data: bytes) -> None:
        """Takes 1 to `permit` bytes, without waiting."""
        raise NotImplementedError(f"{type(self).__qualname__}.push")

    def permit(self) -> int:
        """Returns how many bytes `push` takes now, 0 while it is full. More than `MAX_PERMIT` counts as that."""
        return MAX_PERMIT

    def start_flush(self) -> None:
        """Starts delivering all that was pushed. May be called while a flush is under way."""

    def flushed(self) -> bool:
        """Returns whether all that was pushed before `start_flush` has been delivered."""
        return True

    def deadlock(self) -> str | None:
        """Returns why waiting for room would never end, so that the guest traps, or None if that is not certain."""
        return None

    def is_ready(self) -> bool:
        """Returns whether ``check-write`` would permit something, or fail. Does not raise."""
        try:
            return self.closed or ((not self._flushing or self.flushed()) and self.permit() > 0)
        except (Err, OSError):
            return True

    def _over(self, error: Err[StreamError] | OSError) -> Err[StreamError]:
        self.closed = True
        return error if isinstance(error, Err) else failed(error)

    def _flush_done(self) -> bool:
        try:
            done = self.flushed()
        except (Err, OSError) as error:
            raise self._over(error) from None
        self._flushing = not done
        return done

    @method
    @raises(StreamError)
    def check_write(self) -> u64:
        if self.closed:
            raise Err(StreamError.CLOSED)
        if self._flushing and not self._flush_done():
            return 0
        try:
            permit = self.permit()
        except (Err, OSError) as error:
            raise self._over(error) from None
        return permit if permit < MAX_PERMIT else MAX_PERMIT

    @method
    @raises(StreamError)
    def write(self, contents: bytes) -> None:
        permit = self.check_write()
        if len(contents) > permit:
            raise Trap(f"write: {len(contents)} bytes exceed the {permit} that check-write permits")
        if contents:
            try:
                self.push(contents)
            except (Err, OSError) as error:
                raise self._over(error) from None

    @method
    @raises(StreamError)
    def blocking_write_and_flush(self, contents: bytes) -> Awaitable[None] | None:
        # Guests print and send short bodies this way: keep it fast.
        size = len(contents)
        if size > MAX_BLOCKING_WRITE:
            raise Trap(f"blocking-write-and-flush: {size} bytes exceed {MAX_BLOCKING_WRITE}")
        if size > self.check_write():
            return self._write_and_flush(contents)
        try:
            if size:
                self.push(contents)
            self.start_flush()
            if self.flushed():
                self._flushing = False
                return None
        except (Err, OSError) as error:
            raise self._over(error) from None
        self._flushing = True
        return self._await_flush()

    async def _write_and_flush(self, contents: bytes) -> None:
        start = 0
        while start < len(contents):
            end = start + (self.check_write() or await self._wait_for_room())
            self.write(contents[start:end])
            start = end
        self.flush()
        await self._await_flush()

    async def _await_flush(self) -> None:
        await until(self._flush_done, self.signal)

    @method
    @raises(StreamError)
    def flush(self) -> None:
        if self.closed:
            raise Err(StreamError.CLOSED)
        try:
            self.start_flush()
        except (Err, OSError) as error:
            raise self._over(error) from None
        self._flush_done()

    @method
    @raises(StreamError)
    def blocking_flush(self) -> Awaitable[None] | None:
        self.flush()
        return None if self.check_write() else self._await_room()

    async def _await_room(self) -> None:
        await self._wait_for_room()

    def _wait_for_room(self) -> Awaitable[int]:
        reason = self.deadlock()
        if reason is not None:
            raise Trap(reason)
        return until(self.check_write, self.signal)

    @method
    def subscribe(self) -> Own[Pollable]:
        pollable = Pollable(self.is_ready, self.signal)
        pollable.attach(self)
        return pollable

    @method
    @raises(StreamError)
    def write_zeroes(self, len_: u64) -> None:
        permit = self.check_write()
        if len_ > permit:  # before allocating
            raise Trap(f"write-zeroes: {len_} bytes exceed the {permit} that check-write permits")
        self.write(bytes(len_))

    @method
    @raises(StreamError)
    def blocking_write_zeroes_and_flush(self, len_: u64) -> Awaitable[None] | None:
        if len_ > MAX_BLOCKING_WRITE:
            raise Trap(f"blocking-write-zeroes-and-flush: {len_} bytes exceed {MAX_BLOCKING_WRITE}")
        return self.blocking_write_and_flush(bytes(len_))

    @method
    @raises(StreamError)
    def splice(self, src: Borrow[InputStream], len_: u64) -> u64:
        permit = self.check_write()
        if not permit or not len_:
            return 0
        data = src.read(len_ if len_ < permit else permit)
        if data:
            self.write(data)
        return len(data)

    @method
    @raises(StreamError)
    def blocking_splice(self, src: Borrow[InputStream], len_: u64) -> u64 | Awaitable[u64]:
        moved = self.splice(src, len_)
        if moved or not len_:
            return moved
        reason = self.deadlock()
        if reason is not None:
            raise Trap(reason)
        return Wait(lambda: self.splice(src, len_), self.signal, src.signal)


class Streams(Interface, name="wasi:io/streams@0.2.12"):
    resources = (InputStream, OutputStream)
