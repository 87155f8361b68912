"""The engine: compiler settings, the instance pool, and the epoch ticker that ends time slices."""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import weakref

import cython
from cython.cimports.libc.stdint import uintptr_t
from cython.cimports.wasi_http.engine import libwasmtime as C
from cython.cimports.wasi_http.engine.clock import Clock
from cython.cimports.wasi_http.engine.library import lib

from wasi_http.engine.config import HOST_STACK, EngineConfig
from wasi_http.engine.errors import UnsupportedWasmtime, expect

__all__ = ["Engine"]

_log = logging.getLogger("wasi_http.engine")


# Address space of one pooled linear memory: the 4 GiB that a 32-bit index can reach and a guard behind them, so that
# no bounds check need be compiled into guest code.
_SLOT = cython.declare(cython.ulonglong, (4 << 30) + (64 << 20))

# Other address space: the metadata of a table and of a core instance, and everything outside the pool.
_MODULE = cython.declare(cython.ulonglong, 64 << 10)
_MARGIN = cython.declare(cython.ulonglong, 1 << 30)

# How far a memory without reservation grows in place.
_GROWTH = cython.declare(cython.ulonglong, 4 << 20)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_resumed(env: cython.p_void) -> C.c_bool:
    return cython.cast(cython.pointer(cython.bint), env)[0]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _suspend(
    env: cython.p_void,
    caller: cython.pointer(C.wasmtime_caller_t),
    args: cython.pointer(cython.const[C.wasmtime_val_t]),
    nargs: cython.size_t,
    results: cython.pointer(C.wasmtime_val_t),
    nresults: cython.size_t,
    trap: cython.pointer(cython.pointer(C.wasm_trap_t)),
    continuation: cython.pointer(C.wasmtime_async_continuation_t),
) -> cython.void:
    # The argument is the address of a flag in the store, which is set when the fiber may be resumed.
    continuation.callback = _is_resumed
    continuation.env = cython.cast(cython.p_void, cython.cast(uintptr_t, args[0].of.i64))
    continuation.finalizer = cython.NULL


_engines = weakref.WeakSet()


def _mark_forked() -> None:
    for engine in _engines:
        cython.cast(Engine, engine).forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


class Engine:
    """A compiler and a pool of instances; thread-safe, meant to live as long as the process.

    One engine serves any number of components. Modules and stores of different engines cannot be mixed.
    It does not work in a forked child of the process that made it.

    Without enough address space for the pool, instances are allocated on demand: ``pooling`` is ``False`` then, and so
    is ``guarded``, because memories cannot reserve all addresses that an index can reach. They move when they grow, and
    guest code checks bounds. That is slower, and the logger ``wasi_http.engine`` warns of it.
    """

    def __cinit__(self):
        self.pointer = cython.NULL
        self.suspender = cython.NULL

    def __init__(self, config: EngineConfig | None = None) -> None:
        if config is None:
            config = EngineConfig()
        expect(EngineConfig, config, "Engine(EngineConfig(...))")
        self.config = config
        self.max_instances = config.max_instances
        self.interruptible = config.interruptible
        self.entry_stack = config.max_wasm_stack + HOST_STACK
        self.fiber_stack = config.async_stack_size - config.max_wasm_stack
        self.start_ticks = max(1, round(config.start_time_limit / config.time_slice))
        # wasmtime aborts the process if it cannot reserve its pool, so test that first.
        instances: cython.ulonglong = config.max_instances
        space: cython.ulonglong = instances * _addresses(config) + _MARGIN
        self.guarded = config.guarded and C.can_reserve(space)
        self.pooling = config.pooling and self.guarded
        if config.pooling and config.guarded and not self.guarded:
            _log.warning(
                "the pool of %d instances needs %d GiB of address space, and there is less: is it limited (ulimit -v), "
                "or do other engines have it (share one)? "
                "Instances are allocated on demand, and guests check the bounds of their memory, which is slower",
                config.max_instances,
                space >> 30,
            )
        self.pointer = lib.wasm_engine_new_with_config(_settings(config, self.pooling, self.guarded))
        self.suspender = _define_suspend(self.pointer)
        self.clock = Clock(config.time_slice)
        self.clock.engine = lib.wasmtime_engine_clone(self.pointer)
        _engines.add(self)
        threading.Thread(target=self.clock.run, daemon=True, name="wasi-http-clock").start()

    def __repr__(self) -> str:
        allocation = "pooling" if self.pooling else "on demand" if self.guarded else "on demand, with checked bounds"
        return f"<Engine: {allocation}, at most {self.config.max_instances} instances>"

    def __del__(self):
        if self.clock is not None:
            self.clock.stop()

    def __dealloc__(self):
        if self.suspender != cython.NULL:
            lib.wasmtime_linker_delete(self.suspender)
        if self.pointer != cython.NULL:
            lib.wasm_engine_delete(self.pointer)


@cython.cfunc
def _define_suspend(engine: cython.pointer(C.wasm_engine_t)) -> cython.pointer(C.wasmtime_linker_t):
    params: C.wasm_valtype_vec_t
    results: C.wasm_valtype_vec_t
    lib.wasm_valtype_vec_new_uninitialized(cython.address(params), 1)
    params.data[0] = lib.wasm_valtype_new(1)  # i64
    lib.wasm_valtype_vec_new_empty(cython.address(results))
    signature = lib.wasm_functype_new(cython.address(params), cython.address(results))
    linker = lib.wasmtime_linker_new(engine)
    lib.wasmtime_linker_define_async_func(linker, b"", 0, b"suspend", 7, signature, _suspend, cython.NULL, cython.NULL)
    lib.wasm_functype_delete(signature)
    return linker


@cython.cfunc
@cython.exceptval(0, check=True)
def _addresses(config: object) -> cython.ulonglong:
    """Returns the address space of one pooled instance, in bytes."""
    memories: cython.ulonglong = config.memories_per_instance
    elements: cython.ulonglong = config.tables_per_instance * config.table_elements
    stack: cython.ulonglong = config.async_stack_size
    return memories * _SLOT + elements * 16 + stack + _MODULE * config.core_instances_per_instance


def _target() -> str:
    """Returns the target triple of this platform."""
    machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    if sys.platform == "darwin":
        return f"{machine}-apple-darwin"
    return f"{machine}-unknown-linux-{'gnu' if platform.libc_ver()[0] == 'glibc' else 'musl'}"


@cython.cfunc
@cython.exceptval(check=True)
def _settings(config: object, pooling: cython.bint, guarded: cython.bint) -> cython.pointer(C.wasm_config_t):
    settings = lib.wasm_config_new()
    if not guarded:
        lib.wasmtime_config_memory_reservation_set(settings, 0)
        lib.wasmtime_config_memory_reservation_for_growth_set(settings, _GROWTH)
        lib.wasmtime_config_memory_guard_size_set(settings, 1 << 16)
        lib.wasmtime_config_memory_may_move_set(settings, True)
    lib.wasmtime_config_epoch_interruption_set(settings, config.interruptible)
    lib.wasmtime_config_max_wasm_stack_set(settings, config.max_wasm_stack)
    lib.wasmtime_config_async_stack_size_set(settings, config.async_stack_size)
    if config.portable:
        # With an explicit target wasmtime assumes no processor features beyond the baseline.
        target: bytes = _target().encode()
        error = lib.wasmtime_config_target_set(settings, target)
        if error != cython.NULL:
            lib.wasmtime_error_delete(error)
            raise UnsupportedWasmtime(f"wasmtime cannot compile for {_target()} (EngineConfig.portable)")
    lib.wasmtime_config_parallel_compilation_set(settings, config.parallel_compilation)
    # WASIp2 guests do not need these features, and published vulnerabilities cluster in them.
    lib.wasmtime_config_wasm_threads_set(settings, False)
    lib.wasmtime_config_shared_memory_set(settings, False)
    lib.wasmtime_config_wasm_gc_set(settings, False)
    lib.wasmtime_config_wasm_function_references_set(settings, False)
    lib.wasmtime_config_wasm_exceptions_set(settings, False)
    lib.wasmtime_config_gc_support_set(settings, False)
    lib.wasmtime_config_wasm_memory64_set(settings, False)
    lib.wasmtime_config_wasm_stack_switching_set(settings, False)
    lib.wasmtime_config_wasm_component_model_async_set(settings, False)
    lib.wasmtime_config_wasm_wide_arithmetic_set(settings, False)
    lib.wasmtime_config_wasm_custom_page_sizes_set(settings, False)
    if pooling:
        pool = lib.wasmtime_pooling_allocation_config_new()
        count: cython.uint = config.max_instances
        lib.wasmtime_pooling_allocation_config_total_stacks_set(pool, count)
        lib.wasmtime_pooling_allocation_config_total_core_instances_set(
            pool, count * config.core_instances_per_instance
        )
        lib.wasmtime_pooling_allocation_config_total_memories_set(pool, count * config.memories_per_instance)
        lib.wasmtime_pooling_allocation_config_total_tables_set(pool, count * config.tables_per_instance)
        lib.wasmtime_pooling_allocation_config_max_tables_per_module_set(pool, config.tables_per_instance)
        lib.wasmtime_pooling_allocation_config_max_memories_per_module_set(pool, config.memories_per_instance)
        lib.wasmtime_pooling_allocation_config_table_elements_set(pool, config.table_elements)
        lib.wasmtime_pooling_allocation_config_max_memory_size_set(pool, config.max_memory_size)
        lib.wasmtime_pooling_allocation_config_linear_memory_keep_resident_set(pool, config.memory_keep_resident)
        lib.wasmtime_pooling_allocation_config_table_keep_resident_set(pool, config.table_keep_resident)
        lib.wasmtime_pooling_allocation_config_async_stack_keep_resident_set(pool, config.stack_keep_resident)
        lib.wasmtime_pooling_allocation_strategy_set(settings, pool)
        lib.wasmtime_pooling_allocation_config_delete(pool)
    return settings
