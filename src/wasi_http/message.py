"""Requests and responses as embedders have them."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import dataclass, field

from wasi_http.fields import Field
from wasi_http.pipe import Pipe
from wasi_http.wasi.io.signal import until

__all__ = ["Body", "Request", "Response"]


@dataclass(slots=True)
class Request:
    """A request for a guest.

    ``target`` is the path with query, or an absolute URL; ``authority`` is the Host header's if it is None. ``body`` is
    bytes, or an asynchronous iterable of them, which is read as fast as the guest reads.
    """

    method: str = "GET"
    target: str = "/"
    headers: Iterable[Field] = ()
    body: bytes | AsyncIterable[bytes] = b""
    authority: str | None = None


class Body:
    """The body of a response: iterate over it once, or `read` it whole. ``trailers`` are there afterwards.

    Raises HttpError where the guest's body failed. The guest is held back while nobody takes the bytes.
    """

    __slots__ = ("_pipe",)

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    @property
    def trailers(self) -> list[Field]:
        return self._pipe.trailers or []

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pipe = self._pipe
        while True:
            await until(pipe.is_readable, pipe.readable)
            data = pipe.take(pipe.limit)
            if data is None:
                return
            yield data

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self])

    def cancel(self) -> None:
        """Tells the guest that nobody wants the rest."""
        self._pipe.cancel()


@dataclass(slots=True)
class Response:
    """A guest's response. ``headers`` are in order, names in lower case."""

    status: int
    headers: list[Field] = field(default_factory=list)
    body: Body = field(default_factory=lambda: Body(Pipe.of()))
