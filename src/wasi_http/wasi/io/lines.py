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
        self._partial = bytearray()

    def __call__(self, data: bytes) -> None:
        first, *others = data.split(b"\n")
        self._partial += first
        out: list[bytes] = []
        for line in others:
            self._break(out)
            out.append(bytes(self._partial))
            self._partial = bytearray(line)
        self._break(out)
        self._emit(out)

    def _break(self, out: list[bytes]) -> None:
        """Leaves at most ``max_line`` bytes in the unfinished line."""
        longest = self._max_line
        if len(self._partial) > longest:
            line = self._partial
            last = (len(line) - 1) // longest * longest
            out += [bytes(line[start : start + longest]) for start in range(0, last, longest)]
            self._partial = line[last:]

    def _emit(self, lines: list[bytes]) -> None:
        if lines:
            self._write(b"".join([part for line in lines for part in (self.prefix, line, b"\n")]))

    def close(self) -> None:
        """Writes an unfinished line, with a newline. The object can be used on."""
        if self._partial:
            line = bytes(self._partial)
            self._partial = bytearray()
            self._emit([line])
