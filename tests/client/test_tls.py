"""TLS: whom the client trusts, how it makes itself known, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
import truststore
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization

from wasi_http.cli.commands import commands
from wasi_http.client import ClientConfig, TlsConfig
from wasi_http.client.tls import context_of
from wasi_http.http.errors import HttpError
from wasi_http.http.send import Client
from wasi_http.http.values import ErrorCode, TlsAlertReceivedPayload

from .conftest import Authority
from .peers import PATIENCE, Peer, ask, forever, get, run, serving, using


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


LOOPBACK_6 = has_ipv6()


def client_of(authority: Authority, **settings: Any) -> Client:
    async def resolver(host: str) -> list[str]:
        return ["127.0.0.1"]

    return Client(ClientConfig(tls=TlsConfig(ca_bundle=authority.bundle, **settings), resolver=resolver))


def test_a_trusted_server(loop: str, authority: Authority) -> None:
    async def main() -> None:
        context = authority.server("a.example", "127.0.0.1")
        async with serving(forever, context) as server, using(client_of(authority)) as client:
            for host in ("a.example", "A.example.", "127.0.0.1"):
                for _ in range(3):
                    reply = await ask(client, get(f"{host}:{server.port}"), use_tls=True)
                    assert reply.body == b"hello"
            assert server.connections == 2
            await client.close()

    run(loop, main())


def test_a_large_response(loop: str, authority: Authority) -> None:
    body = bytes(range(256)) * 4096

    async def script(peer: Peer) -> None:
        while await peer.head():
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async def main() -> None:
        async with serving(script, authority.server()) as server, using(client_of(authority)) as client:
            for _ in range(2):
                assert (await ask(client, get(server.authority), use_tls=True)).body == body
            assert server.connections == 1
            await client.close()

    run(loop, main())


@pytest.mark.parametrize(
    ("host", "sent"),
    [
        ("a.example", "a.example"),
        ("A.example.", "a.example"),
        ("127.0.0.1", None),
        pytest.param("[::1]", None, marks=pytest.mark.skipif(not LOOPBACK_6, reason="there is no IPv6 here")),
    ],
)
def test_the_name_that_servers_are_told(loop: str, authority: Authority, host: str, sent: str | None) -> None:
    names: list[str | None] = []
    protocols: list[object] = []

    async def script(peer: Peer) -> None:
        protocols.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await forever(peer)

    def configure(context: ssl.SSLContext) -> None:
        context.sni_callback = lambda socket, name, context: names.append(name)
        context.set_alpn_protocols(["h2", "http/1.1"])

    async def main() -> None:
        context = authority.server("a.example", "127.0.0.1", "::1", configure=configure)
        address = "::1" if host == "[::1]" else "127.0.0.1"
        async with serving(script, context, address) as server, using(client_of(authority)) as client:
            await ask(client, get(f"{host}:{server.port}"), use_tls=True)
            await client.close()

    run(loop, main())
    assert names == [sent]
    assert protocols == ["http/1.1"]


def test_a_client_certificate(loop: str, authority: Authority) -> None:
    def configure(context: ssl.SSLContext) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.bundle)

    async def main() -> None:
        async with serving(forever, authority.server(configure=configure)) as server:
            certified = client_of(authority, client_cert=authority.client_cert, client_key=authority.client_key)
            async with using(certified) as client:
                assert (await ask(client, get(server.authority), use_tls=True)).body == b"hello"
                await client.close()

    run(loop, main())


@contextmanager
def blocking(context: ssl.SSLContext) -> Iterator[int]:
    """A server that tries to shake hands with one client; asyncio's keep to themselves why they refuse one."""

    def serve() -> None:
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        with context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as encrypted:
            with suppress(ssl.SSLError):
                encrypted.do_handshake()
            with suppress(OSError):
                # What is left unread would reset the connection, and the client might never see the reason.
                while os.read(encrypted.fileno(), 65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def wants_a_certificate(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_REQUIRED


def wants_a_certificate_as_ever(context: ssl.SSLContext) -> None:
    older(context)
    context.verify_mode = ssl.CERT_REQUIRED


def rejecting(context: ssl.SSLContext) -> None:
    context.sni_callback = lambda socket, name, context: ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


def no_common_cipher(context: ssl.SSLContext) -> None:
    older(context)
    context.set_ciphers("PSK")


def too_old(context: ssl.SSLContext) -> None:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


# What the server does, with which alert it refuses.
REFUSALS: list[tuple[Callable[[ssl.SSLContext], object], int, str]] = [
    (wants_a_certificate, 116, "certificate_required"),
    (wants_a_certificate_as_ever, 40, "handshake_failure"),
    (rejecting, 112, "unrecognized_name"),
    (no_common_cipher, 40, "handshake_failure"),
    (too_old, 70, "protocol_version"),
]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize(("configure", "number", "message"), REFUSALS)
def test_refusals(
    loop: str, authority: Authority, configure: Callable[[ssl.SSLContext], object], number: int, message: str
) -> None:
    async def main() -> None:
        with blocking(authority.server("a.example", configure=configure)) as port:
            async with using(client_of(authority)) as client:
                with pytest.raises(HttpError) as raised:
                    await ask(client, get(f"a.example:{port}"), use_tls=True)
                assert raised.value.code == alert(number, message)

    run(loop, main())


def alert(number: int, message: str) -> ErrorCode:
    return ErrorCode.TlsAlertReceived(TlsAlertReceivedPayload(number, message))


def older(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def test_the_oldest_version(loop: str, authority: Authority) -> None:
    assert context_of(TlsConfig()).minimum_version == ssl.TLSVersion.TLSv1_2

    async def main() -> None:
        context = authority.server(configure=older)
        async with serving(forever, context) as server, using(client_of(authority)) as client:
            assert (await ask(client, get(server.authority), use_tls=True)).body == b"hello"
            await client.close()

    run(loop, main())


# Names in the certificate, name asked for, whether the authority is trusted.
FAILURES: list[tuple[list[str], str, bool]] = [
    (["a.example"], "b.example", True),
    (["a.example"], "127.0.0.1", True),
    (["127.0.0.2"], "127.0.0.1", True),
    (["*.example"], "a.b.example", True),
    (["a.example"], "a.example", False),
]


@pytest.mark.parametrize(("names", "host", "trusted"), FAILURES)
def test_servers_that_are_somebody_else(
    loop: str, authority: Authority, names: list[str], host: str, trusted: bool
) -> None:
    async def main() -> None:
        context = (authority if trusted else stranger(authority)).server(*names)
        async with serving(forever, context) as server, using(client_of(authority)) as client:
            for _ in range(2):
                with pytest.raises(HttpError) as raised:
                    await ask(client, get(f"{host}:{server.port}"), use_tls=True)
                assert raised.value.code is ErrorCode.TlsCertificateError

    run(loop, main())


def stranger(authority: Authority) -> Authority:
    return Authority(trustme.CA(), authority.bundle, authority.client_cert, authority.client_key)


def test_the_system_does_not_trust_strangers(loop: str, authority: Authority) -> None:
    async def main() -> None:
        async with serving(forever, authority.server()) as server, using(Client()) as client:
            with pytest.raises(HttpError) as raised:
                await ask(client, get(server.authority), use_tls=True)
            assert raised.value.code is ErrorCode.TlsCertificateError

    run(loop, main())


# What a server sends that speaks no TLS, which error that is.
GIBBERISH: list[tuple[bytes, ErrorCode]] = [
    (b"HTTP/1.1 400 Bad Request\r\n\r\n", ErrorCode.TlsProtocolError),
    (b"\x15\x03\x01\x00\x02\x02\x28", alert(40, "handshake_failure")),
    (b"\x15\x03\x01\x00\x02\x02\x46", alert(70, "protocol_version")),
    (b"\x15\x03\x01\x00\x02\x02\x50", alert(80, "internal_error")),
    (b"\x15\x03\x01\x00\x02\x02\x78", alert(120, "no_application_protocol")),
]


@pytest.mark.parametrize(("answer", "code"), GIBBERISH)
def test_no_tls(loop: str, authority: Authority, answer: bytes, code: ErrorCode) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.reader.read(65536)
        await peer.send(answer)
        await peer.closed()

    async def main() -> None:
        async with serving(script) as server, using(client_of(authority)) as client:
            with pytest.raises(HttpError) as raised:
                await ask(client, get(server.authority), use_tls=True)
            assert raised.value.code == code

    run(loop, main())


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_server_that_goes_in_the_middle(loop: str, authority: Authority, end: str) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.reader.read(65536)
        if end == "reset":
            peer.reset()

    async def main() -> None:
        async with serving(script) as server, using(client_of(authority)) as client:
            with pytest.raises(HttpError) as raised:
                await ask(client, get(server.authority), use_tls=True)
            assert raised.value.code is ErrorCode.ConnectionTerminated

    run(loop, main())


async def mute(peer: Peer) -> None:
    await peer.closed()


def test_a_handshake_that_takes_too_long(loop: str, authority: Authority) -> None:
    async def main() -> None:
        async with serving(mute) as server, using(client_of(authority)) as client:
            with pytest.raises(HttpError) as raised:
                await ask(client, get(server.authority), use_tls=True, connect_timeout=0.1)
            assert raised.value.code is ErrorCode.ConnectionTimeout

    run(loop, main())


def test_cancelling_a_handshake(loop: str, authority: Authority) -> None:
    async def main() -> None:
        async with serving(mute) as server, using(client_of(authority)) as client:
            for number in (1, 2):
                task = asyncio.ensure_future(ask(client, get(server.authority), use_tls=True))
                while server.connections < number:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                while server.open:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)

    run(loop, main())


@pytest.mark.parametrize(
    "tls", [TlsConfig(ca_bundle="/no/such/file"), TlsConfig(ca_bundle=__file__), TlsConfig(client_cert=__file__)]
)
def test_files_that_cannot_be_used(loop: str, tls: TlsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ClientConfig(tls=tls)
    with pytest.raises(OSError):  # noqa: PT011
        Client(config)

    async def main() -> None:
        # They were there when the client was made.
        client = Client()
        client.config = config
        async with serving(mute) as server, using(client):
            with pytest.raises(HttpError) as raised:
                await ask(client, get(server.authority), use_tls=True)
            assert raised.value.code is ErrorCode.ConfigurationError

    run(loop, main())


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


#: What the files have that settings name, made of what they should have; which one is to blame, and why.
UNUSABLE: list[tuple[dict[str, Callable[[bytes], bytes] | None], str, str]] = [
    ({"ca_bundle": None}, "ca_bundle", "No such file or directory"),
    ({"ca_bundle": lambda pem: b"hello"}, "ca_bundle", "has no certificate in PEM"),
    ({"ca_bundle": lambda pem: b""}, "ca_bundle", "has no certificate in PEM"),
    ({"ca_bundle": der}, "ca_bundle", "convert DER with `openssl x509 -inform der`"),
    ({"ca_bundle": lambda pem: pem.replace(b"M", b"!")}, "ca_bundle", "is damaged"),
    ({"client_cert": None}, "client_cert", "No such file or directory"),
    ({"client_cert": der}, "client_cert", "has no certificate in PEM"),
    ({"client_cert": bytes}, "client_cert", "has no private key in PEM"),
    ({"client_cert": bytes, "client_key": None}, "client_key", "No such file or directory"),
    ({"client_cert": bytes, "client_key": lambda pem: b"hello"}, "client_key", "has no private key in PEM"),
    ({"client_cert": bytes, "client_key": lambda pem: OTHER_KEY}, "client_key", "does not belong to the certificate"),
    ({"client_cert": bytes, "client_key": lambda pem: ENCRYPTED_KEY}, "client_key", "the key has a passphrase"),
    ({"client_cert": bytes, "client_key": lambda pem: pem.replace(b"M", b"!")}, "client_key", "damaged"),
]
OTHER_KEY = trustme.CA().private_key_pem.bytes()
ENCRYPTED_KEY = serialization.load_pem_private_key(OTHER_KEY, None).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
)


@pytest.mark.parametrize(("files", "culprit", "why"), UNUSABLE, ids=[f"{name}: {why}" for _, name, why in UNUSABLE])
@pytest.mark.parametrize("kind", [str, Path])
def test_the_file_that_cannot_be_used_is_named(
    authority: Authority,
    tmp_path: Path,
    files: dict[str, Callable[[bytes], bytes] | None],
    culprit: str,
    why: str,
    kind: type,
) -> None:
    good = {"ca_bundle": authority.bundle, "client_cert": authority.client_cert, "client_key": authority.client_key}
    for name, change in files.items():
        if change is not None:
            (tmp_path / name).write_bytes(change(Path(good[name]).read_bytes()))
    tls = TlsConfig(**{name: kind(tmp_path / name) for name in files})
    with pytest.raises(OSError, match=why) as caught:
        Client(ClientConfig(tls=tls))
    assert caught.value.filename == str(tmp_path / culprit)
    assert str(tmp_path / culprit) in str(caught.value)
    options = [text for name in files for text in (f"--egress-{name.replace('_', '-')}", str(tmp_path / name))]
    said = CliRunner().invoke(commands, ["serve", "app.wasm", *options]).stderr
    assert f"--egress-{culprit.replace('_', '-')}" in said
    assert str(tmp_path / culprit) in said


def test_nobody_is_trusted_without_roots() -> None:
    assert context_of(TlsConfig(system_roots=False)).get_ca_certs() == []


@pytest.mark.parametrize("trusted", [True, False])
def test_roots_where_openssl_is_set_up_with_none(
    loop: str, authority: Authority, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    nowhere = ssl.DefaultVerifyPaths(None, None, "SSL_CERT_FILE", "/none", "SSL_CERT_DIR", "/none")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    context_of.cache_clear()
    tls = TlsConfig(ca_bundle=authority.bundle) if trusted else TlsConfig()

    async def main() -> None:
        async with serving(forever, authority.server()) as server, using(Client(ClientConfig(tls=tls))) as client:
            assert isinstance(context_of(tls), truststore.SSLContext)
            if trusted:
                assert (await ask(client, get(server.authority), use_tls=True)).body == b"hello"
            else:
                with pytest.raises(HttpError) as raised:
                    await ask(client, get(server.authority), use_tls=True)
                assert raised.value.code is ErrorCode.TlsCertificateError
            await client.close()

    try:
        run(loop, main())
    finally:
        context_of.cache_clear()


def test_a_server_cannot_have_the_client_negotiate_without_end(authority: Authority) -> None:
    for tls in (authority.tls, TlsConfig()):
        assert context_of(tls).options & ssl.OP_NO_RENEGOTIATION
