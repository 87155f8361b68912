"""Compiled core modules on disk, so that a component compiles once per machine.

An entry is found by everything that its machine code depends on: what the module is made of, the release of
wasmtime, the settings of the engine and the features of the processor. Entries are written whole or not at all, and end
with a checksum, because a file that lost a page is executed all the same.

What lies in the directory is machine code. The directory and each entry must belong to the user (or root), and others
must not be able to write to them; both are judged by the descriptors that are then used, so that nothing can be put in
their place in between. What does not pass is compiled anew.
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

#: Entries that were not used for so long are removed, in seconds, and then the oldest until the rest is no larger, in
#: bytes.
_MAX_AGE: Final = 2_592_000
_MAX_SIZE: Final = 2_147_483_648

#: The date of an entry says when it was last used, to this many seconds.
_DATED: Final = 86_400

#: A file that is being written is given up after this many seconds: its writer was killed.
_ABANDONED: Final = 3600

#: What follows the compiled module: the mark of this format, and the length and CRC-32 of the module. Damage is what it
#: has to find; forgery is what the owner of the file is for.
_TRAILER: Final = struct.Struct("<8sQI")
_MARK: Final = b"wasihttp"

#: In place of the features of a processor: code that needs none.
_PORTABLE: Final = "any"

#: What the compiler makes use of on x86-64, of the many features that the system lists, some of them its own.
_X86_FEATURES: Final = {
    *("pni", "ssse3", "sse4_1", "sse4_2", "cx16", "popcnt", "abm", "bmi1", "bmi2", "avx", "avx2", "fma", "avx_vnni"),
    *("avx512f", "avx512dq", "avx512vl", "avx512_bitalg", "avx512vbmi", "avx512_vnni", "apx"),
}

#: The names of entries. What else lies in the directory is not the cache's.
_ENTRY: Final = re.compile(r"[0-9a-f]{64}-[0-9a-f]{32}\.cwasm").fullmatch
_WRITTEN: Final = re.compile(r"\.new-[0-9a-f]{16}").fullmatch

# wasmtime opens what it maps by name; this name is that of the file that was looked at.
_DESCRIPTORS: Final = "/proc/self/fd"


class _Refused(OSError):
    """A file or directory that is not used; the text says why."""


def cache_directory() -> Path | None:
    """The user's directory for caches: ``$XDG_CACHE_HOME/wasi-http`` or what the platform has in its place.

    ``None`` without ``HOME`` for a user of whom the system knows none. A relative path counts for nothing, as the XDG
    base directory specification has it.
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

    It is a context manager, because of the process that compiles with ``config.isolate_compilation``.
    ``directory`` is where entries lie, or ``None``. ``entries`` are those that were found or written. ``problem`` says
    why there is no directory, or why something could not be read from it or written to it; ``""`` if all is well.
    ``complete`` tells whether every module that it gave out has an entry.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        config = engine.config
        self._compiler = Compiler(engine) if config.isolate_compilation else None
        self._explicit = config.cache_directory is not None
        # What is compiled for any processor will do where there is nothing better.
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
        """The key of a module that is made of these: its own bytes, or those that it is derived from."""
        digest = hashlib.sha256()
        for origin in origins:
            digest.update(len(origin).to_bytes(8, "little"))
            digest.update(origin)
        return digest.hexdigest()

    def find(self, key: str) -> Module | None:
        """The compiled module, if it is there and usable."""
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
                # Damaged, of another user, or made by a processor that looked the same: compile again and replace it.
                self.problem = _reason(error, path)
                _log.debug("not used: %s", self.problem)
                continue
            self.entries.append(path)
            self._modules[path.name] = module
            return module
        return None

    def compile(self, key: str, wasm: bytes | memoryview) -> Module:
        """Compiles and keeps the module; raises `InvalidModule` and `CompileError`.

        A cache that cannot be written is no error.
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
            # Where others may have to read it, its maker says so by naming it.
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
        """Ends the process that compiles, if there is one."""
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
    """A descriptor of the directory, if it and all those above it may be trusted. Raises OSError."""
    # Once all above it are, no other user can put something else in the place of what the links lead to now.
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
    """Makes the directory and those above it that are missing, with no more than that mode."""
    if not path.is_dir():
        _make(path.parent, mode)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)


def _trust(status: os.stat_result, path: Path | str, *, sticky: bool = False) -> None:
    """Refuses what other users can write to, or own. In a directory with the ``sticky`` bit they may only add to it."""
    if status.st_uid not in (0, os.geteuid()):
        raise _Refused(f"{path} belongs to another user ({status.st_uid})")
    if sticky and status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _Refused(f"others can write to {path} (its mode is {stat.S_IMODE(status.st_mode):03o})")


def _read(engine: Engine, directory: int, name: str) -> Module:
    # A named pipe that lies there must not make anything wait.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Refused(f"{name} is no file")
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
    """Puts the whole entry there, or raises OSError and leaves what was there before."""
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
    # Not every file system has that for directories.
    with contextlib.suppress(OSError):
        os.fsync(directory)


def _prune(directory: int, kept: str) -> None:
    """Removes what was not used for long, and what is too much."""
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
    """What machine code depends on beside its source, in short."""
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
    """The processors whose code is of use, the one to compile for first."""
    return [_PORTABLE] if config.portable else [_processor_features(), _PORTABLE]


@functools.cache
def _processor_features() -> str:
    """What code that was compiled here may use of the processor. wasmtime looks at that itself when code is loaded."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(("flags", "Features")):
                features = set(line.partition(":")[2].split())
                return " ".join(sorted(features & _X86_FEATURES or features))
    return platform.processor()
