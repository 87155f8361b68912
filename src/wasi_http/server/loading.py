"""Loads what a server serves, and says what takes long."""

from __future__ import annotations

import time
from collections.abc import Callable

from wasi_http.component import Component, Linker
from wasi_http.engine import Engine, EngineConfig
from wasi_http.engine.cache import ModuleCache
from wasi_http.http.linking import add_to_linker_async
from wasi_http.service.proxy import ProxyPre

__all__ = ["Progress", "load"]

#: Called with the number of core modules that are compiled, and of all that have to be.
Progress = Callable[[int, int], None]


def load(
    config: EngineConfig, path: str, say: Callable[[str], None] | None = None, progress: Progress | None = None
) -> tuple[Component, ProxyPre]:
    """Loads and links a component; what has to be compiled is said in a line before, without ``progress``, and after.

    Raises OSError for an unreadable file, `InvalidComponent`, `CompileError` and `LinkError`.
    """
    engine = Engine(config)
    linker = Linker(engine)
    add_to_linker_async(linker)
    linker.suggest("", "this server has WASI 0.2 and wasi:http, and nothing else")
    began = 0.0

    def compiling(done: int, total: int) -> None:
        nonlocal began
        if not began:
            began = time.monotonic()
            if progress is None and say is not None:
                say(f"compiling {path} …")
        if progress is not None:
            progress(done, total)

    component = Component.from_file(engine, path, progress=compiling)
    if began and say is not None:
        say(f"compiled {path} in {time.monotonic() - began:.1f} s ({_whereabouts(component.cache)})")
    return component, ProxyPre(linker.instantiate_pre(component))


def _whereabouts(cache: ModuleCache) -> str:
    return f"cached in {cache.directory}" if cache.complete else f"not cached: {cache.problem}"
