"""Transports of `httpx2` as targets of guests' requests: for HTTP/2, caches, or a mock.

Needs the package ``httpx2``, which is not installed with this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx2

from wasi_http.client import OutgoingRequestConfig
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Body, Request, Response
from wasi_http.http.values import ErrorCode
from wasi_http.net.authority import InvalidAuthority, Origin

__all__ = ["HttpxTarget"]

# By the exceptions of the transport; connecting fails in more ways than it tells.
_CODES: Final[dict[type[Exception], ErrorCode]] = {
    httpx2.ConnectTimeout: ErrorCode.ConnectionTimeout,
    httpx2.ReadTimeout: ErrorCode.ConnectionReadTimeout,
    httpx2.WriteTimeout: ErrorCode.ConnectionWriteTimeout,
    httpx2.PoolTimeout: ErrorCode.ConnectionLimitReached,
    httpx2.ConnectError: ErrorCode.DestinationUnavailable,
    httpx2.UnsupportedProtocol: ErrorCode.HttpProtocolError,
    httpx2.LocalProtocolError: ErrorCode.HttpProtocolError,
}

# The transport has taken the framing off; what is left of it would be wrong.
_DROPPED: Final = frozenset((b"connection", b"transfer-encoding"))


class HttpxTarget:
    """Sends requests with a transport: the hook `send_request` of a view, or what the hook calls.

    Applies no policy, and does not close the transport.
    """

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self.transport = transport

    async def __call__(self, request: Request, config: OutgoingRequestConfig | None = None) -> Response:
        """The response, as soon as its head is there. Raises HttpError."""
        try:
            Origin.parse(request.authority or "", request.scheme == "https")  # nothing but a host and a port
        except InvalidAuthority as error:
            raise HttpError.of(error) from error
        timeouts = config if config is not None else OutgoingRequestConfig()
        extensions: dict[str, object] = {
            "timeout": {
                "pool": timeouts.connect_timeout,
                "connect": timeouts.connect_timeout,
                "write": timeouts.between_bytes_timeout,
                "read": timeouts.first_byte_timeout,
            }
        }
        path = request.path
        if path == "*":
            path, extensions["target"] = "/", b"*"
        try:
            outgoing = httpx2.Request(
                request.method,
                f"{request.scheme}://{request.authority}{path}",
                headers=request.headers,
                content=request.body,
                extensions=extensions,
            )
            response = await self.transport.handle_async_request(outgoing)
        except httpx2.InvalidURL as error:
            raise HttpError(ErrorCode.HttpRequestUriInvalid, str(error)) from error
        except httpx2.TransportError as error:
            raise _failed(error, ErrorCode.ConnectionTerminated) from error
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _DROPPED]
        begun = asyncio.Event()
        body = Body.of(_chunks(response, begun))
        body.demand()
        try:
            await begun.wait()  # from here on the response is closed, whatever becomes of its body
        except BaseException:
            body.cancel()
            raise
        return Response(response.status_code, headers, body)


async def _chunks(response: httpx2.Response, begun: asyncio.Event) -> AsyncIterator[bytes]:
    begun.set()
    try:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        async for chunk in response.stream:
            yield chunk
    except httpx2.TransportError as error:
        raise _failed(error, ErrorCode.HttpResponseIncomplete) from error
    finally:
        await response.aclose()


def _failed(error: httpx2.TransportError, otherwise: ErrorCode) -> HttpError:
    return HttpError(_CODES.get(type(error), otherwise), str(error))
