"""Errors: what a guest is told about an exception, and that it is told all that the WIT can say."""

from __future__ import annotations

import asyncio
import errno
import pickle
import re
import socket
import ssl
from pathlib import Path

import pytest

from wasi_http.client import errors
from wasi_http.http.errors import HttpError, NoResponse, error_code_of
from wasi_http.http.values import DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload
from wasi_http.http1.errors import BodyLengthError, LocalProtocolError, Reason, RemoteProtocolError

WIT = Path(__file__).parents[1] / "guests" / "wit" / "deps" / "http.wit"


def tls(reason: str, text: str = "something") -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] {text} (_ssl.c:1)")
    error.reason = reason
    return error


CLIENT: dict[str, ErrorCode] = {
    "ConfigurationError": ErrorCode.ConfigurationError,
    "ConnectionClosed": ErrorCode.ConnectionTerminated,
    "ConnectionDropped": ErrorCode.ConnectionTerminated,
    "IncompleteResponse": ErrorCode.HttpResponseIncomplete,
    "InvalidMethod": ErrorCode.HttpRequestMethodInvalid,
    "InvalidName": ErrorCode.DnsError(DnsErrorPayload("invalid host name", None)),
    "InvalidTarget": ErrorCode.HttpRequestUriInvalid,
    "LookupTimeout": ErrorCode.DnsTimeout,
    "ProxyDenied": ErrorCode.HttpRequestDenied,
    "ProxyFailed": ErrorCode.DestinationUnavailable,
    "ReadTimeout": ErrorCode.ConnectionReadTimeout,
    "ResponseTimeout": ErrorCode.HttpResponseTimeout,
    "TooManyConnections": ErrorCode.ConnectionLimitReached,
    "WriteTimeout": ErrorCode.ConnectionWriteTimeout,
}


def test_every_error_of_the_client_has_a_code() -> None:
    assert {*CLIENT, "ClientError", "ProtocolFailure"} == set(errors.__all__)
    for name, code in CLIENT.items():
        error = getattr(errors, name)("why")
        assert isinstance(error, errors.ClientError)
        assert error_code_of(error) == code
        assert str(HttpError.of(error)) == "why"
    failure = errors.ProtocolFailure(RemoteProtocolError(Reason.UPGRADE, "how"))
    assert error_code_of(failure) is ErrorCode.HttpUpgradeFailed
    assert str(failure) == "how"
    assert error_code_of(errors.ProtocolFailure(BodyLengthError(1, 2), "why")) == ErrorCode.HttpRequestBodySize(2)


UNREACHABLE = OSError(errno.EHOSTUNREACH, "No route to host")

CODES: list[tuple[BaseException, ErrorCode]] = [
    (HttpError(ErrorCode.HttpRequestDenied), ErrorCode.HttpRequestDenied),
    (HttpError(ErrorCode.HttpRequestBodySize(3)), ErrorCode.HttpRequestBodySize(3)),
    (BodyLengthError(11, 18), ErrorCode.HttpRequestBodySize(18)),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), ErrorCode.DnsTimeout),
    (
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ErrorCode.DnsError(DnsErrorPayload("NXDOMAIN", None)),
    ),
    (
        socket.gaierror(getattr(socket, "EAI_NODATA", socket.EAI_FAIL), "x"),
        ErrorCode.DnsError(DnsErrorPayload("NOERROR" if hasattr(socket, "EAI_NODATA") else "SERVFAIL", None)),
    ),
    (socket.gaierror(socket.EAI_FAIL, "x"), ErrorCode.DnsError(DnsErrorPayload("SERVFAIL", None))),
    (socket.gaierror(socket.EAI_FAMILY, "x"), ErrorCode.DnsError(DnsErrorPayload(None, None))),
    (ssl.SSLCertVerificationError(1, "certificate verify failed"), ErrorCode.TlsCertificateError),
    (
        tls("TLSV1_ALERT_INTERNAL_ERROR", "tlsv1 alert internal error"),
        ErrorCode.TlsAlertReceived(TlsAlertReceivedPayload(80, "internal_error")),
    ),
    (
        tls("SSLV3_ALERT_HANDSHAKE_FAILURE", "sslv3 alert handshake failure"),
        ErrorCode.TlsAlertReceived(TlsAlertReceivedPayload(40, "handshake_failure")),
    ),
    (
        tls("SSL/TLS_ALERT_UNEXPECTED_MESSAGE", "ssl/tls alert unexpected message"),
        ErrorCode.TlsAlertReceived(TlsAlertReceivedPayload(10, "unexpected_message")),
    ),
    (
        tls("TLSV13_ALERT_SOMETHING_NEW", "tlsv13 alert something new"),
        ErrorCode.TlsAlertReceived(TlsAlertReceivedPayload(None, "something_new")),
    ),
    (tls("WRONG_VERSION_NUMBER"), ErrorCode.TlsProtocolError),
    (ssl.SSLError(), ErrorCode.TlsProtocolError),
    (asyncio.IncompleteReadError(b"", 3), ErrorCode.HttpResponseIncomplete),
    (EOFError(), ErrorCode.HttpResponseIncomplete),
    (TimeoutError(), ErrorCode.ConnectionTimeout),
    (OSError(errno.ETIMEDOUT, "Connection timed out"), ErrorCode.ConnectionTimeout),
    (ConnectionRefusedError(), ErrorCode.ConnectionRefused),
    (OSError(errno.ECONNREFUSED, "Connection refused"), ErrorCode.ConnectionRefused),
    (ConnectionResetError(), ErrorCode.ConnectionTerminated),
    (ConnectionAbortedError(), ErrorCode.ConnectionTerminated),
    (BrokenPipeError(), ErrorCode.ConnectionTerminated),
    (UNREACHABLE, ErrorCode.DestinationIpUnroutable),
    (OSError(errno.ENETUNREACH, "x"), ErrorCode.DestinationIpUnroutable),
    (OSError(errno.EADDRNOTAVAIL, "x"), ErrorCode.DestinationUnavailable),
    (OSError(errno.EACCES, "x"), ErrorCode.DestinationIpProhibited),
    (OSError(errno.EPERM, "x"), ErrorCode.DestinationIpProhibited),
    (OSError(errno.EMFILE, "x"), ErrorCode.ConnectionLimitReached),
    (OSError(errno.ENFILE, "x"), ErrorCode.ConnectionLimitReached),
    (OSError(errno.EIO, "x"), ErrorCode.DestinationUnavailable),
    (OSError(), ErrorCode.DestinationUnavailable),
    # What cannot be sent.
    (LocalProtocolError("a secret"), ErrorCode.HttpProtocolError),
    # What guests have no business with: the class, and nothing of the message.
    (ValueError("a secret"), ErrorCode.InternalError("ValueError")),
    (asyncio.CancelledError(), ErrorCode.InternalError("CancelledError")),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=[repr(error) for error, _ in CODES])
def test_what_a_guest_is_told(error: BaseException, code: ErrorCode) -> None:
    assert error_code_of(error) == code


# What a server on the other side may do wrong; whatever is not here is a protocol error.
REASONS = {
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


@pytest.mark.parametrize("reason", Reason)
def test_every_fault_of_a_server_has_a_code(reason: Reason) -> None:
    assert error_code_of(RemoteProtocolError(reason)) == REASONS.get(reason, ErrorCode.HttpProtocolError)


def test_the_cases_are_those_of_the_wit() -> None:
    text = WIT.read_text()
    block = re.search(r"variant error-code \{([^}]*)\}", text)
    assert block is not None
    declared = re.findall(r"([A-Za-z][A-Za-z0-9-]*)(\([^)]*\))?\s*(?:,|$)", block[1])
    assert [name for name, _ in declared] == [name for name, _, _ in ErrorCode.__cases__]
    assert [bool(payload) for _, payload in declared] == [payload is not None for _, payload, _ in ErrorCode.__cases__]


def test_errors_of_other_kinds_become_http_errors() -> None:
    error = HttpError(ErrorCode.LoopDetected)
    assert HttpError.of(error) is error
    made = HttpError.of(ConnectionRefusedError("refused"))
    assert (made.code, str(made)) == (ErrorCode.ConnectionRefused, "refused")


def test_http_errors() -> None:
    error = HttpError(ErrorCode.HttpResponseBodySize(5))
    assert isinstance(error, OSError)
    assert str(error) == "ErrorCode.HttpResponseBodySize(5)"
    assert str(HttpError(ErrorCode.LoopDetected, "round and round")) == "round and round"
    # Errors travel between processes.
    for original in (error, HttpError(ErrorCode.LoopDetected, "round and round")):
        copy = pickle.loads(pickle.dumps(original))
        assert (type(copy), copy.code, str(copy)) == (HttpError, original.code, str(original))
    assert not issubclass(NoResponse, OSError)


def test_payloads_compare_by_value() -> None:
    size = FieldSizePayload("x", 3)
    assert ErrorCode.HttpResponseHeaderSize(size) == ErrorCode.HttpResponseHeaderSize(FieldSizePayload("x", 3))
    assert ErrorCode.HttpResponseHeaderSize(size) != ErrorCode.HttpResponseTrailerSize(size)
    assert hash(ErrorCode.HttpRequestHeaderSize(size)) == hash(ErrorCode.HttpRequestHeaderSize(size))


def test_errors_with_long_texts_of_guests_are_cut() -> None:
    for error in (
        HttpError(ErrorCode.InternalError("x\x1b[31m" * 100_000)),
        HttpError(ErrorCode.LoopDetected, "x" * 9999),
    ):
        assert len(str(error)) < 1100
        assert str(error).isprintable()
        assert str(pickle.loads(pickle.dumps(error))).startswith(str(error)[:400])
