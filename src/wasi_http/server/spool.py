"""Output on its way to a descriptor whose reader may be slow, or may have stopped.

A write to a pipe or a terminal blocks until its reader makes room, and a descriptor that other processes share must not
be made non-blocking. So a thread writes, from a bounded queue. Filling the queue never blocks: there is room, or the
output is dropped and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import threading
import time
from collections.abc import Callable
from typing import Final, TextIO

from wasi_http.flow.signal import Signal

__all__ = ["MAX_SPOOLED", "STALLED", "Spool"]

#: The most bytes that wait to be written before no more is taken; the last piece may exceed it.
MAX_SPOOLED: Final = 1024 * 1024

#: After so many seconds without progress a full queue is not waited for any more.
STALLED: Final = 1.0

# A thread without work ends after so many seconds.
_IDLE: Final = 1.0

# How much is written at once. What is shorter than PIPE_BUF no other process can tear.
_PIECE: Final = 64 * 1024


class Spool:
    """A queue of bytes, written in order. Threads may share it.

    ``write`` takes some of the bytes and returns how many, and may block: only the thread of the spool calls it. None
    stands for a stream that is closed: everything is discarded. ``terminal`` says that a terminal interprets the bytes.
    ``atomic`` is how many bytes other processes that write to the same place leave in one piece.
    """

    def __init__(
        self, write: Callable[[memoryview], int] | None, *, terminal: bool = False, atomic: int | None = None
    ) -> None:
        self.terminal = terminal
        self._write = write
        self._atomic = atomic
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._moved = 0.0
        self._dropped = 0
        self._reason = ""
        self._mid_line = False
        self._waiting: dict[Signal, tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle]] = {}

    @classmethod
    def of(cls, stream: TextIO | None) -> Spool:
        """A spool for a standard stream, which is written to past its buffer; for None one that discards."""
        if stream is None:
            return cls(None)
        try:
            descriptor = stream.fileno()
            pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        except (OSError, ValueError):  # there is none, or it is closed
            return cls(_stream_writer(stream))
        return cls(
            lambda data: _write_descriptor(descriptor, data),
            terminal=os.isatty(descriptor),
            atomic=select.PIPE_BUF if pipe else None,
        )

    @property
    def full(self) -> bool:
        """Whether nothing more is taken now."""
        return self._size >= MAX_SPOOLED

    @property
    def stalled(self) -> bool:
        """Whether it is full, and has been for so long that waiting is no use."""
        return self._size >= MAX_SPOOLED and time.monotonic() - self._moved >= STALLED

    def write(self, data: bytes, reserve: int = 0) -> None:
        """Takes all of the data, or drops it when the queue is full, by ``reserve`` bytes more than usual."""
        if self._write is None or not data:
            return
        with self._changed:
            if self._size >= MAX_SPOOLED + reserve:
                self._dropped += len(data)
                return
            if not self._size:
                self._moved = time.monotonic()
            if self._dropped:
                self._say_dropped()
            self._append(data)
            if self._thread is None:
                self._start()
            else:
                self._changed.notify_all()

    def wake(self, signal: Signal) -> None:
        """Notifies the signal, on the running loop, when something was written, or nothing for too long."""
        loop = asyncio.get_running_loop()
        with self._changed:
            if signal not in self._waiting:
                self._waiting[signal] = loop, loop.call_later(STALLED, self._give_up, signal)

    def drain(self, timeout: float) -> bool:
        """Waits until everything is written; False when that takes longer than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._size, timeout)

    def _append(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        self._mid_line = not data.endswith(b"\n")

    def _say_dropped(self) -> None:
        count, self._dropped = self._dropped, 0
        line = f"… {count:,} bytes of output dropped: {self._reason or 'the log is not read'}\n".encode()
        self._reason = ""
        self._append(b"\n" + line if self._mid_line else line)

    def _give_up(self, signal: Signal) -> None:
        self._waiting.pop(signal, None)
        signal.notify()

    # The thread

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="wasi-http log", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # no more threads for now: with the next piece, perhaps
        self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._pieces:
                    if self._dropped and not self._reason:
                        self._say_dropped()
                    elif not self._changed.wait(_IDLE) and not self._pieces:
                        self._thread = None
                        return
                data = b"".join(self._pieces)
                self._pieces.clear()
            self._write_all(data)

    def _write_all(self, data: bytes) -> None:
        assert self._write is not None
        view, start = memoryview(data), 0
        while start < len(data):
            try:
                written = self._write(view[start : self._end(data, start)])
            except (OSError, ValueError) as error:
                # The reader has gone, or the disk is full. Later output may have more luck.
                with self._changed:
                    self._dropped += len(data) - start
                    self._reason = getattr(error, "strerror", None) or str(error)
                    self._mid_line = start > 0 and data[start - 1 : start] != b"\n"
                written = len(data) - start
            start += written
            self._advance(written)

    def _end(self, data: bytes, start: int) -> int:
        """Where the piece that begins at ``start`` ends: with a line, if it has to be written at once."""
        if self._atomic is None:
            return start + _PIECE
        end = data.rfind(b"\n", start, start + self._atomic)
        if end < 0:
            end = data.find(b"\n", start, start + _PIECE)
        return start + _PIECE if end < 0 else end + 1

    def _advance(self, written: int) -> None:
        with self._changed:
            self._size -= written
            self._moved = time.monotonic()
            self._changed.notify_all()
            waiting = () if self.full else tuple(self._waiting.items())
            if waiting:
                self._waiting.clear()
        for signal, (loop, timer) in waiting:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits any more
                loop.call_soon_threadsafe(_notify, signal, timer)


def _notify(signal: Signal, timer: asyncio.TimerHandle) -> None:
    timer.cancel()
    signal.notify()


def _write_descriptor(descriptor: int, data: memoryview) -> int:
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            # Another process made it non-blocking.
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()


def _stream_writer(stream: TextIO) -> Callable[[memoryview], int]:
    """For streams that are none of the system's."""

    def write(data: memoryview) -> int:
        stream.write(bytes(data).decode("utf-8", "replace"))
        stream.flush()
        return len(data)

    return write
