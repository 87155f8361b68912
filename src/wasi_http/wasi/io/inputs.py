"""Input streams from bytes and files."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable
from typing import BinaryIO, Final

from wasi_http.flow.signal import SILENT, Signal
from wasi_http.wasi.io.streams import InputStream

__all__ = ["BytesInput", "FileInput", "Source", "input_stream"]

#: What standard input may be: empty, bytes, a binary file, or a stream.
Source = bytes | BinaryIO | InputStream | None

#: Windows cannot tell whether reading a file would block.
_POLL: Final = getattr(select, "poll", None)


class BytesInput(InputStream):
    """A stream of bytes in memory."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes = b"") -> None:
        super().__init__()
        self._data = data
        self._position = 0

    def pull(self, limit: int) -> bytes | None:
        start = self._position
        if start >= len(self._data):
            self._data = b""
            return None
        self._position = start + limit
        return self._data[start : start + limit]


class FileInput(InputStream):
    """A stream from a binary file, which stays open.

    A file with a descriptor is read without the file object's buffer; if it is a pipe, a terminal or a socket, the
    guest waits without blocking the event loop. Others (``io.BytesIO``, files on disk) are read synchronously.
    """

    __slots__ = ("_file", "_fileno")

    def __init__(self, file: BinaryIO) -> None:
        fileno: int | None = None
        with contextlib.suppress(AttributeError, OSError):  # io.UnsupportedOperation is an OSError
            fileno = file.fileno()
        super().__init__(SILENT if fileno is None or _POLL is None else _Descriptor(fileno))
        self._file = file
        self._fileno = fileno

    def pull(self, limit: int) -> bytes | None:
        if self._fileno is None:
            return self._file.read(limit) or None
        if not self.is_ready():
            return b""
        try:
            return os.read(self._fileno, limit) or None
        except BlockingIOError:
            return b""

    def is_ready(self) -> bool:
        if self._fileno is None or _POLL is None:
            return True
        poll = _POLL()
        poll.register(self._fileno, select.POLLIN)
        return bool(poll.poll(0))


class _Descriptor(Signal):
    """Registers a file descriptor with the event loop while it has watchers."""

    __slots__ = ("_fileno",)

    def __init__(self, fileno: int) -> None:
        super().__init__()
        self._fileno = fileno

    def add(self, wake: Callable[[], None]) -> None:
        if not len(self):
            asyncio.get_running_loop().add_reader(self._fileno, self.notify)
        super().add(wake)

    def remove(self, wake: Callable[[], None]) -> None:
        super().remove(wake)
        if not len(self):
            asyncio.get_running_loop().remove_reader(self._fileno)


def input_stream(source: Source) -> InputStream:
    """Returns a stream from a `Source`; an `InputStream` unchanged."""
    if source is None:
        return BytesInput()
    if isinstance(source, InputStream):
        return source
    return BytesInput(source) if isinstance(source, bytes) else FileInput(source)
