"""``wasi:http``, one module for each interface that guests import."""

from wasi_http.bindings.http import outgoing_handler, types

__all__ = ["outgoing_handler", "types"]
