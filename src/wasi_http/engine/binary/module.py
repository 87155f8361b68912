"""The interface of a core module in binary form (core specification 5.5)."""

from __future__ import annotations

import cython
from cython.cimports.wasi_http.engine.binary.module import (
    CUSTOM,
    DATA_COUNT,
    EXPORT,
    FUNC_KIND,
    FUNCTION,
    GLOBAL,
    GLOBAL_KIND,
    IMPORT,
    MEMORY,
    MEMORY_KIND,
    START,
    TABLE,
    TABLE_KIND,
    TYPE,
)
from cython.cimports.wasi_http.engine.binary.opcodes import skip_expression
from cython.cimports.wasi_http.engine.binary.reader import Reader

from wasi_http.engine.binary.reader import Unreadable
from wasi_http.engine.module import VALUES, CoreType, Export, Import

__all__ = ["ModuleBinary"]

_KINDS = ("func", "table", "memory", "global")

# The most parameters, and results, of a function, as in every engine. Types are compared before they are validated.
_MAX_VALUES = 1000


class ModuleBinary:
    """The imports, exports and sections of a core module. Code is not read.

    Raises `Unreadable` for malformed or unknown content.
    """

    def __init__(self, code: bytes | memoryview) -> None:
        self.code = code
        if bytes(code[:8]) != b"\0asm\x01\0\0\0":
            raise Unreadable
        self.parts = []
        self.sections = {}
        self.start = -1
        reader: Reader = Reader(code)
        reader.skip(8)
        while reader.at < reader.end:
            number: cython.int = reader.byte()
            part: Reader = reader.part(reader.u32())
            self.parts.append((number, part))
            if number == CUSTOM:
                custom: Reader = part.between(part.at, part.end)
                if custom.name() == "name":
                    self.names = custom
            elif number > DATA_COUNT or number in self.sections:
                raise Unreadable
            else:
                self.sections[number] = part
        self.types = []
        self.signatures = []
        self.functions = []
        self.tables = []
        self.memories = []
        self.globals = []
        self._read_types()
        self._read_imports()
        self._read_definitions()
        self._read_exports()
        if START in self.sections:
            self.start = self.section(START).u32()

    def section(self, number: cython.int) -> Reader:
        """Returns a reader at the start of a section, or None."""
        section: Reader = self.sections.get(number)
        return None if section is None else section.between(section.at, section.end)

    def _read_types(self) -> cython.int:
        reader = self.section(TYPE)
        for _ in range(count(reader)):
            start: cython.Py_ssize_t = reader.at
            if reader.byte() != 0x60:
                raise Unreadable
            params = _value_types(reader)
            results = _value_types(reader)
            self.types.append(reader.since(start))
            self.signatures.append(CoreType(params, results))
        return 0

    def _type_index(self, reader: Reader) -> cython.Py_ssize_t:
        index: cython.Py_ssize_t = reader.u32()
        if index >= len(self.types):
            raise Unreadable
        return index

    def _read_imports(self) -> cython.int:
        imports: list = []
        self.import_indices = []
        reader = self.section(IMPORT)
        for _ in range(count(reader)):
            module = reader.name()
            name = reader.name()
            kind: cython.int = reader.byte()
            type_ = None
            if kind == FUNC_KIND:
                space = self.functions
                space.append(self._type_index(reader))
                type_ = self.signatures[space[len(space) - 1]]
            elif kind == TABLE_KIND:
                space = self.tables
                space.append(_table(reader))
            elif kind == MEMORY_KIND:
                space = self.memories
                space.append(_limits(reader))
            elif kind == GLOBAL_KIND:
                space = self.globals
                space.append(_global_type(reader))
            else:
                raise Unreadable
            self.import_indices.append((kind, len(space) - 1))
            imports.append(Import(module, name, _KINDS[kind], type_))
        self.imports = tuple(imports)
        self.imported_functions = len(self.functions)
        self.imported_tables = len(self.tables)
        self.imported_memories = len(self.memories)
        self.imported_globals = len(self.globals)
        return 0

    def _read_definitions(self) -> cython.int:
        reader = self.section(FUNCTION)
        for _ in range(count(reader)):
            self.functions.append(self._type_index(reader))
        reader = self.section(TABLE)
        for _ in range(count(reader)):
            self.tables.append(_table(reader))
        reader = self.section(MEMORY)
        for _ in range(count(reader)):
            self.memories.append(_limits(reader))
        reader = self.section(GLOBAL)
        for _ in range(count(reader)):
            self.globals.append(_global_type(reader))
            skip_expression(reader)
        return 0

    def _read_exports(self) -> cython.int:
        exports: list = []
        self.export_indices = []
        spaces = (self.functions, self.tables, self.memories, self.globals)
        reader = self.section(EXPORT)
        for _ in range(count(reader)):
            name = reader.name()
            kind: cython.int = reader.byte()
            if kind > GLOBAL_KIND:
                raise Unreadable
            index = reader.u32()
            if index >= len(spaces[kind]):
                raise Unreadable
            type_ = self.signatures[self.functions[index]] if kind == FUNC_KIND else None
            self.export_indices.append((kind, index))
            exports.append(Export(name, _KINDS[kind], type_))
        self.exports = tuple(exports)
        return 0

    def __repr__(self) -> str:
        return f"<ModuleBinary: {len(self.imports)} imports, {len(self.exports)} exports>"


def count(section: Reader) -> cython.Py_ssize_t:
    """Reads the count of a section that is a vector, before its items; 0 without such a section."""
    return 0 if section is None else section.u32()


def _value_types(reader: Reader) -> tuple:
    number: cython.Py_ssize_t = reader.u32()
    if number > _MAX_VALUES:
        raise Unreadable
    values: list = []
    for _ in range(number):
        value = VALUES.get(reader.byte())
        if value is None:
            raise Unreadable
        values.append(value)
    return tuple(values)


def _limits(reader: Reader) -> tuple:
    flags: cython.int = reader.byte()
    if flags > 1:
        raise Unreadable
    low = reader.u32()
    return low, (reader.u32() if flags else None)


def _table(reader: Reader) -> tuple:
    element: cython.int = reader.byte()
    if element != 0x70 and element != 0x6F:
        raise Unreadable
    return (element, *_limits(reader))


def _global_type(reader: Reader) -> tuple:
    value: cython.int = reader.byte()
    mutable: cython.int = reader.byte()
    if value not in VALUES or mutable > 1:
        raise Unreadable
    return value, mutable
