"""The chunked transfer coding, received (RFC 9112 §7.1)."""

from __future__ import annotations

import re

from wasi_http.wire.errors import Reason, RemoteProtocolError
from wasi_http.wire.limits import Limits
from wasi_http.wire.section import Field, check_partial, parse_trailers

__all__ = ["ChunkedDecoder"]

_MAX_DIGITS = 16

# No whitespace anywhere, no empty names or values: what the specification allows only for the sake of old senders
# is what parsers disagree about.
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*")

_SIZE, _DATA, _TRAILERS, _DONE = range(4)


class ChunkedDecoder:
    """Reads one chunked body. Extensions are checked and dropped; `trailers` is complete once `done` is true."""

    __slots__ = ("_extensions_left", "_limits", "_remaining", "_scanned", "_size", "_state", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._state = _SIZE
        self._remaining = 0
        self._scanned = 0  # how much of an unfinished line or section was looked at already
        self._size = 0
        self._extensions_left = limits.chunk_extensions
        self.trailers: list[Field] = []

    @property
    def done(self) -> bool:
        return self._state == _DONE

    def decode(self, data: bytes, position: int) -> tuple[bytes, int]:
        """Body bytes found from `position` on, joined, and where reading stopped.

        When not `done`, whatever lies behind that point must be given again, in front of what arrives next. It is
        an unfinished line or trailer section, within the limits.
        """
        pieces: list[bytes] = []
        end = len(data)
        while position < end:
            state = self._state
            if state == _DATA:
                remaining = self._remaining
                available = end - position
                if available < remaining:
                    pieces.append(data[position:])
                    self._remaining = remaining - available
                    position = end
                    break
                if remaining:
                    pieces.append(data[position : position + remaining])
                    position += remaining
                    self._remaining = 0
                if data.startswith(b"\r\n", position):
                    position += 2
                    self._state = _SIZE
                elif end - position >= 2 or (position < end and data[position] != 13):
                    raise RemoteProtocolError(Reason.CHUNK, "chunk data longer than its size")
                else:
                    break
            elif state == _SIZE:
                eol = data.find(b"\r\n", position + self._scanned)
                if eol < 0:
                    if end - position > _MAX_DIGITS + self._extensions_left + 1:
                        raise RemoteProtocolError(Reason.CHUNK, "chunk extensions too long")
                    self._check_partial(data[position:])
                    break
                self._scanned = 0
                self._start_chunk(data, position, eol)
                position = eol + 2
            elif state == _TRAILERS:
                position = self._read_trailers(data, position)
                break
            else:
                break
        return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), position

    def _start_chunk(self, data: bytes, position: int, eol: int) -> None:
        match = _SIZE_LINE.fullmatch(data, position, eol)
        if match is None:
            raise RemoteProtocolError(Reason.CHUNK, "malformed chunk size or extension")
        self._extensions_left -= eol - match.end(1)
        if self._extensions_left < 0:
            raise RemoteProtocolError(Reason.CHUNK, "chunk extensions too long")
        size = int(match[1], 16)
        if not size:
            self._state = _TRAILERS
            return
        self._size += size
        limit = self._limits.body
        if limit is not None and self._size > limit:
            raise RemoteProtocolError(Reason.BODY_SIZE)
        self._remaining = size
        self._state = _DATA

    def _read_trailers(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            self._state = _DONE
            return position + 2
        limits = self._limits
        end = data.find(b"\r\n\r\n", position + self._scanned)
        if end < 0:
            if len(data) - position > max(limits.trailer_section, 1):  # one CR may yet be the empty line
                raise RemoteProtocolError(Reason.TRAILER_SECTION_SIZE)
            self._check_partial(data[position:])
            return position
        end += 4
        if end - position > limits.trailer_section:
            raise RemoteProtocolError(Reason.TRAILER_SECTION_SIZE)
        self.trailers = parse_trailers(data[position:end])
        if len(self.trailers) > limits.trailers:
            raise RemoteProtocolError(Reason.TRAILER_SECTION_SIZE, f"more than {limits.trailers} trailers")
        self._state = _DONE
        return end

    def _check_partial(self, section: bytes) -> None:
        check_partial(section, max(self._scanned - 1, 0))
        self._scanned = max(len(section) - 3, 0)
