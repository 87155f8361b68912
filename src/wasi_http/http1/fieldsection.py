"""Sections of fields: headers and trailers as llhttp reads them.

llhttp (strict, no leniency) is the only judge of field syntax in this package. It is always given a whole section,
never a part of one: where a section ends is found first, so that nothing that follows reaches it.
"""

from __future__ import annotations

import re

import httptools

from wasi_http.http1.abnf import FRAMING_TRAILERS
from wasi_http.http1.errors import Reason, RemoteProtocolError

__all__ = ["Field", "FieldCollector", "check_partial", "parse_trailers", "strip_values"]

Field = tuple[bytes, bytes]

# What no head, trailer section or chunk-size line can contain: control characters, LF without CR, CR without LF. A CR
# that ends the input is undecided.
_NEVER = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
_NEVER_WITH_LF = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])")

_TRAILER_PREFIX = b"GET / HTTP/1.1\r\n"


class FieldCollector:
    """Receives the fields of one section from llhttp, in order, names as they were sent."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[Field] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


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


def strip_values(fields: list[Field]) -> list[Field]:
    """Removes whitespace after values, which is no part of them (RFC 9112 §5); llhttp removes only what precedes."""
    return [(name, value.rstrip(b" \t")) for name, value in fields]


def parse_trailers(section: bytes) -> list[Field]:
    """The fields of a trailer section, given with its final empty line."""
    collector = FieldCollector()
    try:
        httptools.HttpRequestParser(collector).feed_data(_TRAILER_PREFIX + section)
    except httptools.HttpParserUpgrade:
        pass  # `Connection: upgrade` means nothing here
    except httptools.HttpParserError as error:
        raise RemoteProtocolError(Reason.SYNTAX, f"trailers: {error}") from error
    for name, _ in collector.fields:
        if name.lower() in FRAMING_TRAILERS:
            raise RemoteProtocolError(Reason.FRAMING, f"{name.decode('ascii')} is not allowed as a trailer")
    return strip_values(collector.fields)
