"""Decodes the chunked transfer coding (RFC 9112 §7.1).

Compiled, because a peer may send chunks of one byte each. Each call returns one piece, whatever the number of chunks.
"""

from __future__ import annotations

import re
from typing import Final

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.libc.string import memcpy

from wasi_http.http1.abnf import TOKEN
from wasi_http.http1.errors import Reason, RemoteProtocolError
from wasi_http.http1.fieldsection import Field, check_partial, parse_trailers
from wasi_http.http1.limits import Limits

__all__ = ["ChunkedDecoder"]

_MAX_DIGITS: Final = 16

#: The most whitespace after the digits of a size.
_MAX_PADDING: Final = 16

_DIGITS = cython.declare(cython.Py_ssize_t, _MAX_DIGITS)
_PADDING = cython.declare(cython.Py_ssize_t, _MAX_PADDING)

# No empty names or values, and only the whitespace that is enabled: parsers disagree about what the specification
# allows for old senders.
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})()(?:;" + TOKEN + rb"(?:=(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)*")
_PADDED_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})([ \t]{0,16})(?:;[ \t]*"
    + TOKEN
    + rb"(?:[ \t]*=[ \t]*(?:"
    + TOKEN
    + rb"|"
    + _QUOTED
    + rb"))?[ \t]*)*"
)

_SIZE = cython.declare(cython.int, 0)
_DATA = cython.declare(cython.int, 1)
_DATA_CR = cython.declare(cython.int, 2)
_DATA_LF = cython.declare(cython.int, 3)
_TRAILERS = cython.declare(cython.int, 4)
_DONE = cython.declare(cython.int, 5)


@cython.final
@cython.cclass
class ChunkedDecoder:
    """Reads one chunked body. Extensions are checked and dropped; `trailers` is complete once `done` is true.

    ``padded`` allows whitespace after a size and around the parts of an extension ("bad whitespace", RFC 9112 §7.1.1).
    """

    def __init__(self, limits: Limits, padded: bool = False) -> None:
        self.limits = limits
        self.padded = padded
        self.line = _PADDED_SIZE_LINE if padded else _SIZE_LINE
        self.extensions_left = limits.chunk_extensions
        self.bounded = limits.body is not None
        if limits.body is not None:
            self.body_left = min(limits.body, (1 << 64) - 1)
        self.trailers: list[Field] = []

    @property
    def done(self) -> bool:
        return self.state == _DONE

    def decode(self, data: bytes, position: cython.Py_ssize_t) -> tuple[bytes, int]:
        """Returns the body bytes from `position` on, joined, and where reading stopped.

        Unless `done`, the bytes after that point, an unfinished line or trailer section within the limits, must be
        passed again, before those that arrive next.
        """
        source: cython.p_char = data
        end: cython.Py_ssize_t = len(data)
        first: cython.Py_ssize_t = 0
        size: cython.Py_ssize_t = 0  # of the body bytes found
        available: cython.Py_ssize_t
        target: cython.p_char = cython.NULL
        joined: bytes | None = None
        while position < end:
            if self.state == _DATA:
                available = end - position
                if cython.cast(uint64_t, available) > self.remaining:
                    available = self.remaining
                if not size:
                    first = position
                else:
                    if joined is None:
                        # The first piece is a slice of the data; a second one needs a joined buffer.
                        joined = PyBytes_FromStringAndSize(cython.NULL, size + end - position)
                        target = joined
                        memcpy(target, source + first, size)
                    memcpy(target + size, source + position, available)
                size += available
                position += available
                self.remaining -= available
                if not self.remaining:
                    self.state = _DATA_CR
            elif self.state == _SIZE:
                available = self.read_size(data, position)
                if available < 0:
                    break
                position = available
            elif self.state == _DATA_CR or self.state == _DATA_LF:
                if source[position] != (13 if self.state == _DATA_CR else 10):
                    raise RemoteProtocolError(Reason.CHUNK, "chunk data longer than its size")
                self.state = _DATA_LF if self.state == _DATA_CR else _SIZE
                position += 1
            elif self.state == _TRAILERS:
                available = self.read_trailers(data, position)
                if available >= 0:
                    position = available
                break
            else:
                break
        return (data[first : first + size] if joined is None else joined[:size]), position

    def read_size(self, data: bytes, position: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Returns where the size line ends, or -1 if it is incomplete."""
        source: cython.p_char = data
        end: cython.Py_ssize_t = len(data)
        at: cython.Py_ssize_t = position
        size: uint64_t = 0
        digit: cython.int
        while at < end and at - position < _DIGITS:
            digit = source[at]
            if 48 <= digit <= 57:
                digit -= 48
            elif 97 <= digit <= 102:
                digit -= 87
            elif 65 <= digit <= 70:
                digit -= 55
            else:
                break
            size = (size << 4) | cython.cast(uint64_t, digit)
            at += 1
        if at > position and end - at >= 2 and source[at] == 13 and source[at + 1] == 10:
            self.scanned = 0
            self.start_chunk(size)
            return at + 2
        return self.read_size_line(data, position)

    def read_size_line(self, data: bytes, position: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Does the same for a line with more than digits, or a malformed one."""
        eol: cython.Py_ssize_t = data.find(b"\r\n", position + self.scanned)
        if eol < 0:
            most: cython.Py_ssize_t = _DIGITS + (_PADDING if self.padded else 0) + self.extensions_left + 1
            if len(data) - position > most:
                raise RemoteProtocolError(Reason.CHUNK, "chunk extensions too long")
            self.check_partial(data, position)
            return -1
        self.scanned = 0
        match = self.line.fullmatch(data, position, eol)
        if match is None:
            raise RemoteProtocolError(Reason.CHUNK, "malformed chunk size or extension")
        self.extensions_left -= eol - cython.cast(cython.Py_ssize_t, match.end(2))
        if self.extensions_left < 0:
            raise RemoteProtocolError(Reason.CHUNK, "chunk extensions too long")
        self.start_chunk(int(match[1], 16))
        return eol + 2

    def start_chunk(self, size: uint64_t) -> cython.int:
        if not size:
            self.state = _TRAILERS
            return 0
        if self.bounded:
            if size > self.body_left:
                raise RemoteProtocolError(Reason.BODY_SIZE)
            self.body_left -= size
        self.remaining = size
        self.state = _DATA
        return 0

    def read_trailers(self, data: bytes, position: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Returns where the body ends, or -1 if the trailer section is incomplete."""
        if data.startswith(b"\r\n", position):
            self.state = _DONE
            return position + 2
        limits = self.limits
        end: cython.Py_ssize_t = data.find(b"\r\n\r\n", position + self.scanned)
        if end < 0:
            if len(data) - position > max(limits.trailer_section, 1):  # one CR may yet be the empty line
                raise RemoteProtocolError(Reason.TRAILER_SECTION_SIZE)
            self.check_partial(data, position)
            return -1
        end += 4
        if end - position > limits.trailer_section:
            raise RemoteProtocolError(Reason.TRAILER_SECTION_SIZE)
        self.trailers = parse_trailers(data[position:end])
        if len(self.trailers) > limits.trailers:
            raise RemoteProtocolError(Reason.TRAILER_SECTION_SIZE, f"more than {limits.trailers} trailers")
        self.state = _DONE
        return end

    def check_partial(self, data: bytes, position: cython.Py_ssize_t) -> cython.int:
        check_partial(data, position, max(self.scanned - 1, 0))
        self.scanned = max(len(data) - position - 3, 0)
        return 0
