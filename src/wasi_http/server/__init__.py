"""The server: HTTP/1.1 on sockets in front of a proxy component."""

from wasi_http.server.config import ServerConfig
from wasi_http.server.handler import Handler
from wasi_http.server.server import Worker, listen

__all__ = ["Handler", "ServerConfig", "Worker", "listen"]
