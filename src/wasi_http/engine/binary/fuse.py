"""Fusion: the core instances of a component become one module.

Tools build components from several core modules that import each other's functions, globals, memories and tables: a
program, its libraries, an adapter. wasmtime can wire them, at a price: for each store it looks up thousands of exports
and makes a reference of each function in imported tables, which cannot be filled lazily. A fused module avoids both:
it imports only host functions.

Fusing is renumbering. The index spaces of all modules (types, functions, tables, memories, globals, segments) are
concatenated, imports resolve to their sources, and every index in the code is replaced; nothing else changes. Three
rules preserve the semantics:

- constant expressions must not refer to globals of their own module, so those are replaced by their initializers;
- segments are copied when their module is instantiated, and modules are instantiated one after another. So that a
  ``start`` function sees and overwrites the same, segments of later modules become passive and are copied in turn;
- the types of imported tables, memories and globals are checked here, because the engine no longer sees the imports.

``start`` functions may call the host, which needs the module's exports. So a fused module has none: it exports a
function that does the work after instantiation.

When in doubt `fuse` returns None, and the modules are instantiated one by one. Modules are validated before they are
fused, and the result is validated when it is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

import cython
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.wasi_http.engine.binary.module import (
    CODE,
    CUSTOM,
    DATA,
    DATA_COUNT,
    ELEMENT,
    EXPORT,
    FUNC_KIND,
    FUNCTION,
    GLOBAL,
    IMPORT,
    MEMORY,
    MEMORY_KIND,
    TABLE,
    TABLE_KIND,
    TYPE,
    ModuleBinary,
    count,
)
from cython.cimports.wasi_http.engine.binary.opcodes import (
    A_DATA,
    A_MEMORY,
    ADDRESS,
    ADDRESS_LANE,
    AN_ELEMENT,
    BLOCK,
    BULK_INDICES,
    FORMS,
    LAST_BULK,
    OF_FUNCTION,
    OF_GLOBAL,
    OF_MEMORY,
    OF_TABLE,
    OF_TYPE_AND_TABLE,
    PREFIX_FC,
    PREFIX_FD,
    REF_FUNC,
    skip_immediates,
    vector_form,
)
from cython.cimports.wasi_http.engine.binary.reader import Reader
from cython.cimports.wasi_http.engine.binary.writer import Writer

from wasi_http.engine.binary.reader import Unreadable

__all__ = ["FUSION", "START", "fuse"]

#: The name of the function to call after instantiation; the last export, if there is one.
START = b"what start functions did, in order"

#: Bump it whenever the output may change: it is part of the keys of the compile cache.
FUSION = 1

# The longest constant expression, in bytes: globals initialized from globals could double it each time.
_MAX_EXPRESSION = 256

# The growth factor allowed for all globals by substitution.
_MAX_GROWTH = 8

# The most imports and exports of a module; wasmtime, which has its own limits, handles more.
_MAX_NAMES = 100_000

# Defined functions are numbered from here until the number of imported ones is known.
_DEFINED = 1 << 32

# Of constant expressions: i32.add, i32.sub, i32.mul, i64.add, i64.sub, i64.mul.
_ARITHMETIC = frozenset((0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E))


class Space:
    """Maps the indices of one space of a module to those of the fused one."""

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

    def get(self, index: cython.Py_ssize_t) -> cython.Py_ssize_t:
        if index >= self.count:
            raise Unreadable
        return self.numbers[index]


class Part:
    """One of the modules being fused."""

    def __init__(self, binary: ModuleBinary) -> None:
        self.binary = binary
        # Lists while indices are collected; spaces once they are final.
        self.function_numbers = []
        self.table_numbers = []
        self.memory_numbers = []
        self.global_numbers = []
        self.type_numbers = []


class Fusion:
    """One run of `fuse`."""

    def __init__(self) -> None:
        self.parts = []
        self.types = {}
        self.hosts = {}  # position of the host function -> (number, type)
        self.defined = []  # types of the defined functions
        self.tables = []
        self.memories = []
        self.globals = []
        self.expressions = []  # initializers of globals, or None

    def add(self, binary: ModuleBinary, sources: Sequence[int | tuple[int, int]]) -> cython.int:
        """Assigns the indices of a module."""
        part: Part = Part(binary)
        exporter: Part
        for type_ in binary.types:
            part.type_numbers.append(self.types.setdefault(type_, len(self.types)))
        spaces = (part.function_numbers, part.table_numbers, part.memory_numbers, part.global_numbers)
        if len(binary.import_indices) != len(sources) or max(len(sources), len(binary.exports)) > _MAX_NAMES:
            raise Unreadable
        for (kind, index), source in zip(binary.import_indices, sources, strict=True):
            if isinstance(source, int):
                number, type_ = self.hosts.setdefault(source, (len(self.hosts), self._type(part, index)))
                if kind != FUNC_KIND or type_ != self._type(part, index):
                    raise Unreadable
            else:
                exporter = self.parts[source[0]]
                given, position = exporter.binary.export_indices[source[1]]
                if given != kind:
                    raise Unreadable
                if kind == FUNC_KIND:
                    number = exporter.function_numbers[position]
                    fits = self._type(exporter, position) == self._type(part, index)
                elif kind == TABLE_KIND:
                    number = exporter.table_numbers[position]
                    has, asks = self.tables[number], binary.tables[index]
                    fits = has[0] == asks[0] and _within(has[1:], asks[1:])
                elif kind == MEMORY_KIND:
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

    def _type(self, part: Part, function: object) -> object:
        return part.type_numbers[part.binary.functions[function]]

    def run(self, captures: Sequence[tuple[int, int]]) -> bytes:
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
            part.elements = _count_on(element_count, part.binary.section(ELEMENT))
            element_count += part.elements.count
            self._elements(part, elements, actions, passive)
            part.datas = _count_on(data_count, part.binary.section(DATA))
            data_count += part.datas.count
            self._datas(part, datas, actions, passive)
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
            # Exports that are not captured may have declared some.
            elements.put(b"\x03\0")
            elements.u32(len(references))
            for number in sorted(references):
                elements.u32(number)
            element_count += 1

        items = Writer()
        for type_ in self.types:
            items.put(type_)
        out.section(TYPE, len(self.types), items)
        items = Writer()
        for number, type_ in self.hosts.values():
            name = b"%d" % number
            items.byte(0)  # the module's name is empty
            items.u32(len(name))
            items.put(name)
            items.byte(FUNC_KIND)
            items.u32(type_)
        out.section(IMPORT, len(self.hosts), items)
        items = Writer()
        for type_ in self.defined:
            items.u32(type_)
        out.section(FUNCTION, len(self.defined), items)
        items = Writer()
        for element, low, high in self.tables:
            items.byte(element)
            _put_limits(items, low, high)
        out.section(TABLE, len(self.tables), items)
        items = Writer()
        for low, high in self.memories:
            _put_limits(items, low, high)
        out.section(MEMORY, len(self.memories), items)
        out.section(GLOBAL, len(self.globals), globals_)
        items = Writer()
        for position, (step, export) in enumerate(captures):
            part = self.parts[step]
            kind, index = part.binary.export_indices[export]
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
            items.byte(FUNC_KIND)
            items.u32(start)
        out.section(EXPORT, len(captures) + (calls > 0), items)
        out.section(ELEMENT, element_count, elements)
        if data_count:
            items = Writer()
            items.u32(data_count)
            out.byte(DATA_COUNT)
            out.sized(items)
        if calls and alone < 0:
            items = Writer()
            items.byte(0)  # no locals
            items.raw(actions.data, actions.size)
            items.byte(0x0B)
            code.sized(items)
        out.section(CODE, len(self.defined), code)
        out.section(DATA, data_count, datas)
        self._names(out)
        return out.text()

    def _globals(self) -> Writer:
        out: Writer = Writer()
        part: Part
        size: cython.Py_ssize_t = 1024
        for part in self.parts:
            reader: Reader = part.binary.section(GLOBAL)
            if reader is None:
                continue
            size += reader.end - reader.at
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

    def _expression(self, reader: Reader, part: Part) -> bytes:
        """Returns a constant expression without its end; folds sums of 32-bit numbers."""
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
                out.s64(value)
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
            out.s64(stack[0])
        return out.text()

    def _elements(self, part: Part, out: Writer, actions: Writer, passive: cython.bint) -> cython.int:
        """Fuses a module's element segments; appends the copying of passive ones to ``actions``."""
        reader: Reader = part.binary.section(ELEMENT)
        position: cython.Py_ssize_t
        for position in range(count(reader)):
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
                number: cython.Py_ssize_t = part.elements.get(position)
                actions.put(offset)
                actions.put(b"\x41\0\x41")
                actions.s64(size)
                actions.put(b"\xfc\x0c")
                actions.u32(number)
                actions.u32(table)
                actions.put(b"\xfc\x0d")
                actions.u32(number)
        return 0

    def _datas(self, part: Part, out: Writer, actions: Writer, passive: cython.bint) -> cython.int:
        reader: Reader = part.binary.section(DATA)
        position: cython.Py_ssize_t
        for position in range(count(reader)):
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
                number: cython.Py_ssize_t = part.datas.get(position)
                actions.put(offset)
                actions.put(b"\x41\0\x41")
                actions.s64(size)
                actions.put(b"\xfc\x08")
                actions.u32(number)
                actions.u32(memory)
                actions.put(b"\xfc\x09")
                actions.u32(number)
        return 0

    def _names(self, out: Writer) -> cython.int:
        """Writes the names of functions, for backtraces. Leaves out invalid ones."""
        part: Part
        names: Writer = Writer()
        named: cython.Py_ssize_t = 0
        last: cython.Py_ssize_t = -1
        for part in self.parts:
            if part.binary.names is None:
                continue
            reader: Reader = part.binary.names.between(part.binary.names.at, part.binary.names.end)
            try:
                while reader.at < reader.end:
                    number: cython.int = reader.byte()
                    piece: Reader = reader.part(reader.u32())
                    if number != 1:
                        continue
                    for _ in range(piece.u32()):
                        index: cython.Py_ssize_t = piece.u32()
                        size: cython.Py_ssize_t = piece.u32()
                        start: cython.Py_ssize_t = piece.at
                        piece.skip(size)
                        fused: cython.Py_ssize_t = part.functions.get(index)
                        # In order, and only of defined functions: imported ones are named by their own module.
                        if index >= part.binary.imported_functions and fused > last:
                            last = fused
                            named += 1
                            names.u32(fused)
                            names.u32(size)
                            names.raw(piece.data + start, size)
            except Unreadable:
                continue
        if named:
            numbered: Writer = Writer()
            numbered.u32(named)
            numbered.raw(names.data, names.size)
            section_: Writer = Writer()
            section_.put(b"\x04name\x01")
            section_.sized(numbered)
            out.byte(CUSTOM)
            out.sized(section_)
        return 0


def _count_on(start: cython.Py_ssize_t, section: Reader) -> Space:
    """Maps a section's items to indices from ``start`` on."""
    return Space(range(start, start + count(section)))


def _number(expression: bytes) -> object:
    """Returns the value of an expression that is one 32-bit number, else None."""
    reader: Reader = Reader(expression)
    if reader.at == reader.end or reader.byte() != 0x41:
        return None
    value = reader.s33()
    return value if reader.at == reader.end else None


def _put_limits(out: Writer, low: object, high: object) -> cython.int:
    out.byte(high is not None)
    out.u32(low)
    if high is not None:
        out.u32(high)
    return 0


def _within(has: tuple, asks: tuple) -> bool:
    """Returns whether limits match those of an import (specification: import subtyping of limits)."""
    return has[0] >= asks[0] and (asks[1] is None or (has[1] is not None and has[1] <= asks[1]))


def _fuse_code(part: Part, out: Writer, references: set) -> cython.int:
    """Fuses the bodies of a module's functions; adds the functions that ref.func uses to ``references``."""
    reader: Reader = part.binary.section(CODE)
    bodies: cython.Py_ssize_t = count(reader)
    if bodies != len(part.binary.functions) - part.binary.imported_functions:
        raise Unreadable
    body: Body = Body(part, references)
    for _ in range(bodies):
        body.out.size = 0
        body.fuse(reader.part(reader.u32()))
        out.sized(body.out)
    return 0


class Body:
    """Rewrites the function bodies of a part, one after another. Bytes between indices are copied in runs."""

    def __init__(self, part: Part, references: set) -> None:
        self.part = part
        self.references = references
        self.out = Writer()

    def fuse(self, reader: Reader) -> cython.int:
        part: Part = self.part
        self.reader = reader
        self.copied = reader.at
        for _ in range(reader.u32()):
            reader.u32()
            if reader.byte() < 0x6F:
                raise Unreadable
        while reader.at < reader.end:
            form: cython.int = FORMS[reader.byte()]
            if form == ADDRESS:
                self.address()
            elif form == OF_FUNCTION:
                self.index(part.functions)
            elif form == REF_FUNC:
                self.references.add(self.index(part.functions))
            elif form == OF_GLOBAL:
                self.index(part.globals)
            elif form == OF_TYPE_AND_TABLE:
                self.index(part.types)
                self.index(part.tables)
            elif form == OF_TABLE:
                self.index(part.tables)
            elif form == OF_MEMORY:
                self.index(part.memories)
            elif form == BLOCK:
                self.block_type()
            elif form == PREFIX_FC:
                self.bulk()
            elif form == PREFIX_FD:
                form = vector_form(reader.u32())
                if form in (ADDRESS, ADDRESS_LANE):
                    self.address()
                    reader.skip(form == ADDRESS_LANE)
                else:
                    skip_immediates(reader, form)
            else:
                skip_immediates(reader, form)
        return self.copy(reader.at, reader.at)

    def copy(self, end: cython.Py_ssize_t, next: cython.Py_ssize_t) -> cython.int:
        """Copies what was not copied yet, up to ``end``; continues at ``next``."""
        self.out.raw(self.reader.data + self.copied, end - self.copied)
        self.copied = next
        return 0

    def index(self, space: Space) -> cython.Py_ssize_t:
        start: cython.Py_ssize_t = self.reader.at
        number: cython.Py_ssize_t = space.get(self.reader.u32())
        self.copy(start, self.reader.at)
        self.out.u32(number)
        return number

    def block_type(self) -> cython.int:
        start: cython.Py_ssize_t = self.reader.at
        type_: cython.Py_ssize_t = self.reader.s33()
        if type_ >= 0:
            self.copy(start, self.reader.at)
            self.out.s64(self.part.types.get(type_))
        elif type_ != -0x40 and type_ < -0x11:
            # No type, or one result: codes below the known ones are longer encodings.
            raise Unreadable
        return 0

    def address(self) -> cython.int:
        """Fuses a memory argument; bit 6 of the alignment flags an explicit memory index."""
        reader: Reader = self.reader
        start: cython.Py_ssize_t = reader.at
        alignment: cython.Py_ssize_t = reader.u32()
        named: cython.bint = alignment & 0x40 != 0
        memory: cython.Py_ssize_t = self.part.memories.get(reader.u32() if named else 0)
        if named or memory:
            self.copy(start, reader.at)
            self.out.u32((alignment & ~0x40) | (0x40 if memory else 0))
            if memory:
                self.out.u32(memory)
        return reader.skip_number()

    def bulk(self) -> cython.int:
        part: Part = self.part
        i: cython.int
        code: cython.Py_ssize_t = self.reader.u32()
        if code > LAST_BULK:
            raise Unreadable
        for i in range(2):
            indexed: cython.int = BULK_INDICES[code][i]
            if indexed == A_DATA:
                self.index(part.datas)
            elif indexed == AN_ELEMENT:
                self.index(part.elements)
            elif indexed == A_MEMORY:
                self.index(part.memories)
            elif indexed:
                self.index(part.tables)
        return 0


def fuse(
    steps: Sequence[tuple[ModuleBinary, Sequence[int | tuple[int, int]]]], captures: Sequence[tuple[int, int]]
) -> bytes | None:
    """Returns one module made of ``steps``, or None if they cannot be fused; the arguments are those of `Assembly`.

    It imports the host functions in the order in which the steps first import them, and exports the captures in their
    order, then `START` if there is something to start. The modules must be valid.
    """
    fusion: Fusion = Fusion()
    modules = [id(binary) for binary, _ in steps]
    if len(set(modules)) < len(modules):
        # A module instantiated twice would be copied; a hostile component could ask for a thousand copies.
        return None
    try:
        for binary, sources in steps:
            fusion.add(binary, sources)
        return fusion.run(captures)
    except Unreadable:
        return None
