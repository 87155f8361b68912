"""Requests, received: the server's side of RFC 9112.

The exact form of the request line, the version, the request-target forms, Host, and that the message length can be
read in one way only; the syntax of fields is `fieldsection`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn, Protocol

from wasi_http.http1.abnf import TOKEN, is_authority, is_target, is_token, parse_length
from wasi_http.http1.chunked import ChunkedDecoder
from wasi_http.http1.errors import Reason, RemoteProtocolError
from wasi_http.http1.fieldsection import Field, parse_fields
from wasi_http.http1.limits import Limits
from wasi_http.http1.parser import (
    CHUNKED,
    CLOSED,
    COMPLETE,
    HEAD,
    LENGTH,
    BodyHandler,
    MessageParser,
    list_elements,
)

__all__ = ["RequestHandler", "RequestHead", "RequestParser"]

_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([!-~\x80-\xff]+) HTTP/1\.([01])").fullmatch
_VERSION = re.compile(rb"HTTP/[0-9]+\.[0-9]+")
# Schemes of letters only: the others have nothing to do with HTTP.
_ABSOLUTE = re.compile(rb"([A-Za-z]+)://([^/?]*)(.*)")
# A tab behind a coding is whitespace, but there are recipients to which it makes another coding of it.
_CODING_WITH_TAB = re.compile(rb"\r\ntransfer-encoding:[^\r]*\t *\r", re.IGNORECASE)

_HOST, _CONNECTION, _CONTENT_LENGTH, _TRANSFER_ENCODING, _EXPECT = range(5)
_MEANING = {
    b"host": _HOST,
    b"connection": _CONNECTION,
    b"content-length": _CONTENT_LENGTH,
    b"transfer-encoding": _TRANSFER_ENCODING,
    b"expect": _EXPECT,
}


class RequestHead:
    """What a request says before its body.

    method: as sent, any token
    target: as sent, in any of the four forms (RFC 9112 §3.2); path and query may have UTF-8 beyond ASCII
    version: b"1.0" or b"1.1"
    headers: (name, value) in order, repetitions and case kept; values without whitespace around them, bytes 0x80-0xFF
        included
    scheme: of an absolute-form target, else None
    authority: host[:port] of the target if it has one, else the Host field; None if neither says
    path: path and query in origin form; b"*" for `OPTIONS *`, b"" for CONNECT
    keep_alive: the connection may carry another request after this one; never after CONNECT
    expect_continue: the client waits for `100 Continue` before it sends the body
    content_length: as declared, None if not; chunked: the body has the chunked coding
    has_body: body and end events follow (false for a declared length of 0)
    """

    __slots__ = (
        "authority",
        "chunked",
        "content_length",
        "expect_continue",
        "has_body",
        "headers",
        "keep_alive",
        "method",
        "path",
        "scheme",
        "target",
        "version",
    )

    method: bytes
    target: bytes
    version: bytes
    headers: list[Field]
    scheme: bytes | None
    authority: bytes | None
    path: bytes
    keep_alive: bool
    expect_continue: bool
    content_length: int | None
    chunked: bool
    has_body: bool

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} {self.version!r} {len(self.headers)} headers>"


class RequestHandler(BodyHandler, Protocol):
    def on_request(self, head: RequestHead, /) -> None:
        """A request begins; it is complete if it has no body."""


class RequestParser(MessageParser):
    """Reads the requests of one connection, one at a time; see `parser` for the rules.

    After a complete request, `next_message()` goes on to the next. Upgrade is ignored. CONNECT is an ordinary request
    with an authority-form target and the last one of its connection.
    """

    _END_OF_HEAD = re.compile(rb"\r\n\r\n")
    _LF = False

    __slots__ = ("_host", "_on_request")

    def __init__(self, handler: RequestHandler, limits: Limits | None = None) -> None:
        super().__init__(handler, limits if limits is not None else Limits())
        self._on_request = handler.on_request
        self._host = b""  # the last Host value found valid: it is nearly always the same again

    def next_message(self) -> None:
        """The request that was read has been dealt with: go on to the next, of which some bytes may be held.

        `RemoteProtocolError` as for `feed`. Does nothing if the connection may not carry another request.
        """
        if self._state != COMPLETE:
            return
        self._blank = False
        self._state = HEAD if self._keep_alive else CLOSED
        if self._running:
            return
        if self.held:
            data, position = bytes(self.held), self._start
            self.held = b""
            self._start = 0
            self._run(data, position)
        if self._eof and self._state != COMPLETE:
            self._end_of_input()

    def _read_head(self, data: bytes, position: int) -> int:
        end = data.find(b"\r\n\r\n", position + self._scan) + 4
        if end < 4:
            return -1
        self._scan = 0
        line_end = data.find(b"\r\n", position)
        if line_end == position:
            return self._skip_blank_line(data, position)
        if line_end - position > self._max_line:
            raise RemoteProtocolError(Reason.START_LINE_SIZE)
        if end - position > self._max_head:
            raise RemoteProtocolError(Reason.HEADER_SECTION_SIZE)
        line = _REQUEST_LINE(data, position, line_end)
        if line is None:
            _refuse_line(data[position:line_end])
        method, target, minor = line.groups()
        if not target.isascii() and not is_target(target):
            raise RemoteProtocolError(Reason.TARGET)
        keep_alive = recent = minor == b"1"
        headers = parse_fields(data, line_end + 2, end)
        if len(headers) > self._max_headers:
            raise RemoteProtocolError(Reason.HEADER_SECTION_SIZE, f"more than {self._max_headers} headers")

        host: bytes | None = None
        length: int | None = None
        codings: Sequence[bytes] = ()
        expect_continue = close = False
        for name, value in headers:
            meaning = _MEANING.get(name.lower())
            if meaning is None:
                continue
            if meaning == _HOST:
                if host is not None:
                    raise RemoteProtocolError(Reason.HOST, "repeated Host")
                if value != self._host:
                    if value:
                        _check_authority(value, Reason.HOST)
                    self._host = value
                host = value
            elif meaning == _CONNECTION:
                options = list_elements(value)
                if b"close" in options:
                    close = True
                elif b"keep-alive" in options:
                    keep_alive = True
            elif meaning == _CONTENT_LENGTH:
                if length is not None or (length := parse_length(value)) is None:
                    raise RemoteProtocolError(Reason.FRAMING, "repeated or invalid Content-Length")
            elif meaning == _TRANSFER_ENCODING:
                codings = [*codings, *list_elements(value)]
            elif meaning == _EXPECT and recent and value.lower() == b"100-continue":
                expect_continue = True
        if codings:
            if length is not None:
                raise RemoteProtocolError(Reason.FRAMING, "both Content-Length and Transfer-Encoding")
            if not recent or codings[-1] != b"chunked" or codings.count(b"chunked") > 1:
                raise RemoteProtocolError(Reason.FRAMING, "chunked not last or repeated, or a coding in HTTP/1.0")
            if _CODING_WITH_TAB.search(data, position, end):
                raise RemoteProtocolError(Reason.FRAMING, "a tab behind Transfer-Encoding")
            if len(codings) > 1:
                raise RemoteProtocolError(Reason.TRANSFER_CODING)
        if host is None and recent:
            raise RemoteProtocolError(Reason.HOST, "no Host")

        head = RequestHead()
        head.method = method
        head.target = target
        head.version = b"1.1" if recent else b"1.0"
        head.headers = headers
        head.scheme = None
        head.authority = host or None
        head.path = target
        head.content_length = length
        head.chunked = bool(codings)
        if target[:1] != b"/" or b"#" in target or method == b"CONNECT":
            _read_target(head)
            if method == b"CONNECT":
                keep_alive = False
        if close:
            keep_alive = False
        head.keep_alive = self._keep_alive = keep_alive
        if codings:
            head.has_body = True
            head.expect_continue = expect_continue
            self._chunks = ChunkedDecoder(self._limits)
            self._state = CHUNKED
        elif length:
            limit = self._limits.body
            if limit is not None and length > limit:
                raise RemoteProtocolError(Reason.BODY_SIZE)
            head.has_body = True
            head.expect_continue = expect_continue
            self._remaining = length
            self._state = LENGTH
        else:
            head.has_body = False
            head.expect_continue = False
            self._state = COMPLETE
        self._on_request(head)
        return end

    def _end_of_input_in_head(self) -> None:
        if self.held[self._start :].strip(b"\r\n"):
            raise RemoteProtocolError(Reason.INCOMPLETE_HEAD)


def _refuse_line(line: bytes) -> NoReturn:
    """Says what is wrong with a request line that is not in proper form."""
    method, _, rest = line.partition(b" ")
    version = rest.partition(b" ")[2]
    if not _VERSION.fullmatch(version):
        raise RemoteProtocolError(Reason.SYNTAX, "malformed request line")
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise RemoteProtocolError(Reason.VERSION)
    if not is_token(method):
        raise RemoteProtocolError(Reason.SYNTAX, "malformed method")
    raise RemoteProtocolError(Reason.TARGET)


def _check_authority(value: bytes, reason: Reason) -> None:
    if not is_authority(value):
        raise RemoteProtocolError(reason, "invalid host or port")


def _read_target(head: RequestHead) -> None:
    """Sets scheme, authority and path from a target that is not plain origin-form."""
    target = head.target
    if b"#" in target:
        raise RemoteProtocolError(Reason.TARGET, "fragment in the request target")
    if head.method == b"CONNECT":
        _check_authority(target, Reason.TARGET)
        head.authority = target
        head.path = b""
        return
    if target == b"*":
        if head.method != b"OPTIONS":
            raise RemoteProtocolError(Reason.TARGET, "asterisk-form is for OPTIONS only")
        return
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise RemoteProtocolError(Reason.TARGET)
    head.scheme, authority, path = match.groups()
    _check_authority(authority, Reason.TARGET)
    head.authority = authority
    head.path = path if path.startswith(b"/") else b"/" + path
