"""Shared grammar of HTTP/1.1: tokens, values, lengths, targets, authorities, trailers.

Each ``is_…`` matches the whole of its argument.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

__all__ = [
    "FORBIDDEN_TRAILERS",
    "FRAMING_TRAILERS",
    "TOKEN",
    "is_authority",
    "is_scheme",
    "is_target",
    "is_token",
    "is_token_text",
    "is_value",
    "parse_length",
]

#: The pattern of a token (RFC 9110 §5.6.2): methods, field names, parts of chunk extensions.
TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

_TARGET: Final = re.compile(rb"[!-~\x80-\xff]+").fullmatch
_SCHEME: Final = rb"[A-Za-z][A-Za-z0-9+.\-]*"
_AUTHORITY: Final = re.compile(
    rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[0-9A-Za-z\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+)(?::([0-9]{0,5}))?"
).fullmatch

is_token: Final = re.compile(TOKEN).fullmatch
is_token_text: Final = re.compile(TOKEN.decode("ascii")).fullmatch

#: A field value, with or without surrounding whitespace (RFC 9110 §5.5): no control characters but tab.
is_value: Final = re.compile(rb"[\t \x21-\x7e\x80-\xff]*").fullmatch

#: Of a URL (RFC 3986 §3.1).
is_scheme: Final = re.compile(_SCHEME.decode("ascii")).fullmatch

#: Fields for framing and routing, which must not be trailers (RFC 9110 §6.5.1).
FRAMING_TRAILERS: Final = frozenset((b"content-length", b"transfer-encoding", b"host"))

#: Fields that are never sent as trailers: these and the hop-by-hop ``connection``, which is ignored when received.
FORBIDDEN_TRAILERS: Final = FRAMING_TRAILERS | {b"connection"}


def parse_length(value: bytes) -> int | None:
    """Returns the value of a Content-Length (RFC 9110 §8.6), digits below 2^64; None for anything else."""
    if len(value) > 20 or not value.isdigit() or (length := int(value)) >= 1 << 64:
        return None
    return length


def is_target(value: bytes) -> bool:
    """Returns whether the value may be the target in a request line; it may have UTF-8 beyond ASCII."""
    if _TARGET(value) is None:
        return False
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError:
            return False
    return True


def is_authority(value: bytes) -> bool:
    """Returns whether the value is host[:port] with a non-empty host (RFC 3986 §3.2) and no user information."""
    found = _AUTHORITY(value)
    if found is None or (found[2] and int(found[2]) > 65535):
        return False
    if found[1] is not None:
        try:
            ipaddress.IPv6Address(found[1].decode("ascii"))
        except ValueError:
            return False
    return True
