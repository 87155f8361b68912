"""HTTP on the wire, sans I/O: both directions of HTTP/1.1, for servers and for clients.

Bytes in, events out (`RequestParser`, `ResponseParser`); fields and body pieces in, bytes out (`ResponseWriter`,
`RequestWriter` and the `render_…` functions for whole messages). Independent of sockets, clocks and WebAssembly.
"""

from wasi_http.http1.date import DateCache
from wasi_http.http1.errors import BodyLengthError, LocalProtocolError, ProtocolError, Reason, RemoteProtocolError
from wasi_http.http1.fieldsection import Field
from wasi_http.http1.limits import Limits
from wasi_http.http1.request import RequestHandler, RequestHead, RequestParser
from wasi_http.http1.response import ResponseHandler, ResponseHead, ResponseParser
from wasi_http.http1.writer import (
    Framing,
    RequestWriter,
    ResponseWriter,
    render_informational,
    render_request,
    render_response,
)

__all__ = [
    "BodyLengthError",
    "DateCache",
    "Field",
    "Framing",
    "Limits",
    "LocalProtocolError",
    "ProtocolError",
    "Reason",
    "RemoteProtocolError",
    "RequestHandler",
    "RequestHead",
    "RequestParser",
    "RequestWriter",
    "ResponseHandler",
    "ResponseHead",
    "ResponseParser",
    "ResponseWriter",
    "render_informational",
    "render_request",
    "render_response",
]
