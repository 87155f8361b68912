# ruff: noqa: F821 - what the .pxd declares needs no import here
"""Bulk operations that the end of a time slice interrupts.

Compiled code looks whether its time slice is over where a loop turns and where a function begins. ``memory.fill``,
``memory.copy`` and ``memory.init`` have neither inside: one that is given 200 MiB would hold the event loop until it is
done. `interruptible` puts ::

    if the length is at most CHUNK: the operation
    else:                           a function that works in a loop, CHUNK bytes at a time

in the place of each. What WebAssembly says of them is kept: what is out of bounds traps before a byte is written, and a
copy may overlap itself. A length that is a small constant leaves the operation as it is, and so does a small segment.

The functions come last in the module, so that nothing changes its number. The operations of tables stay as they are:
`StoreLimits.table_elements` bounds them.
"""

from __future__ import annotations

import cython
from cython.cimports.wasi_http.engine.fusion import Reader, Writer, _reader, _skip_expression

from wasi_http.engine.fusion import Unreadable

__all__ = ["BULK", "CHUNK", "interruptible"]

#: Changes whenever a module may look different: compiled ones are kept.
BULK = 2

#: How many bytes are filled or copied in one go.
CHUNK = 1 << 20

_TYPE, _IMPORT, _FUNCTION, _CODE, _DATA = 1, 2, 3, 10, 11
_INIT, _COPY, _FILL = 8, 10, 11

_FORMS = cython.declare(cython.uchar[256])


@cython.cfunc
def _fill_forms():
    code: cython.int
    for code in [0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, *range(0x45, 0xC5)]:
        _FORMS[code] = ALONE
    # Blocks, whose types are numbers too, branches, calls, variables, tables, i64.const, references, sizes of memories.
    for code in [*range(0x02, 0x05), 0x0C, 0x0D, 0x10, 0x12, *range(0x20, 0x27), 0x42, 0xD0, 0xD2, 0x3F, 0x40]:
        _FORMS[code] = NUMBER
    for code in (0x11, 0x13):
        _FORMS[code] = NUMBERS
    for code in range(0x28, 0x3F):
        _FORMS[code] = ADDRESS
    _FORMS[0x41] = CONSTANT
    _FORMS[0x0E] = TARGETS
    _FORMS[0x1C] = TYPES
    _FORMS[0x43] = BYTES_4
    _FORMS[0x44] = BYTES_8
    _FORMS[0xFC] = PREFIX_FC
    _FORMS[0xFD] = PREFIX_FD


_fill_forms()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _skip_address(reader: Reader) -> cython.int:
    """Alignment, memory and offset; bit 6 of the alignment says that a memory is named."""
    if reader.u32() & 0x40:
        reader.skip_number()
    reader.skip_number()
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _skip_vector(reader: Reader) -> cython.int:
    code: cython.Py_ssize_t = reader.u32()
    if code < 12 or code == 92 or code == 93:  # loads and stores
        _skip_address(reader)
    elif 84 <= code < 92:  # loads and stores of a lane
        _skip_address(reader)
        reader.byte()
    elif code < 14:  # v128.const, i8x16.shuffle
        reader.skip(16)
    elif 21 <= code < 35:  # lanes
        reader.byte()
    elif code > 275:
        raise Unreadable
    return 0


@cython.cfunc
def _sites(reader: Reader, segments: list) -> list | None:
    """The operations of a body that are to be replaced: (start, end, operation, memory or segment, memory)."""
    sites: list | None = None
    start: cython.Py_ssize_t
    constant: cython.Py_ssize_t = 0
    after_constant: cython.Py_ssize_t = 0
    while reader.at < reader.end:
        start = reader.at
        form: cython.int = _FORMS[reader.byte()]
        if form == ALONE:
            pass
        elif form == NUMBER:
            reader.skip_number()
        elif form == CONSTANT:
            constant = reader.at
            reader.skip_number()
            after_constant = reader.at
        elif form == ADDRESS:
            _skip_address(reader)
        elif form == NUMBERS:
            reader.skip_number()
            reader.skip_number()
        elif form == TARGETS:
            for _ in range(reader.u32() + 1):
                reader.skip_number()
        elif form == TYPES:
            reader.skip(reader.u32())
        elif form == BYTES_4:
            reader.skip(4)
        elif form == BYTES_8:
            reader.skip(8)
        elif form == PREFIX_FD:
            _skip_vector(reader)
        elif form == PREFIX_FC:
            code: cython.Py_ssize_t = reader.u32()
            if code < 8:
                continue
            if code > 17:
                raise Unreadable
            first: cython.Py_ssize_t = reader.u32()
            second: cython.Py_ssize_t = -1
            if code in (8, 10, 12, 14):
                second = reader.u32()
            if code == _INIT:
                if first >= len(segments):
                    raise Unreadable
                if segments[first] <= CHUNK:
                    continue
            elif code != _COPY and code != _FILL:
                continue
            if after_constant == start and _reader(reader.data, constant, start).s33() & 0xFFFFFFFF <= CHUNK:
                continue
            if sites is None:
                sites = []
            sites.append((start, reader.at, code, first, second))
        else:
            raise Unreadable
    return sites


@cython.final
@cython.cclass
class Bulk:
    """One run of `interruptible`."""

    def __init__(self) -> None:
        self.helpers = {}
        self.parameters = []
        self.segments = []

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _types(self, reader: Reader) -> cython.int:
        for _ in range(reader.u32()):
            if reader.byte() != 0x60:
                raise Unreadable
            count: cython.Py_ssize_t = reader.u32()
            reader.skip(count)
            reader.skip(reader.u32())
            self.parameters.append(count)
        self.type = len(self.parameters)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _imports(self, reader: Reader) -> cython.int:
        for _ in range(reader.u32()):
            reader.skip(reader.u32())
            reader.skip(reader.u32())
            kind: cython.int = reader.byte()
            if kind == 0:
                reader.skip_number()
                self.imported += 1
            elif kind in (1, 2):
                if kind == 1:
                    reader.byte()
                limits: cython.int = reader.byte()
                if limits > 1:
                    raise Unreadable
                reader.skip_number()
                if limits:
                    reader.skip_number()
            elif kind == 3:
                reader.skip(2)
            else:
                raise Unreadable
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _datas(self, reader: Reader) -> cython.int:
        for _ in range(reader.u32()):
            form: cython.Py_ssize_t = reader.u32()
            if form > 2:
                raise Unreadable
            if form == 2:
                reader.skip_number()
            if form != 1:
                _skip_expression(reader)
            size: cython.Py_ssize_t = reader.u32()
            reader.skip(size)
            self.segments.append(size)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _bodies(self, reader: Reader, types: list, out: Writer) -> cython.bint:
        """Writes all bodies; False, and nothing that matters, if none changes."""
        changed: cython.bint = False
        body: Writer = Writer()
        i: cython.Py_ssize_t
        count: cython.Py_ssize_t = reader.u32()
        if count != len(types):
            raise Unreadable
        for i in range(count):
            size: cython.Py_ssize_t = reader.u32()
            start: cython.Py_ssize_t = reader.at
            part = reader.part(size)
            for _ in range(part.u32()):
                part.skip_number()
                part.byte()
            sites = _sites(part, self.segments)
            if sites is None:
                out.u32(size)
                out.raw(reader.data + start, size)
                continue
            changed = True
            if types[i] >= len(self.parameters):
                raise Unreadable
            body.size = 0
            self._body(_reader(reader.data, start, reader.at), self.parameters[types[i]], sites, body)
            out.sized(body)
        return changed

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _body(self, reader: Reader, parameters: cython.Py_ssize_t, sites: list, out: Writer) -> cython.int:
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
            number = self.helpers.setdefault((code, first, second), self.functions + len(self.helpers))
            out.byte(0x22)  # local.tee
            out.u32(length)
            out.byte(0x20)  # local.get
            out.u32(length)
            out.byte(0x41)  # i32.const
            out.s33(CHUNK)
            out.put(b"\x4b\x04")  # i32.gt_u, if: a block that takes the three operands
            out.s33(self.type)
            out.byte(0x10)  # call
            out.u32(number)
            out.byte(0x05)  # else
            out.raw(reader.data + cython.cast(cython.Py_ssize_t, start), end - start)
            out.byte(0x0B)
            copied = end
        return out.raw(reader.data + copied, reader.end - copied)


@cython.cfunc
def _helper(code: cython.int, first: cython.Py_ssize_t, second: cython.Py_ssize_t, segment: cython.Py_ssize_t) -> bytes:
    """The body of a function of a place, a value or a source, and a length; ``segment`` is the size of a segment."""
    out: Writer = Writer()
    operation: Writer = Writer()
    operation.put(b"\xfc")
    operation.byte(code)
    operation.u32(first)
    if code != _FILL:
        operation.u32(second)
    apply: bytes = operation.text()
    out.byte(0)  # no locals
    # Out of bounds: the whole operation traps as it should. Of a segment that was dropped the first piece does.
    _put_check(out, 0, second if code == _INIT else first)
    if code == _COPY:
        _put_check(out, 1, second)
        out.byte(0x72)  # i32.or
    elif code == _INIT:
        _put_end(out, 1)
        out.byte(0x42)  # i64.const
        out.s33(segment)
        out.put(b"\x56\x72")  # i64.gt_u, i32.or
    out.put(b"\x04\x40\x20\0\x20\1\x20\2" + apply + b"\x00\x0b")
    if code == _COPY:
        # The end first, if that would be overwritten before it is read.
        out.put(b"\x20\0\x20\1\x4b\x04\x40\x03\x40")
        _put_shorten(out)
        out.put(b"\x20\0\x20\2\x6a\x20\1\x20\2\x6a\x41")
        out.s33(CHUNK)
        out.put(apply)
        _put_repeat(out)
        out.put(b"\x0b\x20\0\x20\1\x20\2" + apply + b"\x0f\x0b")
    out.put(b"\x03\x40\x20\0\x20\1\x41")
    out.s33(CHUNK)
    out.put(apply)
    _put_advance(out, 0)
    if code != _FILL:
        _put_advance(out, 1)
    _put_shorten(out)
    _put_repeat(out)
    out.put(b"\x0b\x20\0\x20\1\x20\2" + apply + b"\x0b")
    return out.text()


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_check(out: Writer, start: cython.int, memory: cython.Py_ssize_t) -> cython.int:
    """Whether local ``start`` and the length lead out of a memory, in 64 bits: 65536 pages are one byte too many."""
    _put_end(out, start)
    out.byte(0x3F)  # memory.size
    out.u32(memory)
    return out.put(b"\xad\x42\x10\x86\x56")  # i64.extend_i32_u, i64.shl by 16, i64.gt_u


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_end(out: Writer, start: cython.int) -> cython.int:
    """Local ``start`` and the length, in 64 bits."""
    out.byte(0x20)
    out.byte(start)
    return out.put(b"\xad\x20\2\xad\x7c")  # i64.extend_i32_u, local.get, i64.extend_i32_u, i64.add


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_advance(out: Writer, local: cython.int) -> cython.int:
    out.byte(0x20)
    out.byte(local)
    out.byte(0x41)
    out.s33(CHUNK)
    out.put(b"\x6a\x21")
    return out.byte(local)


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_shorten(out: Writer) -> cython.int:
    out.put(b"\x20\2\x41")
    out.s33(CHUNK)
    return out.put(b"\x6b\x21\2")


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_repeat(out: Writer) -> cython.int:
    """Repeats the loop while there is more than a piece."""
    out.put(b"\x20\2\x41")
    out.s33(CHUNK)
    return out.put(b"\x4b\x0d\0")


def interruptible(code: bytes | memoryview) -> bytes | memoryview:
    """A valid core module with long bulk operations in pieces; the module itself if it has none.

    Raises `Unreadable` for what is not known here.
    """
    view: cython.const[cython.uchar][::1] = code
    size: cython.Py_ssize_t = view.shape[0]
    if size < 8:
        raise Unreadable
    data: cython.pointer(cython.const[cython.uchar]) = cython.address(view[0])
    bulk: Bulk = Bulk()
    sections: list = []
    types: list = []
    bodies: Writer = Writer()
    changed: cython.bint = False
    reader = _reader(data, 8, size)
    while reader.at < reader.end:
        number: cython.int = reader.byte()
        section = reader.part(reader.u32())
        sections.append((number, section.at, section.end))
        if number == _TYPE:
            bulk._types(section)
        elif number == _IMPORT:
            bulk._imports(section)
        elif number == _FUNCTION:
            for _ in range(section.u32()):
                types.append(section.u32())
        elif number == _DATA:
            bulk._datas(section)
    bulk.functions = bulk.imported + len(types)
    # Last: the segments that code speaks of come after it.
    for number, start, end in sections:
        if number == _CODE:
            changed = bulk._bodies(_reader(data, start, end), types, bodies)
    if not changed:
        return code
    for operation, first, second in bulk.helpers:
        body = _helper(operation, first, second, bulk.segments[first] if operation == _INIT else 0)
        bodies.u32(len(body))
        bodies.put(body)
    added: cython.Py_ssize_t = len(bulk.helpers)
    out: Writer = Writer()
    out.raw(data, 8)
    for number, start, end in sections:
        section = _reader(data, start, end)
        if number == _TYPE:
            items = _items(section)
            items.put(b"\x60\x03\x7f\x7f\x7f\0")
            out.section(number, bulk.type + 1, items)
        elif number == _FUNCTION:
            items = _items(section)
            for _ in range(added):
                items.u32(bulk.type)
            out.section(number, len(types) + added, items)
        elif number == _CODE:
            out.section(number, len(types) + added, bodies)
        else:
            out.byte(number)
            out.u32(section.end - section.at)
            out.raw(data + section.at, section.end - section.at)
    return out.text()


@cython.cfunc
def _items(reader: Reader) -> Writer:
    """What a section that is a vector has, without its length."""
    out: Writer = Writer()
    reader.u32()
    out.raw(reader.data + reader.at, reader.end - reader.at)
    return out
