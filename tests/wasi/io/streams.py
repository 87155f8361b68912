"""Streams that tests steer by hand."""

from __future__ import annotations

from wasi_http.component.model.values import Err
from wasi_http.flow.signal import Signal
from wasi_http.wasi.io import InputStream, OutputStream, StreamError


class ManualInput(InputStream):
    """Gives what was `feed`, one chunk per pull, then nothing until `end` or `fail`."""

    def __init__(self) -> None:
        super().__init__(Signal())
        self.chunks: list[bytes] = []
        self.ended = False
        self.failure: Exception | None = None
        self.pulls = 0
        self.drops = 0

    def feed(self, *chunks: bytes) -> None:
        self.chunks += chunks
        self.signal.notify()

    def end(self) -> None:
        self.ended = True
        self.signal.notify()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.signal.notify()

    def pull(self, limit: int) -> bytes | None:
        self.pulls += 1
        if self.chunks:
            chunk = self.chunks.pop(0)
            if len(chunk) > limit:
                self.chunks.insert(0, chunk[limit:])
            return chunk[:limit]
        if self.failure is not None:
            raise self.failure
        return None if self.ended else b""

    def is_ready(self) -> bool:
        return bool(self.chunks) or self.ended or self.failure is not None

    def drop(self) -> None:
        self.drops += 1


class ManualOutput(OutputStream):
    """A buffer of ``capacity`` bytes, emptied by `consume`; with ``slow`` a flush is done when it is empty."""

    def __init__(self, capacity: int = 10, *, slow: bool = True) -> None:
        super().__init__(Signal())
        self.capacity = capacity
        self.slow = slow
        self.buffer = bytearray()
        self.received = bytearray()
        self.pushes = 0
        self.flushes = 0
        self.over = False
        self.failure: Exception | None = None

    def consume(self, count: int | None = None) -> None:
        end = len(self.buffer) if count is None else count
        self.received += self.buffer[:end]
        del self.buffer[:end]
        self.signal.notify()

    def close(self) -> None:
        self.over = True
        self.signal.notify()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.signal.notify()

    def permit(self) -> int:
        if self.failure is not None:
            raise self.failure
        if self.over:
            raise Err(StreamError.CLOSED)
        return self.capacity - len(self.buffer)

    def push(self, data: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        assert 0 < len(data) <= self.capacity - len(self.buffer)
        self.pushes += 1
        self.buffer += data

    def start_flush(self) -> None:
        self.flushes += 1

    def flushed(self) -> bool:
        if self.failure is not None:
            raise self.failure
        return not (self.slow and self.buffer)
