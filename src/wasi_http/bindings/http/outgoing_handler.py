"""``wasi:http/outgoing-handler``: the interface, for a linker."""

from wasi_http.http.outgoing import OutgoingHandler

__all__ = ["OutgoingHandler"]
