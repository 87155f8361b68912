"""Prefixed lines: the output of many guests in one log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["MAX_LINE", "LinePrefix"]

#: The longest line, in bytes without prefix and newline; a longer one is broken.
MAX_LINE: Final = 64 * 1024


class LinePrefix:
    """A sink that passes whole lines on, each behind ``prefix``.

    ``write`` gets one or more complete lines per call, so lines of different guests do not mix. An unfinished line
    waits for its end, at most ``max_line`` bytes of it; `close` writes what is left. One object serves all handles of a
    guest to the same stream, and so joins what they write.
    """

    __slots__ = ("_max_line", "_partial", "_write", "prefix")

    def __init__(self, write: Callable[[bytes], object], prefix: bytes | str, *, max_line: int = MAX_LINE) -> None:
        if max_line < 1:
            raise ValueError(f"max_line must be at least 1, not {max_line}")
        self._write = write
        self.prefix = prefix.encode() if isinstance(prefix, str) else prefix
        self._max_line = max_line
        self._partial = b""

    def __call__(self, data: bytes) -> None:
        # In pieces that have no line to be broken but the first: the rest is left to the loops of `bytes`.
        longest = self._max_line
        out: list[bytes] = []
        for start in range(0, len(data), longest):
            head, newline, rest = data[start : start + longest].partition(b"\n")
            self._partial += head
            if len(self._partial) > longest:
                out.append(self._partial[:longest])
                self._partial = self._partial[longest:]
            if newline:
                *lines, partial = rest.rsplit(b"\n", 1)
                out += [self._partial, *(line.replace(b"\n", b"\n" + self.prefix) for line in lines)]
                self._partial = partial
        if out:
            self._write(b"".join([part for line in out for part in (self.prefix, line, b"\n")]))

    def close(self) -> None:
        """Writes an unfinished line, with a newline. The object can be used on."""
        if self._partial:
            line, self._partial = self._partial, b""
            self._write(b"".join((self.prefix, line, b"\n")))
