"""Compiled core modules."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.libc.stdint import uint8_t
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.engine import Engine
from cython.cimports.wasi_http.engine.library import lib, take_message

from wasi_http.engine.errors import CompileError, InvalidModule

__all__ = ["C_KINDS", "VALUES", "CoreType", "Export", "Import", "Module", "wat_to_wasm"]


#: Names of core value types by their codes in binaries (core specification 5.3), as far as the engine knows them.
VALUES = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}

#: Kinds in the C API of the types that host functions may use.
C_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}

# wasmtime aborts the process if asked for the kind of this type.
_V128 = cython.declare(cython.pointer(C.wasm_valtype_t), lib.wasmtime_wasm_valtype_v128())

# Two forms of offsets in messages; names chosen by the module can imitate the second.
_OFFSET_AT_END = re.compile(r"\(at offset 0x([0-9a-f]{1,8})\)\Z")
_OFFSET_FIRST = re.compile(r"Invalid input WebAssembly code at offset ([0-9]{1,9}):")
_KINDS = ("func", "global", "table", "memory", "tag")
_NAMES = {**{kind: name for name, kind in C_KINDS.items()}, 128: "externref", 129: "funcref"}


class CoreType(NamedTuple):
    """A core function type; each name is ``i32``, ``i64``, ``f32``, ``f64`` or that of a reference or vector type."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


class Import(NamedTuple):
    """``kind`` is one of ``func``, ``global``, ``table``, ``memory`` and ``tag``; ``type`` is there for functions."""

    module: str
    name: str
    kind: str
    type: CoreType | None


class Export(NamedTuple):
    name: str
    kind: str
    type: CoreType | None


class Module:
    """One core module, validated and compiled for an engine. Use `compile` or `load` to get one."""

    def __cinit__(self):
        self.pointer = cython.NULL

    @staticmethod
    def compile(engine: Engine, wasm: bytes | memoryview) -> Module:
        """Validates and compiles, without the GIL; raises `InvalidModule`."""
        module: Module = Module.__new__(Module)
        module.engine = engine
        view: cython.const[cython.uchar][::1] = wasm
        start = _start(view)
        size: cython.size_t = view.shape[0]
        with cython.nogil:
            error = lib.wasmtime_module_new(engine.pointer, start, size, cython.address(module.pointer))
        if error != cython.NULL:
            _raise_invalid(error)
        _describe(module)
        return module

    @staticmethod
    def validate(engine: Engine, wasm: bytes | memoryview) -> None:
        """Validates without compiling; raises `InvalidModule`."""
        view: cython.const[cython.uchar][::1] = wasm
        start = _start(view)
        size: cython.size_t = view.shape[0]
        with cython.nogil:
            error = lib.wasmtime_module_validate(engine.pointer, start, size)
        if error != cython.NULL:
            _raise_invalid(error)

    @staticmethod
    def load(engine: Engine, path: str) -> Module:
        """Maps a file with the output of `serialize`. It must come from a trusted source: it holds machine code.

        Raises `InvalidModule` when it belongs to another engine, release or processor.
        """
        module: Module = Module.__new__(Module)
        module.engine = engine
        name: bytes = os.fsencode(path)
        place: cython.p_char = name
        with cython.nogil:
            error = lib.wasmtime_module_deserialize_file(engine.pointer, place, cython.address(module.pointer))
        if error != cython.NULL:
            _raise_invalid(error)
        _describe(module)
        return module

    @staticmethod
    def deserialize(engine: Engine, data: bytes | memoryview) -> Module:
        """Loads the output of `serialize` from memory, which is copied; see `load`."""
        module: Module = Module.__new__(Module)
        module.engine = engine
        view: cython.const[cython.uchar][::1] = data
        start = _start(view)
        size: cython.size_t = view.shape[0]
        with cython.nogil:
            error = lib.wasmtime_module_deserialize(engine.pointer, start, size, cython.address(module.pointer))
        if error != cython.NULL:
            _raise_invalid(error)
        _describe(module)
        return module

    def serialize(self) -> bytes:
        """Returns the compiled form, for `load` and `deserialize`."""
        data: C.wasm_byte_vec_t
        error = lib.wasmtime_module_serialize(self.pointer, cython.address(data))
        if error != cython.NULL:
            _raise_invalid(error)
        serialized = PyBytes_FromStringAndSize(data.data, data.size)
        lib.wasm_byte_vec_delete(cython.address(data))
        return serialized

    def __repr__(self) -> str:
        return f"<Module: {len(self.imports)} imports, {len(self.exports)} exports>"

    def __dealloc__(self):
        if self.pointer != cython.NULL:
            lib.wasmtime_module_delete(self.pointer)


def wat_to_wasm(text: str) -> bytes:
    """Returns the binary form of a module or component in text form; raises `InvalidModule` with line and column.

    Takes superlinear time for some texts. Releases the GIL.
    """
    source: bytes = text.encode()
    start: cython.p_const_char = source
    size: cython.size_t = len(source)
    data: C.wasm_byte_vec_t
    with cython.nogil:
        error = lib.wasmtime_wat2wasm(start, size, cython.address(data))
    if error != cython.NULL:
        _raise_invalid(error)
    wasm = PyBytes_FromStringAndSize(data.data, data.size)
    lib.wasm_byte_vec_delete(cython.address(data))
    return wasm


@cython.cfunc
@cython.exceptval(check=False)
def _start(view: cython.const[cython.uchar][::1]) -> cython.pointer(cython.const[uint8_t]):
    return cython.address(view[0]) if view.shape[0] else cython.NULL


def _raise_invalid(error: cython.pointer(C.wasmtime_error_t)) -> cython.int:
    message = take_message(error).strip()
    if "failed to make memory executable" in message:
        raise CompileError(
            "this process may not make memory executable, and so cannot run WebAssembly: "
            "switch off MemoryDenyWriteExecute (systemd) or the policy that forbids it"
        )
    raise InvalidModule(message, _offset(message))


def _offset(message: str) -> int | None:
    found = _OFFSET_AT_END.search(message)
    if found is not None:
        return int(found[1], 16)
    found = _OFFSET_FIRST.search(message)
    return None if found is None else int(found[1])


def _text(name: cython.pointer(cython.const[C.wasm_byte_vec_t])) -> str:
    return PyBytes_FromStringAndSize(name.data, name.size).decode()


def _values(types: cython.pointer(cython.const[C.wasm_valtype_vec_t])) -> tuple:
    i: cython.size_t
    kinds: list = []
    for i in range(types.size):
        if lib.wasmtime_wasm_valtype_equal(types.data[i], _V128):
            kinds.append("v128")
        else:
            kinds.append(_NAMES.get(lib.wasm_valtype_kind(types.data[i]), "other"))
    return tuple(kinds)


def _signature(type_: cython.pointer(cython.const[C.wasm_externtype_t])) -> object:
    function = lib.wasm_externtype_as_functype_const(type_)
    if function == cython.NULL:
        return None
    return CoreType(_values(lib.wasm_functype_params(function)), _values(lib.wasm_functype_results(function)))


def _describe(module: Module) -> cython.int:
    i: cython.size_t
    imports: C.wasm_importtype_vec_t
    exports: C.wasm_exporttype_vec_t
    lib.wasmtime_module_imports(module.pointer, cython.address(imports))
    described: list = []
    for i in range(imports.size):
        item = imports.data[i]
        type_ = lib.wasm_importtype_type(item)
        described.append(
            Import(
                _text(lib.wasm_importtype_module(item)),
                _text(lib.wasm_importtype_name(item)),
                _KINDS[lib.wasm_externtype_kind(type_)],
                _signature(type_),
            )
        )
    lib.wasm_importtype_vec_delete(cython.address(imports))
    module.imports = tuple(described)
    lib.wasmtime_module_exports(module.pointer, cython.address(exports))
    described = []
    for i in range(exports.size):
        exported = exports.data[i]
        type_ = lib.wasm_exporttype_type(exported)
        described.append(
            Export(
                _text(lib.wasm_exporttype_name(exported)), _KINDS[lib.wasm_externtype_kind(type_)], _signature(type_)
            )
        )
    lib.wasm_exporttype_vec_delete(cython.address(exports))
    module.exports = tuple(described)
    return 0
