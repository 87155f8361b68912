"""Output streams into nothing, into a callable, into a file."""

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

#: The most bytes that a sink is given at once: what it makes of them (log lines, say) may take many times as much.
SINK_PERMIT: Final = 64 * 1024

# How long a guest waits, in seconds, before it is looked whether there is room again.
_LOOK_AGAIN: Final = 0.02

#: What standard output may be: nothing, a function, this binary file, this stream.
Sink = Callable[[bytes], object] | BinaryIO | OutputStream | None


class NullOutput(OutputStream):
    """Discards everything, at once."""

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
    ready, and its guest waits. (Unless others write to the same place at the same moment: there is no telling.)
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
            # The loop may be watching the descriptor for somebody else already.
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
        return 0

    def _look_again(self) -> None:
        self._timer = None
        self.signal.notify()

    def push(self, data: bytes) -> None:
        # Files without a buffer may take less than they are given, and nothing (None) when they would block.
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
    """Tells whether a file that may block would; None for one that does not."""
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
    """A stream into whatever a `Sink` may be. An `OutputStream` is returned as it is."""
    if sink is None:
        return NullOutput()
    if isinstance(sink, OutputStream):
        return sink
    return CallableOutput(sink) if callable(sink) else FileOutput(sink)
