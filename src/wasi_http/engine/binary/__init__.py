"""Core modules in binary form: reading, writing, making one of several (core specification 5)."""

from wasi_http.engine.binary.bulk import interruptible
from wasi_http.engine.binary.fuse import fuse
from wasi_http.engine.binary.module import ModuleBinary
from wasi_http.engine.binary.reader import Reader, Unreadable

__all__ = ["ModuleBinary", "Reader", "Unreadable", "fuse", "interruptible"]
