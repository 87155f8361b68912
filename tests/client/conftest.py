"""Both event loops, and certificates for TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from wasi_http.client import TlsConfig

from .peers import LOOPS


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@dataclass(frozen=True)
class Authority:
    """An authority that nobody else trusts, and what it certifies."""

    ca: trustme.CA
    bundle: str
    client_cert: str
    client_key: str

    @property
    def tls(self) -> TlsConfig:
        return TlsConfig(ca_bundle=self.bundle)

    def server(self, *names: str, configure: Callable[[ssl.SSLContext], object] = id) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
        configure(context)
        return context


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory: Path = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    bundle, cert, key = directory / "ca.pem", directory / "cert.pem", directory / "key.pem"
    ca.cert_pem.write_to_path(bundle)
    client = ca.issue_cert("client.example")
    client.private_key_pem.write_to_path(key)
    for part in client.cert_chain_pems:
        part.write_to_path(cert, append=True)
    return Authority(ca, str(bundle), str(cert), str(key))
