"""Pipes: bodies in transit, sans I/O.

A `Pipe` is a bounded queue with an end, an error, and trailers. What a body may do next:

    open ──end(trailers)──► ended        the consumer takes what is queued, then sees the end
      ├────fail(error)────► failed       the same with the error, which the producer sees at once
      └────cancel(error)──► cancelled    what is queued is dropped; the producer sees the error, or a broken pipe

`Pipe.end` and `Pipe.fail` are for the producer's side, `Pipe.cancel` is for the consumer's: bytes that arrived reach
their reader before the error that ended them.

``limit`` bounds the queue: producers ask `Pipe.room`. Both ends are told of changes by signals, ``readable`` for the
consumer and ``writable`` for the producer. Compiled: each request makes one, and all bodies go through them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import cython

from wasi_http.flow.signal import Signal

__all__ = ["BODY_BUFFER", "Pipe"]

Field = tuple[bytes, bytes]

#: How many bytes of one body may wait between a guest and the other side.
BODY_BUFFER: Final = 256 * 1024

# When more pieces than this wait, those that are smaller than that, in bytes, are put together.
_MANY = cython.declare(cython.Py_ssize_t, 64)
_SMALL = cython.declare(cython.Py_ssize_t, 1024)

_BUFFER = cython.declare(cython.Py_ssize_t, BODY_BUFFER)


@cython.final
@cython.cclass
class Pipe:
    """A body in transit; see the module's text."""

    def __init__(self, limit: int = 0) -> None:
        """``limit`` is in bytes; `BODY_BUFFER` if it is 0."""
        self.limit = limit or _BUFFER
        self.readable = Signal()
        self.writable = Signal()
        self.chunks = deque()

    @staticmethod
    def of(data: bytes = b"") -> Pipe:
        """A body that is all there."""
        pipe: Pipe = Pipe()
        if data:
            pipe.chunks.append(data)
            pipe.size = len(data)
        pipe.ended = True
        return pipe

    # The producer's end

    def room(self) -> int:
        """How many bytes `write` takes now. Raises the error that ended the body, BrokenPipeError if cancelled."""
        if self.error is not None:
            raise self.error
        if self.cancelled:
            raise BrokenPipeError("nobody reads the body any more")
        return max(0, self.limit - self.size)

    def write(self, data: bytes) -> None:
        """Adds bytes. Empty ones add nothing; what comes after the end, or after the consumer has gone, is lost."""
        if not data or self.ended or self.cancelled or self.error is not None:
            return
        chunks = self.chunks
        if len(chunks) > _MANY and len(data) < _SMALL:
            # Each object costs some 40 bytes beside its content, which no limit counts.
            last = chunks.pop()
            if len(last) < _SMALL:
                if not isinstance(last, bytearray):
                    last = bytearray(last)
                last += data
                chunks.append(last)
            else:
                chunks.extend((last, data))
        else:
            chunks.append(data)
        self.size += len(data)
        self.readable.notify()

    def end(self, trailers: list[Field] | None = None) -> None:
        if not self.ended and self.error is None:
            self.ended = True
            self.trailers = trailers
            self.readable.notify()
            self.writable.notify()

    def fail(self, error: OSError) -> None:
        """Ends the body with an error behind what is queued, unless it has ended.

        The error is an OSError, as `HttpError` is: guests are told no other.
        """
        if not self.ended and self.error is None:
            self.error = error
            self.readable.notify()
            self.writable.notify()

    # The consumer's end

    def take(self, limit: cython.Py_ssize_t) -> bytes | None:
        """At most ``limit`` bytes, ``b""`` while there are none, None at the end. Then raises the error, if any."""
        if not self.chunks:
            if self.error is not None:
                raise self.error
            return None if self.ended else b""
        chunk = self.chunks[0]
        start: cython.Py_ssize_t = self.offset
        if len(chunk) - start <= limit:
            self.chunks.popleft()
            self.offset = 0
            data = chunk[start:] if start else chunk
        else:
            self.offset = start + limit
            data = chunk[start : start + limit]
        self.size -= len(data)
        self.writable.notify()
        return data if isinstance(data, bytes) else bytes(data)

    def take_all(self) -> bytes:
        """Everything that is queued."""
        if len(self.chunks) == 1 and not self.offset:
            data = bytes(self.chunks.popleft())
        else:
            data = b"".join(self.chunks)[self.offset :]
            self.chunks.clear()
            self.offset = 0
        self.size = 0
        return data

    def is_readable(self) -> bool:
        return bool(self.chunks) or self.ended or self.error is not None

    def cancel(self, error: OSError | None = None) -> None:
        """Drops what is queued and tells the producer: with ``error``, if the body has not ended, else a broken pipe.

        ``error`` is also what a consumer sees that takes from the body later.
        """
        if self.cancelled and error is None:
            return
        self.cancelled = True
        self.chunks.clear()
        self.offset = 0
        self.size = 0
        if error is not None and not self.ended and self.error is None:
            self.error = error
            self.readable.notify()
        self.writable.notify()
