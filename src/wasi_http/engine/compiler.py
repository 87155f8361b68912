"""Compiles modules in a separate process, which can be killed and may crash.

The compiler takes superlinear time and memory for some modules (nested loops are enough), cannot be interrupted, and
aborts its process when it runs out of memory or stack. So for untrusted modules it runs in a process with a time limit
and a memory limit: a fresh interpreter, never a fork, with the settings of the engine.

The processes share a socket pair. A frame is a kind, a length and a payload: first the settings, then modules and
answers in turn. Each side sees EOF when the other is gone, so no compiler outlives the process that started it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Final

from wasi_http.engine.config import EngineConfig
from wasi_http.engine.engine import Engine
from wasi_http.engine.errors import CompileError, InvalidModule, excerpt
from wasi_http.engine.module import Module

__all__ = ["Compiler", "answer_compiler"]

_FRAME: Final = struct.Struct("<cQ")

_SETTINGS: Final = b"s"
_MODULE: Final = b"m"
_INVALID: Final = b"i"
_NO_MEMORY: Final = b"n"
_FAILED: Final = b"f"

#: How often the process checks its memory use, in milliseconds, and its exit code when that exceeds the limit.
_LOOK: Final = 50
_TOO_LARGE: Final = 77

#: How long a process may take to exit after it closed its socket, in seconds: it may be writing its reason.
_LAST_WORDS: Final = 5.0


class Compiler:
    """Compiles for an engine, one module after the other; a context manager that ends the process.

    The process starts with the first module. ``config.compile_timeout`` is for all modules together. An exception that
    interrupts the wait (`KeyboardInterrupt`, or that of another signal handler) kills the process, too.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._left = engine.config.compile_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def compile(self, wasm: bytes | memoryview) -> bytes:
        """Returns the serialized module, for `Module.load`; raises `InvalidModule` and `CompileError`."""
        began = time.monotonic()
        try:
            channel = self._channel or self._start()
            channel.settimeout(max(self._left, 0.001))
            _send(channel, _MODULE, wasm)
            kind, answer = _receive(channel)
        except TimeoutError:
            self.close()
            raise CompileError(
                f"compiling takes longer than {self._engine.config.compile_timeout:g} s "
                "(--compile-timeout, EngineConfig.compile_timeout)"
            ) from None
        except (OSError, EOFError):
            reason = self._last_words()
            self.close()
            raise CompileError(reason) from None
        except BaseException:
            self.close()
            raise
        self._left -= time.monotonic() - began
        if kind == _NO_MEMORY:
            raise CompileError(self._no_memory())
        if kind == _FAILED:
            raise CompileError(answer.decode())
        if kind == _INVALID:
            raise InvalidModule(**json.loads(answer))
        return answer

    def close(self) -> None:
        """Kills the process."""
        process, self._process = self._process, None
        channel, self._channel = self._channel, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()
        if channel is not None:
            channel.close()

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> socket.socket:
        if not sys.executable or getattr(sys, "frozen", False):
            raise CompileError(
                "the compiler needs a process of its own, and this interpreter cannot start one: sys.executable is "
                f"{sys.executable!r} (EngineConfig.isolate_compilation)"
            )
        try:
            mine, theirs = socket.socketpair()
            self._channel = mine
            with theirs:
                # Isolated mode: ignores PYTHON* variables and the current directory.
                program = (
                    f"import sys; sys.path[:] = {[path for path in sys.path if path and isinstance(path, str)]!r}; "
                    f"from wasi_http.engine.compiler import answer_compiler; answer_compiler({theirs.fileno()})"
                )
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-c", program],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                )
        except OSError as error:
            raise CompileError(f"the compiler cannot be started: {sys.executable}: {error.strerror}") from None
        mine.settimeout(self._left)
        _send(mine, _SETTINGS, json.dumps(_settings(self._engine)).encode())
        return mine

    def _last_words(self) -> str:
        """Returns why the process has exited, or stopped answering."""
        process = self._process
        assert process is not None
        assert process.stderr is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_WORDS)
        process.kill()
        code = process.wait()
        said = process.stderr.read().decode(errors="replace")
        if code == _TOO_LARGE or "memory allocation" in said or "MemoryError" in said:
            return self._no_memory()
        words = excerpt(said.strip().rpartition("\n")[2])
        if code < 0:
            number = -code
            with contextlib.suppress(ValueError):
                number = signal.Signals(-code)
            ended = f"was ended by {number.name if isinstance(number, signal.Signals) else number}"
            if number == signal.SIGKILL:
                ended += ", perhaps for lack of memory"
        else:
            ended = f"has ended with code {code}"
        return f"the compiler {ended}: {words}" if words else f"the compiler {ended}"

    def _no_memory(self) -> str:
        most = self._engine.config.compile_memory >> 20
        return f"compiling takes more memory than there is, or than {most:,} MiB (EngineConfig.compile_memory)"


def _settings(engine: Engine) -> dict[str, object]:
    """Returns settings under which an engine generates the same code: only the presence of a pool matters to it."""
    settings = dataclasses.asdict(engine.config)
    settings |= {"max_instances": 1, "pooling": engine.pooling, "guarded": engine.guarded}
    return settings | {"cache": False, "cache_directory": None}


def _send(channel: socket.socket, kind: bytes, content: bytes | memoryview) -> None:
    channel.sendall(_FRAME.pack(kind, len(content)))
    channel.sendall(content)


def _receive(channel: socket.socket) -> tuple[bytes, bytes]:
    """Returns kind and payload of a frame; raises EOFError when the other side is gone."""
    kind, length = _FRAME.unpack(_receive_exactly(channel, _FRAME.size))
    return kind, _receive_exactly(channel, length)


def _receive_exactly(channel: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    with memoryview(data) as view:
        done = 0
        while done < size:
            count = channel.recv_into(view[done:])
            if not count:
                raise EOFError
            done += count
    return bytes(data)


# The compiler process


def answer_compiler(descriptor: int) -> None:
    """Runs the process that a `Compiler` started; ``descriptor`` is its end of the socket pair."""
    with socket.socket(fileno=descriptor) as channel, contextlib.suppress(EOFError, OSError):
        _, settings = _receive(channel)
        config = EngineConfig(**json.loads(settings))
        threading.Thread(target=_watch, args=(descriptor, config.compile_memory), daemon=True).start()
        _limit(config)
        engine = Engine(config)
        while True:
            _, wasm = _receive(channel)
            _send(channel, *_compile(engine, wasm))


def _compile(engine: Engine, wasm: bytes) -> tuple[bytes, bytes]:
    try:
        return _MODULE, Module.compile(engine, wasm).serialize()
    except InvalidModule as error:
        if "(os error 12)" in error.message:
            return _NO_MEMORY, b""
        return _INVALID, json.dumps({"message": error.message, "offset": error.offset}).encode()
    except CompileError as error:
        return _FAILED, str(error).encode()
    except MemoryError:
        return _NO_MEMORY, b""


def _watch(descriptor: int, memory: int) -> None:
    """Exits when the other process is gone, and when this one uses too much memory, whatever it is doing.

    With an rlimit instead, an allocation in the compiler would fail, which can leave it deadlocked.
    """
    hung_up = select.poll()
    hung_up.register(descriptor, 0)
    while not hung_up.poll(_LOOK):
        if _resident() > memory:
            os._exit(_TOO_LARGE)
    os._exit(1)


def _resident() -> int:
    """Returns the memory that this process uses, in bytes; 0 if the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _limit(config: EngineConfig) -> None:
    """Limits processor time here, too, in case the other process lives on and never kills this one."""
    seconds = math.ceil(config.compile_timeout) * (os.cpu_count() or 1) + 1
    for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
