"""Core WebAssembly through libwasmtime: engines, modules, stores, and the fibers that guests run on."""

from wasi_http.engine.assembly import Assembly
from wasi_http.engine.binary import ModuleBinary, Unreadable, fuse, interruptible
from wasi_http.engine.config import EngineConfig, StoreLimits
from wasi_http.engine.engine import Engine
from wasi_http.engine.errors import CompileError, GuestCancelled, InvalidModule, Trap, UnsupportedWasmtime
from wasi_http.engine.fiber import Fiber, live_fibers
from wasi_http.engine.func import Func
from wasi_http.engine.host import CoreFunc, HostFunc
from wasi_http.engine.memory import Memory
from wasi_http.engine.module import CoreType, Module, wat_to_wasm
from wasi_http.engine.store import Recheck, Store, leaving_stores, live_stores
from wasi_http.engine.turns import Turns

__all__ = [
    "Assembly",
    "CompileError",
    "CoreFunc",
    "CoreType",
    "Engine",
    "EngineConfig",
    "Fiber",
    "Func",
    "GuestCancelled",
    "HostFunc",
    "InvalidModule",
    "Memory",
    "Module",
    "ModuleBinary",
    "Recheck",
    "Store",
    "StoreLimits",
    "Trap",
    "Turns",
    "Unreadable",
    "UnsupportedWasmtime",
    "fuse",
    "interruptible",
    "leaving_stores",
    "live_fibers",
    "live_stores",
    "wat_to_wasm",
]
