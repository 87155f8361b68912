"""Requests and responses as embedders have them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

from wasi_http.error import ErrorCode, HttpError
from wasi_http.fields import Field
from wasi_http.pipe import Pipe
from wasi_http.wasi.io.signal import until

__all__ = ["Body", "Request", "Response"]


@dataclass(slots=True)
class Request:
    """A request for a guest.

    ``target`` is the path with query, or an absolute URL; ``authority`` is the Host header's if it is None. ``body`` is
    bytes, or an iterable of them, asynchronous or not, which is read as fast as the guest reads; a `Body` keeps its
    trailers.
    """

    method: str = "GET"
    target: str = "/"
    headers: Iterable[Field] = ()
    body: bytes | AsyncIterable[bytes] | Iterable[bytes] = b""
    authority: str | None = None


class Body:
    """The body of a message: iterate over it once, or `read` it whole. ``trailers`` are there afterwards.

    Raises HttpError where the body failed. Whoever sends it is held back while nobody takes the bytes, which come
    through ``pipe``. ``demand`` is called when they are first wanted, ``abandon`` when the rest is not wanted any more.
    """

    __slots__ = ("_abandon", "_demand", "pipe")

    def __init__(
        self, pipe: Pipe, demand: Callable[[], None] | None = None, abandon: Callable[[], object] | None = None
    ) -> None:
        self.pipe = pipe
        self._demand = demand
        self._abandon = abandon

    @classmethod
    def of(cls, source: bytes | AsyncIterable[bytes] | Iterable[bytes] = b"") -> Body:
        """A body made of bytes, or of what an iterable gives, which nobody asks before it is wanted.

        One that is not asynchronous is asked in another thread, as it may block.
        """
        if isinstance(source, bytes):
            return cls(Pipe.of(source))
        pipe = Pipe()
        return cls(pipe, lambda: _start_feeding(pipe, source))

    @property
    def trailers(self) -> list[Field]:
        return self.pipe.trailers or []

    def demand(self) -> None:
        """Says that the bytes are wanted: what makes them may have waited for that."""
        demand, self._demand = self._demand, None
        if demand is not None:
            demand()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        self.demand()
        pipe = self.pipe
        while True:
            if not pipe.is_readable():
                await until(lambda: pipe.is_readable() or pipe.cancelled, pipe.readable, pipe.writable)
            if pipe.cancelled:
                raise pipe.error or HttpError(ErrorCode.ConnectionTerminated, "the body was cancelled")
            data = pipe.take(pipe.limit)
            if data is None:
                return
            yield data

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self])

    def cancel(self) -> None:
        """Nobody wants the rest: whoever sends it is told. Does nothing to a body that has ended."""
        abandon, self._abandon = self._abandon, None
        if abandon is not None and not self.pipe.ended and self.pipe.error is None:
            abandon()
        self.pipe.cancel()


def _start_feeding(pipe: Pipe, source: AsyncIterable[bytes] | Iterable[bytes]) -> None:
    if pipe.cancelled:
        return
    task = asyncio.ensure_future(_feed(pipe, source))

    def watch() -> None:
        if pipe.cancelled:
            task.cancel()

    pipe.writable.add(watch)
    task.add_done_callback(lambda _: pipe.writable.remove(watch))


async def _in_another_thread(source: Iterable[bytes]) -> AsyncIterator[bytes]:
    iterator = iter(source)
    while (chunk := await asyncio.to_thread(next, iterator, None)) is not None:
        yield chunk


async def _feed(pipe: Pipe, source: AsyncIterable[bytes] | Iterable[bytes]) -> None:
    """Moves what an iterable gives into a pipe as it is read there."""
    iterator = aiter(source if isinstance(source, AsyncIterable) else _in_another_thread(source))
    try:
        async for chunk in iterator:
            if chunk:
                if pipe.room() == 0:
                    await until(pipe.room, pipe.writable)
                pipe.write(bytes(chunk))
    except asyncio.CancelledError:
        pipe.fail(HttpError(ErrorCode.ConnectionTerminated, "the source of the body was cancelled"))
        raise
    except Exception as error:
        pipe.fail(HttpError.of(error))
        if not isinstance(error, OSError):
            # Readers learn that there was an error, but it is not theirs to mend.
            context = {"message": "the source of a body failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
    else:
        pipe.end()
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


@dataclass(slots=True)
class Response:
    """A response. ``headers`` are in order, a guest's with names in lower case; see `Body.of` for one of your own."""

    status: int
    headers: list[Field] = field(default_factory=list)
    body: Body = field(default_factory=Body.of)
