"""Rules as text, which addresses are public, and what the rules let a target be connected to."""

from __future__ import annotations

import ipaddress
import pickle
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wasi_http.net.authority import Origin
from wasi_http.net.policy import Denied, EgressRule, is_public, policy_of

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
    ("10.0.0.0/33", "10.0.0.0/33 is not an address or network"),
    ("10.0.0.0/255.0.0.0", FORMS),
    ("10.0.0.1/8", "the network of this address is 10.0.0.0/8"),
    ("[fd00::1]/8:443", "the network of this address is fd00::/8"),
    ("example.com/8", "example.com/8 is not an address or network"),
    ("all/0", "all/0 is not an address or network"),
    ("[127.0.0.1]", "brackets are for IPv6"),
    ("[example.com]", FORMS),
    ("[::1", FORMS),
    ("[fe80::1%eth0]", FORMS),
    ("fe80::1%eth0", FORMS),
    (":::", ":: is not an address or network"),
    ("12345::", "12345:: is not an address or network"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG)
def test_what_is_no_rule(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match="is not an egress rule") as raised:
        EgressRule.parse(text)
    assert str(raised.value).startswith(f"{text!r} is not an egress rule: ")
    assert reason in str(raised.value)


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
    "93.184.216.34",
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
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
def test_all_is_for_public_addresses_only(address: Any, tls: bool, port: int) -> None:
    assume(not address.is_global or address.is_multicast)
    text = f"[{address}]" if address.version == 6 else str(address)
    for authority in (text, "example.com", "localhost"):
        target = Origin.parse(f"{authority}:{port}", tls)
        named = admits(["all", "example.com", "192.0.2.0/32"], target, address)
        assert named is (address == ipaddress.ip_address("192.0.2.0"))
        assert admits(["all", str(address)], target, address)


@given(ADDRESSES)
def test_an_address_that_embeds_another_is_not_public(address: Any) -> None:
    if address.version == 6 and (address.ipv4_mapped or address.sixtofour or address.teredo):
        assert not is_public(address)


# ---- targets ---------------------------------------------------------------------------------------------------------


def admits(rules: list[str], target: Origin, address: Any, port: int | None = None) -> bool:
    try:
        policy_of(map(EgressRule.parse, rules), target)(address, target.port if port is None else port)
    except Denied:
        return False
    return True


# Rules, authority, address, the rule that is proposed; None: it is allowed.
TARGETS: list[tuple[list[str], str, str, str | None]] = [
    ([], "example.com", "93.184.216.34", "example.com"),
    (["*.example.com"], "example.com", "93.184.216.34", "example.com"),
    (["*.example.com"], "a.example.com", "93.184.216.34", None),
    (["example.com:80"], "example.com:81", "93.184.216.34", "example.com:81"),
    (["https://example.com"], "example.com", "93.184.216.34", "example.com"),
    (["example.com"], "example.com", "10.0.0.1", "10.0.0.1"),
    (["example.com", "10.0.0.0/8"], "example.com", "10.0.0.1", None),
    (["localhost"], "localhost", "127.0.0.1", None),
    (["all"], "localhost", "127.0.0.1", "localhost"),
    (["all"], "127.0.0.1:1", "127.0.0.1", "127.0.0.1:1"),
    (["127.0.0.0/8"], "127.0.0.1:1", "127.0.0.1", None),
]


@pytest.mark.parametrize(("rules", "authority", "address", "proposed"), TARGETS)
def test_targets(rules: list[str], authority: str, address: str, proposed: str | None) -> None:
    target = Origin.parse(authority, False)
    if proposed is None:
        assert admits(rules, target, ipaddress.ip_address(address))
        # The check is for this one.
        assert not admits(rules, target, ipaddress.ip_address(address), target.port + 1)
        return
    with pytest.raises(Denied) as raised:
        policy_of(map(EgressRule.parse, rules), target)(ipaddress.ip_address(address), target.port)
    assert raised.value.rule == proposed
    copy = pickle.loads(pickle.dumps(raised.value))
    assert (copy.rule, str(copy)) == (proposed, f"no rule allows it; {proposed} would")
