"""TLS contexts of clients: the standard library's, with the system's roots."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from functools import lru_cache

import truststore

from wasi_http.settings import check

__all__ = ["TlsConfig", "context_of"]

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How to authenticate servers, and the client's own certificate.

    ``ca_bundle``
        A file of certificates (PEM) to trust.
    ``system_roots``
        Whether to trust the system's roots as well: OpenSSL's default file or that of the variable ``SSL_CERT_FILE``,
        and without one those that `truststore` finds.
    ``client_cert``, ``client_key``
        Files (PEM) with the client's certificate chain and its key; the key may be in the same file.
    """

    ca_bundle: str | os.PathLike[str] | None = None
    system_roots: bool = True
    client_cert: str | os.PathLike[str] | None = None
    client_key: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check(self)
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("TlsConfig.client_key needs TlsConfig.client_cert, the certificate of the key")


@lru_cache(maxsize=32)
def context_of(config: TlsConfig) -> ssl.SSLContext:
    """Returns a context for TLS 1.2 or newer that verifies names and offers HTTP/1.1.

    Raises OSError with its ``filename`` for an unusable file, SSLError if its content is wrong. Cached, because reading
    all certificates takes a while.
    """
    context: ssl.SSLContext
    if config.system_roots and ssl.get_default_verify_paths().cafile is None:
        # Slower: reads them for each connection.
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if config.system_roots:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.ca_bundle is not None:
        certificates = _read(config.ca_bundle)
        try:
            context.load_verify_locations(config.ca_bundle)
        except ssl.SSLError as error:
            raise _unusable(config.ca_bundle, _wrong_certificate(certificates, error)) from None
    if config.client_cert is not None:
        key_file = config.client_cert if config.client_key is None else config.client_key
        certificates, key = _read(config.client_cert), _read(key_file)
        try:
            # With a passphrase-protected key OpenSSL would prompt on the terminal.
            context.load_cert_chain(config.client_cert, key_file, password=lambda: "")
        except ssl.SSLError as error:
            if _CERTIFICATE not in certificates:
                raise _unusable(config.client_cert, _wrong_certificate(certificates, error)) from None
            raise _unusable(key_file, _wrong_key(key, error)) from None
    # With renegotiation a server could keep the client computing for ever.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _unusable(path: str | os.PathLike[str], why: str) -> ssl.SSLError:
    error = ssl.SSLError(ssl.SSL_ERROR_SSL, f"{os.fspath(path)}: {why}")
    error.filename = os.fspath(path)
    return error


def _wrong_certificate(content: bytes, error: ssl.SSLError) -> str:
    if _CERTIFICATE in content:
        return f"a certificate in it is damaged ({error.reason})"
    return "it has no certificate in PEM (-----BEGIN CERTIFICATE-----); convert DER with `openssl x509 -inform der`"


def _wrong_key(content: bytes, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    if b"ENCRYPTED" in content:
        return "the key has a passphrase, which cannot be entered here; remove it with `openssl pkey`"
    if b" PRIVATE KEY-----" not in content:
        return "it has no private key in PEM (-----BEGIN PRIVATE KEY-----)"
    return f"the key or the certificate is damaged ({error.reason})"
