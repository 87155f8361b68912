"""The value types of ``wasi:http/types``."""

from wasi_http.error import DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload
from wasi_http.fields import HeaderError
from wasi_http.types import Method, Scheme

__all__ = [
    "DnsErrorPayload",
    "ErrorCode",
    "FieldSizePayload",
    "HeaderError",
    "Method",
    "Scheme",
    "TlsAlertReceivedPayload",
]
