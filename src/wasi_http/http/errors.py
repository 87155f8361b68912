"""Errors of HTTP exchanges: ``error-code`` with its payloads, and the one place where I/O exceptions become one."""

from __future__ import annotations

import enum
import errno
import re
import socket
import ssl
from dataclasses import dataclass
from typing import ClassVar, Final, TypeVar

from wasi_http.client import errors
from wasi_http.component import Err, Ok, Variant, case, u8, u16, u32, u64
from wasi_http.engine.errors import excerpt
from wasi_http.http1.errors import BodyLengthError, LocalProtocolError, Reason, RemoteProtocolError
from wasi_http.net.authority import InvalidAuthority, InvalidHost

__all__ = [
    "ERROR_CODES",
    "DnsErrorPayload",
    "ErrorCode",
    "FieldSizePayload",
    "HttpError",
    "HttpResult",
    "NoResponse",
    "TlsAlertReceivedPayload",
    "error_code_of",
    "status_of",
]


@dataclass(frozen=True, slots=True)
class DnsErrorPayload:
    rcode: str | None
    info_code: u16 | None


@dataclass(frozen=True, slots=True)
class TlsAlertReceivedPayload:
    alert_id: u8 | None
    alert_message: str | None


@dataclass(frozen=True, slots=True)
class FieldSizePayload:
    field_name: str | None
    field_size: u32 | None


class ErrorCode(Variant):
    """``wasi:http/types.error-code``."""

    DnsTimeout: ClassVar[ErrorCode] = case("DNS-timeout")
    DnsError: ClassVar[type[ErrorCode]] = case("DNS-error", DnsErrorPayload)
    DestinationNotFound: ClassVar[ErrorCode] = case("destination-not-found")
    DestinationUnavailable: ClassVar[ErrorCode] = case("destination-unavailable")
    DestinationIpProhibited: ClassVar[ErrorCode] = case("destination-IP-prohibited")
    DestinationIpUnroutable: ClassVar[ErrorCode] = case("destination-IP-unroutable")
    ConnectionRefused: ClassVar[ErrorCode] = case("connection-refused")
    ConnectionTerminated: ClassVar[ErrorCode] = case("connection-terminated")
    ConnectionTimeout: ClassVar[ErrorCode] = case("connection-timeout")
    ConnectionReadTimeout: ClassVar[ErrorCode] = case("connection-read-timeout")
    ConnectionWriteTimeout: ClassVar[ErrorCode] = case("connection-write-timeout")
    ConnectionLimitReached: ClassVar[ErrorCode] = case("connection-limit-reached")
    TlsProtocolError: ClassVar[ErrorCode] = case("TLS-protocol-error")
    TlsCertificateError: ClassVar[ErrorCode] = case("TLS-certificate-error")
    TlsAlertReceived: ClassVar[type[ErrorCode]] = case("TLS-alert-received", TlsAlertReceivedPayload)
    HttpRequestDenied: ClassVar[ErrorCode] = case("HTTP-request-denied")
    HttpRequestLengthRequired: ClassVar[ErrorCode] = case("HTTP-request-length-required")
    HttpRequestBodySize: ClassVar[type[ErrorCode]] = case("HTTP-request-body-size", u64 | None)
    HttpRequestMethodInvalid: ClassVar[ErrorCode] = case("HTTP-request-method-invalid")
    HttpRequestUriInvalid: ClassVar[ErrorCode] = case("HTTP-request-URI-invalid")
    HttpRequestUriTooLong: ClassVar[ErrorCode] = case("HTTP-request-URI-too-long")
    HttpRequestHeaderSectionSize: ClassVar[type[ErrorCode]] = case("HTTP-request-header-section-size", u32 | None)
    HttpRequestHeaderSize: ClassVar[type[ErrorCode]] = case("HTTP-request-header-size", FieldSizePayload | None)
    HttpRequestTrailerSectionSize: ClassVar[type[ErrorCode]] = case("HTTP-request-trailer-section-size", u32 | None)
    HttpRequestTrailerSize: ClassVar[type[ErrorCode]] = case("HTTP-request-trailer-size", FieldSizePayload)
    HttpResponseIncomplete: ClassVar[ErrorCode] = case("HTTP-response-incomplete")
    HttpResponseHeaderSectionSize: ClassVar[type[ErrorCode]] = case("HTTP-response-header-section-size", u32 | None)
    HttpResponseHeaderSize: ClassVar[type[ErrorCode]] = case("HTTP-response-header-size", FieldSizePayload)
    HttpResponseBodySize: ClassVar[type[ErrorCode]] = case("HTTP-response-body-size", u64 | None)
    HttpResponseTrailerSectionSize: ClassVar[type[ErrorCode]] = case("HTTP-response-trailer-section-size", u32 | None)
    HttpResponseTrailerSize: ClassVar[type[ErrorCode]] = case("HTTP-response-trailer-size", FieldSizePayload)
    HttpResponseTransferCoding: ClassVar[type[ErrorCode]] = case("HTTP-response-transfer-coding", str | None)
    HttpResponseContentCoding: ClassVar[type[ErrorCode]] = case("HTTP-response-content-coding", str | None)
    HttpResponseTimeout: ClassVar[ErrorCode] = case("HTTP-response-timeout")
    HttpUpgradeFailed: ClassVar[ErrorCode] = case("HTTP-upgrade-failed")
    HttpProtocolError: ClassVar[ErrorCode] = case("HTTP-protocol-error")
    LoopDetected: ClassVar[ErrorCode] = case("loop-detected")
    ConfigurationError: ClassVar[ErrorCode] = case("configuration-error")
    InternalError: ClassVar[type[ErrorCode]] = case("internal-error", str | None)


class HttpError(OSError):
    """An exchange failed with ``code``. It is an OSError, so a stream that raises it fails the guest's operation.

    ``message`` is cut when it is long. What a guest or a server says in the code is not.
    """

    def __init__(self, code: ErrorCode, message: str = "") -> None:
        super().__init__(excerpt(message or repr(code), keep="\n"))
        self.code = code

    def __reduce__(self) -> tuple[type[HttpError], tuple[ErrorCode, str]]:
        return type(self), (self.code, str(self))

    @staticmethod
    def of(error: BaseException) -> HttpError:
        """The error itself if it is one, else what `error_code_of` makes of it."""
        return error if isinstance(error, HttpError) else HttpError(error_code_of(error), str(error))


T = TypeVar("T")

#: How an exchange went, as a value; functions of this package return what is in Ok and raise `HttpError` instead.
HttpResult = Ok[T] | Err[ErrorCode]


class NoResponse(Exception):
    """The guest finished, or was stopped, without a response; ``__cause__`` is what stopped it."""


# TLS alerts (RFC 8446 §6, and those of earlier versions) as OpenSSL's errors tell of them, and their numbers.
_ALERT: Final = re.compile(r"(?:\bsslv3|\btlsv13?|\bssl/tls) (?:alert )?([a-z0-9 ]{1,60}?) ?(?:\(|$)")
_ALERTS: Final[dict[str, int]] = {
    "CLOSE_NOTIFY": 0,
    "UNEXPECTED_MESSAGE": 10,
    "BAD_RECORD_MAC": 20,
    "DECRYPTION_FAILED": 21,
    "RECORD_OVERFLOW": 22,
    "DECOMPRESSION_FAILURE": 30,
    "HANDSHAKE_FAILURE": 40,
    "NO_CERTIFICATE": 41,
    "BAD_CERTIFICATE": 42,
    "UNSUPPORTED_CERTIFICATE": 43,
    "CERTIFICATE_REVOKED": 44,
    "CERTIFICATE_EXPIRED": 45,
    "CERTIFICATE_UNKNOWN": 46,
    "ILLEGAL_PARAMETER": 47,
    "UNKNOWN_CA": 48,
    "ACCESS_DENIED": 49,
    "DECODE_ERROR": 50,
    "DECRYPT_ERROR": 51,
    "EXPORT_RESTRICTION": 60,
    "PROTOCOL_VERSION": 70,
    "INSUFFICIENT_SECURITY": 71,
    "INTERNAL_ERROR": 80,
    "INAPPROPRIATE_FALLBACK": 86,
    "USER_CANCELLED": 90,
    "NO_RENEGOTIATION": 100,
    "MISSING_EXTENSION": 109,
    "UNSUPPORTED_EXTENSION": 110,
    "CERTIFICATE_UNOBTAINABLE": 111,
    "UNRECOGNIZED_NAME": 112,
    "BAD_CERTIFICATE_STATUS_RESPONSE": 113,
    "BAD_CERTIFICATE_HASH_VALUE": 114,
    "UNKNOWN_PSK_IDENTITY": 115,
    "CERTIFICATE_REQUIRED": 116,
    "NO_APPLICATION_PROTOCOL": 120,
}


class _Lookup(enum.Enum):
    """Results of getaddrinfo; their numbers differ between systems, and some are the same on some."""

    AGAIN = "EAI_AGAIN"
    FAIL = "EAI_FAIL"
    NONAME = "EAI_NONAME"
    NODATA = "EAI_NODATA"
    OTHER = ""


def _dns_error(rcode: str) -> ErrorCode:
    return ErrorCode.DnsError(DnsErrorPayload(rcode, None))


#: What guests are told: by the reason of a protocol error, by a result of getaddrinfo, by number of an OSError, and by
#: class, of which the first that fits counts.
ERROR_CODES: Final[dict[Reason | _Lookup | int | type[BaseException], ErrorCode]] = {
    Reason.SYNTAX: ErrorCode.HttpProtocolError,
    Reason.VERSION: ErrorCode.HttpProtocolError,
    Reason.FRAMING: ErrorCode.HttpProtocolError,
    Reason.CHUNK: ErrorCode.HttpProtocolError,
    Reason.TOO_MANY_INFORMATIONAL: ErrorCode.HttpProtocolError,
    Reason.TRANSFER_CODING: ErrorCode.HttpResponseTransferCoding(None),
    Reason.START_LINE_SIZE: ErrorCode.HttpResponseHeaderSectionSize(None),
    Reason.HEADER_SECTION_SIZE: ErrorCode.HttpResponseHeaderSectionSize(None),
    Reason.TRAILER_SECTION_SIZE: ErrorCode.HttpResponseTrailerSectionSize(None),
    Reason.BODY_SIZE: ErrorCode.HttpResponseBodySize(None),
    Reason.UPGRADE: ErrorCode.HttpUpgradeFailed,
    Reason.NO_RESPONSE: ErrorCode.ConnectionTerminated,
    Reason.INCOMPLETE_HEAD: ErrorCode.HttpResponseIncomplete,
    Reason.INCOMPLETE_BODY: ErrorCode.HttpResponseIncomplete,
    # The system does not say what the DNS server did: these are the answers that look like this to it.
    _Lookup.NONAME: _dns_error("NXDOMAIN"),
    _Lookup.NODATA: _dns_error("NOERROR"),
    _Lookup.FAIL: _dns_error("SERVFAIL"),
    _Lookup.OTHER: ErrorCode.DnsError(DnsErrorPayload(None, None)),
    _Lookup.AGAIN: ErrorCode.DnsTimeout,
    errno.EHOSTUNREACH: ErrorCode.DestinationIpUnroutable,
    errno.ENETUNREACH: ErrorCode.DestinationIpUnroutable,
    errno.EADDRNOTAVAIL: ErrorCode.DestinationUnavailable,
    errno.EACCES: ErrorCode.DestinationIpProhibited,
    errno.EPERM: ErrorCode.DestinationIpProhibited,
    errno.EMFILE: ErrorCode.ConnectionLimitReached,
    errno.ENFILE: ErrorCode.ConnectionLimitReached,
    ssl.SSLCertVerificationError: ErrorCode.TlsCertificateError,
    ssl.SSLError: ErrorCode.TlsProtocolError,
    errors.InvalidMethod: ErrorCode.HttpRequestMethodInvalid,
    errors.InvalidTarget: ErrorCode.HttpRequestUriInvalid,
    errors.InvalidName: _dns_error("invalid host name"),
    InvalidHost: _dns_error("invalid host name"),
    InvalidAuthority: ErrorCode.HttpRequestUriInvalid,
    errors.LookupTimeout: ErrorCode.DnsTimeout,
    errors.TooManyConnections: ErrorCode.ConnectionLimitReached,
    errors.ReadTimeout: ErrorCode.ConnectionReadTimeout,
    errors.WriteTimeout: ErrorCode.ConnectionWriteTimeout,
    errors.ResponseTimeout: ErrorCode.HttpResponseTimeout,
    errors.ConnectionClosed: ErrorCode.ConnectionTerminated,
    errors.IncompleteResponse: ErrorCode.HttpResponseIncomplete,
    errors.ProxyDenied: ErrorCode.HttpRequestDenied,
    errors.ProxyFailed: ErrorCode.DestinationUnavailable,
    errors.ConfigurationError: ErrorCode.ConfigurationError,
    LocalProtocolError: ErrorCode.HttpProtocolError,
    EOFError: ErrorCode.HttpResponseIncomplete,
    TimeoutError: ErrorCode.ConnectionTimeout,
    # By class: those that asyncio makes itself have no number.
    ConnectionRefusedError: ErrorCode.ConnectionRefused,
    ConnectionError: ErrorCode.ConnectionTerminated,
    OSError: ErrorCode.DestinationUnavailable,
}


def error_code_of(error: BaseException) -> ErrorCode:
    """What a guest is told about an exception of an outgoing exchange: see `ERROR_CODES`."""
    match error:
        case HttpError():
            return error.code
        case errors.ProtocolFailure():
            return error_code_of(error.cause)
        case BodyLengthError():
            return ErrorCode.HttpRequestBodySize(error.actual)
        case RemoteProtocolError():
            return ERROR_CODES.get(error.reason, ErrorCode.HttpProtocolError)
        case socket.gaierror():
            results = (result for result in _Lookup if getattr(socket, result.value, None) == error.errno)
            return ERROR_CODES[next(results, _Lookup.OTHER)]
        case ssl.SSLError():
            # The number is OpenSSL's, not the alert's, and the standard library does not know every alert by name.
            alert = None if isinstance(error, ssl.SSLCertVerificationError) else _ALERT.search(str(error))
            if alert is not None:
                name = alert[1].replace(" ", "_")
                return ErrorCode.TlsAlertReceived(TlsAlertReceivedPayload(_ALERTS.get(name.upper()), name))
        case OSError(errno=number) if number in ERROR_CODES:
            return ERROR_CODES[number]
    for kind in type(error).__mro__:
        if kind in ERROR_CODES:
            return ERROR_CODES[kind]
    return ErrorCode.InternalError(type(error).__name__)


# What guests ask for with an error in place of a response.
_STATUS: dict[ErrorCode, int] = {
    ErrorCode.HttpRequestDenied: 403,
    ErrorCode.HttpResponseTimeout: 504,
    ErrorCode.ConnectionTimeout: 504,
    ErrorCode.ConnectionReadTimeout: 504,
    ErrorCode.ConnectionRefused: 502,
    ErrorCode.ConnectionTerminated: 502,
    ErrorCode.DestinationUnavailable: 502,
    ErrorCode.LoopDetected: 508,
}


def status_of(code: ErrorCode) -> int:
    """The status that tells a client of a server why there is no response."""
    return _STATUS.get(code, 500)
