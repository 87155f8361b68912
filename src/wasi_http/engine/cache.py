"""Compiled core modules on disk, so that a component compiles once per machine.

An entry is found by everything that its machine code depends on: what the module is made of, the release of
wasmtime, the settings of the engine and the features of the processor. Entries are written whole or not at all. The
directory must belong to the user alone, because what lies in it is executed: one that others can write to is not used.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import stat
import sys
import tempfile
from pathlib import Path

from wasi_http.engine.config import EngineConfig
from wasi_http.engine.engine import Engine
from wasi_http.engine.errors import InvalidModule
from wasi_http.engine.library import library_version
from wasi_http.engine.module import Module

__all__ = ["ModuleCache", "cache_directory"]


def cache_directory() -> Path:
    """The user's directory for caches: ``$XDG_CACHE_HOME/wasi-http`` or what the platform has in its place."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "wasi-http"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "wasi-http"


class ModuleCache:
    """Modules of one engine, by `key`. With ``config.cache`` off, or without a private directory, it only compiles.

    ``directory`` is where entries lie, or ``None``.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        config = engine.config
        chosen = Path(config.cache_directory) if config.cache_directory else cache_directory()
        self.directory = _private(chosen) if config.cache else None
        self._environment = hashlib.blake2b(_environment(config, engine.pooling).encode(), digest_size=16).hexdigest()

    @staticmethod
    def key(*origins: bytes | memoryview) -> str:
        """The key of a module that is made of these: its own bytes, or those that it is derived from."""
        digest = hashlib.sha256()
        for origin in origins:
            digest.update(len(origin).to_bytes(8, "little"))
            digest.update(origin)
        return digest.hexdigest()

    def find(self, key: str) -> Module | None:
        """The compiled module, if it is there and usable."""
        path = self._path(key)
        if path is None:
            return None
        try:
            if not path.is_file():
                return None
            return Module.load(self._engine, os.fspath(path))
        except (OSError, InvalidModule):
            # Damaged, or made by a processor that looked the same: compile again and overwrite it.
            return None

    def compile(self, key: str, wasm: bytes | memoryview) -> Module:
        """Compiles and keeps the module; raises `InvalidModule`. A cache that cannot be written is no error."""
        module = Module.compile(self._engine, wasm)
        path = self._path(key)
        if path is not None:
            with contextlib.suppress(OSError):
                _write(path, module.serialize())
        return module

    def _path(self, key: str) -> Path | None:
        if self.directory is None:
            return None
        return self.directory / f"{key}-{self._environment}.cwasm"


def _write(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _private(path: Path) -> Path | None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError:
        return None
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return None
    return path


def _environment(config: EngineConfig, pooling: bool) -> str:
    return repr(
        (
            library_version(),
            platform.machine(),
            _processor_features(),
            pooling,
            config.max_memory_size,
            config.max_wasm_stack,
        )
    )


@functools.cache
def _processor_features() -> str:
    """Compiled code may use any instruction of the processor that compiled it."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                return line
    return platform.processor()
