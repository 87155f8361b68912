"""Origins: one form for every way to write a host."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.client.origin import Origin, canonical_host
from wasi_http.error import ErrorCode, HttpError

INVALID = "invalid host name"

# Authority, TLS, host, port, whether the host is an address.
ORIGINS = [
    ("example.com", False, "example.com", 80, False),
    ("example.com", True, "example.com", 443, False),
    ("example.com:8080", True, "example.com", 8080, False),
    ("EXAMPLE.Com.", False, "example.com", 80, False),
    ("a_b.internal:0", False, "a_b.internal", 0, False),
    ("bücher.example", False, "xn--bcher-kva.example", 80, False),
    ("BÜCHER.example.", False, "xn--bcher-kva.example", 80, False),
    ("example\u3002com", False, "example.com", 80, False),
    ("127.0.0.1", False, "127.0.0.1", 80, True),
    ("127.0.0.1.", False, "127.0.0.1", 80, True),
    ("127.1", False, "127.0.0.1", 80, True),
    ("0x7f.1", False, "127.0.0.1", 80, True),
    ("0X7F.0.0.1", False, "127.0.0.1", 80, True),
    ("0177.0.0.01", False, "127.0.0.1", 80, True),
    ("2130706433:81", False, "127.0.0.1", 81, True),
    ("0", False, "0.0.0.0", 80, True),
    ("①②⑦.⓪.⓪.①", False, "127.0.0.1", 80, True),
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
    ],
)
def test_no_authority(authority: str) -> None:
    with pytest.raises(HttpError) as raised:
        Origin.parse(authority, False)
    assert raised.value.code is ErrorCode.HttpRequestUriInvalid


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
        "ⓐ\u200d..",
        "256.0.0.1",
        "1.2.3.4.5",
        "0x",
        "1.2.3.0x1g.5",
        "4294967296",
        "a.1",
        "08",
        "a\0b",
    ],
)
def test_impossible_names(authority: str) -> None:
    with pytest.raises(HttpError) as raised:
        Origin.parse(authority, False)
    assert isinstance(raised.value.code, ErrorCode.DnsError)
    assert raised.value.code.value.rcode == INVALID


@given(st.text(max_size=40))
def test_any_text_has_one_form_or_none(text: str) -> None:
    try:
        host, address = canonical_host(text)
    except HttpError:
        return
    assert host.isascii()
    assert host == host.lower()
    assert canonical_host(host) == (host, address)
    assert canonical_host(host.upper() + ".") == (host, address)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["{0}", "0x{0:x}", "0{0:o}"]))
def test_every_number_is_an_address(number: int, form: str) -> None:
    address = ipaddress.IPv4Address(number)
    assert canonical_host(form.format(number)) == (str(address), address)
