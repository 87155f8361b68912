"""Loads the shared library that the ``wasmtime`` wheel ships, without importing its Python package.

Only releases whose C layouts match ``libwasmtime.h`` are accepted: with another release a call could corrupt memory, so
importing fails with a clear error instead.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.library import lib

from wasi_http.engine.errors import UnsupportedWasmtime

__all__ = ["TESTED", "library_path", "library_version"]

TESTED = frozenset({"50.0.1"})

_NAMES = {"linux": "_libwasmtime.so", "darwin": "_libwasmtime.dylib", "win32": "_wasmtime.dll"}


def _distribution() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("wasmtime")
    except importlib.metadata.PackageNotFoundError:
        raise UnsupportedWasmtime("the package 'wasmtime' is not installed: pip install wasmtime==50.0.1") from None


def library_version() -> str:
    """Returns the release of the installed ``wasmtime`` package; raises `UnsupportedWasmtime` if it was not tested."""
    version = _distribution().version
    if version not in TESTED:
        tested = ", ".join(sorted(TESTED))
        raise UnsupportedWasmtime(f"wasmtime {version} is installed, but wasi_http was tested with {tested} only")
    return version


def library_path() -> Path:
    """Returns the path of the shared library; raises `UnsupportedWasmtime` if it is missing."""
    library_version()
    name = _NAMES.get(sys.platform, "_libwasmtime.so")
    for file in _distribution().files or ():
        if file.name == name:
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise UnsupportedWasmtime(f"the installed package 'wasmtime' has no {name}: reinstall it")


def take_message(error: cython.pointer(C.wasmtime_error_t)) -> str:
    """Returns the message of an error and frees the error."""
    text: C.wasm_byte_vec_t
    lib.wasmtime_error_message(error, cython.address(text))
    lib.wasmtime_error_delete(error)
    message = PyBytes_FromStringAndSize(text.data, text.size).decode(errors="replace")
    lib.wasm_byte_vec_delete(cython.address(text))
    return message


@cython.cfunc
def _load():
    path: bytes = str(library_path()).encode()
    missing = C.load_libwasmtime(path, cython.address(lib))
    if missing != cython.NULL:
        raise UnsupportedWasmtime(f"wasmtime's library lacks {missing.decode()}: reinstall the package 'wasmtime'")


_load()
