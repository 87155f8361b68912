"""Pipes: bodies in transit, sans I/O.

A `Pipe` is a bounded queue with an end, an error, and trailers. Its states:

    open ──end(trailers)──► ended        the consumer takes what is queued, then sees the end
      ├────fail(error)────► failed       the same with the error, which the producer sees immediately
      └────cancel(error)──► cancelled    what is queued is dropped; the producer sees the error, or a broken pipe

`Pipe.end` and `Pipe.fail` are for the producer, `Pipe.cancel` is for the consumer: queued bytes reach the consumer
before the producer's error.

``limit`` bounds the queue: producers check `Pipe.room` (back-pressure). Signals announce changes, ``readable`` to the
consumer and ``writable`` to the producer. Compiled: each request makes one, and all bodies pass through them.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import cython

from wasi_http.flow.signal import Signal

__all__ = ["BODY_BUFFER", "Pipe"]

Field = tuple[bytes, bytes]

#: How many bytes of one body are buffered between a guest and its peer.
BODY_BUFFER: Final = 256 * 1024

# With more queued pieces than this, those below that size, in bytes, are joined.
_MANY = cython.declare(cython.Py_ssize_t, 64)
_SMALL = cython.declare(cython.Py_ssize_t, 1024)

_BUFFER = cython.declare(cython.Py_ssize_t, BODY_BUFFER)


@cython.final
@cython.cclass
class Pipe:
    """A body in transit; see the module's docstring."""

    def __init__(self, limit: int = 0) -> None:
        """``limit`` is in bytes; `BODY_BUFFER` if it is 0."""
        self.limit = limit or _BUFFER
        self.readable = Signal()
        self.writable = Signal()
        self.chunks = deque()

    @staticmethod
    def of(data: bytes = b"") -> Pipe:
        """Returns a complete body."""
        pipe: Pipe = Pipe()
        if data:
            pipe.chunks.append(data)
            pipe.size = len(data)
        pipe.ended = True
        return pipe

    # The producer's end

    def room(self) -> int:
        """Returns how many bytes `write` takes now. Raises the body's error, BrokenPipeError if it is cancelled."""
        if self.error is not None:
            raise self.error
        if self.cancelled:
            raise BrokenPipeError("the body is no longer read")
        return max(0, self.limit - self.size)

    def write(self, data: bytes) -> None:
        """Queues bytes; discards them after the end or a cancellation."""
        if not data or self.ended or self.cancelled or self.error is not None:
            return
        chunks = self.chunks
        if len(chunks) > _MANY and len(data) < _SMALL:
            # Each object has some 40 bytes of overhead, which no limit counts.
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
        """Ends the body with an error after what is queued, unless it has ended.

        The error must be an OSError, as `HttpError` is: guests see no others.
        """
        if not self.ended and self.error is None:
            self.error = error
            self.readable.notify()
            self.writable.notify()

    # The consumer's end

    def take(self, limit: cython.Py_ssize_t) -> bytes | None:
        """Returns at most ``limit`` bytes, ``b""`` while there are none, None at the end, or raises its error."""
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
        """Returns all queued bytes."""
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
        """Drops what is queued; the producer sees ``error``, if the body has not ended, else a broken pipe.

        Consumers that take from the body later see ``error``, too.
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
