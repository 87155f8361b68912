"""Sections of fields: headers and trailers (RFC 9110 §5, RFC 9112 §5).

Strict: what the specification allows for the sake of old senders is what parsers disagree about. Compiled, because
every byte of every head comes by.
"""

from __future__ import annotations

import re

import cython

from wasi_http.http1.abnf import FRAMING_TRAILERS, TOKEN
from wasi_http.http1.errors import Reason, RemoteProtocolError

__all__ = ["Field", "check_partial", "parse_fields", "parse_trailers"]

Field = tuple[bytes, bytes]

# What no head, trailer section or chunk-size line can contain: control characters, LF without CR, CR without LF. A CR
# that ends the input is undecided.
_NEVER = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
_NEVER_WITH_LF = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])")

_IN_NAME = cython.declare(cython.bint[256])
_IN_VALUE = cython.declare(cython.bint[256])
for _code in range(256):
    _IN_NAME[_code] = re.fullmatch(TOKEN, bytes((_code,))) is not None
    _IN_VALUE[_code] = _code == 9 or (_code >= 32 and _code != 127)


def check_partial(data: bytes | bytearray, start: int, scanned: int = 0, lf: bool = False) -> None:
    """Refuses an unfinished section as soon as nothing that follows could make it valid.

    The section starts at `start`: what precedes it is not its business. Its first `scanned` bytes are known to be
    good. `lf`: LF alone ends a line as well. Without this a client that ends its lines with a bare LF, or speaks TLS
    to a plain port, would wait for a timeout.
    """
    never = _NEVER_WITH_LF if lf else _NEVER
    # What the pattern looks back at may not belong to the section.
    if never.search(data, start + scanned) or (not lf and data.startswith(b"\n", start)):
        raise RemoteProtocolError(Reason.SYNTAX, "control character or bare CR or LF")


def parse_fields(data: bytes, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> list[Field]:
    """The fields of the section from `start` to `end`, which is behind its empty line.

    Names are as they were sent, values without the whitespace around them.
    """
    # The NUL that ends every bytes object is no part of names or values, so nothing here reads beyond it.
    text: cython.p_uchar = data
    at: cython.Py_ssize_t = start
    first: cython.Py_ssize_t
    colon: cython.Py_ssize_t
    last: cython.Py_ssize_t
    fields: list[Field] = []
    while text[at] != 13:
        first = at
        while _IN_NAME[text[at]]:
            at += 1
        if at == first or text[at] != 58:
            if at == first and (text[at] == 32 or text[at] == 9):
                raise RemoteProtocolError(Reason.SYNTAX, "a field line that begins with whitespace")
            raise RemoteProtocolError(Reason.SYNTAX, "a field line without a valid name and a colon right behind it")
        colon = at
        at += 1
        while text[at] == 32 or text[at] == 9:
            at += 1
        last = at
        while _IN_VALUE[text[last]]:
            last += 1
        if text[last] != 13 or text[last + 1] != 10:
            raise RemoteProtocolError(Reason.SYNTAX, "control character or bare CR or LF in a field value")
        name = text[first:colon]
        first = at
        at = last + 2
        while last > first and (text[last - 1] == 32 or text[last - 1] == 9):
            last -= 1
        fields.append((name, text[first:last]))
    if at + 2 != end or text[at + 1] != 10:
        raise RemoteProtocolError(Reason.SYNTAX, "bare CR, or an empty line within a section")
    return fields


def parse_trailers(section: bytes) -> list[Field]:
    """The fields of a trailer section, given with its final empty line."""
    try:
        fields = parse_fields(section, 0, len(section))
    except RemoteProtocolError as error:
        raise RemoteProtocolError(error.reason, f"trailers: {error}") from None
    for name, _ in fields:
        if name.lower() in FRAMING_TRAILERS:
            raise RemoteProtocolError(Reason.FRAMING, f"{name.decode('ascii')} is not allowed as a trailer")
    return fields
