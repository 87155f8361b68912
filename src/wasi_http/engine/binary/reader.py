"""A cursor over a binary: bytes, numbers in LEB128 and names (core specification 5.2)."""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize

__all__ = ["Reader", "Unreadable"]


class Unreadable(Exception):
    """A binary is malformed, or uses an unsupported feature.

    ``reason`` is a phrase with ``{}`` for the item being read; ``offset`` counts bytes from the start of the data of
    the first `Reader`.
    """

    def __init__(self, reason: str = "{} is malformed or not supported", offset: int = 0) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        self.offset = offset

    def about(self, what: str) -> str:
        """Returns the reason with ``what`` filled in."""
        return self.reason.format(what)


class Reader:
    """Reads ``data`` from ``at``, initially 0, to ``end``. Does not move when it raises `Unreadable`."""

    def __init__(self, data: bytes | memoryview) -> None:
        view: cython.const[cython.uchar][::1] = data
        self.owner = view
        self.end = view.shape[0]
        if self.end:
            self.data = cython.address(view[0])

    def fail(self, reason: str, offset: cython.Py_ssize_t) -> cython.int:
        raise Unreadable(reason, offset)

    def byte(self) -> cython.int:
        if self.at >= self.end:
            self.fail("unexpected end in {}", self.at)
        self.at += 1
        return self.data[self.at - 1]

    def u32(self) -> cython.Py_ssize_t:
        """Reads an unsigned LEB128 number of at most 32 bits."""
        if self.at < self.end and self.data[self.at] < 0x80:
            self.at += 1
            return self.data[self.at - 1]
        return self.number(False)

    def s33(self) -> cython.Py_ssize_t:
        """Reads a signed LEB128 number of at most 33 bits."""
        return self.number(True)

    def number(self, signed: cython.bint) -> cython.Py_ssize_t:
        value: cython.Py_ssize_t = 0
        shift: cython.int = 0
        at: cython.Py_ssize_t = self.at
        byte: cython.Py_ssize_t = 0x80
        while byte >= 0x80:
            if at >= self.end:
                self.fail("unexpected end in {}", at)
            if shift > 28:
                self.fail("{} is a number of more than 5 bytes", self.at)
            byte = self.data[at]
            value |= (byte & 0x7F) << shift
            shift += 7
            at += 1
        if signed:
            if byte & 0x40:
                value -= cython.cast(cython.Py_ssize_t, 1) << shift
            if value < -0x100000000 or value > 0xFFFFFFFF:
                self.fail("{} does not fit into 33 bits", self.at)
        elif value > 0xFFFFFFFF:
            self.fail("{} does not fit into 32 bits", self.at)
        self.at = at
        return value

    def skip(self, count: cython.Py_ssize_t) -> cython.int:
        """Skips ``count`` bytes; raises `Unreadable` if there are fewer."""
        if count < 0 or count > self.end - self.at:
            self.fail("unexpected end in {}", self.end)
        self.at += count
        return 0

    def skip_number(self) -> cython.int:
        """Skips a LEB128 number of at most 64 bits."""
        count: cython.int = 1
        while self.byte() >= 0x80:
            count += 1
            if count > 10:
                self.fail("{} is a number of more than 10 bytes", self.at)
        return 0

    def part(self, size: cython.Py_ssize_t) -> Reader:
        """Returns a reader of the next ``size`` bytes, and skips them here. Its ``at`` continues from here."""
        start: cython.Py_ssize_t = self.at
        self.skip(size)
        return self.between(start, self.at)

    def between(self, start: cython.Py_ssize_t, end: cython.Py_ssize_t) -> Reader:
        """Returns a reader of the same data; the caller has checked the bounds."""
        reader: Reader = Reader.__new__(Reader)
        reader.owner = self.owner
        reader.data = self.data
        reader.at = start
        reader.end = end
        return reader

    def since(self, start: cython.Py_ssize_t) -> bytes:
        """Returns the bytes read since ``at`` was ``start``."""
        if start < 0 or start > self.at:
            raise ValueError("nothing was read there")
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data + start), self.at - start)

    def name(self) -> str:
        """Reads a length and as many bytes of UTF-8."""
        begin: cython.Py_ssize_t = self.at
        size: cython.Py_ssize_t = self.u32()
        start: cython.Py_ssize_t = self.at
        try:
            self.skip(size)
            return self.since(start).decode()
        except UnicodeDecodeError as error:
            self.at = begin
            raise Unreadable("{} is not UTF-8", start + error.start) from None
        except Unreadable:
            self.at = begin
            raise
