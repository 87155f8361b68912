"""Egress policy: rules for hosts, ports, schemes and networks, and which addresses are public.

A target is checked twice: a rule must match the requested name or address, then the rules must allow the very address
to connect to. A name proves nothing about its address: its owner can point it into the operator's network, now or with
the next answer (DNS rebinding). So

- a name needs a rule for that name (or ``all``);
- an address needs a rule for that address or its network (or ``all``, if the address is public);
- an address that is not public needs, in both cases, a rule for it or its network, whatever rule the name has.
  The one exception: rules for ``localhost`` and names below it allow loopback addresses.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from wasi_http.net.authority import Address, InvalidHost, Origin, canonical_host, is_numeric
from wasi_http.settings import check

__all__ = ["AddressPolicy", "Denied", "EgressRule", "is_public", "policy_of"]

#: Raises OSError to forbid connections to an address and port.
AddressPolicy = Callable[[Address, int], None]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# Not from `ipaddress`: the results of is_global and the like depend on the version of Python.
_IPV4_SPECIAL: Final = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network; on Linux 0.0.0.0 is loopback
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by carriers
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform services, though the address is public
        "169.254.0.0/16",  # link-local: metadata services of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation, as 198.51.100.0/24 and 203.0.113.0/24
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
# Everything else in IPv6 is local, reserved, or maps to an IPv4 address (mapped, compatible, NAT64).
_IPV6_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_IPV6_SPECIAL: Final = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocols: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation, as 3fff::/20
        "2002::/16",  # 6to4
        "3fff::/20",
    )
]
_LOOPBACK: Final = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))

_RULE: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\[\]:/]+))(?:/(?P<prefix>[0-9]{1,3}))?(?::(?P<port>[0-9]{1,5}))?"
).fullmatch
_BARE_IPV6: Final = re.compile(
    r"(?P<ipv6>[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)(?:/(?P<prefix>[0-9]{1,3}))?"
).fullmatch


def is_public(address: Address) -> bool:
    """Returns whether an address belongs to the public internet itself, and does not tunnel to another network."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _IPV4_SPECIAL)
    return address in _IPV6_UNICAST and not any(address in network for network in _IPV6_SPECIAL)


class Denied(PermissionError):
    """The rules do not allow a target; ``rule`` is the text of a rule that would."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"no rule allows it; {rule} would")
        self.rule = rule

    def __reduce__(self) -> tuple[type[Denied], tuple[str]]:
        return type(self), (self.rule,)


@dataclass(frozen=True, slots=True)
class EgressRule:
    """One rule; None matches anything. ``name`` and ``network`` exclude each other."""

    name: str | None = None
    #: Matches the names below ``name``, and not the name itself.
    subdomains: bool = False
    network: Network | None = None
    port: int | None = None
    scheme: str | None = None

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def parse(cls, text: str) -> EgressRule:
        """Parses a rule; raises ValueError.

        ``all``; ``HOST``; ``*.DOMAIN`` for all names below a domain; an IPv4 or IPv6 address or network
        (``10.0.0.0/8``, ``fd00::/8``); each optionally followed by ``:PORT`` (with IPv6 in brackets: ``[::1]:8080``,
        ``[fd00::]/8:443``) and preceded by ``http://`` or ``https://``. A rule without a port is for all ports.
        """
        if not isinstance(text, str):
            raise TypeError(f"an egress rule is a str, as in 'example.com' or '10.0.0.0/8:443', not {text!r:.100}")
        before, separator, rest = text.rpartition("://")
        scheme = before.lower() if separator else None
        if scheme not in (None, "http", "https"):
            raise _wrong(text, "the scheme is http or https")
        found = _BARE_IPV6(rest) or _RULE(rest)
        if found is None:
            raise _wrong(text, _FORMS)
        parts = found.groupdict()
        port = int(parts["port"]) if parts.get("port") is not None else None
        if port is not None and not 0 < port < 65536:
            raise _wrong(text, "the port is 1 to 65535")
        host, prefix = parts["ipv6"] or parts["host"], parts["prefix"]
        if parts["ipv6"] or prefix is not None or _is_address(host):
            network = _network(text, host, prefix)
            if parts["ipv6"] and network.version == 4:
                raise _wrong(text, "brackets are for IPv6")
            return cls(network=network, port=port, scheme=scheme)
        if host.lower() in ("all", "*"):
            return cls(port=port, scheme=scheme)
        try:
            name, address = canonical_host(host.removeprefix("*."))
        except InvalidHost:
            numeric = "an IPv4 address is four decimal numbers, as in 127.0.0.1"
            raise _wrong(text, numeric if is_numeric(host.removesuffix(".")) else _FORMS) from None
        if address is not None:
            raise _wrong(text, _FORMS)  # there is nothing below an address
        return cls(name, host.startswith("*."), port=port, scheme=scheme)

    def __str__(self) -> str:
        """Returns the rule as `parse` takes it."""
        if self.network is not None:
            address, prefix = str(self.network).split("/")
            if self.network.version == 6 and self.port is not None:
                address = f"[{address}]"
            host = address if self.network.prefixlen == self.network.max_prefixlen else f"{address}/{prefix}"
        else:
            host = "all" if self.name is None else f"*.{self.name}" if self.subdomains else f"{self.name}"
            if host == self.name == "all":
                host = "all."
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{host}{port}" if self.scheme else f"{host}{port}"

    @property
    def anywhere(self) -> bool:
        return self.name is None and self.network is None

    def names(self, name: str) -> bool:
        """Returns whether the rule matches a canonical name."""
        if self.name is None:
            return self.network is None
        return name.endswith(f".{self.name}") if self.subdomains else name == self.name


_FORMS: Final = "write all, HOST, HOST:PORT, *.DOMAIN, an address or a network, as in [::1]:8080 or 10.0.0.0/8"


def _wrong(text: str, reason: str) -> ValueError:
    return ValueError(f"{text!r} is not an egress rule: {reason}")


def _network(text: str, host: str, prefix: str | None) -> Network:
    try:
        network = ipaddress.ip_network(host if prefix is None else f"{host}/{prefix}", strict=False)
    except ValueError:
        raise _wrong(text, f"{host if prefix is None else f'{host}/{prefix}'} is not an address or network") from None
    if prefix is not None and network.network_address != ipaddress.ip_address(host):
        raise _wrong(text, f"the network of this address is {network}")
    return network


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def policy_of(rules: Iterable[EgressRule], target: Origin) -> AddressPolicy:
    """Returns the policy for a target's addresses and ports. Raises Denied, and so does the policy."""
    rules = [rule for rule in rules if rule.port in (None, target.port) and rule.scheme in (None, target.scheme)]
    networks = [rule.network for rule in rules if rule.network is not None]
    if target.address is None:
        named = [rule for rule in rules if rule.names(target.host)]
        if not named:
            raise Denied(_rule(target))
        if _is_localhost(target.host) and any(rule.name is not None for rule in named):
            networks.extend(_LOOPBACK)
    elif not any(rule.anywhere for rule in rules) and not any(target.address in network for network in networks):
        raise Denied(_rule(target))

    def admit(address: Address, port: int) -> None:
        wrong = port != target.port or target.address not in (None, address)
        if wrong or (not is_public(address) and not any(address in network for network in networks)):
            # Names of loopback often have two addresses, and servers listen on one of them.
            local = _is_localhost(target.host) and any(address in network for network in _LOOPBACK)
            raise Denied(_rule(target, None if local else address))

    return admit


def _rule(target: Origin, address: Address | None = None) -> str:
    """Returns a rule for the target, or for ``address`` instead; with the port, unless it is the scheme's default."""
    address = address or target.address
    port = None if target.port == (443 if target.tls else 80) else target.port
    if address is None:
        return str(EgressRule(target.host, port=port))
    return str(EgressRule(network=ipaddress.ip_network(address), port=port))


def _is_localhost(name: str) -> bool:
    """Returns whether a name is localhost or below it (RFC 6761, section 6.3)."""
    return name == "localhost" or name.endswith(".localhost")
