"""The world ``wasi:http/proxy`` for threads without an event loop: the calls block."""

from wasi_http.service.sync import Body, Exchange, IncomingHandlerGuest, Proxy, ProxyPre, Response

__all__ = ["Body", "Exchange", "IncomingHandlerGuest", "Proxy", "ProxyPre", "Response"]
