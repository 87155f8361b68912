"""The world ``wasi:http/proxy``: what a handler exports, and the value types of its interfaces."""

from wasi_http.bindings import http
from wasi_http.bindings.proxy import Proxy, ProxyPre

__all__ = ["Proxy", "ProxyPre", "http"]
