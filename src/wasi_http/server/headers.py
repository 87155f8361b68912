"""Header fields that the server puts in the place of the client's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from wasi_http.http.context import DEFAULT_FORBIDDEN_HEADERS
from wasi_http.http.fields import Field
from wasi_http.http1.errors import Reason, RemoteProtocolError
from wasi_http.http1.request import RequestHead, check_authority

__all__ = ["RequestHeaders", "parse_header"]

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VALUE: Final = re.compile(rb"[\t \x21-\x7e\x80-\xff]*").fullmatch

# How the message is framed is between client and server. Host is not: it is the authority that guests see.
_FIXED: Final = (DEFAULT_FORBIDDEN_HEADERS | {"content-length"}) - {"host"}


def parse_header(line: bytes) -> Field:
    """The field of a line ``name: value``; raises ValueError, which says what is wrong."""
    name, colon, value = line.partition(b":")
    name, value = name.strip(b" \t"), value.strip(b" \t")
    if not colon:
        raise ValueError("there is no colon")
    if _TOKEN(name) is None:
        raise ValueError("the name is not valid")
    if _VALUE(value) is None:
        raise ValueError("the value is not valid")
    if name.lower().decode("ascii") in _FIXED:
        raise ValueError("this field belongs to the connection and cannot be replaced")
    if name.lower() == b"host":
        try:
            check_authority(value, Reason.HOST)
        except RemoteProtocolError as error:
            raise ValueError(f"the value is not valid: {error}") from None
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
