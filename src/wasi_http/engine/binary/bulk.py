"""Bulk operations that the end of a time slice interrupts.

Compiled code checks for the end of its time slice at loop headers and function entries. ``memory.fill``,
``memory.copy`` and ``memory.init`` have neither inside: one over 200 MiB would block the event loop until it is done.
`interruptible` replaces each by ::

    if the length is at most CHUNK: the operation
    else:                           a function that works in a loop, CHUNK bytes at a time

The semantics of WebAssembly are kept: out of bounds traps before a byte is written, and copies may overlap. Operations
with a small constant length or a small segment stay as they are.

The functions come last in the module, so no index changes. Table operations stay as they are:
`StoreLimits.table_elements` bounds them.
"""

from __future__ import annotations

import cython
from cython.cimports.wasi_http.engine.binary.module import CODE, DATA, FUNCTION, TYPE, ModuleBinary, count
from cython.cimports.wasi_http.engine.binary.opcodes import (
    BULK_INDICES,
    CONSTANT,
    FORMS,
    LAST_BULK,
    MEMORY_COPY,
    MEMORY_FILL,
    MEMORY_INIT,
    PREFIX_FC,
    skip_expression,
    skip_immediates,
)
from cython.cimports.wasi_http.engine.binary.reader import Reader
from cython.cimports.wasi_http.engine.binary.writer import Writer

from wasi_http.engine.binary.reader import Unreadable

__all__ = ["BULK", "CHUNK", "interruptible"]

#: Bump it whenever the output may change: it is part of the keys of the compile cache.
BULK = 2

#: Bytes filled or copied per piece.
CHUNK = 1 << 20


class Bulk:
    """One run of `interruptible`."""

    def __init__(self, module: ModuleBinary) -> None:
        self.module = module
        self.helpers = {}
        self.segments = []
        reader: Reader = module.section(DATA)
        for _ in range(count(reader)):
            form: cython.Py_ssize_t = reader.u32()
            if form > 2:
                raise Unreadable
            if form == 2:
                reader.skip_number()
            if form != 1:
                skip_expression(reader)
            size: cython.Py_ssize_t = reader.u32()
            reader.skip(size)
            self.segments.append(size)

    def bodies(self, out: Writer) -> cython.bint:
        """Writes all bodies; returns False if none changes, and ``out`` is to be ignored."""
        changed: cython.bint = False
        body: Writer = Writer()
        i: cython.Py_ssize_t
        reader: Reader = self.module.section(CODE)
        functions: list = self.module.functions[self.module.imported_functions :]
        if count(reader) != len(functions):
            raise Unreadable
        for i in range(len(functions)):
            size: cython.Py_ssize_t = reader.u32()
            start: cython.Py_ssize_t = reader.at
            part: Reader = reader.part(size)
            for _ in range(part.u32()):
                part.skip_number()
                part.byte()
            sites = self.sites(part)
            if sites is None:
                out.u32(size)
                out.raw(reader.data + start, size)
                continue
            changed = True
            body.size = 0
            parameters: tuple = self.module.signatures[functions[i]].params
            self.body(reader.between(start, reader.at), len(parameters), sites, body)
            out.sized(body)
        return changed

    def sites(self, reader: Reader) -> list:
        """Returns the operations of a body to replace: (start, end, operation, memory or segment, memory)."""
        sites: list = None
        start: cython.Py_ssize_t
        constant: cython.Py_ssize_t = 0
        after_constant: cython.Py_ssize_t = 0
        while reader.at < reader.end:
            start = reader.at
            form: cython.int = FORMS[reader.byte()]
            if form == CONSTANT:
                constant = reader.at
                reader.skip_number()
                after_constant = reader.at
                continue
            if form != PREFIX_FC:
                skip_immediates(reader, form)
                continue
            code: cython.Py_ssize_t = reader.u32()
            if code > LAST_BULK:
                raise Unreadable
            first: cython.Py_ssize_t = reader.u32() if BULK_INDICES[code][0] else -1
            second: cython.Py_ssize_t = reader.u32() if BULK_INDICES[code][1] else -1
            if code == MEMORY_INIT:
                if first >= len(self.segments):
                    raise Unreadable
                if self.segments[first] <= CHUNK:
                    continue
            elif code != MEMORY_COPY and code != MEMORY_FILL:
                continue
            if after_constant == start and reader.between(constant, start).s33() & 0xFFFFFFFF <= CHUNK:
                continue
            if sites is None:
                sites = []
            sites.append((start, reader.at, code, first, second))
        return sites

    def body(self, reader: Reader, parameters: cython.Py_ssize_t, sites: list, out: Writer) -> cython.int:
        groups: cython.Py_ssize_t = reader.u32()
        declared: cython.Py_ssize_t = reader.at
        copied: cython.Py_ssize_t
        length: cython.Py_ssize_t = parameters
        for _ in range(groups):
            length += reader.u32()
            reader.byte()
        # One more local, for the length.
        out.u32(groups + 1)
        out.raw(reader.data + declared, reader.at - declared)
        out.put(b"\x01\x7f")
        copied = reader.at
        for start, end, code, first, second in sites:
            out.raw(reader.data + copied, start - copied)
            number = self.helpers.setdefault((code, first, second), len(self.module.functions) + len(self.helpers))
            out.byte(0x22)  # local.tee
            out.u32(length)
            out.byte(0x20)  # local.get
            out.u32(length)
            out.byte(0x41)  # i32.const
            out.s64(CHUNK)
            out.put(b"\x4b\x04")  # i32.gt_u, if: a block that takes the three operands
            out.s64(len(self.module.types))
            out.byte(0x10)  # call
            out.u32(number)
            out.byte(0x05)  # else
            out.raw(reader.data + cython.cast(cython.Py_ssize_t, start), end - start)
            out.byte(0x0B)
            copied = end
        return out.raw(reader.data + copied, reader.end - copied)


def _helper(code: cython.int, first: cython.Py_ssize_t, second: cython.Py_ssize_t, segment: cython.Py_ssize_t) -> bytes:
    """Returns the body of a function of a destination, a value or source, and a length, in an operation's place.

    ``segment`` is the size of the data segment.
    """
    out: Writer = Writer()
    operation: Writer = Writer()
    operation.put(b"\xfc")
    operation.byte(code)
    operation.u32(first)
    if code != MEMORY_FILL:
        operation.u32(second)
    apply: bytes = operation.text()
    out.byte(0)  # no locals
    # Out of bounds: run the whole operation, which traps. With a dropped segment the first piece traps.
    _put_check(out, 0, second if code == MEMORY_INIT else first)
    if code == MEMORY_COPY:
        _put_check(out, 1, second)
        out.byte(0x72)  # i32.or
    elif code == MEMORY_INIT:
        _put_end(out, 1)
        out.byte(0x42)  # i64.const
        out.s64(segment)
        out.put(b"\x56\x72")  # i64.gt_u, i32.or
    out.put(b"\x04\x40\x20\0\x20\1\x20\2" + apply + b"\x00\x0b")
    if code == MEMORY_COPY:
        # From the end, if an overlap would overwrite it before it is read.
        out.put(b"\x20\0\x20\1\x4b\x04\x40\x03\x40")
        _put_shorten(out)
        out.put(b"\x20\0\x20\2\x6a\x20\1\x20\2\x6a\x41")
        out.s64(CHUNK)
        out.put(apply)
        _put_repeat(out)
        out.put(b"\x0b\x20\0\x20\1\x20\2" + apply + b"\x0f\x0b")
    out.put(b"\x03\x40\x20\0\x20\1\x41")
    out.s64(CHUNK)
    out.put(apply)
    _put_advance(out, 0)
    if code != MEMORY_FILL:
        _put_advance(out, 1)
    _put_shorten(out)
    _put_repeat(out)
    out.put(b"\x0b\x20\0\x20\1\x20\2" + apply + b"\x0b")
    return out.text()


def _put_check(out: Writer, start: cython.int, memory: cython.Py_ssize_t) -> cython.int:
    """Puts whether local ``start`` plus the length is out of bounds, in 64 bits: 65536 pages exceed 32."""
    _put_end(out, start)
    out.byte(0x3F)  # memory.size
    out.u32(memory)
    return out.put(b"\xad\x42\x10\x86\x56")  # i64.extend_i32_u, i64.shl by 16, i64.gt_u


def _put_end(out: Writer, start: cython.int) -> cython.int:
    """Puts local ``start`` plus the length, in 64 bits."""
    out.byte(0x20)
    out.byte(start)
    return out.put(b"\xad\x20\2\xad\x7c")  # i64.extend_i32_u, local.get, i64.extend_i32_u, i64.add


def _put_advance(out: Writer, local: cython.int) -> cython.int:
    out.byte(0x20)
    out.byte(local)
    out.byte(0x41)
    out.s64(CHUNK)
    out.put(b"\x6a\x21")
    return out.byte(local)


def _put_shorten(out: Writer) -> cython.int:
    out.put(b"\x20\2\x41")
    out.s64(CHUNK)
    return out.put(b"\x6b\x21\2")


def _put_repeat(out: Writer) -> cython.int:
    """Repeats the loop while more than a piece is left."""
    out.put(b"\x20\2\x41")
    out.s64(CHUNK)
    return out.put(b"\x4b\x0d\0")


def interruptible(code: bytes | memoryview) -> bytes | memoryview:
    """Returns a valid core module with long bulk operations in pieces; the module itself if it has none.

    Raises `Unreadable` for unknown instructions and sections.
    """
    module: ModuleBinary = ModuleBinary(code)
    bulk: Bulk = Bulk(module)
    bodies: Writer = Writer()
    part: Reader
    if not bulk.bodies(bodies):
        return code
    for operation, first, second in bulk.helpers:
        body = _helper(operation, first, second, bulk.segments[first] if operation == MEMORY_INIT else 0)
        bodies.u32(len(body))
        bodies.put(body)
    added: cython.Py_ssize_t = len(bulk.helpers)
    defined: cython.Py_ssize_t = len(module.functions) - module.imported_functions
    out: Writer = Writer()
    out.put(b"\0asm\x01\0\0\0")
    for number, part in module.parts:
        if number == TYPE:
            items = _items(part)
            items.put(b"\x60\x03\x7f\x7f\x7f\0")
            out.section(number, len(module.types) + 1, items)
        elif number == FUNCTION:
            items = _items(part)
            for _ in range(added):
                items.u32(len(module.types))
            out.section(number, defined + added, items)
        elif number == CODE:
            out.section(number, defined + added, bodies)
        else:
            out.byte(number)
            out.u32(part.end - part.at)
            out.raw(part.data + part.at, part.end - part.at)
    return out.text()


def _items(section: Reader) -> Writer:
    """Returns the items of a section that is a vector, without their count."""
    out: Writer = Writer()
    reader: Reader = section.between(section.at, section.end)
    reader.u32()
    out.raw(reader.data + reader.at, reader.end - reader.at)
    return out
