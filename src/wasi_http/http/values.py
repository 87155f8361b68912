"""The values of ``wasi:http/types``: methods, schemes, and ``error-code`` with its payloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from wasi_http.component import Variant, case, u8, u16, u32, u64

__all__ = ["DnsErrorPayload", "ErrorCode", "FieldSizePayload", "Method", "Scheme", "TlsAlertReceivedPayload"]


class Method(Variant):
    Get: ClassVar[Method] = case("get")
    Head: ClassVar[Method] = case("head")
    Post: ClassVar[Method] = case("post")
    Put: ClassVar[Method] = case("put")
    Delete: ClassVar[Method] = case("delete")
    Connect: ClassVar[Method] = case("connect")
    Options: ClassVar[Method] = case("options")
    Trace: ClassVar[Method] = case("trace")
    Patch: ClassVar[Method] = case("patch")
    Other = case("other", str)

    @classmethod
    def parse(cls, name: str) -> Method:
        """The method of a request line; methods are case-sensitive."""
        return _METHODS.get(name) or Method.Other(name)

    def __str__(self) -> str:
        """The name in a request line."""
        return self.value if isinstance(self, Method.Other) else self._name.upper()


_METHODS: Final[dict[str, Method]] = {name.upper(): form for name, payload, form in Method.__cases__ if payload is None}


class Scheme(Variant):
    HTTP: ClassVar[Scheme] = case("HTTP")
    HTTPS: ClassVar[Scheme] = case("HTTPS")
    Other = case("other", str)

    @classmethod
    def parse(cls, name: str) -> Scheme:
        """Of its name in a URL."""
        return _SCHEMES.get(name) or cls.Other(name)

    def __str__(self) -> str:
        """The name in a URL."""
        return self.value if isinstance(self, Scheme.Other) else self._name.lower()


_SCHEMES: Final[dict[str, Scheme]] = {"http": Scheme.HTTP, "https": Scheme.HTTPS}


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
