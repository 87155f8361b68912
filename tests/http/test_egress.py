"""The egress policy: rules as text, rules against targets and addresses, and what an embedder gets of it."""

from __future__ import annotations

import asyncio
import ipaddress
import pickle
import socket
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wasi_http import Egress, EgressDenied, EgressRule
from wasi_http.client import ClientRequest, ClientResponse, OutgoingRequestConfig, default_send_request
from wasi_http.http.egress import is_public
from wasi_http.http.errors import ErrorCode, HttpError

DENIED = ErrorCode.HttpRequestDenied
PROHIBITED = ErrorCode.DestinationIpProhibited
PUBLIC = "93.184.216.34"


def request_to(authority: str) -> ClientRequest:
    return ClientRequest("GET", "HTTP", authority, "/")


# ---- rules as text --------------------------------------------------------------------------------------------------

# As written, as `str` gives it back; None when it is the same.
RULES: list[tuple[str, str | None]] = [
    ("all", None),
    ("ALL", "all"),
    ("*", "all"),
    ("all:443", None),
    ("https://all", None),
    ("all.", None),  # a host of that name
    ("example.com", None),
    ("Example.COM.", "example.com"),
    ("example.com:8080", None),
    ("HTTPS://example.com", "https://example.com"),
    ("http://example.com:8080", None),
    ("*.example.com", None),
    ("*.Example.com.:1", "*.example.com:1"),
    ("b\u00fccher.example", "xn--bcher-kva.example"),
    ("xn--BCHER-kva.example", "xn--bcher-kva.example"),
    ("a_b.c-d.example", None),
    ("localhost", None),
    ("127.0.0.1", None),
    ("127.0.0.1:65535", None),
    ("\uff11\uff12\uff17.example", "127.example"),
    ("10.0.0.0/8", None),
    ("10.0.0.0/8:443", None),
    ("10.0.0.1/32", "10.0.0.1"),
    ("0.0.0.0/0", None),
    ("::1", None),
    ("[::1]", "::1"),
    ("[::1]:8080", None),
    ("[0:0::1]:8080", "[::1]:8080"),
    ("fd00::/8", None),
    ("[FD00::]/8:443", "[fd00::]/8:443"),
    ("http://[fd00::]/8", "http://fd00::/8"),
    ("::ffff:10.0.0.1", "::ffff:a00:1"),
    ("https://::1", None),
]


@pytest.mark.parametrize(("text", "canonical"), RULES)
def test_rules(text: str, canonical: str | None) -> None:
    rule = EgressRule.parse(text)
    if canonical != "::ffff:a00:1":  # which form it has depends on the version of Python
        assert str(rule) == (canonical or text)
    assert EgressRule.parse(str(rule)) == rule


FORMS = "write all, HOST, HOST:PORT"
IPV4 = "an IPv4 address is four decimal numbers"
WRONG: list[tuple[str, str]] = [
    ("", FORMS),
    (":80", FORMS),
    ("example.com:", FORMS),
    ("example.com:http", FORMS),
    ("example.com:\u00b2", FORMS),
    ("example.com:0", "the port is 1 to 65535"),
    ("example.com:65536", "the port is 1 to 65535"),
    ("example.com/", FORMS),
    ("https://example.com/path", FORMS),
    ("https://", FORMS),
    ("://example.com", "the scheme is http or https"),
    ("ftp://example.com", "the scheme is http or https"),
    ("user@example.com", FORMS),
    ("user:password@example.com", FORMS),
    ("exa mple.com", FORMS),
    ("example..com", FORMS),
    ("example.com..", FORMS),
    (".example.com", FORMS),
    (".", FORMS),
    ("a" * 64 + ".com", FORMS),
    ("a." * 127 + "com", FORMS),
    ("*.", FORMS),
    ("*.*", FORMS),
    ("*.*.example.com", FORMS),
    ("www.*.com", FORMS),
    ("*example.com", FORMS),
    ("%65xample.com", FORMS),
    ("0x7f.1", IPV4),
    ("2130706433", IPV4),
    ("127.1", IPV4),
    ("0177.0.0.1", IPV4),
    ("0x7f000001", IPV4),
    ("127.0.0.1.", IPV4),
    ("256.0.0.1", IPV4),
    ("*.0.0.1", IPV4),
    ("\uff11\uff12\uff17.\uff10.\uff10.\uff11", FORMS),
    ("10.0.0.0/33", "10.0.0.0/33 is no address or network"),
    ("10.0.0.0/255.0.0.0", FORMS),
    ("10.0.0.1/8", "the network of this address is 10.0.0.0/8"),
    ("[fd00::1]/8:443", "the network of this address is fd00::/8"),
    ("example.com/8", "example.com/8 is no address or network"),
    ("all/0", "all/0 is no address or network"),
    ("[127.0.0.1]", "brackets are for IPv6"),
    ("[example.com]", FORMS),
    ("[::1", FORMS),
    ("[fe80::1%eth0]", FORMS),
    ("fe80::1%eth0", FORMS),
    (":::", ":: is no address or network"),
    ("12345::", "12345:: is no address or network"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG)
def test_what_is_no_rule(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="is no egress rule") as raised:
        Egress.parse("example.com", text)
    assert str(raised.value).startswith(f"{text!r} is no egress rule: ")
    assert reason in str(raised.value)


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


def admits(egress: Egress, request: ClientRequest, config: OutgoingRequestConfig, address: Any, port: int) -> bool:
    """Whether a request may be sent, and that address connected to."""
    try:
        egress.check(request, config)(address, port)
    except EgressDenied as denied:
        return denied.code is not PROHIBITED
    return True


async def sent(egress: Egress, request: ClientRequest, config: OutgoingRequestConfig) -> ClientResponse:
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


# ---- addresses ------------------------------------------------------------------------------------------------------

SPECIAL = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1",
    "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:8.8.8.8", "64:ff9b::7f00:1",
    "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
    "2002:7f00:1::", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00::1", "fd00:ec2::254",
    "fe80::1", "fe80::a9fe:a9fe", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip
ORDINARY = [
    PUBLIC, "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
    "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "172.15.255.255", "172.32.0.0",
    "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
    "2001:200::1", "2001:4860:4860::8888", "2003::1", "2606:4700::1111", "2a00:1450::1", "3ffe::1",
]  # fmt: skip


@pytest.mark.parametrize(("addresses", "public"), [(SPECIAL, False), (ORDINARY, True)])
def test_public_addresses(addresses: list[str], public: bool) -> None:
    assert [text for text in addresses if is_public(ipaddress.ip_address(text)) is not public] == []


ADDRESSES = st.one_of(
    st.ip_addresses(),  # prefers those that have a special purpose
    st.ip_addresses(v=4).map(lambda address: ipaddress.IPv6Address(f"::ffff:{address}")),
    st.ip_addresses(v=4).map(lambda address: ipaddress.IPv6Address(f"64:ff9b::{address}")),
    st.ip_addresses(v=4).map(lambda address: ipaddress.IPv6Address((0x2002 << 112) + (int(address) << 80))),
    st.sampled_from([ipaddress.ip_address(text) for text in SPECIAL + ORDINARY]),
)


@given(ADDRESSES, st.booleans(), st.integers(0, 65535))
def test_all_is_for_public_addresses_only(address: Any, use_tls: bool, port: int) -> None:
    assume(not address.is_global or address.is_multicast)
    config = OutgoingRequestConfig(use_tls)
    text = f"[{address}]" if address.version == 6 else str(address)
    for authority in (text, "example.com", "localhost"):
        request = request_to(f"{authority}:{port}")
        egress = Egress.parse("all", "example.com", "192.0.2.0/32")
        assert admits(egress, request, config, address, port) is (address == ipaddress.ip_address("192.0.2.0"))
        assert admits(Egress.parse("all", str(address)), request, config, address, port)


@given(ADDRESSES)
def test_an_address_that_embeds_another_is_not_public(address: Any) -> None:
    if address.version == 6 and (address.ipv4_mapped or address.sixtofour or address.teredo):
        assert not is_public(address)


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
                response: ClientResponse = await send(request, config)
                assert response.status == 204

            def refuse(address: object, port: int) -> None:
                raise HttpError(PROHIBITED)

            with pytest.raises(HttpError) as raised:
                await default_send_request(request, config, admit=refuse)
            assert raised.value.code is PROHIBITED

    asyncio.run(main())
