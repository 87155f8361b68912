"""TLS for clients: the standard library's, with the system's roots."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import lru_cache

import truststore

__all__ = ["TlsConfig", "context_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How servers are recognised, and how the client makes itself known to them.

    ``ca_bundle``
        A file of certificates (PEM) to trust.
    ``system_roots``
        Whether to trust also what the system does: the file that OpenSSL is set up with or that the variable
        ``SSL_CERT_FILE`` names, and where there is none what `truststore` finds.
    ``client_cert``, ``client_key``
        Files (PEM) with the client's certificate chain and its key; the key may be in the same file.
    """

    ca_bundle: str | None = None
    system_roots: bool = True
    client_cert: str | None = None
    client_key: str | None = None


@lru_cache(maxsize=32)
def context_of(config: TlsConfig) -> ssl.SSLContext:
    """TLS 1.2 or newer, names checked, HTTP/1.1 announced. Raises OSError for files that cannot be used.

    Remembered, because reading all the certificates takes a while.
    """
    context: ssl.SSLContext
    if config.system_roots and ssl.get_default_verify_paths().cafile is None:
        # Reads them for each connection, but knows where.
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if config.system_roots:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.ca_bundle is not None:
        context.load_verify_locations(config.ca_bundle)
    if config.client_cert is not None:
        # A key with a passphrase would have OpenSSL ask on the terminal.
        context.load_cert_chain(config.client_cert, config.client_key, password=lambda: "")
    # A server could have the client compute for ever.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context
