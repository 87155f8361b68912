"""Output streams that are always ready: into nothing, into a callable, into a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final

from wasi_http.wasi.io.streams import OutputStream

__all__ = ["SINK_PERMIT", "CallableOutput", "FileOutput", "NullOutput", "Sink", "output_stream"]

#: The most bytes that a sink is given at once: what it makes of them (log lines, say) may take many times as much.
SINK_PERMIT: Final = 64 * 1024

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
    """Writes to a binary file, which stays open; a flush flushes the file."""

    __slots__ = ("_file",)

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def permit(self) -> int:
        return SINK_PERMIT

    def push(self, data: bytes) -> None:
        # Files without a buffer may take less than they are given.
        written = self._file.write(data)
        while written is not None and written < len(data):
            data = data[written:]
            written = self._file.write(data)

    def start_flush(self) -> None:
        self._file.flush()


def output_stream(sink: Sink) -> OutputStream:
    """A stream into whatever a `Sink` may be. An `OutputStream` is returned as it is."""
    if sink is None:
        return NullOutput()
    if isinstance(sink, OutputStream):
        return sink
    return CallableOutput(sink) if callable(sink) else FileOutput(sink)
