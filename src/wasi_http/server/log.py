"""What a server says: its own lines on standard error, and what its guests print on both standard streams.

Nothing here waits for a reader; see `Spool`. A guest that prints faster than the log is read is held back, and
its output is dropped when the log is not read at all. The lines of the server itself are dropped at once then.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from typing import Final, TextIO

from wasi_http.engine.errors import visible
from wasi_http.flow.signal import Signal
from wasi_http.server.spool import Spool
from wasi_http.wasi.io import SINK_PERMIT, OutputStream

__all__ = ["GuestOutput", "Log", "LogStream", "cut", "visible_lines"]

# Of the text of a line, in characters: guests must not fill the log with what they say of themselves.
_MAX_TEXT: Final = 8192

# What the server's own lines may take beyond the limit of guests, in bytes.
_MAX_OWN: Final = 64 * 1024

# How long the end waits, in seconds, for what was said last.
_DRAIN: Final = 1.0

# What terminals act upon and no text needs: C0 but for tab and newline, DEL, and in UTF-8 C1, separators of lines and
# marks of direction.
_CONTROLS: Final = bytes({*range(32), 127} - {*b"\t\n"})
_SEQUENCES: Final = {
    chr(code).encode(): (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}").encode()
    for code in (*range(0x80, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}


class Log:
    """Both standard streams of a process. Where they lead to the same place they are one, so that lines keep whole."""

    def __init__(self, stdout: Spool, stderr: Spool) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self._files: list[tuple[Spool, TextIO]] = []

    @classmethod
    def standard(cls) -> Log:
        """The log of this process."""
        out = Spool.of(sys.stdout)
        return cls(out, out if _same(sys.stdout, sys.stderr) else Spool.of(sys.stderr))

    def line(self, text: str) -> None:
        """A line on standard error. Control characters are made visible, further lines are set in, and what is too
        long is cut."""
        lines = [visible(line) for line in cut(text, _MAX_TEXT).split("\n")]
        self.stderr.write(("\n  ".join(lines) + "\n").encode("utf-8", "backslashreplace"), _MAX_OWN)

    def file(self, path: str) -> Spool:
        """What is written to the end of a file, or to standard output for ``-``. Raises OSError."""
        if path == "-":
            return self.stdout
        # Without O_NONBLOCK, opening a pipe would wait for its reader.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        stream = os.fdopen(os.open(path, flags, 0o640), "a")
        spool = Spool.of(stream)
        self._files.append((spool, stream))
        return spool

    def drain(self) -> None:
        """Waits until all is written, but not for long. At the end of a process."""
        deadline = time.monotonic() + _DRAIN
        for spool in (self.stdout, self.stderr, *(spool for spool, _ in self._files)):
            spool.drain(max(0.0, deadline - time.monotonic()))


class LogStream(io.TextIOBase):
    """Stands for `sys.stderr`, so that what the interpreter and libraries have to say cannot block either."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(self, text: str) -> int:
        self._log.stderr.write(text.encode("utf-8", "backslashreplace"), _MAX_OWN)
        return len(text)

    def writable(self) -> bool:
        return True


class GuestOutput(OutputStream):
    """A guest's standard stream: ``push`` takes what it prints, and brings it to the spool."""

    __slots__ = ("_spool", "push")

    def __init__(self, spool: Spool, push: Callable[[bytes], object]) -> None:
        super().__init__(Signal())
        self._spool = spool
        self.push = push  # type: ignore[method-assign, assignment]

    def permit(self) -> int:
        spool = self._spool
        if spool.full and not spool.stalled:
            spool.wake(self.signal)
            return 0
        return SINK_PERMIT


def cut(text: str, most: int) -> str:
    """At most so many characters, with a mark where something is missing."""
    return text if len(text) <= most else f"{text[:most]} …"


def visible_lines(data: bytes) -> bytes:
    """Whole lines of a guest with escapes in place of the control characters, tabs excepted. Takes linear time."""
    if len(data.translate(None, _CONTROLS)) != len(data):
        data = data.replace(b"\r\n", b"\n")
        for code in _CONTROLS:
            data = data.replace(bytes((code,)), b"\\x%02x" % code)
    if b"\xc2" in data or b"\xe2" in data:
        for sequence, shown in _SEQUENCES.items():
            data = data.replace(sequence, shown)
    return data


def _same(one: TextIO | None, other: TextIO | None) -> bool:
    try:
        return one is not None and other is not None and os.path.sameopenfile(one.fileno(), other.fileno())
    except (OSError, ValueError):
        return False
