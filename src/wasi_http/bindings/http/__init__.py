"""``wasi:http`` as value types."""

from wasi_http.bindings.http import types

__all__ = ["types"]
