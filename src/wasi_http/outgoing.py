"""``wasi:http/outgoing-handler`` and the client behind it: HTTP/1.1, one connection for each request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from wasi_http.component import Err, Interface, Own, State, func, raises
from wasi_http.context import HttpState
from wasi_http.error import ErrorCode, HttpError, error_code_of
from wasi_http.fields import Field
from wasi_http.pipe import Pipe
from wasi_http.types import FutureIncomingResponse, IncomingResponse, OutgoingRequest, RequestOptions, Scheme
from wasi_http.wire.errors import ProtocolError
from wasi_http.wire.response import ResponseHead, ResponseParser
from wasi_http.wire.writer import RequestWriter

__all__ = [
    "DEFAULT_TIMEOUT",
    "ClientRequest",
    "ClientResponse",
    "OutgoingHandler",
    "OutgoingRequestConfig",
    "default_send_request",
]

#: Of connecting, of waiting for the first byte, and between bytes; in seconds.
DEFAULT_TIMEOUT: Final = 600.0

# asyncio's timers overflow on what 64 bits of nanoseconds can say.
_LONGEST: Final = 365 * 86400.0


@dataclass(slots=True)
class OutgoingRequestConfig:
    """Timeouts in seconds, and whether the connection is encrypted."""

    use_tls: bool = False
    connect_timeout: float = DEFAULT_TIMEOUT
    first_byte_timeout: float = DEFAULT_TIMEOUT
    between_bytes_timeout: float = DEFAULT_TIMEOUT


@dataclass(slots=True)
class ClientRequest:
    """A request to send. ``authority`` is ``host[:port]``, ``path`` has the query; ``body`` is None if there is none."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: list[Field] = field(default_factory=list)
    body: Pipe | None = None


@dataclass(slots=True)
class ClientResponse:
    """The response to a `ClientRequest`, its body still arriving."""

    status: int
    headers: Sequence[Field] = ()
    body: Pipe = field(default_factory=Pipe.of)


class OutgoingHandler(Interface, name="wasi:http/outgoing-handler@0.2.12"):
    @func
    @raises(ErrorCode)
    def handle(
        state: State[HttpState], request: Own[OutgoingRequest], options: Own[RequestOptions] | None
    ) -> Own[FutureIncomingResponse]:
        scheme = request.scheme_ or Scheme.HTTPS
        if isinstance(scheme, Scheme.Other):
            raise Err(ErrorCode.HttpProtocolError)
        if not request.authority_:
            raise Err(ErrorCode.HttpRequestUriInvalid)
        outgoing = ClientRequest(
            str(request.verb),
            str(scheme),
            request.authority_,
            request.path_ or "/",
            list(request.fields.entries_),
            request.body_,
        )
        config = OutgoingRequestConfig(scheme is Scheme.HTTPS)
        if options is not None:
            config.connect_timeout = _seconds(options.connect)
            config.first_byte_timeout = _seconds(options.first_byte)
            config.between_bytes_timeout = _seconds(options.between_bytes)
        return FutureIncomingResponse(asyncio.ensure_future(_exchange(state, outgoing, config)))


def _seconds(nanoseconds: int | None) -> float:
    return DEFAULT_TIMEOUT if nanoseconds is None else min(nanoseconds / 1e9, _LONGEST)


async def _exchange(state: HttpState, request: ClientRequest, config: OutgoingRequestConfig) -> IncomingResponse:
    try:
        response: ClientResponse = await state.send_request(request, config)
    except HttpError as error:
        if request.body is not None:
            request.body.fail(error)
        raise
    return IncomingResponse(state, response.status, response.headers, response.body)


async def default_send_request(request: ClientRequest, config: OutgoingRequestConfig) -> ClientResponse:
    """Sends a request to wherever it says: there is no policy here. Raises HttpError.

    Returns with the head of the response; the body follows, and so does what is left of the request's.
    """
    host, port = _split_authority(request.authority, 443 if config.use_tls else 80)
    loop = asyncio.get_running_loop()
    connection = _Connection(request, config)
    try:
        async with asyncio.timeout(config.connect_timeout):
            await loop.create_connection(
                lambda: connection, host, port, ssl=ssl.create_default_context() if config.use_tls else None
            )
    except TimeoutError as error:
        raise HttpError(ErrorCode.ConnectionTimeout) from error
    except (OSError, UnicodeError) as error:
        raise HttpError(error_code_of(error), str(error)) from error
    try:
        async with asyncio.timeout(config.first_byte_timeout):
            return await connection.response
    except TimeoutError as error:
        connection.abort()
        raise HttpError(ErrorCode.ConnectionReadTimeout) from error
    except BaseException:
        connection.abort()
        raise


def _split_authority(authority: str, default: int) -> tuple[str, int]:
    host, colon, port = authority.rpartition(":")
    if colon and not port.endswith("]"):
        try:
            number = int(port)
        except ValueError:
            number = 65536
        if number > 65535:
            raise HttpError(ErrorCode.HttpRequestUriInvalid, f"bad port in {authority!r}")
        return host.strip("[]"), number
    return authority.strip("[]"), default


class _Connection(asyncio.Protocol):
    """One request and its response on a connection of their own."""

    def __init__(self, request: ClientRequest, config: OutgoingRequestConfig) -> None:
        self._loop = asyncio.get_running_loop()
        self._request = request
        self._config = config
        self._writer = RequestWriter(request.method.encode(), keep_alive=False)
        self._parser = ResponseParser(request.method.encode(), self)
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._body = Pipe()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._sent = False
        self.response: asyncio.Future[ClientResponse] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        request = self._request
        try:
            head = self._writer.head(
                request.path.encode("utf-8"), request.authority.encode(), request.headers, request.body is not None
            )
        except ProtocolError as error:
            self._fail(HttpError(ErrorCode.HttpProtocolError, str(error)))
            return
        transport.write(head)
        if request.body is not None:
            request.body.readable.add(self._send)
        self._send()

    def _send(self) -> None:
        """Moves the request's body as far as the transport and the guest let it."""
        body, transport = self._request.body, self._transport
        if transport is None or self._sent:
            return
        try:
            while body is not None and not self._paused:
                data = body.take(65536)
                if not data:
                    if data is None:
                        break
                    return
                transport.write(self._writer.body(data))
            if self._paused:
                return
            self._sent = True
            transport.write(self._writer.end(body.trailers or () if body is not None else ()))
        except OSError as error:
            # The guest's body failed: the server must not take what it got for the whole.
            self._fail(HttpError(error_code_of(error), str(error)))
        except ProtocolError as error:
            self._fail(HttpError(error_code_of(error), str(error)))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def data_received(self, data: bytes) -> None:
        self._last = self._loop.time()
        try:
            self._parser.feed(data)
        except ProtocolError as error:
            self._fail(HttpError(error_code_of(error), str(error)))

    def on_informational(self, head: ResponseHead) -> None:
        """Guests see final responses only."""

    def on_response(self, head: ResponseHead) -> None:
        if not self.response.done():
            self.response.set_result(ClientResponse(head.status, head.headers, self._body))
        if head.has_body:
            self._body.writable.add(self._room)
            self._last = self._loop.time()
            self._watch()
        else:
            self._body.end()
            self._close()

    def on_body(self, data: bytes) -> None:
        self._body.write(data)
        if self._body.size >= self._body.limit and self._transport is not None:
            self._transport.pause_reading()

    def on_end(self, trailers: list[Field]) -> None:
        self._body.end(trailers)
        self._close()

    def _room(self) -> None:
        if self._body.cancelled:
            self.abort()
        elif self._transport is not None and self._body.size < self._body.limit:
            self._last = self._loop.time()
            self._transport.resume_reading()

    def _watch(self) -> None:
        """The timeout between bytes; a guest that does not read is not the server's delay."""
        if self._body.size >= self._body.limit:
            self._last = self._loop.time()
        left = self._last + self._config.between_bytes_timeout - self._loop.time()
        if left <= 0:
            self._fail(HttpError(ErrorCode.ConnectionReadTimeout))
        else:
            self._timer = self._loop.call_later(max(left, 0.001), self._watch)

    def eof_received(self) -> bool:
        try:
            self._parser.feed_eof()
        except ProtocolError as error:
            self._fail(HttpError(error_code_of(error), str(error)))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(HttpError(error_code_of(error) if error else ErrorCode.ConnectionTerminated, str(error or "")))

    def _fail(self, error: HttpError) -> None:
        if not self.response.done():
            self.response.set_exception(error)
            self.response.exception()  # whoever waits hears of it; nobody has to
        self._body.fail(error)
        if self._request.body is not None and not self._sent:
            self._request.body.fail(error)
        self.abort()

    def _close(self) -> None:
        self._finish()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        self._finish()
        if self._transport is not None:
            self._transport.abort()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._request.body is not None:
            self._request.body.readable.remove(self._send)
            if not self._sent:
                self._request.body.cancel()
