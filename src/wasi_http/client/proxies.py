"""HTTP proxies, and the requests that go through them."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from wasi_http.net.authority import InvalidHost, Origin, canonical_host, join
from wasi_http.settings import check

__all__ = ["Proxies", "Proxy"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy reached over plain HTTP; ``authorization`` is the value of Proxy-Authorization."""

    host: str
    port: int
    authorization: bytes | None = None

    def __post_init__(self) -> None:
        check(self, ("port",))
        if self.port > 65535:
            raise ValueError(f"Proxy.port must be 1 to 65535, not {self.port}")

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Parses ``http://[user:password@]host[:port]``; raises ValueError."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{parts.scheme}://{parts.hostname or ''} is not an HTTP proxy: write http://HOST:PORT")
        authorization = None
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = b"Basic " + base64.b64encode(credentials.encode())
        return cls(parts.hostname, parts.port or 80, authorization)

    @property
    def origin(self) -> Origin:
        """The proxy's own origin; raises InvalidAuthority."""
        return Origin.parse(join(self.host, self.port), False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """``http`` and ``https`` are for requests of that scheme; ``no_proxy`` lists hosts to reach directly.

    An entry of ``no_proxy`` is a name, which includes all names below it, an address, a network, or ``*``; a port may
    follow a name or an address (with IPv6 in brackets).
    """

    http: Proxy | None = None
    https: Proxy | None = None
    no_proxy: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxies:
        """Reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, in upper or lower case; raises ValueError."""

        def value(name: str) -> str:
            return environment.get(name) or environment.get(name.upper()) or ""

        def proxy(name: str) -> Proxy | None:
            url = value(name) or value("all_proxy")
            return Proxy.parse(url) if url else None

        excluded = tuple(entry.strip().lower() for entry in value("no_proxy").split(",") if entry.strip())
        return cls(http=proxy("http_proxy"), https=proxy("https_proxy"), no_proxy=excluded)

    def proxy_for(self, origin: Origin) -> Proxy | None:
        """Returns the proxy for an origin, or None."""
        proxy = self.https if origin.tls else self.http
        if proxy is None or any(_excludes(entry, origin) for entry in self.no_proxy):
            return None
        return proxy


def _excludes(entry: str, origin: Origin) -> bool:
    if entry == "*":
        return True
    if origin.address is not None:
        address, bracket, port = entry.rpartition("]")
        if bracket and port and port != f":{origin.port}":
            return False
        try:
            return origin.address in ipaddress.ip_network((address if bracket else entry).lstrip("["), strict=False)
        except ValueError:
            pass
    name, colon, port = entry.partition(":")
    if colon and port.isdecimal() and int(port) != origin.port:
        return False
    try:
        name, _ = canonical_host(name.removeprefix("*").removeprefix("."))
    except InvalidHost:
        return False
    return origin.host == name or (origin.address is None and origin.host.endswith(f".{name}"))
