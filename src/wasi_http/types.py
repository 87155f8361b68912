"""What the Rust crate has in its module of this name: the resources of ``wasi:http/types`` and what goes with them.

Nothing is defined here.
"""

from wasi_http.client import OutgoingRequestConfig, default_send_request
from wasi_http.context import WasiHttpCtx
from wasi_http.resources import (
    FutureIncomingResponse,
    IncomingHandler,
    IncomingRequest,
    IncomingResponse,
    Method,
    OutgoingRequest,
    OutgoingResponse,
    RequestOptions,
    ResponseOutparam,
    Scheme,
    Types,
)
from wasi_http.view import WasiHttpView

__all__ = [
    "FutureIncomingResponse",
    "IncomingHandler",
    "IncomingRequest",
    "IncomingResponse",
    "Method",
    "OutgoingRequest",
    "OutgoingRequestConfig",
    "OutgoingResponse",
    "RequestOptions",
    "ResponseOutparam",
    "Scheme",
    "Types",
    "WasiHttpCtx",
    "WasiHttpView",
    "default_send_request",
]
