"""The world ``wasi:http/proxy``: what a handler exports, and the types of its interfaces. Nothing is defined here."""

from wasi_http.bindings import http, sync
from wasi_http.service.proxy import Proxy, ProxyPre

__all__ = ["Proxy", "ProxyPre", "http", "sync"]
