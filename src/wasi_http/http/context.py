"""What wasi:http needs to know of an embedder's state, and its limits."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, Protocol

from wasi_http.component import ResourceTable
from wasi_http.http.values import Scheme
from wasi_http.wasi.context import WasiCtx

__all__ = ["DEFAULT_FIELD_SIZE_LIMIT", "DEFAULT_FORBIDDEN_HEADERS", "HttpState", "WasiHttpCtx"]

#: The names that belong to the host: connection management and routing.
DEFAULT_FORBIDDEN_HEADERS: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "host",
        "http2-settings",
    }
)

#: How large, in bytes, a guest may make a collection of fields (see `fields.ENTRY_OVERHEAD`).
DEFAULT_FIELD_SIZE_LIMIT: Final = 128 * 1024


class WasiHttpCtx:
    """The limits of wasi:http for one store. Guests never change it, so several stores may share one."""

    __slots__ = ("field_size_limit",)

    def __init__(self, *, field_size_limit: int = DEFAULT_FIELD_SIZE_LIMIT) -> None:
        if not isinstance(field_size_limit, int) or isinstance(field_size_limit, bool):
            raise TypeError(f"field_size_limit must be an int, the number of bytes, not {field_size_limit!r:.100}")
        if field_size_limit < 0:
            raise ValueError(f"field_size_limit must not be negative: {field_size_limit}")
        self.field_size_limit = field_size_limit


class HttpState(Protocol):
    """What a store's ``data`` has to offer; `view.WasiHttpView` is the base class that does."""

    table: ResourceTable
    ctx: WasiCtx
    http: WasiHttpCtx

    def is_forbidden_header(self, name: str) -> bool: ...

    def is_supported_scheme(self, scheme: Scheme) -> bool: ...

    def default_scheme(self) -> Scheme | None: ...

    def set_host_header(self) -> bool: ...

    def outgoing_body_buffer_chunks(self) -> int: ...

    def outgoing_body_chunk_size(self) -> int: ...

    def send_request(self, request: Any, config: Any) -> Awaitable[Any]: ...
