"""The context of a call (specification: CanonicalABI.md, "Lifting and Lowering Context")."""

from __future__ import annotations

import cython
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.wasi_http.engine.libwasmtime import wasmtime_val_raw_t

from wasi_http.engine.errors import Trap

__all__ = ["ENCODINGS", "MAX_BYTE_LENGTH", "LiftLowerContext"]

ENCODINGS = {"utf8": UTF8, "utf16": UTF16, "latin1+utf16": LATIN1_UTF16}

#: The longest string or list, in bytes (specification: MAX_STRING_BYTE_LENGTH and MAX_LIST_BYTE_LENGTH).
MAX_BYTE_LENGTH = MAX_BYTES


@cython.final
@cython.freelist(64)  # one or more for each request
@cython.cclass
class LiftLowerContext:
    """The canonical options of a call, resolved in one store.

    ``limit`` is what lifting the values of one call may cost on the host, in bytes; more is a `Trap`. One byte in the
    guest can become a Python object of sixty: a list is charged for all its elements before the first is made.
    """

    def span(self, pointer: uint64_t, length: uint64_t, alignment: uint32_t) -> cython.pointer(uint8_t):
        if pointer & (alignment - 1):
            raise Trap(f"pointer {pointer} is not aligned to {alignment}")
        if self.memory is None:
            raise Trap("the guest has no memory yet")
        return self.memory.span(pointer, length)

    def allocate(
        self, size: uint64_t, alignment: uint32_t, pointer: cython.pointer(uint32_t)
    ) -> cython.pointer(uint8_t):
        """Calls the guest's realloc and checks the result."""
        raw: wasmtime_val_raw_t[4]
        if size > MAX_BYTES:
            raise OverflowError(f"a value of {size} bytes is too long for a guest")
        if self.realloc is None:
            raise Trap("the guest has no realloc yet")
        raw[0].i64 = 0
        raw[1].i64 = 0
        raw[2].i64 = alignment
        raw[3].i64 = cython.cast(int64_t, size)
        self.instance.may_leave = False
        try:
            self.realloc.call_raw(raw, 4)
        finally:
            self.instance.may_leave = True
        pointer[0] = raw[0].u32
        if pointer[0] & (alignment - 1):
            raise Trap(f"realloc returned {pointer[0]}, which is not aligned to {alignment}")
        return self.span(pointer[0], size, 1)

    def exceed(self) -> cython.int:
        raise Trap(f"the values of one call take more than {self.limit} bytes on the host")
