"""Settings with values that they cannot have: the error names the setting, what it is to be, and what was given."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from wasi_http import (
    Client,
    ClientConfig,
    Egress,
    EgressRule,
    EngineConfig,
    OutgoingRequestConfig,
    Proxies,
    StoreLimits,
    TlsConfig,
    WasiHttpCtx,
)
from wasi_http.client import ConnectionQuota
from wasi_http.client.proxies import Proxy
from wasi_http.http1 import Limits
from wasi_http.server.config import ServerConfig

SETTINGS = (
    ClientConfig,
    EgressRule,
    EngineConfig,
    Limits,
    OutgoingRequestConfig,
    Proxies,
    ServerConfig,
    StoreLimits,
    TlsConfig,
)

#: What a field of a type cannot be, by how its annotation begins.
WRONG: dict[str, list[object]] = {
    "int": ["64MiB", 1.0, True, -1, 1 << 63, 10**5000, [1], int],
    "float": ["10s", True, -1, -0.5, math.nan, [1.0]],
    "bool": ["no", 1, None],
    "str": [b"x", 7, ["x"]],
}

FIELDS = [
    (owner, field.name, value)
    for owner in SETTINGS
    for field in dataclasses.fields(owner)
    for value in WRONG.get(str(field.type).partition(" ")[0], [object()])
    if (owner, field.name) != (OutgoingRequestConfig, "use_tls")
]


@pytest.mark.parametrize(("owner", "name", "value"), FIELDS, ids=[f"{o.__name__}.{n}" for o, n, _ in FIELDS])
def test_what_settings_cannot_be(owner: Any, name: str, value: object) -> None:
    given = {name: value}
    if (owner, name) == (OutgoingRequestConfig, "quota"):
        given["connect_timeout"] = 1
    with pytest.raises((TypeError, ValueError)) as caught:
        owner(**given)
    said = str(caught.value)
    assert said.startswith(f"{owner.__name__}.{name} must be ")
    shown = "an int of 16610 bits" if value == 10**5000 else repr(value)[:100]
    assert f", not {shown}" in said
    assert len(said) < 300


@pytest.mark.parametrize("value", [math.inf, 1e300, 31_536_001])
@pytest.mark.parametrize(
    ("owner", "name"),
    [(owner, field.name) for owner in (ClientConfig, ServerConfig, EngineConfig) for field in dataclasses.fields(owner)
     if str(field.type).startswith("float")],
)  # fmt: skip
def test_times_are_a_year_at_most(owner: Any, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{owner.__name__}\.{name} must be .* at most 31536000 \(a year\), not "):
        owner(**{name: value})


@pytest.mark.parametrize("owner", SETTINGS)
def test_what_they_are_by_default(owner: Any) -> None:
    """Other names for the same are fine: whole seconds, paths."""
    made = owner()
    given = {}
    for field in dataclasses.fields(owner):
        value = getattr(made, field.name)
        if isinstance(value, float) and value.is_integer():
            given[field.name] = int(value)
        if "PathLike" in str(field.type):
            given[field.name] = Path("file")
    assert dataclasses.replace(made, **given) == owner(**given)
    assert pickle.loads(pickle.dumps(made)) == made


MESSAGES: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (EngineConfig, (), {"max_memory_size": "64MiB"}, "must be int, as in 4294967296, not '64MiB'"),
    (StoreLimits, (), {"memory_size": "1MiB"}, "StoreLimits.memory_size must be int, as in 268435456, not '1MiB'"),
    (ServerConfig, (), {"timeout": "10s"}, "ServerConfig.timeout must be a number or None, not '10s'"),
    (ServerConfig, (), {"max_concurrent_requests": 0}, "max_concurrent_requests must be at least 1, not 0"),
    (ServerConfig, (), {"egress": ["example.com"]}, "ServerConfig.egress must be Egress, not ['example.com']"),
    (ClientConfig, (), {"resolver": "8.8.8.8"}, "ClientConfig.resolver must be Resolver or None, not '8.8.8.8'"),
    (ClientConfig, (), {"tls": "ca.pem"}, "ClientConfig.tls must be TlsConfig, not 'ca.pem'"),
    (TlsConfig, (), {"client_key": "key.pem"}, "TlsConfig.client_key needs TlsConfig.client_cert"),
    (Proxies, (), {"http": "http://proxy:3128"}, "Proxies.http must be Proxy or None, not 'http://proxy:3128'"),
    (Proxies, (), {"no_proxy": "localhost"}, "Proxies.no_proxy must be tuple[str, ...], not 'localhost'"),
    (Proxy, ("proxy", "80"), {}, "Proxy.port must be int, not '80'"),
    (Proxy, ("proxy", 65536), {}, "Proxy.port must be 1 to 65535, not 65536"),
    (ConnectionQuota, ("10",), {}, "ConnectionQuota.limit must be an int from 1 on, not '10'"),
    (WasiHttpCtx, (), {"field_size_limit": "1KiB"}, "field_size_limit must be an int, the number of bytes, not '1KiB'"),
    (Egress.parse, (["a"],), {}, "an egress rule is a str, as in 'example.com' or '10.0.0.0/8:443', not ['a']"),
    (Egress, (["a"],), {}, "expected EgressRule, got str: write Egress.parse('example.com', '10.0.0.0/8:443')"),
    (Egress, ("all",), {}, "expected EgressRule, got str: write Egress.parse("),
    (Client, (TlsConfig(),), {}, "expected ClientConfig, got TlsConfig: write Client(ClientConfig(...))"),
]


@pytest.mark.parametrize(("call", "arguments", "named", "said"), MESSAGES, ids=[said for *_, said in MESSAGES])
def test_what_is_said(call: Any, arguments: tuple[Any, ...], named: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        call(*arguments, **named)
