"""HTTP/1.1 on sockets in front of whatever answers requests."""

from wasi_http.server.config import ServerConfig
from wasi_http.server.guests import Guests
from wasi_http.server.listeners import listen
from wasi_http.server.worker import Worker

__all__ = ["Guests", "ServerConfig", "Worker", "listen"]
