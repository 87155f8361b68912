"""``wasi:http/types``: its value types, its resources as the host has them, and the interface itself, `Types`."""

from wasi_http.http.body import FutureTrailers, IncomingBody, OutgoingBody
from wasi_http.http.fields import Fields, HeaderError
from wasi_http.http.types import (
    FutureIncomingResponse,
    IncomingRequest,
    IncomingResponse,
    OutgoingRequest,
    OutgoingResponse,
    RequestOptions,
    ResponseOutparam,
    Types,
)
from wasi_http.http.values import DnsErrorPayload, ErrorCode, FieldSizePayload, Method, Scheme, TlsAlertReceivedPayload

__all__ = [
    "DnsErrorPayload",
    "ErrorCode",
    "FieldSizePayload",
    "Fields",
    "FutureIncomingResponse",
    "FutureTrailers",
    "HeaderError",
    "IncomingBody",
    "IncomingRequest",
    "IncomingResponse",
    "Method",
    "OutgoingBody",
    "OutgoingRequest",
    "OutgoingResponse",
    "RequestOptions",
    "ResponseOutparam",
    "Scheme",
    "TlsAlertReceivedPayload",
    "Types",
]
