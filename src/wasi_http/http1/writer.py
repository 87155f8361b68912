"""Writes messages: the bytes of heads and bodies, in both directions.

Responsibilities: the caller supplies validated field names and values; framing and hop-by-hop fields are written only
here. So `transfer-encoding`, `connection` and, in requests, `host` among the caller's fields are errors. A single
`content-length` is taken as the declared length and enforced; where the message must not have one (1xx, 204) it is
omitted. The caller's `date` takes precedence.

Framing of responses (RFC 9112 §6), first matching row:

    HEAD, 204, 304                       no body: the caller's is discarded             NONE
    2xx to CONNECT                       until close, no framing fields                 CLOSE
    content-length, or length given      that length                                    LENGTH
    HTTP/1.1                             chunked                                        CHUNKED
    HTTP/1.0                             until close                                    CLOSE

A request is LENGTH or CHUNKED; without a body it is LENGTH 0, which only POST, PUT and PATCH state in a field.

Last line of defence: every head and trailer section is scanned for CR, LF and NUL beyond those written here, in one
pass of less than 0.2 µs.
"""

from __future__ import annotations

import enum
import http
import re
from collections.abc import Sequence

from wasi_http.http1.abnf import FORBIDDEN_TRAILERS, is_target, is_token, parse_length
from wasi_http.http1.errors import BodyLengthError, LocalProtocolError
from wasi_http.http1.fieldsection import Field

__all__ = [
    "Framing",
    "RequestWriter",
    "ResponseWriter",
    "render_informational",
    "render_request",
    "render_response",
]


class Framing(enum.Enum):
    """How the end of a body is delimited."""

    NONE = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


_NONE, _LENGTH, _CHUNKED, _CLOSE = Framing


# Phrases of RFC 9110 that differ in older versions of the standard library.
_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def _phrase(status: int) -> str:
    try:
        return _PHRASES.get(status) or http.HTTPStatus(status).phrase
    except ValueError:
        return ""


# The space after the status is required even when no phrase follows (RFC 9112 §4).
_STATUS_LINES = {status: f"HTTP/1.1 {status} {_phrase(status)}\r\n".encode("ascii") for status in range(100, 1000)}

_CONTENT_LENGTH, _DATE, _CONNECTION, _HOST = range(4)
_MEANING = {
    b"content-length": _CONTENT_LENGTH,
    b"date": _DATE,
    b"transfer-encoding": _CONNECTION,
    b"connection": _CONNECTION,
    b"host": _HOST,
}
_VISIBLE = re.compile(rb"[!-~]+")

# Methods whose requests have `content-length: 0` without a body (RFC 9110 §8.6).
_METHODS_WITH_CONTENT = frozenset((b"POST", b"PUT", b"PATCH"))


def _declared_length(value: bytes) -> int:
    length = parse_length(value)
    if length is None:
        raise LocalProtocolError("invalid content-length")
    return length


def _check(section: bytes, lines: int) -> bytes:
    """Raises LocalProtocolError if a name or value in a section of `lines` lines contains CR, LF or NUL."""
    if len(section.translate(None, b"\r\n\0")) != len(section) - 2 * lines:
        raise LocalProtocolError("CR, LF or NUL in a field")
    return section


def _render_trailers(trailers: Sequence[Field]) -> bytes:
    parts = [b"0\r\n"]
    for name, value in trailers:
        if name.lower() in FORBIDDEN_TRAILERS:
            raise LocalProtocolError("a trailer that frames or routes the message")
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return _check(b"".join(parts), len(trailers) + 2)


def _render_response_head(
    status: int,
    headers: Sequence[Field],
    date: bytes | None,
    length: int | None,
    method: bytes,
    recent: bool,
    keep_alive: bool,
) -> tuple[bytes, Framing, int | None]:
    """Returns the head, the framing of the body, and the declared length. `length`: if known and no field has it."""
    if status < 200 or status > 999:
        raise LocalProtocolError(f"{status} is not the status of a final response")
    parts = [_STATUS_LINES[status]]
    lines = 2 + len(headers)
    declared: int | None = None
    for name, value in headers:
        meaning = _MEANING.get(name.lower())
        if meaning is not None:
            if meaning == _CONTENT_LENGTH:
                if declared is not None:
                    raise LocalProtocolError("repeated content-length")
                declared = _declared_length(value)
                lines -= 1
                continue
            if meaning == _CONNECTION:
                raise LocalProtocolError(f"{name.decode('latin-1')} is not the caller's to set")
            if meaning == _DATE:
                date = None
        parts += (name, b": ", value, b"\r\n")
    if date is not None:
        lines += 1
        parts += (b"date: ", date, b"\r\n")
    if declared is None:
        declared = length
    framing = _LENGTH
    tunnel = False
    if method == b"HEAD" or status == 204 or status == 304:
        framing = _NONE
        if status == 204:
            declared = None
    elif method == b"CONNECT" and status < 300:
        framing = _CLOSE
        declared = None
        tunnel = True
    if declared is not None:
        lines += 1
        parts.append(b"content-length: %d\r\n" % declared)
    elif framing is _LENGTH:
        if recent:
            framing = _CHUNKED
            lines += 1
            parts.append(b"transfer-encoding: chunked\r\n")
        else:
            framing = _CLOSE
    if not keep_alive or framing is _CLOSE:
        if not tunnel:
            lines += 1
            parts.append(b"connection: close\r\n")
    elif not recent:
        lines += 1
        parts.append(b"connection: keep-alive\r\n")
    parts.append(b"\r\n")
    return _check(b"".join(parts), lines), framing, declared


def render_response(
    status: int,
    headers: Sequence[Field],
    body: bytes,
    date: bytes | None = None,
    method: bytes = b"GET",
    version: bytes = b"1.1",
    keep_alive: bool = True,
) -> bytes:
    """Returns a whole response with a content-length: the fast path, without state.

    `method`, `version` and `keep_alive` are the request's; after a 2xx to CONNECT the connection must be closed.
    Raises `BodyLengthError` if `headers` declare another length; for HEAD, 204 and 304 the body is omitted.
    """
    length: int | None = len(body)
    if not length and (method == b"HEAD" or status == 304):
        length = None  # the length of the body for GET is unknown
    head, framing, declared = _render_response_head(
        status, headers, date, length, method, version != b"1.0", keep_alive
    )
    if framing is _NONE:
        return head
    if declared is not None and declared != length:
        raise BodyLengthError(declared, len(body))
    return head + body


def render_informational(status: int, headers: Sequence[Field] = ()) -> bytes:
    """Returns a 1xx response other than 101. Must not be sent to HTTP/1.0 clients (RFC 9110 §15.2)."""
    if not 100 <= status < 200 or status == 101:
        raise LocalProtocolError(f"{status} is not the status of an informational response")
    parts = [_STATUS_LINES[status]]
    for name, value in headers:
        if _MEANING.get(name.lower()) in (_CONTENT_LENGTH, _CONNECTION):
            raise LocalProtocolError("a field that frames a message in an informational response")
        parts += (name, b": ", value, b"\r\n")
    parts.append(b"\r\n")
    return _check(b"".join(parts), len(headers) + 2)


class _BodyWriter:
    """Encodes a body with the framing of the head, and enforces the declared length."""

    __slots__ = ("_declared", "_ended", "_framing", "_sent", "keep_alive")

    keep_alive: bool
    """Whether the connection may carry another exchange after this message. False after an error."""

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self._framing: Framing | None = None
        self._declared: int | None = None
        self._sent = 0
        self._ended = False

    @property
    def framing(self) -> Framing | None:
        """The framing; None before the head was written."""
        return self._framing

    @property
    def sent(self) -> int:
        """Bytes of body accepted so far, without framing."""
        return self._sent

    @property
    def full(self) -> bool:
        """Whether the body has its declared length: only `end` may follow."""
        return self._framing is _LENGTH and self._sent == self._declared

    def body(self, data: bytes) -> bytes:
        """Returns what to send for a piece of the body: nothing for an empty one, or where there must be no body.

        Raises `BodyLengthError` if it exceeds the declared length.
        """
        framing = self._framing
        if framing is None or self._ended:
            raise LocalProtocolError("body before the head or after the end")
        size = len(data)
        if not size or framing is _NONE:
            return b""
        total = self._sent + size
        if framing is _LENGTH:
            declared = self._declared
            assert declared is not None
            if total > declared:
                self.keep_alive = False
                raise BodyLengthError(declared, total)
        self._sent = total
        if framing is _CHUNKED:
            return b"%x\r\n%b\r\n" % (size, data)
        return data

    def end(self, trailers: Sequence[Field] = ()) -> bytes:
        """Returns what to send at the end of the body. Drops trailers unless the body is chunked.

        Raises `BodyLengthError` if the body is shorter than declared.
        """
        framing = self._framing
        if framing is None or self._ended:
            raise LocalProtocolError("end before the head, or twice")
        if framing is _CHUNKED:
            data = _render_trailers(trailers)
            self._ended = True
            return data
        self._ended = True
        if framing is _LENGTH and self._sent != self._declared:
            self.keep_alive = False
            assert self._declared is not None
            raise BodyLengthError(self._declared, self._sent)
        return b""


class ResponseWriter(_BodyWriter):
    """One response: any number of `informational`, one `head`, `body` as often as needed, one `end`.

    `method`, `version` and `keep_alive` are the request's.
    """

    __slots__ = ("_method", "_recent")

    def __init__(self, method: bytes = b"GET", version: bytes = b"1.1", keep_alive: bool = True) -> None:
        super().__init__(keep_alive)
        self._method = method
        self._recent = version != b"1.0"

    def informational(self, status: int, headers: Sequence[Field] = ()) -> bytes:
        """Returns a 1xx response; nothing for HTTP/1.0 clients, which do not support it."""
        if self._framing is not None:
            raise LocalProtocolError("informational response after the final one")
        data = render_informational(status, headers)
        return data if self._recent else b""

    def head(
        self, status: int, headers: Sequence[Field], date: bytes | None = None, length: int | None = None
    ) -> bytes:
        """Returns the head of the final response. `length`: of the body in bytes, if known and no field declares it."""
        if self._framing is not None:
            raise LocalProtocolError("a second head")
        head, framing, self._declared = _render_response_head(
            status, headers, date, length, self._method, self._recent, self.keep_alive
        )
        self._framing = framing
        if framing is _CLOSE:
            self.keep_alive = False
        return head


class RequestWriter(_BodyWriter):
    """One HTTP/1.1 request: one `head`, `body` as often as needed, one `end`."""

    __slots__ = ("_method",)

    def __init__(self, method: bytes, keep_alive: bool = True) -> None:
        super().__init__(keep_alive)
        self._method = method

    def head(
        self,
        target: bytes,
        host: bytes,
        headers: Sequence[Field],
        has_body: bool = False,
        length: int | None = None,
    ) -> bytes:
        """Returns the head. `has_body`: a body follows; `length`: its length in bytes, if no field declares it.

        A length declared by field or by `length` holds even if `has_body` is false.
        """
        if self._framing is not None:
            raise LocalProtocolError("a second head")
        method = self._method
        if not (is_token(method) and is_target(target) and (not host or _VISIBLE.fullmatch(host))):
            raise LocalProtocolError("invalid method, target or host")
        parts = [method, b" ", target, b" HTTP/1.1\r\nhost: ", host, b"\r\n"]
        lines = 3 + len(headers)
        declared: int | None = None
        for name, value in headers:
            meaning = _MEANING.get(name.lower())
            if meaning == _CONTENT_LENGTH:
                if declared is not None:
                    raise LocalProtocolError("repeated content-length")
                declared = _declared_length(value)
                lines -= 1
                continue
            if meaning in (_CONNECTION, _HOST):
                raise LocalProtocolError(f"{name.decode('latin-1')} is not the caller's to set")
            parts += (name, b": ", value, b"\r\n")
        if declared is None:
            declared = length
        if declared is None and not has_body and method in _METHODS_WITH_CONTENT:
            declared = 0
        framing = _LENGTH
        if declared is not None:
            lines += 1
            parts.append(b"content-length: %d\r\n" % declared)
        elif has_body:
            framing = _CHUNKED
            lines += 1
            parts.append(b"transfer-encoding: chunked\r\n")
        else:
            declared = 0
        if not self.keep_alive:
            lines += 1
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        head = _check(b"".join(parts), lines)
        self._framing = framing
        self._declared = declared
        return head


def render_request(
    method: bytes,
    target: bytes,
    host: bytes,
    headers: Sequence[Field],
    body: bytes = b"",
    keep_alive: bool = True,
) -> bytes:
    """Returns a whole request; raises `BodyLengthError` if `headers` declare another length."""
    writer = RequestWriter(method, keep_alive)
    head = writer.head(target, host, headers, length=len(body) or None)
    data = head + writer.body(body)
    writer.end()
    return data
