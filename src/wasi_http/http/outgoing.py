"""``wasi:http/outgoing-handler``: what guests send, on its way to the hook `send_request`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from wasi_http.client import DEFAULT_TIMEOUT, OutgoingRequestConfig
from wasi_http.component import Err, Interface, Own, State, func, raises
from wasi_http.flow.pipe import BODY_BUFFER
from wasi_http.http.context import HttpState
from wasi_http.http.message import Request, Response
from wasi_http.http.types import FutureIncomingResponse, OutgoingRequest, RequestOptions
from wasi_http.http.values import ErrorCode, Scheme
from wasi_http.settings import LONGEST

__all__ = ["OutgoingHandler"]


class OutgoingHandler(Interface, name="wasi:http/outgoing-handler@0.2.12"):
    @func
    @raises(ErrorCode)
    def handle(
        state: State[HttpState], request: Own[OutgoingRequest], options: Own[RequestOptions] | None
    ) -> Own[FutureIncomingResponse]:
        try:
            return _handle(state, request, options)
        except Err:
            # Its body will not be read: its writer must not wait.
            request.release()
            raise


def _handle(state: HttpState, request: OutgoingRequest, options: RequestOptions | None) -> FutureIncomingResponse:
    message = request.message
    scheme = Scheme.parse(message.scheme) if message.scheme else state.default_scheme()
    if scheme is None or not state.is_supported_scheme(scheme):
        raise Err(ErrorCode.HttpProtocolError)
    path = message.path or "/"
    if not message.authority or (path == "*" and message.method != "OPTIONS"):
        raise Err(ErrorCode.HttpRequestUriInvalid)
    if not message.scheme:
        message.scheme = str(scheme)
    message.path = path if path.startswith(("/", "*")) else f"/{path}"
    entries = request.fields.entries_
    if state.set_host_header():
        host = (b"host", message.authority.encode())
        message.headers = [host, *[entry for entry in entries if entry[0] != b"host"]]
    else:
        message.headers = list(entries)
    config = OutgoingRequestConfig(scheme is Scheme.HTTPS)
    if options is not None:
        config.connect_timeout = _seconds(options.connect)
        config.first_byte_timeout = _seconds(options.first_byte)
        config.between_bytes_timeout = _seconds(options.between_bytes)
    # Each answer that is on its way may fill a buffer.
    if state.table.charged + BODY_BUFFER > state.table.memory:
        raise Err(ErrorCode.ConnectionLimitReached)
    request.hand_over()
    future = FutureIncomingResponse(state, _send(state, message, config), message.body)
    future.charge(state.table, BODY_BUFFER)
    return future


def _seconds(nanoseconds: int | None) -> float:
    return DEFAULT_TIMEOUT if nanoseconds is None else min(nanoseconds / 1e9, LONGEST)


def _send(state: HttpState, request: Request, config: OutgoingRequestConfig) -> asyncio.Future[Response]:
    if request.body is not None:
        # It pays to wait a moment for what the guest has ready: it goes out with the head.
        return asyncio.ensure_future(_send_later(state, request, config))
    try:
        # A future of another loop would never wake the guest.
        return asyncio.ensure_future(_awaitable(state.send_request(request, config)), loop=asyncio.get_running_loop())
    except (Exception, asyncio.CancelledError) as error:
        return asyncio.ensure_future(_fail(error))


async def _send_later(state: HttpState, request: Request, config: OutgoingRequestConfig) -> Response:
    return await _awaitable(state.send_request(request, config))


def _awaitable(given: Awaitable[Response]) -> Awaitable[Response]:
    if not hasattr(given, "__await__"):
        cure = "declare it with `async def`, or return what the send_request of a Client or of Egress does"
        raise TypeError(f"send_request gave {type(given).__name__}, which cannot be awaited: {cure}")
    return given


async def _fail(error: BaseException) -> Response:
    raise error
