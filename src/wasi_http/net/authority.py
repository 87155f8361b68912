"""Authorities, in the one canonical form that policies, pools and certificates compare.

A name can be written in many ways: in capitals, with a trailing dot, in Unicode. All code compares hosts as
canonicalized by `Origin.parse`. Forms on which parsers disagree are rejected: IPv4 addresses in octal, in hexadecimal,
as one number or with parts left out, which only some resolvers accept.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

__all__ = ["Address", "InvalidAuthority", "InvalidHost", "Origin", "canonical_host", "is_numeric", "join"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_AUTHORITY: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:@/?#\\\s]+))(?::([0-9]{1,5}))?").fullmatch
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?!.{{254}})(?:{_LABEL}\.)*{_LABEL}").fullmatch
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+").fullmatch


class InvalidAuthority(ValueError):
    """The text is not an authority."""


class InvalidHost(InvalidAuthority):
    """The text is neither a host name nor an IPv4 address."""


class Origin:
    """``host`` is canonical (see `canonical_host`), ``address`` is set if it is an address; ``key`` is the identity."""

    __slots__ = ("address", "host", "key", "port", "tls")

    def __init__(self, tls: bool, host: str, port: int, address: Address | None = None) -> None:
        self.tls = tls
        self.host = host
        self.port = port
        self.address = address
        self.key = (tls, host, port)

    @classmethod
    def parse(cls, authority: str, tls: bool) -> Origin:
        """Parses ``host[:port]``; raises InvalidAuthority, InvalidHost for an invalid name."""
        # At most as long as any name, brackets and port included; in messages other alphabets are punycode
        # (RFC 3986, section 3.2.2).
        found = _AUTHORITY(authority) if len(authority) <= 300 and authority.isascii() else None
        authority = authority[:300]
        port = 443 if tls else 80
        if found is not None and found[3]:
            port = int(found[3])
        if found is None or port > 65535:
            raise InvalidAuthority(f"{authority!r} is not host[:port]")
        if found[1] is not None:
            try:
                # Zones are local to this machine: guests may not use them.
                address: Address | None = ipaddress.IPv6Address(found[1] if "%" not in found[1] else "")
            except ValueError:
                raise InvalidAuthority(f"{authority!r} has no valid IPv6 address") from None
            host = str(address)
        else:
            host, address = canonical_host(found[2])
        return cls(tls, host, port, address)

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def __str__(self) -> str:
        """``host:port``"""
        return join(self.host, self.port)


def join(host: str, port: int) -> str:
    """Returns ``host:port``, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def canonical_host(text: str) -> tuple[str, Address | None]:
    """Returns a name in lower-case ASCII without a trailing dot, or an IPv4 address as text and as an address.

    Raises InvalidHost for anything else.
    """
    if is_numeric(text):
        try:
            address = ipaddress.IPv4Address(text)
        except ValueError:
            raise _invalid(text) from None
        return text, address
    try:
        # The codec that sockets use to look names up.
        name = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise _invalid(text) from error
    name = name.removesuffix(".").lower()
    if _NAME(name) is None or is_numeric(name):
        raise _invalid(text)
    return name, None


def is_numeric(host: str) -> bool:
    """Returns whether resolvers may take a host for an IPv4 address, in any form: no name ends in a number."""
    return _NUMBER(host.rpartition(".")[2]) is not None


def _invalid(text: str) -> InvalidHost:
    return InvalidHost(f"{text!r} is not a host name")
