"""The egress policy: rules as text, rules against targets and addresses, and what an embedder gets of it."""

from __future__ import annotations

import asyncio
import ipaddress
import pickle
import socket
from typing import Any

import pytest

from tests.client.peers import outgoing
from wasi_http import Egress, EgressDenied, EgressRule
from wasi_http.client import OutgoingRequestConfig
from wasi_http.http.errors import HttpError
from wasi_http.http.message import Request, Response
from wasi_http.http.send import default_send_request
from wasi_http.http.values import ErrorCode

DENIED = ErrorCode.HttpRequestDenied
PROHIBITED = ErrorCode.DestinationIpProhibited
PUBLIC = "93.184.216.34"


def request_to(authority: str) -> Request:
    return outgoing("GET", "http", authority)


# ---- policies -----------------------------------------------------------------------------------------------------


def test_policies_are_values() -> None:
    egress = Egress.parse("all", "https://[fd00::]/8:443")
    assert repr(egress) == "Egress.parse('all', 'https://[fd00::]/8:443')"
    copy = pickle.loads(pickle.dumps(egress))
    assert copy == egress
    assert hash(copy) == hash(egress)
    assert egress != Egress.parse("all")
    assert egress != "all"
    denied = pickle.loads(pickle.dumps(EgressDenied(DENIED, "why", "example.com")))
    assert (denied.code, str(denied), denied.rule) == (DENIED, "why", "example.com")


# ---- rules, targets, addresses --------------------------------------------------------------------------------------

# Rules, authority, TLS, the address that it leads to, what becomes of it (True, or the error), the proposed rule.
TARGETS: list[tuple[str, str, bool, str, Any, str | None]] = [
    # Nothing without a rule.
    ("", "example.com", True, PUBLIC, DENIED, "example.com"),
    ("", PUBLIC, False, PUBLIC, DENIED, PUBLIC),
    ("", "[2606:4700::1]:80", False, "2606:4700::1", DENIED, "2606:4700::1"),
    # Hosts.
    ("example.com", "example.com", False, PUBLIC, True, None),
    ("example.com", "EXAMPLE.com.:8080", True, PUBLIC, True, None),
    ("EXAMPLE.com.", "example.com", False, PUBLIC, True, None),
    ("example.com", "www.example.com", False, PUBLIC, DENIED, "www.example.com"),
    ("example.com", "example.com.evil.org", False, PUBLIC, DENIED, "example.com.evil.org"),
    ("example.com", "evilexample.com", False, PUBLIC, DENIED, "evilexample.com"),
    ("example.com", "evil.org", False, PUBLIC, DENIED, "evil.org"),
    ("example.com", PUBLIC, False, PUBLIC, DENIED, PUBLIC),
    ("example.com", "com", False, PUBLIC, DENIED, "com"),
    ("b\u00fccher.example", "XN--bcher-KVA.example", False, PUBLIC, True, None),
    ("b\u00fccher.example", "bucher.example", False, PUBLIC, DENIED, "bucher.example"),
    # Names below a domain.
    ("*.example.com", "www.example.com", False, PUBLIC, True, None),
    ("*.example.com", "a.b.Example.com.", False, PUBLIC, True, None),
    ("*.example.com", "example.com", False, PUBLIC, DENIED, "example.com"),
    ("*.example.com", "evilexample.com", False, PUBLIC, DENIED, "evilexample.com"),
    ("*.example.com", "example.com.evil.org", False, PUBLIC, DENIED, "example.com.evil.org"),
    # Ports and schemes.
    ("example.com:80", "example.com", False, PUBLIC, True, None),
    ("example.com:80", "example.com", True, PUBLIC, DENIED, "example.com"),
    ("example.com:443", "example.com", True, PUBLIC, True, None),
    ("example.com:8080", "example.com:8080", False, PUBLIC, True, None),
    ("example.com:8080", "example.com:08080", False, PUBLIC, True, None),
    ("example.com:8080", "example.com:8081", False, PUBLIC, DENIED, "example.com:8081"),
    ("https://example.com", "example.com:8443", True, PUBLIC, True, None),
    ("https://example.com", "example.com:443", False, PUBLIC, DENIED, "example.com:443"),
    ("http://example.com", "example.com", False, PUBLIC, True, None),
    ("https://all:443", "example.com", True, PUBLIC, True, None),
    ("https://all:443", "example.com", False, PUBLIC, DENIED, "example.com"),
    # Everything that is public.
    ("all", "example.com", True, PUBLIC, True, None),
    ("all", PUBLIC, False, PUBLIC, True, None),
    ("all", "[2606:4700::1]", False, "2606:4700::1", True, None),
    ("all", "example.com", True, "10.0.0.1", PROHIBITED, "10.0.0.1"),
    ("all", "10.0.0.1", True, "10.0.0.1", PROHIBITED, "10.0.0.1"),
    ("all", "localhost", True, "127.0.0.1", PROHIBITED, "localhost"),
    ("all", "localhost", True, "10.0.0.1", PROHIBITED, "10.0.0.1"),
    ("all", "[::ffff:8.8.8.8]", True, "::ffff:8.8.8.8", PROHIBITED, None),
    ("all", "metadata.example", False, "169.254.169.254", PROHIBITED, "169.254.169.254"),
    ("all", "example.com", False, "fe80::1%lo", PROHIBITED, "fe80::1"),
    # Addresses and networks.
    ("127.0.0.1", "127.0.0.1:8080", False, "127.0.0.1", True, None),
    ("127.0.0.1:8080", "127.0.0.1:8080", False, "127.0.0.1", True, None),
    ("127.0.0.1:8080", "127.0.0.1", False, "127.0.0.1", DENIED, "127.0.0.1"),
    ("127.0.0.1", "127.0.0.2", False, "127.0.0.2", DENIED, "127.0.0.2"),
    ("127.0.0.1", "[::ffff:127.0.0.1]", False, "::ffff:127.0.0.1", DENIED, None),
    ("127.0.0.1", "[::7f00:1]", False, "::7f00:1", DENIED, None),
    ("127.0.0.1", "localhost", False, "127.0.0.1", DENIED, "localhost"),
    ("::ffff:127.0.0.1", "[::FFFF:7f00:1]", False, "::ffff:127.0.0.1", True, None),
    ("[::1]", "[::1]", False, "::1", True, None),
    ("[::1]", "[0:0:0::0001]:8080", False, "::1", True, None),
    ("[::1]:8080", "[::1]:8080", False, "::1", True, None),
    ("[::1]:8080", "[::1]", False, "::1", DENIED, "::1"),
    ("10.0.0.0/8", "10.255.0.1", False, "10.255.0.1", True, None),
    ("10.0.0.0/8", "11.0.0.1", False, "11.0.0.1", DENIED, "11.0.0.1"),
    ("10.0.0.0/8:443", "10.0.0.1", True, "10.0.0.1", True, None),
    ("10.0.0.0/8:443", "10.0.0.1", False, "10.0.0.1", DENIED, "10.0.0.1"),
    ("[fd00::]/8:443", "[fd12::1]", True, "fd12::1", True, None),
    ("8.0.0.0/8", "8.8.8.8", True, "8.8.8.8", True, None),
    ("8.0.0.0/8", "dns.example", True, "8.8.8.8", DENIED, "dns.example"),
    ("64:ff9b::/96 all", "example.com", True, "64:ff9b::8.8.8.8", True, None),
    # Names that lead to addresses that are not public: both have to be named.
    ("db.example", "db.example", False, "10.0.0.1", PROHIBITED, "10.0.0.1"),
    ("10.0.0.0/8", "db.example", False, "10.0.0.1", DENIED, "db.example"),
    ("db.example 10.0.0.0/8", "db.example", False, "10.0.0.1", True, None),
    ("db.example 10.0.0.0/8", "db.example", False, "127.0.0.1", PROHIBITED, "127.0.0.1"),
    ("all 10.0.0.0/8", "db.example", False, "10.0.0.1", True, None),
    ("*.example 10.0.0.1", "db.example", False, "10.0.0.2", PROHIBITED, "10.0.0.2"),
    ("db.example https://10.0.0.0/8", "db.example", False, "10.0.0.1", PROHIBITED, "10.0.0.1"),
    ("db.example 10.0.0.0/8:443", "db.example", False, "10.0.0.1", PROHIBITED, "10.0.0.1"),
    # But for localhost.
    ("localhost", "LocalHost.:80", False, "127.0.0.1", True, None),
    ("localhost", "localhost", False, "::1", True, None),
    ("localhost", "localhost", False, "10.0.0.1", PROHIBITED, "10.0.0.1"),
    ("localhost", "localhost.example.com", False, "127.0.0.1", DENIED, "localhost.example.com"),
    ("localhost:80", "localhost:81", False, "127.0.0.1", DENIED, "localhost:81"),
    ("localhost:80 all", "localhost:81", False, "127.0.0.1", PROHIBITED, "localhost:81"),
    ("localhost", "127.0.0.1", False, "127.0.0.1", DENIED, "127.0.0.1"),
    ("localhost all", "example.com", False, "127.0.0.1", PROHIBITED, "127.0.0.1"),
    ("*.localhost", "app.localhost", False, "127.0.0.1", True, None),
    ("notlocalhost", "notlocalhost", False, "127.0.0.1", PROHIBITED, "127.0.0.1"),
]


def resolved(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[tuple[Any, ...]]:
    """Whatever is looked up leads to these addresses. Gives the list of those that are connected to; all refuse."""
    connected: list[tuple[Any, ...]] = []
    found = [
        (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
        for address in addresses
    ]

    def getaddrinfo(host: str, port: int, *arguments: object, flags: int = 0, **options: object) -> list[Any]:
        if flags & socket.AI_NUMERICHOST and not host.strip("0123456789abcdefABCDEF:.") == "":
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        return [(*entry[:4], (entry[4], port)) for entry in found]

    async def attempt(address: Any, port: int) -> socket.socket:
        connected.append((str(address), port))
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr("wasi_http.client.dial._attempt", attempt)
    return connected


def admits(egress: Egress, request: Request, config: OutgoingRequestConfig, address: Any, port: int) -> bool:
    """Whether a request may be sent, and that address connected to."""
    try:
        egress.check(request, config)(address, port)
    except EgressDenied as denied:
        return denied.code is not PROHIBITED
    return True


async def sent(egress: Egress, request: Request, config: OutgoingRequestConfig) -> Response:
    return await egress.send_request(request, config)


def outcome(egress: Egress, authority: str, use_tls: bool = False) -> HttpError:
    with pytest.raises(HttpError) as raised:
        asyncio.run(sent(egress, request_to(authority), OutgoingRequestConfig(use_tls)))
    return raised.value


@pytest.mark.parametrize(("rules", "authority", "use_tls", "address", "expected", "rule"), TARGETS)
def test_targets(
    monkeypatch: pytest.MonkeyPatch,
    rules: str,
    authority: str,
    use_tls: bool,
    address: str,
    expected: Any,
    rule: str | None,
) -> None:
    connected = resolved(monkeypatch, address)
    egress = Egress.parse(*rules.split())
    error = outcome(egress, authority, use_tls)
    if expected is True:
        assert error.code is ErrorCode.ConnectionRefused
        assert [host for host, _ in connected] == [str(ipaddress.ip_address(address))]
        return
    assert isinstance(error, EgressDenied)
    assert error.code is expected
    assert not connected
    assert error.rule is not None
    assert rule in (None, error.rule)
    # What is proposed is a rule that helps, perhaps on the way to another.
    error = outcome(Egress((*egress.rules, EgressRule.parse(error.rule))), authority, use_tls)
    assert error.code is (ErrorCode.ConnectionRefused if connected else PROHIBITED)


# Ways to write 127.0.0.1, or what parsers disagree about. None of them is ever sent, whatever the rules.
DISGUISES = [
    "",
    ":80",
    "0x7f.1",
    "0X7F000001",
    "2130706433",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "127.0.0.01",
    "127.0.0.1.",
    "017700000001",
    "127.0.0.0x1",
    "0x",
    "example.127",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
    "\u2460\u2461\u2466.0.0.1",
    "127\u30020\u30020\u30021",
    "127.0.0.%31",
    "b\u00fccher.example",
    "\u0435xample.com",  # the first letter is Cyrillic
    "example\u3002com",
    "localho\u017ft",
    "%6cocalhost",
    "[127.0.0.1]",
    "[::1%lo]",
    "[::1%25lo]",
    "[fe80::1%1]",
    "::1",
    "[::1",
    "[[::1]]",
    "[::1]x:80",
    "[]",
    "user@127.0.0.1",
    "example.com@127.0.0.1",
    "example.com:80@127.0.0.1",
    "user:password@example.com",
    "127.0.0.1:",
    "example.com:",
    "example.com:80:80",
    "example.com:+80",
    "example.com:65536",
    "example.com:\u0668\u0660",
    "example.com/",
    "example.com?",
    "example.com#",
    "example.com\\",
    "example.com\x00.evil.org",
    "example.com\r\n",
    " 127.0.0.1",
    "127.0.0.1 ",
    "example..com",
    "example.com..",
    ".example.com",
    "*.example.com",
    "*",
    "a" * 64,
    "a." * 127 + "com",
]


@pytest.mark.parametrize("authority", DISGUISES)
def test_disguises(monkeypatch: pytest.MonkeyPatch, authority: str) -> None:
    connected = resolved(monkeypatch, "127.0.0.1")
    everything = Egress.parse("all", "0.0.0.0/0", "::/0", "example.com", "localhost")
    error = outcome(everything, authority)
    assert isinstance(error, EgressDenied)
    assert (error.code, error.rule) == (DENIED, None)
    assert not connected


def test_of_several_addresses_only_those_that_are_allowed_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = resolved(monkeypatch, "127.0.0.1", PUBLIC, "10.0.0.1", "fd00::1", "10.0.0.2")
    error = outcome(Egress.parse("all", "10.0.0.1"), "example.com:81")
    assert error.code is ErrorCode.ConnectionRefused
    assert connected == [(PUBLIC, 81), ("10.0.0.1", 81)]


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second answer would be another's: the address that was checked is the one that is connected to."""
    connected = resolved(monkeypatch, PUBLIC)
    lookup, lookups = socket.getaddrinfo, []

    def rebind(host: str, port: int, *arguments: Any, flags: int = 0, **options: Any) -> list[Any]:
        found = lookup(host, port, *arguments, flags=flags, **options)
        lookups.append(host)
        return found if len(lookups) == 1 else [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    assert outcome(Egress.parse("all"), "example.com").code is ErrorCode.ConnectionRefused
    assert (lookups, connected) == (["example.com"], [(PUBLIC, 80)])


def test_the_check_is_for_one_target() -> None:
    everything, request, config = Egress.parse("all"), request_to("8.8.8.8:81"), OutgoingRequestConfig()
    assert admits(everything, request, config, ipaddress.ip_address("8.8.8.8"), 81)
    assert not admits(everything, request, config, ipaddress.ip_address("8.8.8.8"), 80)
    assert not admits(everything, request, config, ipaddress.ip_address("8.8.4.4"), 81)


def test_targets_are_not_remembered_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasi_http.http.egress._MAX_CHECKED", 3)
    egress, config = Egress.parse("all"), OutgoingRequestConfig()
    for number in range(8):
        request = request_to(f"8.8.8.{number}")
        assert egress.check(request, config) is egress.check(request, config)
        assert len(egress._checked) == 1 + number % 3


def test_a_prohibition_of_the_system_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved(monkeypatch, PUBLIC)

    async def connect(*arguments: object) -> socket.socket:
        raise PermissionError(1, "of the firewall")

    monkeypatch.setattr("wasi_http.client.dial._attempt", connect)
    error = outcome(Egress.parse("all"), "example.com")
    assert error.code is PROHIBITED
    assert not isinstance(error, EgressDenied)


# ---- without a policy -----------------------------------------------------------------------------------------------


def test_the_bare_client_has_no_policy() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            request, config = request_to(f"127.0.0.1:{port}"), OutgoingRequestConfig()
            for send in (default_send_request, Egress.parse(f"http://127.0.0.1:{port}").send_request):
                response: Response = await send(request, config)
                assert response.status == 204

            def refuse(address: object, port: int) -> None:
                raise HttpError(PROHIBITED)

            with pytest.raises(HttpError) as raised:
                await default_send_request(request, config, admit=refuse)
            assert raised.value.code is PROHIBITED

    asyncio.run(main())
