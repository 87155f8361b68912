"""Limits on what a peer can make this side buffer."""

from __future__ import annotations

import dataclasses

from wasi_http.settings import check

__all__ = ["Limits"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of one message, in bytes unless noted; exceeding one raises `RemoteProtocolError`.

    None depends on how the message was split into packets.
    """

    start_line: int = 32 * 1024
    """Request line or status line, without its CRLF (414)."""
    head: int = 64 * 1024
    """Start line, header section and the empty line together (431; 414 while still within the start line)."""
    headers: int = 256
    """Number of header fields (431)."""
    trailer_section: int = 16 * 1024
    """Trailer section with its empty line (431)."""
    trailers: int = 64
    """Number of trailer fields (431)."""
    chunk_extensions: int = 16 * 1024
    """Chunk extensions, which are checked and ignored, of a whole body together (400)."""
    body: int | None = None
    """Body as delivered, without framing (413); None for no limit."""
    informational: int = 32
    """Number of 1xx responses before the final one."""

    def __post_init__(self) -> None:
        check(self)
