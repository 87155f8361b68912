"""Responses, received: the client's side of RFC 9112.

Responses are read more leniently than requests, because clients depend on servers as they are. What has one meaning
only, and what other clients accept, is accepted: lines that end with LF alone, folded values, one empty line before the
status line, equal content-lengths, the coding "identity", whitespace around the size of a chunk. A head that is refused
when read strictly is normalised and read once more. What is ambiguous stays refused: different lengths, a length beside
the chunked coding, CR alone, whitespace before a colon.
"""

from __future__ import annotations

import re
from typing import Protocol

from wasi_http.http1.abnf import parse_length
from wasi_http.http1.chunked import ChunkedDecoder
from wasi_http.http1.errors import Reason, RemoteProtocolError
from wasi_http.http1.fieldsection import Field, parse_fields
from wasi_http.http1.limits import Limits
from wasi_http.http1.parser import (
    CHUNKED,
    COMPLETE,
    LENGTH,
    UNTIL_CLOSE,
    BodyHandler,
    MessageParser,
    list_elements,
)

__all__ = ["ResponseHandler", "ResponseHead", "ResponseParser"]

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t \x21-\x7e\x80-\xff]*))?")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_FOLD = re.compile(rb"\r\n[ \t]+")
_VERSION = re.compile(rb"HTTP/[0-9]+\.[0-9]+ ")

_CONNECTION, _CONTENT_LENGTH, _TRANSFER_ENCODING = range(3)
_MEANING = {
    b"connection": _CONNECTION,
    b"content-length": _CONTENT_LENGTH,
    b"transfer-encoding": _TRANSFER_ENCODING,
}


class ResponseHead:
    """What a response says before its body.

    status: 100 to 999; reason: as sent, maybe empty; version: b"1.0" or b"1.1"
    headers: (name, value) in order, repetitions and case kept; values without whitespace around them, bytes 0x80-0xFF
        included
    keep_alive: the connection may carry another exchange after this one
    content_length: as declared, None if not (with HEAD and 304 it describes a body that does not follow)
    chunked: the body has the chunked coding
    has_body: body and end events follow
    """

    __slots__ = (
        "chunked",
        "content_length",
        "has_body",
        "headers",
        "keep_alive",
        "reason",
        "status",
        "version",
    )

    status: int
    reason: bytes
    version: bytes
    headers: list[Field]
    keep_alive: bool
    content_length: int | None
    chunked: bool
    has_body: bool

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} {self.version!r} {len(self.headers)} headers>"


class ResponseHandler(BodyHandler, Protocol):
    def on_informational(self, head: ResponseHead, /) -> None:
        """A 1xx response; the final one is still to come."""

    def on_response(self, head: ResponseHead, /) -> None:
        """The final response begins; it is complete if it has no body."""


class ResponseParser(MessageParser):
    """Reads the response to one request; see `parser` for the rules. A connection takes a new parser per request.

    A response without a length ends with the connection (`feed_eof`). 101, and success for CONNECT, are refused: they
    would turn the connection into something else.
    """

    _END_OF_HEAD = re.compile(rb"\n\r?\n")
    _LF = True

    __slots__ = ("_informational", "_method", "_on_informational", "_on_response")

    def __init__(self, method: bytes, handler: ResponseHandler, limits: Limits | None = None) -> None:
        super().__init__(handler, limits if limits is not None else Limits())
        self._on_response = handler.on_response
        self._on_informational = handler.on_informational
        self._method = method
        self._informational = 0
        self._keep_alive = False

    @property
    def reusable(self) -> bool:
        """The response is complete, nothing came behind it, and the server keeps the connection open."""
        return self._state == COMPLETE and self._keep_alive and not self.held and not self._eof

    def _read_head(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n\r\n", position + self._scan) + 4
        line_end = data.find(b"\r\n", position)
        match = None
        if end >= 4 and line_end - position <= self._max_line and end - position <= self._max_head:
            match = _STATUS_LINE.fullmatch(data, position, line_end)
        if match is not None:
            try:
                headers = parse_fields(data, line_end + 2, end)
            except RemoteProtocolError:
                match = None
        if match is None:
            # Not in proper form, or not all there.
            if data.startswith((b"\r\n", b"\n"), position):
                return self._skip_blank_line(data, position)
            found = self._END_OF_HEAD.search(data, position + self._scan)
            if found is None:
                return -1
            end = found.end()
            if end - position > self._max_head:
                raise RemoteProtocolError(Reason.HEADER_SECTION_SIZE)
            section, match = self._mend(data[position:end])
            headers = parse_fields(section, match.end() + 2, len(section))
        self._scan = 0
        self._blank = False
        recent = match[1] == b"1"
        status = int(match[2])
        if status == 101:
            raise RemoteProtocolError(Reason.UPGRADE)
        if len(headers) > self._max_headers:
            raise RemoteProtocolError(Reason.HEADER_SECTION_SIZE, f"more than {self._max_headers} headers")

        keep_alive = recent
        close = False
        lengths: list[bytes] = []
        codings: list[bytes] = []
        for name, value in headers:
            meaning = _MEANING.get(name.lower())
            if meaning is None:
                continue
            if meaning == _CONNECTION:
                options = list_elements(value)
                if b"close" in options:
                    close = True
                elif b"keep-alive" in options:
                    keep_alive = True
            elif meaning == _CONTENT_LENGTH:
                lengths += value.split(b",")
            else:
                codings.append(value.lower())
        length = None
        chunked = False
        if lengths:
            if codings.count(b"identity") < len(codings):
                raise RemoteProtocolError(Reason.FRAMING, "both Content-Length and Transfer-Encoding")
            length = _single_length(lengths)
            if codings or len(lengths) > 1:
                # One length stands for several; "identity" never was a coding, and the length is what counts.
                headers = [field for field in headers if _MEANING.get(field[0].lower()) in (None, _CONNECTION)]
                headers.append((b"Content-Length", b"%d" % length))
                close = close or bool(codings)
        elif codings:
            chunked = recent and codings == [b"chunked"]
            if not chunked and codings != [b"identity"]:
                raise RemoteProtocolError(Reason.TRANSFER_CODING)
            close = close or not chunked

        head = ResponseHead()
        head.status = status
        head.reason = match[3] or b""
        head.version = b"1.1" if recent else b"1.0"
        head.headers = headers
        head.content_length = length
        head.chunked = chunked
        head.has_body = False
        if status < 200:
            self._informational += 1
            if self._informational > self._limits.informational:
                raise RemoteProtocolError(Reason.TOO_MANY_INFORMATIONAL)
            head.keep_alive = True
            self._on_informational(head)
            return end
        if status < 300 and self._method == b"CONNECT":
            raise RemoteProtocolError(Reason.UPGRADE, "the server opened a tunnel")
        if status == 204 or status == 304 or self._method == b"HEAD":
            self._state = COMPLETE
        elif chunked:
            head.has_body = True
            self._chunks = ChunkedDecoder(self._limits, padded=True)
            self._state = CHUNKED
        elif length is None:
            head.has_body = True
            close = True
            self._state = UNTIL_CLOSE
        elif length:
            limit = self._limits.body
            if limit is not None and length > limit:
                raise RemoteProtocolError(Reason.BODY_SIZE)
            head.has_body = True
            self._remaining = length
            self._state = LENGTH
        else:
            self._state = COMPLETE
        head.keep_alive = self._keep_alive = keep_alive and not close
        self._on_response(head)
        return end

    def _mend(self, section: bytes) -> tuple[bytes, re.Match[bytes]]:
        """A head with proper line ends and without folds, and its status line."""
        section = _BARE_LF.sub(b"\r\n", section)
        line_end = section.find(b"\r\n")
        if line_end > self._max_line:
            raise RemoteProtocolError(Reason.START_LINE_SIZE)
        match = _STATUS_LINE.fullmatch(section, 0, line_end)
        if match is None:
            version = _VERSION.match(section)
            if version and not version[0].startswith((b"HTTP/1.0 ", b"HTTP/1.1 ")):
                raise RemoteProtocolError(Reason.VERSION)
            raise RemoteProtocolError(Reason.SYNTAX, "malformed status line")
        if section[line_end + 2] in b" \t":
            raise RemoteProtocolError(Reason.SYNTAX, "whitespace before the first field")
        return _FOLD.sub(b" ", section), match

    def _end_of_input_in_head(self) -> None:
        raise RemoteProtocolError(Reason.INCOMPLETE_HEAD if self.held or self._informational else Reason.NO_RESPONSE)


def _single_length(lengths: list[bytes]) -> int:
    """The length that is declared, once or several times (RFC 9112 §6.3)."""
    found = {parse_length(length.strip(b" \t")) for length in lengths}
    length = found.pop()
    if length is None or found:
        raise RemoteProtocolError(Reason.FRAMING, "invalid Content-Length, or several that differ")
    return length
