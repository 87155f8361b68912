"""A growing buffer for parts of a binary."""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy

__all__ = ["Writer"]


class Writer:
    def __cinit__(self):
        self.data = cython.NULL

    def __dealloc__(self):
        free(self.data)

    def reserve(self, count: cython.Py_ssize_t) -> cython.int:
        if self.size + count > self.capacity:
            capacity: cython.Py_ssize_t = 2 * self.capacity + count + 64
            data = realloc(self.data, capacity)
            if data == cython.NULL:
                raise MemoryError
            self.data = cython.cast(cython.p_uchar, data)
            self.capacity = capacity
        return 0

    def byte(self, value: cython.int) -> cython.int:
        self.reserve(1)
        self.data[self.size] = value
        self.size += 1
        return 0

    def u32(self, value: cython.Py_ssize_t) -> cython.int:
        """Writes an unsigned number in LEB128."""
        self.reserve(5)
        while value >= 0x80:
            self.data[self.size] = (value & 0x7F) | 0x80
            self.size += 1
            value >>= 7
        self.data[self.size] = value
        self.size += 1
        return 0

    def s64(self, value: cython.Py_ssize_t) -> cython.int:
        """Writes a signed number in LEB128."""
        self.reserve(10)
        while value < -64 or value > 63:
            self.data[self.size] = (value & 0x7F) | 0x80
            self.size += 1
            value >>= 7
        self.data[self.size] = value & 0x7F
        self.size += 1
        return 0

    def raw(self, data: cython.pointer(cython.const[cython.uchar]), count: cython.Py_ssize_t) -> cython.int:
        self.reserve(count)
        memcpy(self.data + self.size, data, count)
        self.size += count
        return 0

    def put(self, data: bytes) -> cython.int:
        start: cython.p_char = data
        return self.raw(cython.cast(cython.pointer(cython.const[cython.uchar]), start), len(data))

    def sized(self, other: Writer) -> cython.int:
        """Writes the size of another buffer, then its content."""
        self.u32(other.size)
        return self.raw(other.data, other.size)

    def section(self, number: cython.int, count: cython.Py_ssize_t, items: Writer) -> cython.int:
        """Writes a section that is a vector; nothing if it would be empty."""
        if count:
            head: Writer = Writer()
            head.u32(count)
            self.byte(number)
            self.u32(head.size + items.size)
            self.raw(head.data, head.size)
            self.raw(items.data, items.size)
        return 0

    def text(self) -> bytes:
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data), self.size)
