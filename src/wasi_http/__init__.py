"""A host for WebAssembly components that speak ``wasi:http``."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasi_http.client import ClientConfig, OutgoingRequestConfig, Proxies, TlsConfig
    from wasi_http.component import Component, InvalidComponent, Linker, LinkError, ResourceTable
    from wasi_http.engine import CompileError, Engine, EngineConfig, Store, StoreLimits, Trap
    from wasi_http.http.context import DEFAULT_FORBIDDEN_HEADERS, WasiHttpCtx
    from wasi_http.http.egress import Egress, EgressDenied
    from wasi_http.http.errors import GuestTimeout, HttpError, HttpResult, NoResponse, ServiceBusy
    from wasi_http.http.linking import (
        add_only_http_to_linker_async,
        add_only_http_to_linker_sync,
        add_to_linker_async,
        add_to_linker_sync,
    )
    from wasi_http.http.message import Body, Request, Response
    from wasi_http.http.send import Client, default_send_request
    from wasi_http.http.view import WasiHttpView
    from wasi_http.net import EgressRule
    from wasi_http.server.config import ConnectionConfig
    from wasi_http.server.embedded import ConnectionFactory, serve_connection
    from wasi_http.service.blocking import BlockingService
    from wasi_http.service.config import ServiceConfig
    from wasi_http.service.proxy import Proxy, ProxyPre
    from wasi_http.service.service import Service
    from wasi_http.wasi.context import WasiCtx, WasiView

__version__ = "0.1.0.dev0"

__all__ = [
    "DEFAULT_FORBIDDEN_HEADERS",
    "BlockingService",
    "Body",
    "Client",
    "ClientConfig",
    "CompileError",
    "Component",
    "ConnectionConfig",
    "ConnectionFactory",
    "Egress",
    "EgressDenied",
    "EgressRule",
    "Engine",
    "EngineConfig",
    "GuestTimeout",
    "HttpError",
    "HttpResult",
    "InvalidComponent",
    "LinkError",
    "Linker",
    "NoResponse",
    "OutgoingRequestConfig",
    "Proxies",
    "Proxy",
    "ProxyPre",
    "Request",
    "ResourceTable",
    "Response",
    "Service",
    "ServiceBusy",
    "ServiceConfig",
    "Store",
    "StoreLimits",
    "TlsConfig",
    "Trap",
    "WasiCtx",
    "WasiHttpCtx",
    "WasiHttpView",
    "WasiView",
    "__version__",
    "add_only_http_to_linker_async",
    "add_only_http_to_linker_sync",
    "add_to_linker_async",
    "add_to_linker_sync",
    "default_send_request",
    "serve_connection",
]

# Of one name the last one counts: `Client` is the one that fails with HttpError.
_HOMES = (
    "client",
    "component",
    "engine",
    "http.context",
    "http.egress",
    "http.errors",
    "http.linking",
    "http.message",
    "http.send",
    "http.view",
    "net",
    "server.config",
    "server.embedded",
    "service.blocking",
    "service.config",
    "service.proxy",
    "service.service",
    "wasi.context",
)


def __getattr__(name: str) -> object:
    """Imports all that is public with the first name that is asked for: the command line begins without it."""
    for home in _HOMES:
        module = import_module(f"{__name__}.{home}")
        globals().update((public, getattr(module, public)) for public in module.__all__ if public in __all__)
    try:
        return globals()[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
