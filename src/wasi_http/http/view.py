"""The embedder's view: the base class of the state that each store carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from wasi_http.client import OutgoingRequestConfig
from wasi_http.component import ResourceTable
from wasi_http.engine.errors import expect
from wasi_http.http.body import DEFAULT_OUTGOING_BODY_BUFFER_CHUNKS, DEFAULT_OUTGOING_BODY_CHUNK_SIZE
from wasi_http.http.context import DEFAULT_FORBIDDEN_HEADERS, WasiHttpCtx
from wasi_http.http.message import Request, Response
from wasi_http.http.send import default_send_request
from wasi_http.http.types import IncomingRequest, OutgoingResponse, ResponseOutparam
from wasi_http.http.values import ErrorCode, Scheme
from wasi_http.wasi.context import WasiCtx

__all__ = ["WasiHttpView"]

_ATTRIBUTES: Final = {"table": ResourceTable, "ctx": WasiCtx, "http": WasiHttpCtx}


def _check(view: WasiHttpView) -> None:
    for name, kind in _ATTRIBUTES.items():
        value = getattr(view, name, None)
        # A context may also be something that behaves like one.
        if not isinstance(value, kind) and (name != "ctx" or not hasattr(value, "max_pollables")):
            given = "has none" if value is None else f"has {type(value).__name__}"
            raise TypeError(
                f"a WasiHttpView needs the attribute `{name}`, and {type(view).__name__} {given}: write "
                f"self.{name} = {kind.__name__}() in its __init__"
            )


class WasiHttpView:
    """Base of the state that an embedder gives each store. It must have these attributes:

    ``table``
        A `ResourceTable`: the account of what the guest holds.
    ``ctx``
        A `WasiCtx`: environment, standard streams, clocks.
    ``http``
        A `WasiHttpCtx`: limits.

    The methods are hooks: override them to replace what they do.
    """

    __slots__ = ()

    table: ResourceTable
    ctx: WasiCtx
    http: WasiHttpCtx

    def new_incoming_request(self, scheme: Scheme, request: Request) -> IncomingRequest:
        """A request as a guest's handler takes it; ``scheme`` stands for the request's own.

        Raises TypeError when the view lacks one of its attributes, as no guest could run with it, and for arguments of
        other types.
        """
        _check(self)
        usage = "new_incoming_request(Scheme.HTTP, request)"
        expect(Scheme, scheme, usage)
        expect(Request, request, usage)
        if request.scheme != str(scheme):
            parts = request.method, str(scheme), request.authority, request.path, request.headers, request.body
            request = Request.of(*parts)
        return IncomingRequest(self, request)

    def new_response_outparam(
        self, receiver: Callable[[OutgoingResponse | ErrorCode], None] | None = None
    ) -> ResponseOutparam:
        """Where a guest's handler puts its response; see `ResponseOutparam.response`.

        ``receiver`` is for those who do not wait for it: it is called from within the guest with what was set.
        """
        return ResponseOutparam(receiver)

    def send_request(self, request: Request, config: OutgoingRequestConfig) -> Awaitable[Response]:
        """Sends a guest's outgoing request; raises HttpError. Without a policy: `Egress.send_request` has one.

        Overrides may be coroutines. What they await is cancelled when the guest gives up. The response may be one of
        your own, or another `Service` may give it. What sends the request calls `Body.demand` of its body, if it has
        one, and `Body.cancel` if it does not want the rest.
        """
        return default_send_request(request, config)

    def is_forbidden_header(self, name: str) -> bool:
        """Whether a field (its name in lower case) belongs to the host."""
        return name in DEFAULT_FORBIDDEN_HEADERS

    def is_supported_scheme(self, scheme: Scheme) -> bool:
        """Whether a guest may send requests with this scheme; others fail with ``HTTP-protocol-error``."""
        return not isinstance(scheme, Scheme.Other)

    def default_scheme(self) -> Scheme | None:
        """The scheme of requests that name none; None has them fail with ``HTTP-protocol-error``."""
        return Scheme.HTTPS

    def set_host_header(self) -> bool:
        """Whether requests come to `send_request` with a ``host`` among their headers, made of their authority."""
        return True

    def outgoing_body_buffer_chunks(self) -> int:
        """How many writes of full size a body of the guest buffers before it is held back; at least 1."""
        return DEFAULT_OUTGOING_BODY_BUFFER_CHUNKS

    def outgoing_body_chunk_size(self) -> int:
        """The most bytes that the guest may write to a body at once; at least 1."""
        return DEFAULT_OUTGOING_BODY_CHUNK_SIZE
