"""Authorities, address policies and sockets. Independent of HTTP and WASI."""

from wasi_http.net.authority import Address, InvalidAuthority, InvalidHost, Origin, canonical_host
from wasi_http.net.policy import AddressPolicy, EgressRule, is_public

__all__ = [
    "Address",
    "AddressPolicy",
    "EgressRule",
    "InvalidAuthority",
    "InvalidHost",
    "Origin",
    "canonical_host",
    "is_public",
]
