"""The access log: a line for each request, in the common log format with two more fields.

    127.0.0.1 - - [28/Nov/2026:17:52:48 +0000] "GET /path HTTP/1.1" 200 1234 0.003 17

Client, time of the request, request line, status, bytes of the response with its head, seconds until the response was
written, number of the request. ``-`` stands for the status of a response that never began, and for seconds and number
of a request whose head was refused; then what arrived of the request line is told, of which nothing need be true.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from wasi_http.engine.errors import visible
from wasi_http.http.message import Request
from wasi_http.server.log import cut
from wasi_http.server.spool import Spool

__all__ = ["AccessLog", "Served"]

# Of the method and of the target in a line, in characters, or of the whole request line when that was refused.
_MAX_TARGET: Final = 2048

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Served(Protocol):
    """What the log tells of an exchange; ``status`` is 0 when no response began."""

    request: Request
    version: bytes
    status: int

    @property
    def number(self) -> int: ...


class AccessLog:
    """``name`` makes the number of a request what it is in the log. Nothing is kept of requests that are over."""

    def __init__(self, spool: Spool, name: Callable[[int], str]) -> None:
        self._spool = spool
        self._name = name
        self._begun: dict[Served, tuple[float, float, str, int]] = {}

    def begin(self, exchange: Served, transport: asyncio.BaseTransport | None, written: int) -> None:
        """A request has arrived on a connection to which so many bytes are written."""
        self._begun[exchange] = time.time(), time.monotonic(), _host(transport), written

    def end(self, exchange: Served, written: int, status: int = 0) -> None:
        """Nothing more is written for the request; ``status`` is what it was refused with once it was admitted."""
        begun = self._begun.pop(exchange, None)
        if begun is None:
            return
        when, since, client, before = begun
        method, target = (cut(part, _MAX_TARGET) for part in (exchange.request.method, exchange.request.path))
        request = f"{method} {target} HTTP/{exchange.version.decode('ascii', 'replace')}"
        number = self._name(exchange.number) if exchange.number >= 0 else "-"
        took = f"{time.monotonic() - since:.3f}"
        self._write(client, when, request, status or exchange.status, written - before, took, number)

    def refuse(self, line: bytes, transport: asyncio.BaseTransport | None, status: int, size: int) -> None:
        """A request was refused in its head, of whose first line this has arrived, with a response of that size."""
        request = cut(line.decode("utf-8", "replace").rstrip("\r"), _MAX_TARGET)
        self._write(_host(transport), time.time(), request or "-", status, size, "-", "-")

    def _write(self, client: str, when: float, request: str, status: int, size: int, took: str, number: str) -> None:
        # Escaped first, so that no client can write what stands for something else, or ends the quotes.
        request = visible(request.replace("\\", "\\\\").replace('"', '\\"'))
        line = f'{client} - - [{_stamp(when)}] "{request}" {status or "-"} {size} {took} {number}\n'
        self._spool.write(line.encode("utf-8", "backslashreplace"))


def _host(transport: asyncio.BaseTransport | None) -> str:
    client = transport.get_extra_info("peername") if transport is not None else None
    return str(client[0]) if isinstance(client, tuple) and client else "-"


def _stamp(seconds: float) -> str:
    # Not by strftime: the names of months must not depend on the locale.
    at = time.gmtime(seconds)
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{clock} +0000"
