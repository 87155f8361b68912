"""The immediates of each instruction (core specification 5.4)."""

from __future__ import annotations

import cython
from cython.cimports.wasi_http.engine.binary.opcodes import (
    A_DATA,
    A_MEMORY,
    A_TABLE,
    ADDRESS,
    ADDRESS_LANE,
    ALONE,
    AN_ELEMENT,
    BLOCK,
    BULK_INDICES,
    BYTES_4,
    BYTES_8,
    BYTES_16,
    CONSTANT,
    FORMS,
    LANE,
    LAST_BULK,
    NUMBER,
    OF_FUNCTION,
    OF_GLOBAL,
    OF_MEMORY,
    OF_TABLE,
    OF_TYPE_AND_TABLE,
    PREFIX_FC,
    PREFIX_FD,
    REF_FUNC,
    REFERENCE,
    TARGETS,
    TYPES,
    UNKNOWN,
)
from cython.cimports.wasi_http.engine.binary.reader import Reader

from wasi_http.engine.binary.reader import Unreadable

__all__: list[str] = []


@cython.cfunc
def _fill():
    code: cython.int
    for code in [0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, *range(0x45, 0xC5)]:
        FORMS[code] = ALONE
    for code in (0x02, 0x03, 0x04):
        FORMS[code] = BLOCK
    for code in (0x0C, 0x0D, 0x20, 0x21, 0x22, 0x42):
        FORMS[code] = NUMBER
    for code in (0x10, 0x12):
        FORMS[code] = OF_FUNCTION
    for code in (0x11, 0x13):
        FORMS[code] = OF_TYPE_AND_TABLE
    for code in (0x23, 0x24):
        FORMS[code] = OF_GLOBAL
    for code in (0x25, 0x26):
        FORMS[code] = OF_TABLE
    for code in range(0x28, 0x3F):
        FORMS[code] = ADDRESS
    for code in (0x3F, 0x40):
        FORMS[code] = OF_MEMORY
    FORMS[0x0E] = TARGETS
    FORMS[0x1C] = TYPES
    FORMS[0x41] = CONSTANT
    FORMS[0x43] = BYTES_4
    FORMS[0x44] = BYTES_8
    FORMS[0xD0] = REFERENCE
    FORMS[0xD2] = REF_FUNC
    FORMS[0xFC] = PREFIX_FC
    FORMS[0xFD] = PREFIX_FD
    # memory.init, data.drop, memory.copy and fill, table.init, elem.drop, table.copy, grow, size and fill.
    indices = [(A_DATA, A_MEMORY), (A_DATA, 0), (A_MEMORY, A_MEMORY), (A_MEMORY, 0)]
    indices += [(AN_ELEMENT, A_TABLE), (AN_ELEMENT, 0), (A_TABLE, A_TABLE), *[(A_TABLE, 0)] * 3]
    for code in range(8, 18):
        BULK_INDICES[code][0], BULK_INDICES[code][1] = indices[code - 8]


_fill()


def vector_form(code: cython.Py_ssize_t) -> cython.int:
    """Returns the form of the immediates of a vector instruction, by its code after 0xFD."""
    if code < 12 or code == 92 or code == 93:  # loads and stores
        return ADDRESS
    if code < 14:  # v128.const, i8x16.shuffle
        return BYTES_16
    if 21 <= code < 35:
        return LANE
    if 84 <= code < 92:  # loads and stores of a lane
        return ADDRESS_LANE
    return ALONE if code <= 275 else UNKNOWN


def skip_address(reader: Reader) -> cython.int:
    """Skips a memory argument; bit 6 of the alignment flags an explicit memory index."""
    if reader.u32() & 0x40:
        reader.skip_number()
    return reader.skip_number()


def skip_immediates(reader: Reader, form: cython.int) -> cython.int:
    """Skips immediates of the form."""
    code: cython.Py_ssize_t
    if form == ALONE:
        return 0
    if form in (NUMBER, CONSTANT, BLOCK, OF_FUNCTION, REF_FUNC, OF_GLOBAL, OF_TABLE, OF_MEMORY):
        return reader.skip_number()
    if form == ADDRESS:
        return skip_address(reader)
    if form == OF_TYPE_AND_TABLE:
        reader.skip_number()
        return reader.skip_number()
    if form == TARGETS:
        for _ in range(reader.u32() + 1):
            reader.skip_number()
        return 0
    if form == TYPES:
        for _ in range(reader.u32()):
            if reader.byte() < 0x6F:
                raise Unreadable
        return 0
    if form == REFERENCE:
        if reader.byte() not in (0x70, 0x6F):
            raise Unreadable
        return 0
    if form == BYTES_4:
        return reader.skip(4)
    if form == BYTES_8:
        return reader.skip(8)
    if form == BYTES_16:
        return reader.skip(16)
    if form == LANE:
        return reader.skip(1)
    if form == ADDRESS_LANE:
        skip_address(reader)
        return reader.skip(1)
    if form == PREFIX_FD:
        return skip_immediates(reader, vector_form(reader.u32()))
    if form == PREFIX_FC:
        code = reader.u32()
        if code > LAST_BULK:
            raise Unreadable
        if code >= 8:  # below it conversions of numbers
            reader.skip_number()
            if BULK_INDICES[code][1]:
                reader.skip_number()
        return 0
    raise Unreadable


def skip_expression(reader: Reader) -> cython.int:
    """Skips a constant expression and its end."""
    code: cython.int = reader.byte()
    while code != 0x0B:
        skip_immediates(reader, FORMS[code])
        code = reader.byte()
    return 0
