"""Ways out: policies and proxies in front of real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from wasi_http.client import (
    ClientConfig,
    OutgoingRequestConfig,
    Proxies,
    TlsConfig,
)
from wasi_http.client.proxies import Proxy
from wasi_http.http.egress import Egress, EgressDenied
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Request, Response
from wasi_http.http.send import Client
from wasi_http.http.values import ErrorCode

from .conftest import Authority
from .peers import Peer, ask, forever, get, ok, run, serving, using


class Ruled(Client):
    """A client behind a policy."""

    def __init__(self, config: ClientConfig, *rules: str) -> None:
        super().__init__(config)
        self.client = Client(config)
        self.egress = Egress.parse(*rules)

    def send_request(  # type: ignore[override]
        self, request: Request, config: OutgoingRequestConfig
    ) -> asyncio.Future[Response]:
        return self.egress.send_request(request, config, self.client)

    async def close(self) -> None:
        await self.client.close()


# ---- policies -------------------------------------------------------------------------------------------------------


def test_a_policy_is_asked_before_anything_happens(loop: str) -> None:
    async def resolver(host: str) -> list[str]:
        raise AssertionError("nobody is to be asked for this name")

    async def main() -> None:
        async with serving(forever) as server:
            client = Ruled(ClientConfig(resolver=resolver), "b.example")
            for authority in ("a.example", server.authority, "a.example"):
                with pytest.raises(EgressDenied) as raised:
                    await ask(client, get(authority))
                assert raised.value.code is ErrorCode.HttpRequestDenied
            assert server.connections == 0

    run(loop, main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST.", "a.example"])
def test_loopback_has_to_be_named(loop: str, host: str) -> None:
    async def resolver(host: str) -> list[str]:
        return ["127.0.0.1"]

    async def main() -> None:
        async with serving(forever) as server:
            client = Ruled(ClientConfig(resolver=resolver), "all")
            with pytest.raises(EgressDenied) as raised:
                await ask(client, get(f"{host}:{server.port}"))
            assert raised.value.code is ErrorCode.DestinationIpProhibited
            assert raised.value.rule is not None
            assert server.connections == 0
            allowed = Ruled(ClientConfig(resolver=resolver), "all", raised.value.rule)
            assert (await ask(allowed, get(f"{host}:{server.port}"))).body == b"hello"
            await allowed.close()

    run(loop, main())


def test_a_name_that_changes_its_mind(loop: str) -> None:
    """The address that was checked is the one that is connected to."""
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def resolver(host: str) -> list[str]:
        return answers.pop(0)

    async def main() -> None:
        async with serving(forever) as server:
            rules = "a.example", f"127.0.0.1:{server.port}"
            async with using(Ruled(ClientConfig(resolver=resolver), *rules)) as client:
                assert (await ask(client, get(f"a.example:{server.port}"))).body == b"hello"
                # The connection is still the one to the address that was checked.
                assert (await ask(client, get(f"a.example:{server.port}"))).body == b"hello"
                await client.close()
                with pytest.raises(EgressDenied):
                    await ask(client, get(f"a.example:{server.port}"))
            assert (server.connections, answers) == (1, [])

    run(loop, main())


def test_a_policy_that_fails_costs_no_connection(loop: str) -> None:
    def broken(address: object, port: int) -> None:
        raise KeyError(port)

    async def main() -> None:
        config = ClientConfig(max_connections=1)
        async with serving(forever) as server, using(Client(config)) as client:
            assert (await ask(client, get(server.authority))).body == b"hello"
            with pytest.raises(KeyError):
                client.send_request(get(server.authority), OutgoingRequestConfig(), admit=broken)
            assert (await ask(client, get(server.authority), connect_timeout=1)).body == b"hello"
            assert server.connections == 1
            await client.close()

    run(loop, main())


def test_addresses_that_are_not_allowed_are_passed_over(loop: str) -> None:
    async def resolver(host: str) -> list[str]:
        return ["127.0.0.2", "::1", "127.0.0.1"]

    async def main() -> None:
        client = Ruled(ClientConfig(resolver=resolver), "a.example", "127.0.0.1")
        async with serving(forever) as server, using(client):
            assert (await ask(client, get(f"a.example:{server.port}"))).body == b"hello"
            await client.close()

    run(loop, main())


# ---- proxies --------------------------------------------------------------------------------------------------------


def through(port: int, tls: Authority | None = None, rules: str | None = None) -> Client:
    async def resolver(host: str) -> list[str]:
        raise AssertionError("the proxy looks names up")

    proxy = Proxy("127.0.0.1", port, b"Basic eDp5")
    proxies = Proxies(http=proxy, https=proxy, no_proxy=("127.0.0.1",))
    config = ClientConfig(proxies=proxies, resolver=resolver, tls=TlsConfig() if tls is None else tls.tls)
    return Client(config) if rules is None else Ruled(config, *rules.split())


def test_http_through_a_proxy(loop: str) -> None:
    heads = []

    async def script(peer: Peer) -> None:
        while head := await peer.head():
            heads.append(head)
            await peer.send(ok(b"from the proxy"))

    async def main() -> None:
        async with serving(script) as proxy, serving(forever) as server, using(through(proxy.port)) as client:
            for _ in range(2):
                assert (await ask(client, get("a.example:81", "/b?c"))).body == b"from the proxy"
            await ask(client, get("a.example", "*", "OPTIONS"))
            assert (await ask(client, get(server.authority))).body == b"hello"
            await client.close()
        assert (
            heads[0]
            == heads[1]
            == (
                b"GET http://a.example:81/b?c HTTP/1.1\r\nhost: a.example:81\r\naccept: */*\r\n"
                b"proxy-authorization: Basic eDp5\r\n\r\n"
            )
        )
        assert heads[2].startswith(b"OPTIONS http://a.example HTTP/1.1\r\nhost: a.example\r\n")

    run(loop, main())


def test_https_through_a_proxy(loop: str, authority: Authority) -> None:
    heads = []

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        reader, writer = await asyncio.open_connection("127.0.0.1", server_port)
        await peer.send(b"HTTP/1.1 200 Connection established\r\nx: y\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except ConnectionError:
                pass
            sink.close()

        await asyncio.gather(copy(reader, peer.writer), copy(peer.reader, writer))

    server_port = 0

    async def main() -> None:
        nonlocal server_port
        context = authority.server("a.example")
        async with serving(forever, context) as server, serving(script) as proxy:
            server_port = server.port
            async with using(through(proxy.port, authority)) as client:
                for _ in range(3):
                    assert (await ask(client, get("a.example:444"), use_tls=True)).body == b"hello"
                assert server.connections == 1
                await client.close()
        assert heads == [
            b"CONNECT a.example:444 HTTP/1.1\r\nhost: a.example:444\r\nproxy-authorization: Basic eDp5\r\n\r\n"
        ]

    run(loop, main())


# What a proxy answers to CONNECT, which error that is.
ANSWERS: list[tuple[bytes, ErrorCode]] = [
    (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", ErrorCode.HttpRequestDenied),
    (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", ErrorCode.HttpRequestDenied),
    (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nbad", ErrorCode.DestinationUnavailable),
    (b"HTTP/1.1 200 OK\r\n\r\ntoo much", ErrorCode.DestinationUnavailable),
    (b"SSH-2.0\r\n\r\n", ErrorCode.HttpProtocolError),
    (b"HTTP/1.1 200", ErrorCode.HttpResponseIncomplete),
    (b"", ErrorCode.ConnectionTerminated),
    (b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 1000) * 100, ErrorCode.HttpResponseHeaderSectionSize(None)),
]


@pytest.mark.parametrize(("answer", "code"), ANSWERS)
def test_answers_of_proxies(loop: str, authority: Authority, answer: bytes, code: ErrorCode) -> None:
    async def script(peer: Peer) -> None:
        assert await peer.head()
        await peer.send(answer)

    async def main() -> None:
        async with serving(script) as proxy, using(through(proxy.port, authority)) as client:
            with pytest.raises(HttpError) as raised:
                await ask(client, get("a.example"), use_tls=True)
            assert raised.value.code == code

    run(loop, main())


async def mute(peer: Peer) -> None:
    await peer.closed()


@pytest.mark.parametrize("end", [asyncio.Task.cancel, None])
def test_a_proxy_that_says_nothing(loop: str, authority: Authority, end: Callable[..., object] | None) -> None:
    async def main() -> None:
        async with serving(mute) as proxy, using(through(proxy.port, authority)) as client:
            timeout = 0.1 if end is None else 60
            task = asyncio.ensure_future(ask(client, get("a.example"), use_tls=True, connect_timeout=timeout))
            while not proxy.open:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
            if end is not None:
                end(task)
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                with pytest.raises(HttpError) as raised:
                    await task
                assert raised.value.code is ErrorCode.ConnectionTimeout

    run(loop, main())


@pytest.mark.parametrize("path", ["@b.example/", ".b.example/", ":81/", "?b", "b", "http://b.example/", "**"])
def test_a_path_is_no_way_to_another_host(loop: str, path: str) -> None:
    """What the policy has looked at is the authority, and a proxy is sent both as one."""

    async def main() -> None:
        async with serving(forever) as proxy, using(through(proxy.port, rules="a.example")) as client:
            with pytest.raises(HttpError) as raised:
                await ask(client, get("a.example", path))
            assert raised.value.code is ErrorCode.HttpRequestUriInvalid
            await client.close()

    run(loop, main())


# Rules, authority, which error that is.
DENIED: list[tuple[str, str, ErrorCode]] = [
    ("a.example", "b.example", ErrorCode.HttpRequestDenied),
    ("all", "10.0.0.1", ErrorCode.DestinationIpProhibited),
    ("all", "0x0a.1", ErrorCode.HttpRequestDenied),
]


@pytest.mark.parametrize(("rules", "authority_", "code"), DENIED)
@pytest.mark.parametrize("use_tls", [False, True])
def test_a_proxy_is_no_way_around_the_policy(
    loop: str, rules: str, authority_: str, code: ErrorCode, use_tls: bool
) -> None:
    async def main() -> None:
        async with serving(mute) as proxy:
            client = through(proxy.port, rules=rules)
            with pytest.raises(EgressDenied) as raised:
                await ask(client, get(authority_), use_tls=use_tls)
            assert raised.value.code is code
            assert proxy.connections == 0

    run(loop, main())
