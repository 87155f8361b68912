"""Settings of engines and stores: every limit has a name and a default here."""

from __future__ import annotations

import os
from dataclasses import dataclass

from wasi_http.settings import check

__all__ = ["HOST_STACK", "EngineConfig", "StoreLimits"]

KIB = 1024
MIB = 1024 * KIB

#: The least stack of host functions, in bytes. A guest may not be entered where less than this would be left.
HOST_STACK = 1 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How an `Engine` compiles and allocates. Sizes are in bytes, times in seconds.

    ``max_instances``
        The most component instances that live at once; it sizes the pooling allocator.
    ``memories_per_instance``, ``tables_per_instance``, ``core_instances_per_instance``
        What one component instance may use of the pool on average.
    ``max_memory_size``
        The largest linear memory that any guest can have.
    ``pooling``
        ``False`` allocates on demand: slower, but no address space is reserved.
    ``guarded``
        ``False`` reserves no addresses for memories to grow into: slower still, guests check the bounds of their memory
        and have no pool.
    ``max_wasm_stack``, ``async_stack_size``
        The stack that guest code may use from each entry on, and the whole stack of a fiber. Host functions run on
        what is left, and may enter the guest again (for a destructor, say) while there is enough of it.
    ``time_slice``
        How long guest code may run before it yields to others.
    ``interruptible``
        ``False`` compiles guests without the checks that end their time slices: they compute faster, but an endless
        loop blocks its thread for ever, whatever its deadline. For trusted guests.
    ``start_time_limit``
        How long the core ``start`` functions of one instance may run, rounded to whole time slices. They cannot be
        suspended, so they block their thread.
    ``portable``
        Compile for any processor of this architecture, without newer instructions: for container images.
    ``isolate_compilation``
        Compile in a separate process, which ends with this one or with the exception that interrupts the wait. For
        untrusted components: some take the compiler very long, or crash it.
    ``compile_timeout``, ``compile_memory``
        How long that process may take for a component, and how much memory it may use (on Linux). More is a
        `CompileError`.
    ``cache``
        Keep compiled modules on disk, in ``cache_directory`` or else in the user's cache directory.
    """

    max_instances: int = 1000
    memories_per_instance: int = 2
    tables_per_instance: int = 8
    core_instances_per_instance: int = 32
    max_memory_size: int = 4096 * MIB
    table_elements: int = 20_000
    pooling: bool = True
    guarded: bool = True
    memory_keep_resident: int = 128 * KIB
    table_keep_resident: int = 64 * KIB
    stack_keep_resident: int = 64 * KIB
    max_wasm_stack: int = 512 * KIB
    async_stack_size: int = 3 * MIB
    time_slice: float = 0.005
    interruptible: bool = True
    start_time_limit: float = 0.03
    parallel_compilation: bool = True
    portable: bool = False
    isolate_compilation: bool = False
    compile_timeout: float = 300.0
    compile_memory: int = 4096 * MIB
    cache: bool = True
    cache_directory: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        check(self)
        for name in ("max_instances", "memories_per_instance", "tables_per_instance", "core_instances_per_instance"):
            if getattr(self, name) < 1:
                raise ValueError(f"EngineConfig.{name} must be at least 1, not {getattr(self, name)}")
            # The pool counts with 32 bits.
            if name != "max_instances" and self.max_instances * getattr(self, name) >= 1 << 31:
                raise ValueError(f"EngineConfig.max_instances times {name} must be less than {1 << 31}")
        if not 0.001 <= self.time_slice <= 1:
            raise ValueError(f"EngineConfig.time_slice must be between 0.001 and 1 s, not {self.time_slice}")
        if not 0 < self.compile_timeout <= 31_536_000:
            raise ValueError(f"EngineConfig.compile_timeout must be 0 s to a year, not {self.compile_timeout}")
        if self.compile_memory < 64 * MIB:
            raise ValueError(f"EngineConfig.compile_memory must be at least 64 MiB, not {self.compile_memory} bytes")
        # A guest that has used up its stack may call a host function, which enters it again for its realloc.
        least = 3 * self.max_wasm_stack + HOST_STACK
        if self.async_stack_size < least:
            raise ValueError(
                f"EngineConfig.async_stack_size must be at least three times max_wasm_stack and 1 MiB, {least}, "
                f"not {self.async_stack_size}"
            )
        if self.max_memory_size > 4096 * MIB:
            raise ValueError("EngineConfig.max_memory_size must be at most 4 GiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What the guests of one `Store` may use: ``memory_size`` in bytes per linear memory, the rest are counts.

    Growing a memory or table further fails as WebAssembly defines it (``memory.grow`` returns -1). A guest whose
    initial size exceeds a limit is not instantiated.
    """

    memory_size: int = 256 * MIB
    table_elements: int = 20_000
    instances: int = 100
    tables: int = 100
    memories: int = 10

    def __post_init__(self) -> None:
        check(self)
