"""Output streams that discard, or write to a callable or a file."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
from collections.abc import Callable
from typing import BinaryIO, Final

from wasi_http.flow.signal import SILENT, Signal
from wasi_http.wasi.io.streams import OutputStream

__all__ = ["SINK_PERMIT", "CallableOutput", "FileOutput", "NullOutput", "Sink", "output_stream"]

#: The most bytes passed to a sink at once: its output (log lines, say) may be many times as long.
SINK_PERMIT: Final = 64 * 1024

# Poll interval, in seconds, for room in a full file.
_LOOK_AGAIN: Final = 0.02

#: What standard output may be: discarded, a function, a binary file, or a stream.
Sink = Callable[[bytes], object] | BinaryIO | OutputStream | None


class NullOutput(OutputStream):
    """Discards everything."""

    __slots__ = ()

    def push(self, data: bytes) -> None:
        pass


class CallableOutput(OutputStream):
    """Calls ``write`` with each piece of output. An ``OSError`` that it raises fails the guest's operation."""

    __slots__ = ("push",)

    def __init__(self, write: Callable[[bytes], object]) -> None:
        super().__init__()
        self.push = write  # type: ignore[method-assign, assignment]

    def permit(self) -> int:
        return SINK_PERMIT


class FileOutput(OutputStream):
    """Writes to a binary file, which stays open; a flush flushes the file.

    A pipe, socket or terminal that is not read does not block the event loop: while it is full, the stream is not
    ready, and its guest waits. (It may still block if others write to it at the same moment.)
    """

    __slots__ = ("_file", "_poll", "_timer")

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._poll = _poll_of(file)
        self._timer: asyncio.TimerHandle | None = None
        super().__init__(SILENT if self._poll is None else Signal())

    def permit(self) -> int:
        if self._poll is None:
            return SINK_PERMIT
        if self._poll.poll(0):
            return select.PIPE_BUF
        if self._timer is None:
            # A timer, because the loop may already have another watcher of the descriptor.
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
        return 0

    def _look_again(self) -> None:
        self._timer = None
        self.signal.notify()

    def push(self, data: bytes) -> None:
        # Unbuffered files may write partially, and return None if they would block.
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            if not written:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            view = view[written:]
        if self._poll is not None:
            self._file.flush()

    def start_flush(self) -> None:
        self._file.flush()


def _poll_of(file: BinaryIO) -> select.poll | None:
    """Returns a poll object for a file that may block, None for others."""
    try:
        descriptor = file.fileno()
        mode = os.fstat(descriptor).st_mode
    except (AttributeError, OSError, ValueError):
        return None  # none of the system's
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return None
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return poll


def output_stream(sink: Sink) -> OutputStream:
    """Returns a stream to a `Sink`; an `OutputStream` unchanged."""
    if sink is None:
        return NullOutput()
    if isinstance(sink, OutputStream):
        return sink
    return CallableOutput(sink) if callable(sink) else FileOutput(sink)
