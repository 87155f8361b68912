"""Which proxy a request takes."""

from __future__ import annotations

import pytest

from wasi_http.client.proxies import Proxies, Proxy
from wasi_http.net.authority import Origin

HTTP, HTTPS, ALL = Proxy("h", 1), Proxy("s", 2), Proxy("a", 3)

# Environment, URL, proxy.
CHOICES: list[tuple[dict[str, str], str, Proxy | None]] = [
    ({}, "http://x", None),
    ({"HTTP_PROXY": "http://h:1", "HTTPS_PROXY": "http://s:2"}, "http://x", HTTP),
    ({"HTTP_PROXY": "http://h:1", "HTTPS_PROXY": "http://s:2"}, "https://x", HTTPS),
    ({"http_proxy": "h:1", "HTTP_PROXY": "http://s:2"}, "http://x", HTTP),
    ({"http_proxy": "h:1"}, "https://x", None),
    ({"ALL_PROXY": "http://a:3", "http_proxy": "h:1"}, "https://x", ALL),
    ({"ALL_PROXY": "http://a:3", "http_proxy": "h:1"}, "http://x", HTTP),
    ({"all_proxy": "http://a:3", "no_proxy": "*"}, "http://x", None),
    ({"all_proxy": "http://a:3", "no_proxy": "y, X"}, "http://x", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "x"}, "http://www.x", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": ".x"}, "http://www.x", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "*.x"}, "http://www.x", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "x"}, "http://wwwx", ALL),
    ({"all_proxy": "http://a:3", "NO_PROXY": "x:80"}, "http://x", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "x:80"}, "https://x", ALL),
    ({"all_proxy": "http://a:3", "NO_PROXY": "10.0.0.0/8"}, "http://10.1.1.1", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "10.0.0.0/8"}, "http://11.1.1.1", ALL),
    ({"all_proxy": "http://a:3", "NO_PROXY": "10.0.0.1:80"}, "http://10.0.0.1", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "10.0.0.1:81"}, "http://10.0.0.1", ALL),
    ({"all_proxy": "http://a:3", "NO_PROXY": "[::1]:80"}, "http://[::1]", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "[::1]:81"}, "http://[::1]", ALL),
    ({"all_proxy": "http://a:3", "NO_PROXY": "::1"}, "http://[::1]", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "[::1]"}, "http://[::1]", None),
    ({"all_proxy": "http://a:3", "NO_PROXY": "!,,"}, "http://x", ALL),
]


@pytest.mark.parametrize(("environment", "url", "proxy"), CHOICES)
def test_choices(environment: dict[str, str], url: str, proxy: Proxy | None) -> None:
    scheme, _, authority = url.partition("://")
    origin = Origin.parse(authority, scheme == "https")
    assert Proxies.from_environment(environment).proxy_for(origin) == proxy


def test_proxies_from_urls() -> None:
    assert Proxy.parse("http://proxy") == Proxy("proxy", 80)
    assert Proxy.parse("http://[::1]:3128") == Proxy("::1", 3128)
    assert Proxy.parse("http://[::1]:3128").origin.key == (False, "::1", 3128)
    assert Proxy.parse("http://us%40er:p%3Aw@proxy:1") == Proxy("proxy", 1, b"Basic dXNAZXI6cDp3")


@pytest.mark.parametrize("url", ["https://proxy", "socks5://proxy", "http://", "http://proxy:x"])
def test_no_proxies(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Proxy.parse(url)
