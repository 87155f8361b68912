"""Linear memories."""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.wasi_http.engine.library import lib
from cython.cimports.wasi_http.engine.store import Captured

from wasi_http.engine.errors import CLOSED, Trap

__all__ = ["Memory"]


class Memory(Captured):
    """One linear memory of one store."""

    def span(self, pointer: uint64_t, length: uint64_t) -> cython.pointer(uint8_t):
        context = self.context
        if context == cython.NULL:
            raise RuntimeError(CLOSED)
        size: uint64_t = lib.wasmtime_memory_data_size(context, cython.address(self.memory))
        if pointer > size or length > size - pointer:
            raise Trap(f"pointer out of bounds: {length} bytes at {pointer} in a memory of {size}")
        return lib.wasmtime_memory_data(context, cython.address(self.memory)) + pointer

    def disown(self) -> cython.void:
        self.context = cython.NULL

    def size(self) -> cython.size_t:
        return lib.wasmtime_memory_data_size(self.context, cython.address(self.memory))

    def __len__(self) -> int:
        if self.context == cython.NULL:
            raise RuntimeError(CLOSED)
        return self.size()

    def read(self, pointer: int, length: int) -> bytes:
        """Returns a copy of ``length`` bytes from ``pointer`` on; raises `Trap` out of bounds."""
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.span(pointer, length)), length)
