"""Origins: one form for every way to write a host."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.http.errors import error_code_of
from wasi_http.http.values import DnsErrorPayload, ErrorCode
from wasi_http.net.authority import InvalidAuthority, InvalidHost, Origin, canonical_host

INVALID = "invalid host name"

# Authority, TLS, host, port, whether the host is an address.
ORIGINS = [
    ("example.com", False, "example.com", 80, False),
    ("example.com", True, "example.com", 443, False),
    ("example.com:8080", True, "example.com", 8080, False),
    ("EXAMPLE.Com.", False, "example.com", 80, False),
    ("a_b.internal:0", False, "a_b.internal", 0, False),
    ("127.0.0.1", False, "127.0.0.1", 80, True),
    ("[::1]", False, "::1", 80, True),
    ("[0:0::1]:8080", False, "::1", 8080, True),
    ("[::FFFF:127.0.0.1]", False, "::ffff:127.0.0.1", 80, True),
]


@pytest.mark.parametrize(("authority", "tls", "host", "port", "is_address"), ORIGINS)
def test_origins(authority: str, tls: bool, host: str, port: int, is_address: bool) -> None:
    origin = Origin.parse(authority, tls)
    assert (origin.tls, origin.port) == (tls, port)
    if is_address:
        assert origin.address == ipaddress.ip_address(host)
        assert ipaddress.ip_address(origin.host) == origin.address
    else:
        assert (origin.host, origin.address) == (host, None)
    # What it says of itself is the same origin again.
    assert Origin.parse(str(origin), tls).key == origin.key


@pytest.mark.parametrize(
    "authority",
    [
        "",
        ":80",
        "a:b",
        "a:65536",
        "a:123456",
        "a:-1",
        "a:+1",
        "a b",
        "user@a",
        "user:password@a:80",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "::1",
        "[::1",
        "[::1]x",
        "[::1]]",
        "[]",
        "[127.0.0.1]",
        "[fe80::1%eth0]",
        "[fe80::1%25eth0]",
        "[v1.fe80]",
        "a\r\nb",
        "bücher.example",
        "①②⑦.⓪.⓪.①",
        "a" * 301,
    ],
)
def test_no_authority(authority: str) -> None:
    with pytest.raises(InvalidAuthority) as raised:
        Origin.parse(authority, False)
    assert not isinstance(raised.value, InvalidHost)
    assert error_code_of(raised.value) is ErrorCode.HttpRequestUriInvalid


@pytest.mark.parametrize(
    "authority",
    [
        ".",
        "a..b",
        ".a",
        "a..",
        "-a",
        "a-",
        "a" * 64,
        ".".join(["a" * 63] * 4),
        "%6cocalhost",
        "a,b",
        "a;b",
        "256.0.0.1",
        "1.2.3.4.5",
        "0x",
        "1.2.3.0x1g.5",
        "4294967296",
        "a.1",
        "08",
        # What some resolvers take for 127.0.0.1.
        "127.0.0.1.",
        "127.1",
        "0x7f.1",
        "0X7F.0.0.1",
        "0177.0.0.01",
        "127.0.0.01",
        "2130706433:81",
        "0",
        "a\0b",
    ],
)
def test_impossible_names(authority: str) -> None:
    with pytest.raises(InvalidHost) as raised:
        Origin.parse(authority, False)
    assert error_code_of(raised.value) == ErrorCode.DnsError(DnsErrorPayload(INVALID, None))


@given(st.text(max_size=40))
def test_any_text_has_one_form_or_none(text: str) -> None:
    try:
        host, address = canonical_host(text)
    except InvalidHost:
        return
    assert host.isascii()
    assert host == host.lower()
    assert canonical_host(host) == (host, address)
    if address is None:
        assert canonical_host(host.upper() + ".") == (host, address)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example.", "xn--bcher-kva.example"),
        ("example\u3002com", "example.com"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_hosts_that_people_write(text: str, host: str) -> None:
    assert canonical_host(text)[0] == host


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{0}", "0x{0:x}", "0{0:o}"]))
def test_a_number_is_no_host(number: int, form: str) -> None:
    assert canonical_host(str(ipaddress.IPv4Address(number)))[1] == ipaddress.IPv4Address(number)
    with pytest.raises(InvalidHost):
        canonical_host(form.format(number))
