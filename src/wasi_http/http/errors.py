"""Errors of HTTP exchanges, and the one place where exceptions of the client and of I/O become an ``error-code``."""

from __future__ import annotations

import enum
import errno
import re
import socket
import ssl
from typing import Final, TypeVar

from wasi_http.client import errors
from wasi_http.component import Err, Ok
from wasi_http.engine.errors import excerpt
from wasi_http.http.values import DnsErrorPayload, ErrorCode, TlsAlertReceivedPayload
from wasi_http.http1.errors import BodyLengthError, LocalProtocolError, Reason, RemoteProtocolError
from wasi_http.net.authority import InvalidAuthority, InvalidHost

__all__ = [
    "ERROR_CODES",
    "GuestTimeout",
    "HttpError",
    "HttpResult",
    "NoResponse",
    "ServiceBusy",
    "Unwanted",
    "error_code_of",
    "status_of",
]


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


class Unwanted(HttpError, BrokenPipeError):
    """A body that its reader does not want any more. Its writer sees a closed stream, which is not an error."""


T = TypeVar("T")

#: How an exchange went, as a value; functions of this package return what is in Ok and raise `HttpError` instead.
HttpResult = Ok[T] | Err[ErrorCode]


class NoResponse(Exception):
    """The guest finished, or was stopped, without a response; ``__cause__`` is what stopped it.

    ``status`` is what tells a client of a server.
    """

    status = 500


class GuestTimeout(NoResponse):
    """The guest took longer than its time limit."""

    status = 504


class ServiceBusy(NoResponse):
    """The request waited for its turn too long: as many as may run at once were under way."""

    status = 503


# TLS alerts (RFC 8446 §6, and those of earlier versions) as OpenSSL's errors tell of them, and their numbers.
_ALERT: Final = re.compile(r"(?:\bsslv3|\btlsv13?|\bssl/tls) (?:alert )?([a-z0-9 ]{1,60}?) ?(?:\(|$)")
_ALERTS: Final = {alert.name.removeprefix("ALERT_DESCRIPTION_"): alert.value for alert in ssl.AlertDescription} | {
    # Those that the standard library does not know.
    "DECRYPTION_FAILED": 21,
    "NO_CERTIFICATE": 41,
    "EXPORT_RESTRICTION": 60,
    "INAPPROPRIATE_FALLBACK": 86,
    "MISSING_EXTENSION": 109,
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
    GuestTimeout: ErrorCode.HttpResponseTimeout,
    ServiceBusy: ErrorCode.ConnectionLimitReached,
    NoResponse: ErrorCode.HttpResponseIncomplete,
    LocalProtocolError: ErrorCode.HttpProtocolError,
    EOFError: ErrorCode.HttpResponseIncomplete,
    TimeoutError: ErrorCode.ConnectionTimeout,
    # By class: those that asyncio makes itself have no number.
    ConnectionRefusedError: ErrorCode.ConnectionRefused,
    ConnectionError: ErrorCode.ConnectionTerminated,
    OSError: ErrorCode.DestinationUnavailable,
}


def error_code_of(error: BaseException) -> ErrorCode:
    """What a guest is told about an exception of an outgoing exchange, or of a `Service`: see `ERROR_CODES`."""
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
