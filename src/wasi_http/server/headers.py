"""Header fields that the server puts in the place of the client's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wasi_http.http.context import DEFAULT_FORBIDDEN_HEADERS
from wasi_http.http.fields import Field
from wasi_http.http1.abnf import is_authority, is_token, is_value
from wasi_http.http1.request import RequestHead

__all__ = ["RequestHeaders", "parse_header"]

# How the message is framed is between client and server. Host is not: it is the authority that guests see.
_FIXED: Final = (DEFAULT_FORBIDDEN_HEADERS | {"content-length"}) - {"host"}


def parse_header(line: bytes) -> Field:
    """The field of a line ``name: value``; raises ValueError, which says what is wrong."""
    name, colon, value = line.partition(b":")
    name, value = name.strip(b" \t"), value.strip(b" \t")
    if not colon:
        raise ValueError("there is no colon")
    if not is_token(name):
        raise ValueError("the name is not valid")
    if not is_value(value):
        raise ValueError("the value is not valid")
    if name.lower().decode("ascii") in _FIXED:
        raise ValueError("this field belongs to the connection and cannot be replaced")
    if name.lower() == b"host" and not is_authority(value):
        raise ValueError("the value is not valid: invalid host or port")
    return name, value


class RequestHeaders:
    """Fields for all requests. They replace all of the same name; several of one name are all kept, in order.

    ``host`` replaces the authority of requests whose target names none; raises ValueError when it comes twice.
    """

    __slots__ = ("_authority", "_fields", "_names")

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        self._fields = list(fields)
        self._names = {name.lower() for name, _ in self._fields}
        hosts = [value for name, value in self._fields if name.lower() == b"host"]
        if len(hosts) > 1:
            raise ValueError("there can be only one Host")
        self._authority = hosts[0] if hosts else None

    def apply(self, head: RequestHead) -> None:
        names = self._names
        head.headers = [field for field in head.headers if field[0].lower() not in names] + self._fields
        if self._authority is not None and head.target[:1] in (b"/", b"*"):
            head.authority = self._authority
