"""The server: HTTP/1.1 on sockets in front of a proxy component."""

from wasi_http.server.config import ServerConfig
from wasi_http.server.handler import Handler
from wasi_http.server.listeners import listen
from wasi_http.server.server import Worker

__all__ = ["Handler", "ServerConfig", "Worker", "listen"]
