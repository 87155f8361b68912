"""The embedder's view: the base class of the state that each store carries."""

from __future__ import annotations

from wasi_http.component import ResourceTable
from wasi_http.context import DEFAULT_FORBIDDEN_HEADERS, WasiHttpCtx
from wasi_http.message import Request
from wasi_http.outgoing import ClientRequest, ClientResponse, OutgoingRequestConfig, default_send_request
from wasi_http.types import IncomingRequest, ResponseOutparam, Scheme
from wasi_http.wasi.context import WasiCtx

__all__ = ["WasiHttpView"]


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

    table: ResourceTable
    ctx: WasiCtx
    http: WasiHttpCtx

    def new_incoming_request(self, scheme: Scheme, request: Request) -> IncomingRequest:
        """A request as a guest's handler takes it. Raises HttpError when the request names no authority."""
        return IncomingRequest.from_request(self, scheme, request)

    def new_response_outparam(self) -> ResponseOutparam:
        """Where a guest's handler puts its response; see `ResponseOutparam.response`."""
        return ResponseOutparam()

    async def send_request(self, request: ClientRequest, config: OutgoingRequestConfig) -> ClientResponse:
        """Sends a guest's outgoing request; raises HttpError. Without a policy: see `default_send_request`."""
        return await default_send_request(request, config)

    def is_forbidden_header(self, name: str) -> bool:
        """Whether a field (its name in lower case) belongs to the host."""
        return name in DEFAULT_FORBIDDEN_HEADERS
