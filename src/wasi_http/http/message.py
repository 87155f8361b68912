"""Requests and responses as embedders have them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from wasi_http.flow.pipe import Pipe
from wasi_http.flow.signal import until
from wasi_http.http.errors import HttpError
from wasi_http.http.fields import Field
from wasi_http.http.values import ErrorCode
from wasi_http.http1.abnf import is_token, is_token_text

__all__ = ["Body", "Request", "Response", "is_bodiless"]


#: What a body is made of: bytes, or an iterable of them, asynchronous or not.
Source: TypeAlias = bytes | bytearray | memoryview | AsyncIterable[bytes] | Iterable[bytes]

_TARGET: Final = re.compile(r"[^\x00-\x20\x7f]*").fullmatch
_ABSOLUTE: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]+)([^#]*)").match
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

# How much of a file is read at once, in bytes.
_PIECE: Final = 65536

# How much of what is wrong an error shows, in characters.
_SHOWN: Final = 100


def _shown(thing: object) -> str:
    text = repr(thing)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _checked_headers(headers: Iterable[Field]) -> list[Field]:
    """The fields of a message, which must be such as can be sent: a line break in one would be a field of its own."""
    if isinstance(headers, (str, bytes, Mapping)):
        raise TypeError(f'headers are pairs of bytes, as in [(b"accept", b"text/html")], not {type(headers).__name__}')
    fields = list(headers)
    for field in fields:
        try:
            name, value = field
            good = isinstance(name, bytes) and isinstance(value, bytes)
        except (TypeError, ValueError):
            good = False
        if not good:
            raise TypeError(f'a header is a pair of bytes, as in (b"accept", b"text/html"), not {_shown(field)}')
        if not is_token(name):
            raise ValueError(f"the name of a header is not valid: {_shown(name)}")
        if (bad := _CONTROL(value)) is not None:
            # The rest may be a secret.
            raise ValueError(f"the value of the header {_shown(name)} has the control character {bad[0]!r}")
    return fields


def _check_source(body: object) -> None:
    if isinstance(body, str):
        raise TypeError("a body is bytes, not str: encode the text, as in text.encode()")
    if not isinstance(body, (Body, bytes, bytearray, memoryview, AsyncIterable, Iterable)) or isinstance(body, Mapping):
        raise TypeError(f"a body is bytes, an iterable of bytes or a Body, not {type(body).__name__}")


def is_bodiless(method: str, status: int) -> bool:
    """Whether a response has no body, whatever it says of one (RFC 9110 §6.4.1)."""
    return method == "HEAD" or status in (204, 304) or (method == "CONNECT" and 200 <= status < 300)


class Request:
    """A request: to a guest, or from one.

    ``url`` is absolute, or a path with query; then ``authority`` or a Host header says whom it asks. It is kept as
    ``scheme``, ``authority`` (``host[:port]``; None where a client of HTTP/1.0 did not say) and ``path`` (with query;
    ``*`` for OPTIONS, empty for CONNECT). ``body`` is None if there is none. It is given as bytes, as an
    iterable of them, asynchronous or not, which is read as fast as the receiver reads, or as a `Body`.

    Raises TypeError for what is of another type, and ValueError for what no request can have: a method that is not a
    token, whitespace or control characters in the URL, an invalid field, or no authority at all.
    """

    __slots__ = ("authority", "body", "headers", "method", "path", "scheme")

    def __init__(
        self,
        method: str = "GET",
        url: str = "/",
        headers: Iterable[Field] = (),
        body: Body | Source | None = None,
        authority: str | None = None,
        *,
        scheme: str | None = None,
    ) -> None:
        for name, text in (("method", method), ("URL", url), ("authority", authority), ("scheme", scheme)):
            if not isinstance(text, str) and (text is not None or name in ("method", "URL")):
                raise TypeError(f"the {name} of a request is a str, not {_shown(text)}")
        if not is_token_text(method):
            raise ValueError(f"the method of a request is a token, not {_shown(method)}")
        if _TARGET(url) is None:
            raise ValueError(
                f"the URL of a request has no whitespace and no control characters: {_shown(url)}; "
                "urllib.parse.quote encodes them"
            )
        if authority and _TARGET(authority) is None:
            raise ValueError(f"the authority of a request is host[:port], not {_shown(authority)}")
        self.method = method
        self.headers = _checked_headers(headers)
        self.body = None if body is None else _body(body)
        absolute = _ABSOLUTE(url)
        if absolute is not None:
            scheme, authority, url = scheme or absolute[1].lower(), authority or absolute[2], absolute[3]
            if not url.startswith("/"):
                url = "/" + url
        elif method == "CONNECT":
            authority, url = authority or url, ""
        if not authority:
            authority = next((value for name, value in self.headers if name.lower() == b"host"), b"").decode("latin-1")
        if not authority:
            raise ValueError(
                f"the request to {_shown(url)} has no authority: write "
                'Request("GET", "http://example.com/"), or Request("GET", "/", authority="example.com"), or give it a '
                'header (b"host", b"example.com")'
            )
        self.scheme = scheme or "http"
        self.authority: str | None = authority
        self.path = url

    @classmethod
    def of(
        cls, method: str, scheme: str, authority: str | None, path: str, headers: list[Field], body: Body | None
    ) -> Request:
        """A request of parts that are known to be good."""
        request = cls.__new__(cls)
        request.method = method
        request.scheme = scheme
        request.authority = authority
        request.path = path
        request.headers = headers
        request.body = body
        return request

    async def read(self) -> bytes:
        """The whole body."""
        return b"" if self.body is None else await self.body.read()

    def __repr__(self) -> str:
        return f"<Request {self.method} {_shown(f'{self.scheme}://{self.authority or str()}{self.path}')}>"


class Body:
    """The body of a message: iterate over it once, or `read` it whole. ``trailers`` are there afterwards.

    Raises HttpError where the body failed, and RuntimeError the second time. The bytes come through ``pipe``, with
    back-pressure. ``demand`` is called when they are first wanted, ``abandon`` when the rest is not wanted any more.
    """

    __slots__ = ("_abandon", "_demand", "over", "pipe", "wanted")

    def __init__(
        self, pipe: Pipe, demand: Callable[[], None] | None = None, abandon: Callable[[], object] | None = None
    ) -> None:
        self.pipe = pipe
        self._demand = demand
        self._abandon = abandon
        #: Whether the bytes were asked for, and whether they were iterated to their end.
        self.wanted = False
        self.over = False

    @classmethod
    def of(cls, source: Source = b"") -> Body:
        """A body made of bytes, or of what an iterable gives; it is not asked before the bytes are wanted.

        One that is not asynchronous is asked in another thread, as it may block; a file is read in pieces of 64 KiB.
        Raises TypeError for anything else, and for text.
        """
        _check_source(source)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return cls(Pipe.of(bytes(source)))
        body = cls(Pipe())
        body._demand = lambda: _start_feeding(body.pipe, source)
        return body

    @property
    def trailers(self) -> list[Field]:
        return self.pipe.trailers or []

    def on_demand(self, demand: Callable[[], None] | None) -> None:
        """Has ``demand`` called when the bytes are first wanted."""
        self._demand = demand

    def demand(self) -> None:
        """Says that the bytes are wanted: what makes them may have waited for that."""
        self.wanted = True
        demand, self._demand = self._demand, None
        if demand is not None:
            demand()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        if self.over:
            raise RuntimeError("the body was read to its end before: keep what you read")
        self.demand()
        pipe = self.pipe
        while True:
            if not pipe.is_readable():
                await until(lambda: pipe.is_readable() or pipe.cancelled, pipe.readable, pipe.writable)
            if pipe.cancelled:
                raise pipe.error or HttpError(ErrorCode.ConnectionTerminated, "the body was cancelled")
            data = pipe.take(pipe.limit)
            if data is None:
                self.over = True
                return
            yield data

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self])

    def cancel(self, error: OSError | None = None) -> None:
        """Says that the rest is not wanted, with ``error`` if that is why."""
        pipe, abandon = self.pipe, self._abandon
        if abandon is not None and not pipe.ended and pipe.error is None:
            self._abandon = None
            abandon()
        pipe.cancel(error)


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
    read = getattr(source, "read", None)
    # A file would give its lines one by one.
    iterator = iter(source) if read is None else iter(partial(read, _PIECE), b"")
    end: Any = object()
    while (chunk := await asyncio.to_thread(next, iterator, end)) is not end:
        yield chunk


async def _feed(pipe: Pipe, source: AsyncIterable[bytes] | Iterable[bytes]) -> None:
    """Moves what an iterable gives into a pipe as it is read there."""
    iterator = aiter(source if isinstance(source, AsyncIterable) else _in_another_thread(source))
    try:
        async for chunk in iterator:
            if not isinstance(chunk, (bytes, bytearray, memoryview)):
                raise TypeError(f"the source of a body gave {_shown(chunk)}, which is not bytes")
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


class Response:
    """A response. ``headers`` are in order, a guest's with names in lower case.

    It is made with a `Body`, or with anything that `Body.of` takes. Raises TypeError for what is of another type, and
    ValueError for what no response can have: a status outside 100 to 999, or an invalid field.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Iterable[Field] = (), body: Body | Source = b"") -> None:
        if not isinstance(status, int) or isinstance(status, bool):
            raise TypeError(f"the status of a response is an int, not {_shown(status)}")
        if not 100 <= status <= 999:
            raise ValueError(f"the status of a response is from 100 to 999, not {status}")
        self.status = status
        self.headers = _checked_headers(headers)
        self.body = _body(body)

    @classmethod
    def of(cls, status: int, headers: list[Field], body: Body) -> Response:
        """A response of parts that are known to be good."""
        response = cls.__new__(cls)
        response.status = status
        response.headers = headers
        response.body = body
        return response

    async def read(self) -> bytes:
        """The whole body."""
        return await self.body.read()

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


def _body(body: Body | Source) -> Body:
    return body if isinstance(body, Body) else Body.of(body)
