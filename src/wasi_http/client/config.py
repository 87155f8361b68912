"""What a client does and allows: every number has a name and a default here."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

from wasi_http.wire.limits import Limits

__all__ = ["ClientConfig", "TlsConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """How servers are told from impostors, and the client from strangers. TLS 1.2 is the least.

    ``ca_file``
        Certificates, in PEM, that are trusted instead of the system's.
    ``client_certificate``, ``client_key``
        Files in PEM for servers that ask who the client is; the key may be in the certificate's file.
    """

    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None

    def context(self) -> ssl.SSLContext:
        """Reads the files; takes milliseconds. Raises OSError, which `ssl.SSLError` is, for what cannot be read."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self.client_certificate is not None:
            context.load_cert_chain(self.client_certificate, self.client_key)
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Times are in seconds.

    ``max_connections``, ``max_connections_per_host``
        How many may be open at once; a request beyond waits for one, at most for its connect timeout, and fails with
        ``connection-limit-reached``.
    ``max_idle_connections``
        How many are kept for further requests.
    ``idle_timeout``
        For how long.
    ``attempt_delay``
        When a host has several addresses, how long one is tried alone before the next is tried too (RFC 8305).
    """

    max_connections: int = 1000
    max_connections_per_host: int = 256
    max_idle_connections: int = 100
    idle_timeout: float = 30.0
    attempt_delay: float = 0.25
    tls: TlsConfig = field(default_factory=TlsConfig)
    wire_limits: Limits = field(default_factory=Limits)
