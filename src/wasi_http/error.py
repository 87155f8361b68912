"""Errors of HTTP exchanges: ``error-code`` with its payloads, and the one place where I/O exceptions become one."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from wasi_http.component import Err, Ok, Variant, case, u8, u16, u32, u64
from wasi_http.wire.errors import BodyLengthError, Reason, RemoteProtocolError

__all__ = [
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
    """An exchange failed with ``code``. It is an OSError, so a stream that raises it fails the guest's operation."""

    def __init__(self, code: ErrorCode, message: str = "") -> None:
        super().__init__(message or repr(code))
        self.code = code

    def __reduce__(self) -> tuple[type[HttpError], tuple[ErrorCode, str]]:
        return type(self), (self.code, str(self))


T = TypeVar("T")

#: How an exchange went, as a value; functions of this package return what is in Ok and raise `HttpError` instead.
HttpResult = Ok[T] | Err[ErrorCode]


class NoResponse(Exception):
    """The guest finished, or was stopped, without a response; ``__cause__`` is what stopped it."""


_ERRNO: dict[int, ErrorCode] = {
    errno.EHOSTUNREACH: ErrorCode.DestinationIpUnroutable,
    errno.ENETUNREACH: ErrorCode.DestinationIpUnroutable,
    errno.EADDRNOTAVAIL: ErrorCode.DestinationUnavailable,
    errno.EACCES: ErrorCode.DestinationIpProhibited,
    errno.EPERM: ErrorCode.DestinationIpProhibited,
    errno.EMFILE: ErrorCode.ConnectionLimitReached,
    errno.ENFILE: ErrorCode.ConnectionLimitReached,
}

_RESPONSE_REASONS: dict[Reason, ErrorCode] = {
    Reason.START_LINE_SIZE: ErrorCode.HttpResponseHeaderSectionSize(None),
    Reason.HEADER_SECTION_SIZE: ErrorCode.HttpResponseHeaderSectionSize(None),
    Reason.TRAILER_SECTION_SIZE: ErrorCode.HttpResponseTrailerSectionSize(None),
    Reason.BODY_SIZE: ErrorCode.HttpResponseBodySize(None),
    Reason.TRANSFER_CODING: ErrorCode.HttpResponseTransferCoding(None),
    Reason.UPGRADE: ErrorCode.HttpUpgradeFailed,
    Reason.NO_RESPONSE: ErrorCode.ConnectionTerminated,
    Reason.INCOMPLETE_HEAD: ErrorCode.HttpResponseIncomplete,
    Reason.INCOMPLETE_BODY: ErrorCode.HttpResponseIncomplete,
}


def error_code_of(error: BaseException) -> ErrorCode:
    """What a guest is told about an exception of an outgoing exchange."""
    match error:
        case HttpError():
            return error.code
        case RemoteProtocolError():
            return _RESPONSE_REASONS.get(error.reason, ErrorCode.HttpProtocolError)
        case BodyLengthError():
            return ErrorCode.HttpRequestBodySize(error.actual)
        case socket.gaierror():
            if error.errno == socket.EAI_AGAIN:
                return ErrorCode.DnsTimeout
            return ErrorCode.DnsError(DnsErrorPayload(error.strerror, None))
        case ssl.SSLCertVerificationError():
            return ErrorCode.TlsCertificateError
        case ssl.SSLError():
            # Only those that OpenSSL makes have a reason.
            reason: str = getattr(error, "reason", None) or ""
            if "ALERT" in reason:
                return ErrorCode.TlsAlertReceived(TlsAlertReceivedPayload(None, reason))
            return ErrorCode.TlsProtocolError
        case asyncio.IncompleteReadError() | EOFError():
            return ErrorCode.HttpResponseIncomplete
        case TimeoutError():
            return ErrorCode.ConnectionTimeout
        # By class: those that asyncio makes itself have no number.
        case ConnectionRefusedError():
            return ErrorCode.ConnectionRefused
        case ConnectionError():
            return ErrorCode.ConnectionTerminated
        case OSError():
            return _ERRNO.get(error.errno or 0, ErrorCode.DestinationUnavailable)
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
