"""The access log: a line for each request, in the common log format with two more fields.

    127.0.0.1 - - [28/Nov/2026:17:52:48 +0000] "GET /path HTTP/1.1" 200 1234 0.003 17

Client, time of the request, request line, status, bytes of the response with its head, seconds until the response was
written, number of the request. ``-`` stands for the status of a response that never began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from wasi_http.engine.errors import visible
from wasi_http.http1.request import RequestHead
from wasi_http.server.log import cut
from wasi_http.server.spool import Spool

__all__ = ["AccessLog", "Served"]

# Of the method and of the target in a line, in characters.
_MAX_TARGET: Final = 2048

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Served(Protocol):
    """What the log tells of an exchange; ``status`` is 0 when no response began."""

    number: int
    head: RequestHead

    @property
    def status(self) -> int: ...


class AccessLog:
    """``name`` makes the number of a request what it is in the log. Nothing is kept of requests that are over."""

    def __init__(self, spool: Spool, name: Callable[[int], str]) -> None:
        self._spool = spool
        self._name = name
        self._begun: dict[Served, tuple[float, float, str, int]] = {}

    def begin(self, exchange: Served, transport: asyncio.BaseTransport | None, written: int) -> None:
        """A request has arrived on a connection to which so many bytes are written."""
        client = transport.get_extra_info("peername") if transport is not None else None
        host = str(client[0]) if isinstance(client, tuple) and client else "-"
        self._begun[exchange] = time.time(), time.monotonic(), host, written

    def end(self, exchange: Served, written: int) -> None:
        """Nothing more is written for the request."""
        begun = self._begun.pop(exchange, None)
        if begun is None:
            return
        when, since, client, before = begun
        head = exchange.head
        method, target = (cut(part.decode("utf-8", "replace"), _MAX_TARGET) for part in (head.method, head.path))
        request = f"{method} {target} HTTP/{head.version.decode('ascii', 'replace')}"
        # First, so that no client can write what stands for something else, or ends the quotes.
        request = visible(request.replace("\\", "\\\\").replace('"', '\\"'))
        number = self._name(exchange.number) if exchange.number >= 0 else "-"
        line = (
            f'{client} - - [{_stamp(when)}] "{request}" {exchange.status or "-"} {written - before} '
            f"{time.monotonic() - since:.3f} {number}\n"
        )
        self._spool.write(line.encode("utf-8", "backslashreplace"))


def _stamp(seconds: float) -> str:
    # Not by strftime: the names of months must not depend on the locale.
    at = time.gmtime(seconds)
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{at.tm_mday:02}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{clock} +0000"
