"""Fusion: the core instances of a component become one module.

Tools build components from several core modules that import each other's functions, globals, memories and tables:
a program and its libraries, an adapter. wasmtime can wire them, at a price: for each store it looks up thousands of
exports and, because a table that is imported cannot be filled lazily, makes a reference of each of its functions. A
fused module has neither. What is left to import are the host's functions.

Fusing is renumbering. The index spaces of all modules (types, functions, tables, memories, globals, segments) are laid
one after another, imports become what they were given, and every index in the code is replaced; nothing else is
changed. Three rules keep the meaning:

- constant expressions may not speak of globals of their own module, so globals are replaced by what they are made of;
- segments are copied when a module is instantiated, and modules are instantiated one after another: what a ``start``
  function may have seen or written must not change, so segments of later modules become passive then, and are copied
  when it is their turn;
- what an import asks of a table, memory or global is checked here, because nobody checks it later.

``start`` functions may call the host, which needs what the module exports. So there is none in the fused module: what
has to be done after instantiation is a function that it exports.

Whoever is not sure gives up: `fuse` answers None to everything that it does not know, and the modules are instantiated
one by one. Modules are validated before they are fused, and the outcome is validated when it is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.libc.stdlib import calloc, free, realloc
from cython.cimports.libc.string import memcpy

from wasi_http.engine.module import CoreType, Export, Import

__all__ = ["FUSION", "START", "ModuleBinary", "Unreadable", "fuse"]

#: The name of the function that has to be called after instantiation, if there is one; it is the last export.
START = b"what start functions did, in order"

#: Changes whenever a fused module may look different: compiled ones are kept.
FUSION = 1

_CUSTOM, _TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _GLOBAL, _EXPORT = range(8)
_START, _ELEMENT, _CODE, _DATA, _DATA_COUNT = range(8, 13)

_KINDS = ("func", "table", "memory", "global")
_FUNC, _KIND_TABLE, _KIND_MEMORY, _KIND_GLOBAL = range(4)
_VALUES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "other", 0x70: "funcref", 0x6F: "externref"}

# How long a constant expression may be, in bytes: those of globals that are made of globals could double each time.
_MAX_EXPRESSION = 256

# How much longer all globals may become when others take their places in expressions.
_MAX_GROWTH = 8

# What a module may import and export; more is left to wasmtime, which has its own limits.
_MAX_NAMES = 100_000

# Parameters of a function, and results, as in every engine. Types are compared before anybody has validated them.
_MAX_VALUES = 1000

# Functions that are defined are numbered from here until it is known how many are imported.
_DEFINED = 1 << 32


class Unreadable(Exception):
    """A module that is malformed, or uses what is not known here."""


@cython.final
@cython.cclass
class Reader:
    """Reads a part of a module. Raises `Unreadable` where it ends."""

    def byte(self) -> cython.int:
        if self.at >= self.end:
            raise Unreadable
        self.at += 1
        return self.data[self.at - 1]

    def u32(self) -> cython.Py_ssize_t:
        """An unsigned number of at most 32 bits in LEB128."""
        result: cython.Py_ssize_t = 0
        shift: cython.int = 0
        while True:
            byte: cython.Py_ssize_t = self.byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 28:
                raise Unreadable
        if result > 0xFFFFFFFF:
            raise Unreadable
        return result

    def s33(self) -> cython.Py_ssize_t:
        """A signed number of at most 33 bits in LEB128."""
        result: cython.Py_ssize_t = 0
        shift: cython.int = 0
        while True:
            byte: cython.Py_ssize_t = self.byte()
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result - ((byte & 0x40) << (shift - 6)) if byte & 0x40 else result
            if shift > 28:
                raise Unreadable

    def skip_number(self) -> cython.int:
        """Skips a number of at most 64 bits in LEB128."""
        count: cython.int = 1
        while self.byte() >= 0x80:
            count += 1
            if count > 10:
                raise Unreadable
        return 0

    def skip(self, count: cython.Py_ssize_t) -> cython.int:
        if count < 0 or count > self.end - self.at:
            raise Unreadable
        self.at += count
        return 0

    def part(self, size: cython.Py_ssize_t) -> Reader:
        """The next bytes, which are skipped here."""
        start: cython.Py_ssize_t = self.at
        self.skip(size)
        return _reader(self.data, start, self.at)

    def raw(self, start: cython.Py_ssize_t) -> bytes:
        """What was read since ``start``."""
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data + start), self.at - start)

    def name(self) -> str:
        size: cython.Py_ssize_t = self.u32()
        start: cython.Py_ssize_t = self.at
        self.skip(size)
        try:
            return self.raw(start).decode()
        except UnicodeDecodeError:
            raise Unreadable from None


@cython.cfunc
def _reader(
    data: cython.pointer(cython.const[cython.uchar]), start: cython.Py_ssize_t, end: cython.Py_ssize_t
) -> Reader:
    reader: Reader = Reader.__new__(Reader)
    reader.data = data
    reader.at = start
    reader.end = end
    return reader


@cython.final
@cython.cclass
class Writer:
    """A growing piece of a module."""

    def __cinit__(self):
        self.data = cython.NULL

    def __dealloc__(self):
        free(self.data)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=False)
    def reserve(self, count: cython.Py_ssize_t) -> cython.int:
        if self.size + count > self.capacity:
            capacity: cython.Py_ssize_t = 2 * self.capacity + count + 64
            data = realloc(self.data, capacity)
            if data == cython.NULL:
                raise MemoryError
            self.data = cython.cast(cython.p_uchar, data)
            self.capacity = capacity
        return 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=False)
    def byte(self, value: cython.int) -> cython.int:
        self.reserve(1)
        self.data[self.size] = value
        self.size += 1
        return 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=False)
    def u32(self, value: cython.Py_ssize_t) -> cython.int:
        self.reserve(5)
        while value >= 0x80:
            self.data[self.size] = (value & 0x7F) | 0x80
            self.size += 1
            value >>= 7
        self.data[self.size] = value
        self.size += 1
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def s33(self, value: cython.Py_ssize_t) -> cython.int:
        self.reserve(10)
        while value < -64 or value > 63:
            self.data[self.size] = (value & 0x7F) | 0x80
            self.size += 1
            value >>= 7
        self.data[self.size] = value & 0x7F
        self.size += 1
        return 0

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=False)
    def raw(self, data: cython.pointer(cython.const[cython.uchar]), count: cython.Py_ssize_t) -> cython.int:
        self.reserve(count)
        memcpy(self.data + self.size, data, count)
        self.size += count
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def put(self, data: bytes) -> cython.int:
        start: cython.p_char = data
        return self.raw(cython.cast(cython.pointer(cython.const[cython.uchar]), start), len(data))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def sized(self, other: Writer) -> cython.int:
        """Another piece after its size."""
        self.u32(other.size)
        return self.raw(other.data, other.size)

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def section(self, number: cython.int, count: cython.Py_ssize_t, items: Writer) -> cython.int:
        """A section that is a vector; nothing if it would be empty."""
        if count:
            head: Writer = Writer()
            head.u32(count)
            self.byte(number)
            self.u32(head.size + items.size)
            self.raw(head.data, head.size)
            self.raw(items.data, items.size)
        return 0

    @cython.cfunc
    def text(self) -> bytes:
        return PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data), self.size)


@cython.final
@cython.cclass
class ModuleBinary:
    """A core module in binary form, as far as others see it: its imports and exports. Code is not looked at.

    Raises `Unreadable` for what is malformed or not known here.
    """

    def __init__(self, code: bytes | memoryview) -> None:
        self.code = code
        self.view = code
        size: cython.Py_ssize_t = self.view.shape[0]
        if size < 8 or bytes(code[:8]) != b"\0asm\x01\0\0\0":
            raise Unreadable
        self.data = cython.address(self.view[0])
        self.sections = {}
        self.names = None
        self.start = -1
        reader = _reader(self.data, 8, size)
        while reader.at < reader.end:
            number: cython.int = reader.byte()
            part = reader.part(reader.u32())
            if number == _CUSTOM:
                if part.name() == "name":
                    self.names = part
            elif number > _DATA_COUNT or number in self.sections:
                raise Unreadable
            else:
                self.sections[number] = part
        self.types = []  # raw bytes of each
        self.functions = []  # their types: those that are imported, then those that are defined
        self.tables = []  # (element type, minimum, maximum)
        self.memories = []  # (minimum, maximum)
        self.globals = []  # (value type, mutable)
        self.signatures = []
        self._read_types()
        self._read_imports()
        self.imported_functions = len(self.functions)
        self.imported_tables = len(self.tables)
        self.imported_memories = len(self.memories)
        self.imported_globals = len(self.globals)
        for _ in range(self._count(_FUNCTION)):
            self.functions.append(self._type_index(self.section(_FUNCTION)))
        for _ in range(self._count(_TABLE)):
            self.tables.append(self._table(self.section(_TABLE)))
        for _ in range(self._count(_MEMORY)):
            self.memories.append(self._limits(self.section(_MEMORY)))
        if _GLOBAL in self.sections:
            self._read_globals()
        self._read_exports()
        if _START in self.sections:
            self.start = self.section(_START).u32()

    @cython.cfunc
    def section(self, number: cython.int) -> Reader:
        return cython.cast(Reader, self.sections[number])

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _count(self, number: cython.int) -> cython.Py_ssize_t:
        """The length of a section that is a vector, whose reader then stands at its items."""
        if number not in self.sections:
            return 0
        return self.section(number).u32()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _read_types(self) -> cython.int:
        for _ in range(self._count(_TYPE)):
            reader = self.section(_TYPE)
            start: cython.Py_ssize_t = reader.at
            if reader.byte() != 0x60:
                raise Unreadable
            params = self._value_types(reader)
            results = self._value_types(reader)
            self.types.append(reader.raw(start))
            self.signatures.append(CoreType(params, results))
        return 0

    @cython.cfunc
    def _value_types(self, reader: Reader) -> tuple:
        count: cython.Py_ssize_t = reader.u32()
        if count > _MAX_VALUES:
            raise Unreadable
        return tuple([self._value(reader) for _ in range(count)])

    @cython.cfunc
    def _value(self, reader: Reader) -> str:
        name = _VALUES.get(reader.byte())
        if name is None:
            raise Unreadable
        return name

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _type_index(self, reader: Reader) -> cython.Py_ssize_t:
        index: cython.Py_ssize_t = reader.u32()
        if index >= len(self.types):
            raise Unreadable
        return index

    @cython.cfunc
    def _limits(self, reader: Reader) -> tuple:
        flags: cython.int = reader.byte()
        if flags > 1:
            raise Unreadable
        low = reader.u32()
        return low, (reader.u32() if flags else None)

    @cython.cfunc
    def _table(self, reader: Reader) -> tuple:
        element: cython.int = reader.byte()
        if element != 0x70 and element != 0x6F:
            raise Unreadable
        return (element, *self._limits(reader))

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _read_imports(self) -> cython.int:
        imports: list = []
        self.wanted = []  # (kind, index)
        count: cython.Py_ssize_t = self._count(_IMPORT)
        if count > _MAX_NAMES:
            raise Unreadable
        for _ in range(count):
            reader = self.section(_IMPORT)
            module = reader.name()
            name = reader.name()
            kind: cython.int = reader.byte()
            type_ = None
            if kind == _FUNC:
                space = self.functions
                index = self._type_index(reader)
                space.append(index)
                type_ = self.signatures[index]
            elif kind == _KIND_TABLE:
                space = self.tables
                space.append(self._table(reader))
            elif kind == _KIND_MEMORY:
                space = self.memories
                space.append(self._limits(reader))
            elif kind == _KIND_GLOBAL:
                space = self.globals
                space.append(self._global_type(reader))
            else:
                raise Unreadable
            self.wanted.append((kind, len(space) - 1))
            imports.append(Import(module, name, _KINDS[kind], type_))
        self.imports = tuple(imports)
        return 0

    @cython.cfunc
    def _global_type(self, reader: Reader) -> tuple:
        value: cython.int = reader.byte()
        mutable: cython.int = reader.byte()
        if value not in _VALUES or mutable > 1:
            raise Unreadable
        return value, mutable

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _read_globals(self) -> cython.int:
        # The section is read again, expressions and all, when it is fused.
        section = self.section(_GLOBAL)
        reader = _reader(self.data, section.at, section.end)
        for _ in range(reader.u32()):
            self.globals.append(self._global_type(reader))
            _skip_expression(reader)
        return 0

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _read_exports(self) -> cython.int:
        exports: list = []
        self.given = []  # (kind, index)
        spaces = (self.functions, self.tables, self.memories, self.globals)
        count: cython.Py_ssize_t = self._count(_EXPORT)
        if count > _MAX_NAMES:
            raise Unreadable
        for _ in range(count):
            reader = self.section(_EXPORT)
            name = reader.name()
            kind: cython.int = reader.byte()
            if kind > _KIND_GLOBAL:
                raise Unreadable
            index = reader.u32()
            if index >= len(spaces[kind]):
                raise Unreadable
            type_ = self.signatures[self.functions[index]] if kind == _FUNC else None
            self.given.append((kind, index))
            exports.append(Export(name, _KINDS[kind], type_))
        self.exports = tuple(exports)
        return 0

    def __repr__(self) -> str:
        return f"<ModuleBinary: {len(self.imports)} imports, {len(self.exports)} exports>"


def _skip_expression(reader: Reader) -> cython.int:
    while True:
        code: cython.int = reader.byte()
        if code == 0x0B:
            return 0
        if code == 0x41 or code == 0x42 or code == 0x23 or code == 0xD2 or code == 0xD0:
            reader.skip_number()
        elif code == 0x43:
            reader.skip(4)
        elif code == 0x44:
            reader.skip(8)
        elif code == 0xFD:
            if reader.u32() != 12:
                raise Unreadable
            reader.skip(16)
        elif code not in _ARITHMETIC:
            raise Unreadable


# Of constant expressions: i32.add, i32.sub, i32.mul, i64.add, i64.sub, i64.mul.
_ARITHMETIC = frozenset((0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E))

# What follows an operation's code in a function's body.
_ALONE, _BLOCK, _NUMBER, _TARGETS, _CALL, _CALL_INDIRECT, _SELECT, _OF_GLOBAL, _OF_TABLE, _ADDRESS = range(10)
_OF_MEMORY, _BYTES_4, _BYTES_8, _REF_FUNC, _PREFIX_FC, _PREFIX_FD, _OTHER, _REF_NULL = range(10, 18)

_FORMS = cython.declare(cython.uchar[256])


@cython.cfunc
def _fill_forms():
    code: cython.int
    for code in range(256):
        _FORMS[code] = _OTHER
    for code in [0x00, 0x01, 0x05, 0x0B, 0x0F, 0x1A, 0x1B, 0xD1, *range(0x45, 0xC5)]:
        _FORMS[code] = _ALONE
    for code in (0x02, 0x03, 0x04):
        _FORMS[code] = _BLOCK
    for code in (0x0C, 0x0D, 0x20, 0x21, 0x22, 0x41, 0x42):
        _FORMS[code] = _NUMBER
    for code in (0x10, 0x12):
        _FORMS[code] = _CALL
    for code in (0x11, 0x13):
        _FORMS[code] = _CALL_INDIRECT
    for code in (0x23, 0x24):
        _FORMS[code] = _OF_GLOBAL
    for code in (0x25, 0x26):
        _FORMS[code] = _OF_TABLE
    for code in range(0x28, 0x3F):
        _FORMS[code] = _ADDRESS
    for code in (0x3F, 0x40):
        _FORMS[code] = _OF_MEMORY
    _FORMS[0x0E] = _TARGETS
    _FORMS[0x1C] = _SELECT
    _FORMS[0x43] = _BYTES_4
    _FORMS[0x44] = _BYTES_8
    _FORMS[0xD0] = _REF_NULL
    _FORMS[0xD2] = _REF_FUNC
    _FORMS[0xFC] = _PREFIX_FC
    _FORMS[0xFD] = _PREFIX_FD


_fill_forms()


@cython.final
@cython.cclass
class Space:
    """What the indices of one space of a module are in the fused one."""

    def __cinit__(self):
        self.numbers = cython.NULL

    def __init__(self, numbers: Sequence[int]) -> None:
        i: cython.Py_ssize_t
        self.count = len(numbers)
        self.numbers = cython.cast(
            cython.pointer(cython.Py_ssize_t), calloc(self.count + 1, cython.sizeof(cython.Py_ssize_t))
        )
        for i in range(self.count):
            self.numbers[i] = numbers[i]

    def __dealloc__(self):
        free(self.numbers)

    @cython.cfunc
    @cython.inline
    @cython.exceptval(-1, check=False)
    def get(self, index: cython.Py_ssize_t) -> cython.Py_ssize_t:
        if index >= self.count:
            raise Unreadable
        return self.numbers[index]


@cython.final
@cython.cclass
class Part:
    """One module on its way into the fused one."""

    def __init__(self, binary: ModuleBinary) -> None:
        self.binary = binary
        # As lists while it is known where they come from only; spaces when everything has its number.
        self.function_numbers = []
        self.table_numbers = []
        self.memory_numbers = []
        self.global_numbers = []
        self.type_numbers = []
        self.first_element = self.elements = self.first_data = self.datas = 0


@cython.final
@cython.cclass
class Fusion:
    """One run of `fuse`."""

    def __init__(self) -> None:
        self.parts = []
        self.types = {}
        self.hosts = {}  # position of the host function -> (number, type)
        self.defined = []  # types of the functions that are defined
        self.tables = []
        self.memories = []
        self.globals = []
        self.expressions = []  # of each global what it begins as, or None

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def add(self, binary: ModuleBinary, sources: Sequence[int | tuple[int, int]]) -> cython.int:
        """Gives everything in a module its number."""
        part: Part = Part(binary)
        exporter: Part
        for type_ in binary.types:
            part.type_numbers.append(self.types.setdefault(type_, len(self.types)))
        spaces = (part.function_numbers, part.table_numbers, part.memory_numbers, part.global_numbers)
        if len(binary.wanted) != len(sources):
            raise Unreadable
        for (kind, index), source in zip(binary.wanted, sources, strict=True):
            if isinstance(source, int):
                number, type_ = self.hosts.setdefault(source, (len(self.hosts), self._type(part, index)))
                if kind != _FUNC or type_ != self._type(part, index):
                    raise Unreadable
            else:
                exporter = self.parts[source[0]]
                given, position = exporter.binary.given[source[1]]
                if given != kind:
                    raise Unreadable
                if kind == _FUNC:
                    number = exporter.function_numbers[position]
                    fits = self._type(exporter, position) == self._type(part, index)
                elif kind == _KIND_TABLE:
                    number = exporter.table_numbers[position]
                    has, asks = self.tables[number], binary.tables[index]
                    fits = has[0] == asks[0] and _within(has[1:], asks[1:])
                elif kind == _KIND_MEMORY:
                    number = exporter.memory_numbers[position]
                    fits = _within(self.memories[number], binary.memories[index])
                else:
                    number = exporter.global_numbers[position]
                    fits = self.globals[number] == binary.globals[index]
                if not fits:
                    raise Unreadable
            spaces[kind].append(number)
        for index in binary.functions[binary.imported_functions :]:
            part.function_numbers.append(_DEFINED + len(self.defined))
            self.defined.append(part.type_numbers[index])
        for table in binary.tables[binary.imported_tables :]:
            part.table_numbers.append(len(self.tables))
            self.tables.append(table)
        for memory in binary.memories[binary.imported_memories :]:
            part.memory_numbers.append(len(self.memories))
            self.memories.append(memory)
        for global_ in binary.globals[binary.imported_globals :]:
            part.global_numbers.append(len(self.globals))
            self.globals.append(global_)
        self.parts.append(part)
        return 0

    @cython.cfunc
    def _type(self, part: Part, function: object) -> object:
        return part.type_numbers[part.binary.functions[function]]

    @cython.cfunc
    def run(self, wants: Sequence[tuple[int, int]]) -> bytes:
        part: Part
        items: Writer
        imported: cython.Py_ssize_t = len(self.hosts)
        for part in self.parts:
            part.types = Space(part.type_numbers)
            numbers = [n if n < _DEFINED else n - _DEFINED + imported for n in part.function_numbers]
            part.functions = Space(numbers)
            part.tables = Space(part.table_numbers)
            part.memories = Space(part.memory_numbers)
            part.globals = Space(part.global_numbers)
        out: Writer = Writer()
        out.put(b"\0asm\x01\0\0\0")
        globals_: Writer = self._globals()
        actions: Writer = Writer()
        elements: Writer = Writer()
        datas: Writer = Writer()
        calls: cython.int = 0
        alone: cython.Py_ssize_t = -1
        element_count: cython.Py_ssize_t = 0
        data_count: cython.Py_ssize_t = 0
        for part in self.parts:
            passive: cython.bint = calls > 0
            before: cython.Py_ssize_t = actions.size
            part.first_element = element_count
            element_count += self._elements(part, elements, actions, passive)
            part.elements = element_count - part.first_element
            part.first_data = data_count
            data_count += self._datas(part, datas, actions, passive)
            part.datas = data_count - part.first_data
            if part.binary.start >= 0:
                alone = part.functions.get(part.binary.start) if not calls else -1
                actions.byte(0x10)
                actions.u32(part.functions.get(part.binary.start))
                calls += 1
            elif actions.size > before:
                alone = -1
        start: cython.Py_ssize_t = alone
        if calls and alone < 0:
            start = imported + len(self.defined)
            self.defined.append(self.types.setdefault(b"\x60\0\0", len(self.types)))

        code: Writer = Writer()
        references: set = set()
        for part in self.parts:
            _fuse_code(part, code, references)
        if references:
            # Some may have been declared by exports that are not wanted.
            elements.put(b"\x03\0")
            elements.u32(len(references))
            for number in sorted(references):
                elements.u32(number)
            element_count += 1

        items = Writer()
        for type_ in self.types:
            items.put(type_)
        out.section(_TYPE, len(self.types), items)
        items = Writer()
        for number, type_ in self.hosts.values():
            name = b"%d" % number
            items.byte(0)  # the module's name is empty
            items.u32(len(name))
            items.put(name)
            items.byte(_FUNC)
            items.u32(type_)
        out.section(_IMPORT, len(self.hosts), items)
        items = Writer()
        for type_ in self.defined:
            items.u32(type_)
        out.section(_FUNCTION, len(self.defined), items)
        items = Writer()
        for element, low, high in self.tables:
            items.byte(element)
            _put_limits(items, low, high)
        out.section(_TABLE, len(self.tables), items)
        items = Writer()
        for low, high in self.memories:
            _put_limits(items, low, high)
        out.section(_MEMORY, len(self.memories), items)
        out.section(_GLOBAL, len(self.globals), globals_)
        items = Writer()
        for position, (step, export) in enumerate(wants):
            part = self.parts[step]
            kind, index = part.binary.given[export]
            # Long names: see assembly.py.
            name = b"%032d" % position
            items.u32(len(name))
            items.put(name)
            items.byte(kind)
            spaces = (part.functions, part.tables, part.memories, part.globals)
            items.u32(cython.cast(Space, spaces[kind]).get(index))
        if calls:
            items.u32(len(START))
            items.put(START)
            items.byte(_FUNC)
            items.u32(start)
        out.section(_EXPORT, len(wants) + (calls > 0), items)
        out.section(_ELEMENT, element_count, elements)
        if data_count:
            items = Writer()
            items.u32(data_count)
            out.byte(_DATA_COUNT)
            out.sized(items)
        if calls and alone < 0:
            items = Writer()
            items.byte(0)  # no locals
            items.raw(actions.data, actions.size)
            items.byte(0x0B)
            code.sized(items)
        out.section(_CODE, len(self.defined), code)
        out.section(_DATA, data_count, datas)
        self._names(out)
        return out.text()

    @cython.cfunc
    def _globals(self) -> Writer:
        out: Writer = Writer()
        part: Part
        size: cython.Py_ssize_t = 1024
        for part in self.parts:
            if _GLOBAL in part.binary.sections:
                section = part.binary.section(_GLOBAL)
                reader = _reader(section.data, section.at, section.end)
                size += section.end - section.at
                for _ in range(reader.u32()):
                    if out.size > _MAX_GROWTH * size:
                        raise Unreadable
                    out.byte(reader.byte())
                    mutable: cython.int = reader.byte()
                    out.byte(mutable)
                    expression: bytes = self._expression(reader, part)
                    self.expressions.append(None if mutable else expression)
                    out.put(expression)
                    out.byte(0x0B)
        return out

    @cython.cfunc
    def _expression(self, reader: Reader, part: Part) -> bytes:
        """A constant expression without its end; sums of 32-bit numbers are worked out."""
        out: Writer = Writer()
        stack: list | None = []
        while True:
            if out.size > _MAX_EXPRESSION:
                raise Unreadable
            start: cython.Py_ssize_t = reader.at
            code: cython.int = reader.byte()
            if code == 0x0B:
                break
            if code == 0x41:
                value = reader.s33()
                out.byte(code)
                out.s33(value)
                if stack is not None:
                    stack.append(value)
                continue
            if code == 0x23:
                known: bytes | None = self.expressions[part.globals.get(reader.u32())]
                if known is None:
                    raise Unreadable
                out.put(known)
                if stack is not None:
                    value = _number(known)
                    if value is None:
                        stack = None
                    else:
                        stack.append(value)
                continue
            if code in _ARITHMETIC:
                out.byte(code)
                if stack is not None and code <= 0x6C and len(stack) > 1:
                    right = stack.pop()
                    left = stack.pop()
                    value = left + right if code == 0x6A else left - right if code == 0x6B else left * right
                    stack.append((value + 0x80000000) % 0x100000000 - 0x80000000)
                else:
                    stack = None
                continue
            stack = None
            if code == 0xD2:
                out.byte(code)
                out.u32(part.functions.get(reader.u32()))
                continue
            if code == 0x42 or code == 0xD0:
                reader.skip_number()
            elif code == 0x43:
                reader.skip(4)
            elif code == 0x44:
                reader.skip(8)
            elif code == 0xFD and reader.u32() == 12:
                reader.skip(16)
            else:
                raise Unreadable
            out.raw(reader.data + start, reader.at - start)
        if stack is not None and len(stack) == 1:
            out = Writer()
            out.byte(0x41)
            out.s33(stack[0])
        return out.text()

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _elements(self, part: Part, out: Writer, actions: Writer, passive: cython.bint) -> cython.Py_ssize_t:
        """Fuses a module's element segments; those that are copied later are told to ``actions``."""
        if _ELEMENT not in part.binary.sections:
            return 0
        section = part.binary.section(_ELEMENT)
        reader = _reader(section.data, section.at, section.end)
        count: cython.Py_ssize_t = reader.u32()
        position: cython.Py_ssize_t
        for position in range(count):
            form: cython.int = reader.byte()
            if form > 7:
                raise Unreadable
            active: cython.bint = not form & 1
            expressions: cython.bint = form & 4 != 0
            table: cython.Py_ssize_t = 0
            offset: bytes = b""
            if active:
                table = part.tables.get(reader.u32() if form & 2 else 0)
                offset = self._expression(reader, part)
            kind: cython.int = 0x70 if expressions else 0
            if form & 3:
                kind = reader.byte()
                if (not expressions and kind != 0) or (expressions and kind not in (0x70, 0x6F)):
                    raise Unreadable
            size: cython.Py_ssize_t = reader.u32()
            if active and not passive:
                out.byte(form & 4 | 2)
                out.u32(table)
                out.put(offset)
                out.byte(0x0B)
            else:
                out.byte(form & 4 | (1 if active else form & 3))
            out.byte(kind)
            out.u32(size)
            for _ in range(size):
                if expressions:
                    out.put(self._expression(reader, part))
                    out.byte(0x0B)
                else:
                    out.u32(part.functions.get(reader.u32()))
            if active and passive:
                number: cython.Py_ssize_t = part.first_element + position
                actions.put(offset)
                actions.put(b"\x41\0\x41")
                actions.s33(size)
                actions.put(b"\xfc\x0c")
                actions.u32(number)
                actions.u32(table)
                actions.put(b"\xfc\x0d")
                actions.u32(number)
        return count

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _datas(self, part: Part, out: Writer, actions: Writer, passive: cython.bint) -> cython.Py_ssize_t:
        if _DATA not in part.binary.sections:
            return 0
        section = part.binary.section(_DATA)
        reader = _reader(section.data, section.at, section.end)
        count: cython.Py_ssize_t = reader.u32()
        position: cython.Py_ssize_t
        for position in range(count):
            form: cython.Py_ssize_t = reader.u32()
            if form > 2:
                raise Unreadable
            memory: cython.Py_ssize_t = 0
            offset: bytes = b""
            if form != 1:
                memory = part.memories.get(reader.u32() if form == 2 else 0)
                offset = self._expression(reader, part)
            size: cython.Py_ssize_t = reader.u32()
            start: cython.Py_ssize_t = reader.at
            reader.skip(size)
            if form != 1 and not passive:
                out.byte(2 if memory else 0)
                if memory:
                    out.u32(memory)
                out.put(offset)
                out.byte(0x0B)
            else:
                out.byte(1)
            out.u32(size)
            out.raw(reader.data + start, size)
            if form != 1 and passive:
                number: cython.Py_ssize_t = part.first_data + position
                actions.put(offset)
                actions.put(b"\x41\0\x41")
                actions.s33(size)
                actions.put(b"\xfc\x08")
                actions.u32(number)
                actions.u32(memory)
                actions.put(b"\xfc\x09")
                actions.u32(number)
        return count

    @cython.cfunc
    @cython.exceptval(-1, check=False)
    def _names(self, out: Writer) -> cython.int:
        """The names of functions, for backtraces. Names that are no good are left out: they mean nothing."""
        part: Part
        names: Writer = Writer()
        count: cython.Py_ssize_t = 0
        last: cython.Py_ssize_t = -1
        for part in self.parts:
            if part.binary.names is None:
                continue
            section: Reader = cython.cast(Reader, part.binary.names)
            reader = _reader(section.data, section.at, section.end)
            try:
                while reader.at < reader.end:
                    number: cython.int = reader.byte()
                    piece = reader.part(reader.u32())
                    if number != 1:
                        continue
                    for _ in range(piece.u32()):
                        index: cython.Py_ssize_t = piece.u32()
                        size: cython.Py_ssize_t = piece.u32()
                        start: cython.Py_ssize_t = piece.at
                        piece.skip(size)
                        fused: cython.Py_ssize_t = part.functions.get(index)
                        # In order, and of what is defined: what is imported has its name from elsewhere.
                        if index >= part.binary.imported_functions and fused > last:
                            last = fused
                            count += 1
                            names.u32(fused)
                            names.u32(size)
                            names.raw(piece.data + start, size)
            except Unreadable:
                continue
        if count:
            numbered: Writer = Writer()
            numbered.u32(count)
            numbered.raw(names.data, names.size)
            section_: Writer = Writer()
            section_.put(b"\x04name\x01")
            section_.sized(numbered)
            out.byte(_CUSTOM)
            out.sized(section_)
        return 0


@cython.cfunc
def _number(expression: bytes) -> object:
    """What an expression that is one 32-bit number says, else None."""
    text: cython.p_char = expression
    reader = _reader(cython.cast(cython.pointer(cython.const[cython.uchar]), text), 0, len(expression))
    if reader.at == reader.end or reader.byte() != 0x41:
        return None
    value = reader.s33()
    return value if reader.at == reader.end else None


@cython.cfunc
@cython.exceptval(-1, check=False)
def _put_limits(out: Writer, low: object, high: object) -> cython.int:
    out.byte(high is not None)
    out.u32(low)
    if high is not None:
        out.u32(high)
    return 0


@cython.cfunc
def _within(has: tuple, asks: tuple) -> bool:
    """Whether limits are what an import asks for (specification: import subtyping of limits)."""
    return has[0] >= asks[0] and (asks[1] is None or (has[1] is not None and has[1] <= asks[1]))


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fuse_code(part: Part, out: Writer, references: set) -> cython.int:
    if _CODE not in part.binary.sections:
        if len(part.binary.functions) != part.binary.imported_functions:
            raise Unreadable
        return 0
    section = part.binary.section(_CODE)
    reader = _reader(section.data, section.at, section.end)
    count: cython.Py_ssize_t = reader.u32()
    if count != len(part.binary.functions) - part.binary.imported_functions:
        raise Unreadable
    body: Writer = Writer()
    for _ in range(count):
        body.size = 0
        size: cython.Py_ssize_t = reader.u32()
        start: cython.Py_ssize_t = reader.at
        reader.skip(size)
        _fuse_body(_reader(reader.data, start, reader.at), part, body, references)
        out.sized(body)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fuse_body(reader: Reader, part: Part, out: Writer, references: set) -> cython.int:
    """One function: what stands between indices is copied in one go. ``references`` gets those of ref.func."""
    copied: cython.Py_ssize_t = reader.at
    here: cython.Py_ssize_t
    first: cython.Py_ssize_t
    second: cython.Py_ssize_t
    count: cython.Py_ssize_t
    for _ in range(reader.u32()):
        reader.u32()
        if reader.byte() < 0x6F:
            raise Unreadable
    while reader.at < reader.end:
        form: cython.int = _FORMS[reader.byte()]
        if form == _ALONE:
            pass
        elif form == _NUMBER:
            reader.skip_number()
        elif form == _ADDRESS:
            copied = _fuse_address(reader, part, out, copied)
        elif form in (_CALL, _REF_FUNC):
            here = reader.at
            first = part.functions.get(reader.u32())
            if form == _REF_FUNC:
                references.add(first)
            out.raw(reader.data + copied, here - copied)
            out.u32(first)
            copied = reader.at
        elif form == _OF_GLOBAL:
            here = reader.at
            first = part.globals.get(reader.u32())
            out.raw(reader.data + copied, here - copied)
            out.u32(first)
            copied = reader.at
        elif form == _CALL_INDIRECT:
            here = reader.at
            first = part.types.get(reader.u32())
            second = part.tables.get(reader.u32())
            out.raw(reader.data + copied, here - copied)
            out.u32(first)
            out.u32(second)
            copied = reader.at
        elif form == _BLOCK:
            here = reader.at
            count = reader.byte()
            if count < 0x80 and count & 0x40:
                # No type, or one result; those above the known ones have more bytes.
                if count != 0x40 and count < 0x6F:
                    raise Unreadable
            else:
                reader.at = here
                first = reader.s33()
                if first < 0:
                    raise Unreadable
                first = part.types.get(first)
                out.raw(reader.data + copied, here - copied)
                out.s33(first)
                copied = reader.at
        elif form == _TARGETS:
            for _ in range(reader.u32() + 1):
                reader.skip_number()
        elif form == _BYTES_4:
            reader.skip(4)
        elif form == _BYTES_8:
            reader.skip(8)
        elif form == _OF_TABLE:
            here = reader.at
            first = part.tables.get(reader.u32())
            out.raw(reader.data + copied, here - copied)
            out.u32(first)
            copied = reader.at
        elif form == _OF_MEMORY:
            here = reader.at
            first = part.memories.get(reader.u32())
            out.raw(reader.data + copied, here - copied)
            out.u32(first)
            copied = reader.at
        elif form == _SELECT:
            for _ in range(reader.u32()):
                if reader.byte() < 0x6F:
                    raise Unreadable
        elif form == _REF_NULL:
            if reader.byte() not in (0x70, 0x6F):
                raise Unreadable
        elif form == _PREFIX_FC:
            copied = _fuse_bulk(reader, part, out, copied)
        elif form == _PREFIX_FD:
            copied = _fuse_vector(reader, part, out, copied)
        else:
            raise Unreadable
    out.raw(reader.data + copied, reader.at - copied)
    return 0


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fuse_address(reader: Reader, part: Part, out: Writer, copied: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Alignment, memory and offset; bit 6 of the alignment says that a memory is named."""
    here: cython.Py_ssize_t = reader.at
    alignment: cython.Py_ssize_t = reader.u32()
    named: cython.bint = alignment & 0x40 != 0
    memory: cython.Py_ssize_t = part.memories.get(reader.u32() if named else 0)
    if named or memory:
        out.raw(reader.data + copied, here - copied)
        out.u32((alignment & ~0x40) | (0x40 if memory else 0))
        if memory:
            out.u32(memory)
        copied = reader.at
    reader.skip_number()
    return copied


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fuse_bulk(reader: Reader, part: Part, out: Writer, copied: cython.Py_ssize_t) -> cython.Py_ssize_t:
    code: cython.Py_ssize_t = reader.u32()
    if code < 8:
        return copied
    here: cython.Py_ssize_t = reader.at
    second: cython.Py_ssize_t = -1
    first: cython.Py_ssize_t = reader.u32()
    if code == 8:  # memory.init
        first = _segment(first, part.first_data, part.datas)
        second = part.memories.get(reader.u32())
    elif code == 9:  # data.drop
        first = _segment(first, part.first_data, part.datas)
    elif code == 10:  # memory.copy
        first = part.memories.get(first)
        second = part.memories.get(reader.u32())
    elif code == 11:  # memory.fill
        first = part.memories.get(first)
    elif code == 12:  # table.init
        first = _segment(first, part.first_element, part.elements)
        second = part.tables.get(reader.u32())
    elif code == 13:  # elem.drop
        first = _segment(first, part.first_element, part.elements)
    elif code == 14:  # table.copy
        first = part.tables.get(first)
        second = part.tables.get(reader.u32())
    elif code < 18:  # table.grow, table.size, table.fill
        first = part.tables.get(first)
    else:
        raise Unreadable
    out.raw(reader.data + copied, here - copied)
    out.u32(first)
    if second >= 0:
        out.u32(second)
    return reader.at


@cython.cfunc
@cython.exceptval(-1, check=False)
def _segment(index: cython.Py_ssize_t, first: cython.Py_ssize_t, count: cython.Py_ssize_t) -> cython.Py_ssize_t:
    if index >= count:
        raise Unreadable
    return first + index


@cython.cfunc
@cython.exceptval(-1, check=False)
def _fuse_vector(reader: Reader, part: Part, out: Writer, copied: cython.Py_ssize_t) -> cython.Py_ssize_t:
    code: cython.Py_ssize_t = reader.u32()
    if code < 12 or code == 92 or code == 93:  # loads and stores
        return _fuse_address(reader, part, out, copied)
    if 84 <= code < 92:  # loads and stores of a lane
        copied = _fuse_address(reader, part, out, copied)
        reader.byte()
    elif code < 14:  # v128.const, i8x16.shuffle
        reader.skip(16)
    elif 21 <= code < 35:  # lanes
        reader.byte()
    elif code > 275:
        raise Unreadable
    return copied


def fuse(
    steps: Sequence[tuple[ModuleBinary, Sequence[int | tuple[int, int]]]], wants: Sequence[tuple[int, int]]
) -> bytes | None:
    """Makes one module of ``steps``, which, like ``wants``, are those of `Assembly`; None if they cannot be fused.

    It imports the host functions in the order in which the steps first do, and exports the wants in their order, then
    `START` if there is something to start. The modules must be valid.
    """
    fusion: Fusion = Fusion()
    modules = [id(binary) for binary, _ in steps]
    if len(set(modules)) < len(modules):
        # One that is there twice would be copied; somebody might ask for a thousand copies.
        return None
    try:
        for binary, sources in steps:
            fusion.add(binary, sources)
        return fusion.run(wants)
    except Unreadable:
        return None
