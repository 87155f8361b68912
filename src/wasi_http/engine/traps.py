"""Exceptions from wasmtime's traps and errors."""

from __future__ import annotations

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.library import lib, take_message
from cython.cimports.wasi_http.engine.store import Store

from wasi_http.engine.errors import MAX_FRAME_NAME, MAX_FRAMES, GuestCancelled, InvalidModule, Trap, excerpt

__all__: list[str] = []

_BACKTRACE = "guest backtrace:\n"


def raise_wasm(
    store: Store, trap: cython.pointer(C.wasm_trap_t), error: cython.pointer(C.wasmtime_error_t)
) -> cython.int:
    """Raises the cause of a trap or error, which it frees: the host function's exception, or a `Trap`."""
    text: C.wasm_byte_vec_t
    frames: C.wasm_frame_vec_t
    failure, store.failure = store.failure, None
    if failure is not None and _is_traced(failure):
        # It propagates through guest and host frames alternately: the first backtrace has them all.
        if trap != cython.NULL:
            lib.wasm_trap_delete(trap)
        if error != cython.NULL:
            lib.wasmtime_error_delete(error)
        raise failure
    if trap != cython.NULL:
        lib.wasm_trap_message(trap, cython.address(text))
        lib.wasm_trap_trace(trap, cython.address(frames))
    else:
        lib.wasmtime_error_message(error, cython.address(text))
        lib.wasmtime_error_wasm_trace(error, cython.address(frames))
    message = PyBytes_FromStringAndSize(text.data, text.size).decode(errors="replace").rstrip("\0")
    lib.wasm_byte_vec_delete(cython.address(text))
    backtrace = _backtrace(cython.address(frames))
    lib.wasm_frame_vec_delete(cython.address(frames))
    # Frames point into the trap: free it last.
    if trap != cython.NULL:
        lib.wasm_trap_delete(trap)
    if error != cython.NULL:
        lib.wasmtime_error_delete(error)
    if failure is None:
        raise Trap(_cause(message), backtrace)
    if isinstance(failure, Trap):
        failure.backtrace = backtrace
    elif backtrace and not isinstance(failure, GuestCancelled):
        failure.add_note(_BACKTRACE + backtrace)
    raise failure


@cython.cfunc
def _is_traced(failure: BaseException) -> cython.bint:
    if isinstance(failure, Trap):
        return bool(failure.backtrace)
    return any(isinstance(note, str) and note.startswith(_BACKTRACE) for note in getattr(failure, "__notes__", ()))


def _cause(message: str) -> str:
    # wasmtime prints the backtrace first and the cause last; `Trap` keeps the backtrace separately.
    cause = message.rpartition("Caused by:")[2].strip()
    return cause.removeprefix("wasm trap: ")


def _backtrace(frames: cython.pointer(C.wasm_frame_vec_t)) -> str:
    i: cython.size_t
    lines: list = []
    for i in range(min(frames.size, cython.cast(cython.size_t, MAX_FRAMES))):
        frame = frames.data[i]
        name = lib.wasmtime_frame_func_name(frame)
        module = lib.wasmtime_frame_module_name(frame)
        index: cython.uint = lib.wasm_frame_func_index(frame)
        what = f"<wasm function {index}>" if name == cython.NULL else _name(name)
        where = "" if module == cython.NULL else _name(module) + "!"
        lines.append(f"  {i}: {where}{what} at offset {lib.wasm_frame_module_offset(frame):#x}")
    return "\n".join(lines)


def _name(raw: cython.pointer(cython.const[C.wasm_byte_vec_t])) -> str:
    return excerpt(PyBytes_FromStringAndSize(raw.data, raw.size).decode(errors="replace"), MAX_FRAME_NAME)


def raise_instantiation(
    store: Store, trap: cython.pointer(C.wasm_trap_t), error: cython.pointer(C.wasmtime_error_t)
) -> cython.int:
    """Raises the cause of a failed instantiation, as `raise_wasm` does."""
    if trap != cython.NULL:
        raise_wasm(store, trap, error)
    message = take_message(error)
    failure, store.failure = store.failure, None
    if failure is not None:
        raise failure
    if "incompatible import type" in message or "expected" in message:
        raise InvalidModule(message)
    raise Trap(message)
