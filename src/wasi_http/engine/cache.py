"""Compiled core modules on disk, so that a component compiles once per machine.

The key of an entry covers everything that its machine code depends on: the module's origins, the release of wasmtime,
the settings of the engine and the features of the processor. Entries are written atomically and end with a checksum,
because a file that lost a page would be executed all the same.

The directory holds machine code. It and each entry must belong to the user (or root) and be writable by no other; both
are checked on the descriptors that are then used, so nothing can be swapped in between. The rest is recompiled.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import mmap
import os
import platform
import re
import secrets
import stat
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wasi_http.engine.compiler import Compiler
from wasi_http.engine.config import EngineConfig
from wasi_http.engine.engine import Engine
from wasi_http.engine.errors import InvalidModule
from wasi_http.engine.library import library_version
from wasi_http.engine.module import Module

__all__ = ["ModuleCache", "cache_directory"]

_log = logging.getLogger(__name__)

#: Entries unused for longer than this, in seconds, are removed; then the oldest, until the rest is within this size, in
#: bytes.
_MAX_AGE: Final = 2_592_000
_MAX_SIZE: Final = 2_147_483_648

#: Resolution, in seconds, with which the date of an entry records its last use.
_DATED: Final = 86_400

#: A temporary file older than this, in seconds, is removed: its writer was killed.
_ABANDONED: Final = 3600

#: Follows the compiled module: magic number, length and CRC-32 of the module. It detects damage; the check of the
#: file's owner prevents forgery.
_TRAILER: Final = struct.Struct("<8sQI")
_MARK: Final = b"wasihttp"

#: In place of processor features, for code that needs none.
_PORTABLE: Final = "any"

#: The x86-64 features that the compiler uses; the system lists many more, some of its own making.
_X86_FEATURES: Final = {
    *("pni", "ssse3", "sse4_1", "sse4_2", "cx16", "popcnt", "abm", "bmi1", "bmi2", "avx", "avx2", "fma", "avx_vnni"),
    *("avx512f", "avx512dq", "avx512vl", "avx512_bitalg", "avx512vbmi", "avx512_vnni", "apx"),
}

#: The names of entries. Other files in the directory do not belong to the cache.
_ENTRY: Final = re.compile(r"[0-9a-f]{64}-[0-9a-f]{32}\.cwasm").fullmatch
_WRITTEN: Final = re.compile(r"\.new-[0-9a-f]{16}").fullmatch

# wasmtime maps files by name; a name below this leads to the very file that was checked.
_DESCRIPTORS: Final = "/proc/self/fd"


class _Refused(OSError):
    """An untrusted or damaged file or directory; the text says why."""


def cache_directory() -> Path | None:
    """Returns the user's cache directory: ``$XDG_CACHE_HOME/wasi-http`` or the platform's equivalent.

    ``None`` if there is no ``HOME`` and the system knows no home directory of the user. Relative paths are ignored, as
    the XDG base directory specification requires.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if sys.platform != "darwin" and os.path.isabs(base):
        return Path(base) / "wasi-http"
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        return None
    return Path(home) / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "wasi-http"


class ModuleCache:
    """Modules of one engine, by `key`. With ``config.cache`` off, or without a directory, it only compiles.

    A context manager, which ends the compiler process of ``config.isolate_compilation``. ``directory`` holds the
    entries, or is ``None``. ``entries`` are those found or written. ``problem`` says why there is no directory, or why
    reading or writing failed; ``""`` if all is well. ``complete`` is whether every module it returned has an entry.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        config = engine.config
        self._compiler = Compiler(engine) if config.isolate_compilation else None
        self._explicit = config.cache_directory is not None
        # Portable entries are used where there are no better ones.
        self._environments = [_environment(engine, processor) for processor in _processors(config)]
        self.entries: list[Path] = []
        self._modules: dict[str, Module] = {}
        self.problem = ""
        self.directory: Path | None = None
        if not config.cache:
            self.problem = "the cache is off"
        elif config.cache_directory is not None:
            self.directory = Path(config.cache_directory)
        else:
            self.directory = cache_directory()
            if self.directory is None:
                self.problem = "there is no home directory, and XDG_CACHE_HOME is not set"

    @staticmethod
    def key(*origins: bytes | memoryview) -> str:
        """Returns the key of a module made from ``origins``: its own bytes, or those it is derived from."""
        digest = hashlib.sha256()
        for origin in origins:
            digest.update(len(origin).to_bytes(8, "little"))
            digest.update(origin)
        return digest.hexdigest()

    def find(self, key: str) -> Module | None:
        """Returns the compiled module, or None if it is not there or not usable."""
        if self.directory is None:
            return None
        for environment in self._environments:
            path = self.directory / f"{key}-{environment}.cwasm"
            try:
                with _opened(self.directory) as directory:
                    module = _read(self.engine, directory, path.name)
            except FileNotFoundError:
                continue
            except (OSError, InvalidModule) as error:
                # Damaged, another user's, or from a processor that looked the same: recompile and replace it.
                self.problem = _reason(error, path)
                _log.debug("not used: %s", self.problem)
                continue
            self.entries.append(path)
            self._modules[path.name] = module
            return module
        return None

    def compile(self, key: str, wasm: bytes | memoryview) -> Module:
        """Compiles and keeps the module; raises `InvalidModule` and `CompileError`.

        Failing to write the cache is not an error: see ``problem``.
        """
        if self._compiler is None:
            module = Module.compile(self.engine, wasm)
            if self.directory is not None:
                self._keep(key, module.serialize())
        else:
            data = self._compiler.compile(wasm)
            module = Module.deserialize(self.engine, data)
            self._keep(key, data)
        self._modules[self._name(key)] = module
        return module

    @property
    def complete(self) -> bool:
        return len({path.name for path in self.entries}) == len(self._modules)

    def copy_to(self, directory: str | os.PathLike[str]) -> None:
        """Writes entries for all modules to another directory, which must be the user's own. Raises OSError."""
        with _opened(Path(directory)) as target:
            for name, module in self._modules.items():
                _write(target, name, module.serialize())

    def _keep(self, key: str, data: bytes) -> None:
        if self.directory is None:
            return
        path = self.directory / self._name(key)
        try:
            # A directory that the user named may be meant for others to read.
            _make(self.directory, 0o755 if self._explicit else 0o700)
            with _opened(self.directory) as directory:
                _write(directory, path.name, data)
                _prune(directory, path.name)
        except OSError as error:
            self.problem = _reason(error, self.directory)
            _log.debug("not kept: %s", self.problem)
        else:
            self.problem = ""
            self.entries.append(path)

    def close(self) -> None:
        """Ends the compiler process, if there is one."""
        if self._compiler is not None:
            self._compiler.close()

    def __enter__(self) -> ModuleCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _name(self, key: str) -> str:
        return f"{key}-{self._environments[0]}.cwasm"


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Yields a descriptor of the directory; raises OSError unless it and all its parents can be trusted."""
    # Once all parents are trusted, no other user can replace what the links resolve to now.
    place = Path(os.path.realpath(path))
    for parent in place.parents:
        _trust(os.stat(parent), parent, sticky=True)
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _trust(os.fstat(directory), path)
        yield directory
    finally:
        os.close(directory)


def _make(path: Path, mode: int) -> None:
    """Creates the directory and missing parents, with ``mode`` at most."""
    if not path.is_dir():
        _make(path.parent, mode)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)


def _trust(status: os.stat_result, path: Path | str, *, sticky: bool = False) -> None:
    """Refuses what other users own or can write to. With ``sticky``, that bit excuses a directory: others only add."""
    if status.st_uid not in (0, os.geteuid()):
        raise _Refused(f"{path} belongs to another user ({status.st_uid})")
    if sticky and status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _Refused(f"others can write to {path} (its mode is {stat.S_IMODE(status.st_mode):03o})")


def _read(engine: Engine, directory: int, name: str) -> Module:
    # Opening a named pipe there must not block.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Refused(f"{name} is not a regular file")
        _trust(status, name)
        if status.st_size <= _TRAILER.size:
            raise _Refused(f"{name} is damaged")
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as content, memoryview(content) as data:
            mark, length, checksum = _TRAILER.unpack(data[-_TRAILER.size :])
            with data[: -_TRAILER.size] as body:
                if mark != _MARK or length != len(body) or checksum != zlib.crc32(body):
                    raise _Refused(f"{name} is damaged")
                path = f"{_DESCRIPTORS}/{descriptor}"
                module = Module.load(engine, path) if os.path.exists(path) else Module.deserialize(engine, body)
        if time.time() - status.st_mtime > _DATED:
            with contextlib.suppress(OSError):
                os.utime(descriptor)
        return module
    finally:
        os.close(descriptor)


def _write(directory: int, name: str, data: bytes) -> None:
    """Writes the entry atomically: raises OSError and keeps any previous one if that fails."""
    temporary = f".new-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o644, dir_fd=directory)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.write(_TRAILER.pack(_MARK, len(data), zlib.crc32(data)))
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    # Not every file system supports this for directories.
    with contextlib.suppress(OSError):
        os.fsync(directory)


def _prune(directory: int, kept: str) -> None:
    """Removes entries unused for too long, then the oldest beyond the maximum size."""
    now = time.time()
    entries: list[tuple[float, int, str]] = []
    with os.scandir(directory) as found:
        for entry in found:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if _ENTRY(entry.name) and entry.name != kept:
                    entries.append((status.st_mtime, status.st_size, entry.name))
                elif _WRITTEN(entry.name) and now - status.st_mtime > _ABANDONED:
                    os.unlink(entry.name, dir_fd=directory)
    total = 0
    for used, size, name in sorted(entries, reverse=True):
        total += size
        if now - used > _MAX_AGE or total > _MAX_SIZE:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}"
    return str(error).partition("\n")[0]


def _environment(engine: Engine, processor: str) -> str:
    """Returns a digest of what machine code depends on besides its source."""
    config = engine.config
    settings = (
        library_version(),
        platform.system(),
        platform.machine(),
        processor,
        engine.pooling,
        engine.guarded,
        config.max_memory_size,
        config.max_wasm_stack,
        config.interruptible,
    )
    return hashlib.blake2b(repr(settings).encode(), digest_size=16).hexdigest()


def _processors(config: EngineConfig) -> list[str]:
    """Returns the processors whose code is usable, the one to compile for first."""
    return [_PORTABLE] if config.portable else [_processor_features(), _PORTABLE]


@functools.cache
def _processor_features() -> str:
    """Returns the processor features that code compiled here may use; wasmtime checks them again when it loads code."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                features = set(line.partition(":")[2].split())
                return " ".join(sorted(features & _X86_FEATURES or features))
    return platform.processor()
