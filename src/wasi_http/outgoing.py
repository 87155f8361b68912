"""``wasi:http/outgoing-handler`` and the client behind it: HTTP/1.1, one connection for each request."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, cast

from wasi_http.component import Err, Interface, Own, State, func, raises
from wasi_http.context import HttpState
from wasi_http.error import DnsErrorPayload, ErrorCode, HttpError, error_code_of
from wasi_http.fields import Field
from wasi_http.message import Body, Response
from wasi_http.pipe import Pipe
from wasi_http.types import FutureIncomingResponse, IncomingResponse, Method, OutgoingRequest, RequestOptions, Scheme
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
    """To send: ``authority`` is ``host[:port]``, ``path`` has the query, ``body`` is None if there is none.

    A ``host`` among the ``headers`` is what the server is told, else the authority; the connection goes to the latter.
    """

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
        scheme = request.scheme_ or state.default_scheme()
        if scheme is None or not state.is_supported_scheme(scheme):
            raise Err(ErrorCode.HttpProtocolError)
        path = request.path_
        if not request.authority_ or path is None or (path == "*" and request.verb is not Method.Options):
            raise Err(ErrorCode.HttpRequestUriInvalid)
        outgoing = ClientRequest(
            str(request.verb),
            str(scheme),
            request.authority_,
            path if path.startswith(("/", "*")) else f"/{path}",
            list(request.fields.entries_),
            request.body_,
        )
        if state.set_host_header():
            others = [entry for entry in outgoing.headers if entry[0] != b"host"]
            outgoing.headers = [(b"host", outgoing.authority.encode()), *others]
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
        response: ClientResponse | Response = await state.send_request(request, config)
    except Exception as error:
        if request.body is not None:
            request.body.fail(_http_error(error))
        if not isinstance(error, OSError):
            # The guest is told something, but this is not its fault, and not the network's.
            context = {"message": "the hook send_request failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        raise
    except BaseException:
        if request.body is not None:
            request.body.cancel()
        raise
    body = response.body
    if isinstance(body, Body):
        body.demand()
        body = body.pipe
    return IncomingResponse(state, response.status, response.headers, body)


async def default_send_request(request: ClientRequest, config: OutgoingRequestConfig) -> ClientResponse:
    """Sends a request to wherever it says: there is no policy here. Raises HttpError.

    Returns with the head of the response; the body follows, and so does what is left of the request's.
    """
    host, port = _split_authority(request.authority, 443 if config.use_tls else 80)
    connection = _Connection(request, config)
    try:
        async with asyncio.timeout(config.connect_timeout):
            await _connect(connection, host, port, config.use_tls)
    except HttpError:
        raise
    except TimeoutError as error:
        raise HttpError(ErrorCode.ConnectionTimeout) from error
    except OSError as error:
        raise HttpError(error_code_of(error), str(error)) from error
    try:
        async with asyncio.timeout(config.first_byte_timeout):
            return await connection.response
    except HttpError:
        raise
    except TimeoutError as error:
        connection.abort()
        raise HttpError(ErrorCode.ConnectionReadTimeout) from error
    except BaseException:
        connection.abort()
        raise


async def _connect(connection: _Connection, host: str, port: int, use_tls: bool) -> None:
    """Connects to the first address of a host that lets it, and raises what the first of them said if none does."""
    loop = asyncio.get_running_loop()
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        try:
            addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise HttpError(ErrorCode.DnsError(DnsErrorPayload("invalid host name", None)), str(error)) from error
    refused: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        try:
            sock = await _connected(family, kind, protocol, address)
        except OSError as error:
            refused = refused or error
        else:
            # From here on the socket is the transport's.
            tls, name = (_tls(), host) if use_tls else (None, None)
            await loop.create_connection(lambda: connection, sock=sock, ssl=tls, server_hostname=name)
            return
    raise refused or OSError(f"{host} has no address")


async def _connected(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


@cache
def _tls() -> ssl.SSLContext:
    # Reading all the certificates takes a while.
    return ssl.create_default_context()


def _split_authority(authority: str, default: int) -> tuple[str, int]:
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, str(default)
    if not (host and port.isascii() and port.isdecimal() and len(port) < 6 and int(port) < 65536):
        raise HttpError(ErrorCode.HttpRequestUriInvalid, f"{authority!r} is no host[:port]")
    return host.strip("[]"), int(port)


class _Connection(asyncio.Protocol):
    """One request and its response on a connection of their own."""

    def __init__(self, request: ClientRequest, config: OutgoingRequestConfig) -> None:
        """Raises HttpError for a request that cannot be sent."""
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._source = request.body
        self._parser = ResponseParser(request.method.encode(), self)
        self._writer = RequestWriter(request.method.encode(), keep_alive=False)
        try:
            host = next((value for name, value in request.headers if name == b"host"), request.authority.encode())
            headers = [entry for entry in request.headers if entry[0] != b"host"]
            self._head = self._writer.head(request.path.encode(), host, headers, request.body is not None)
            if request.body is None:
                self._writer.end()
        except ProtocolError as error:
            raise _http_error(error) from error
        self._sent = request.body is None
        self._transport: asyncio.Transport | None = None
        self._closed = False
        self._paused = False
        self._reading = True
        self._body = Pipe()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self.response: asyncio.Future[ClientResponse] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._head)
        if self._source is not None:
            self._source.readable.add(self._send)
            self._send()

    def _send(self) -> None:
        """Moves the request's body as far as the transport and the guest let it."""
        source, transport = self._source, self._transport
        if source is None or transport is None:
            return
        try:
            while not self._paused and not self._sent and not self._closed:
                data = source.take(65536)
                if data is None:
                    self._sent = True
                    transport.write(self._writer.end(source.trailers or ()))
                elif data:
                    transport.write(self._writer.body(data))
                else:
                    return
        except (OSError, ProtocolError) as error:
            # The guest's body failed: the server must not take what it got for the whole.
            self._fail(_http_error(error))

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
            self._fail(_http_error(error))

    def on_informational(self, head: ResponseHead) -> None:
        """Guests see final responses only."""

    def on_response(self, head: ResponseHead) -> None:
        if not self.response.done():
            self.response.set_result(ClientResponse(head.status, head.headers, self._body))
        if head.has_body:
            self._body.writable.add(self._update_reading)
            self._watch()
        else:
            self._body.end()
            self._close()

    def on_body(self, data: bytes) -> None:
        self._body.write(data)
        self._update_reading()

    def on_end(self, trailers: list[Field]) -> None:
        self._body.end(trailers)
        self._close()

    def _update_reading(self) -> None:
        """Stops reading while the guest does, and gives up when nobody wants the rest."""
        body, transport = self._body, self._transport
        if self._closed or transport is None:
            return
        if body.cancelled:
            self.abort()
        elif self._reading and body.size >= body.limit:
            self._reading = False
            transport.pause_reading()
        elif not self._reading and body.size < body.limit:
            self._reading = True
            self._last = self._loop.time()
            transport.resume_reading()

    def _watch(self) -> None:
        """The timeout between bytes; a guest that does not read is not the server's delay."""
        now = self._loop.time()
        if not self._reading:
            self._last = now
        left = self._last + self._config.between_bytes_timeout - now
        if left <= 0:
            self._fail(HttpError(ErrorCode.ConnectionReadTimeout))
        else:
            self._timer = self._loop.call_later(max(left, 0.001), self._watch)

    def eof_received(self) -> bool:
        try:
            self._parser.feed_eof()
        except ProtocolError as error:
            self._fail(_http_error(error))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(HttpError(ErrorCode.ConnectionTerminated) if error is None else _http_error(error))

    def _fail(self, error: HttpError) -> None:
        if not self.response.done():
            self.response.set_exception(error)
            self.response.exception()  # whoever waits hears of it; nobody has to
        self._body.fail(error)
        if self._source is not None and not self._sent:
            self._source.fail(error)
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
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._body.writable.remove(self._update_reading)
        if self._source is not None:
            self._source.readable.remove(self._send)
            if not self._sent:
                self._source.cancel()


def _http_error(error: Exception) -> HttpError:
    return error if isinstance(error, HttpError) else HttpError(error_code_of(error), str(error))
