"""Compilation in a process of its own: it gives what the compiler gives here, and all that befalls it is an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from wasi_http.engine import CompileError, Engine, EngineConfig, InvalidModule, Module, wat_to_wasm
from wasi_http.engine.compiler import Compiler

ADD = wat_to_wasm("""(module (import "a" "b" (func)) (func (export "add") (param i32 i32) (result i32)
  (i32.add (local.get 0) (local.get 1))))""")


def nested_loops(count: int) -> bytes:
    """Three bytes for each loop, and time with the square of their number."""
    return wat_to_wasm(f"(module (func {'loop ' * count}{'end ' * count}))")


ENDLESS = nested_loops(200_000)
MANY = wat_to_wasm(f"(module {'(func)' * 100_000})")


def isolating(**settings: object) -> Engine:
    return Engine(EngineConfig(max_instances=1, isolate_compilation=True, cache=False, **settings))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def apart() -> Engine:
    return isolating()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that are started."""
    found: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: object, **more: object) -> None:
            super().__init__(*arguments, **more)  # type: ignore[call-overload]
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    return found


def until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()


# ---- what it gives --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooling": False},
        {"guarded": False},
        {"portable": True},
        {"max_wasm_stack": 128 << 10},
        {"cache_directory": Path("/no-such-directory")},
    ],
)
def test_the_code_is_for_the_engine_that_asks(settings: dict[str, object]) -> None:
    engine = isolating(**settings)
    with Compiler(engine) as compiler:
        data = compiler.compile(ADD)
    here, there = Module.compile(engine, ADD), Module.deserialize(engine, data)
    assert (here.imports, here.exports) == (there.imports, there.exports)


def test_one_process_compiles_several_modules(apart: Engine, started: list[subprocess.Popen[bytes]]) -> None:
    with Compiler(apart) as compiler:
        assert not started
        assert Module.deserialize(apart, compiler.compile(ADD)).exports
        with pytest.raises(InvalidModule):
            compiler.compile(b"")
        assert not Module.deserialize(apart, compiler.compile(nested_loops(2))).exports
        (process,) = started
        assert process.poll() is None
    assert process.returncode is not None


@pytest.mark.parametrize("wasm", [b"", b"\0asm\1\0\0\0\1\2", b"plain text", wat_to_wasm("(module (memory i64 1))")])
def test_an_invalid_module_is_the_same_error(apart: Engine, wasm: bytes) -> None:
    with pytest.raises(InvalidModule) as here:
        Module.compile(apart, wasm)
    with pytest.raises(InvalidModule) as there, Compiler(apart) as compiler:
        compiler.compile(wasm)
    assert (there.value.message, there.value.offset) == (here.value.message, here.value.offset)


def test_in_a_thread(apart: Engine) -> None:
    compiled: list[bytes] = []

    def work() -> None:
        with Compiler(apart) as compiler:
            compiled.append(compiler.compile(ADD))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert Module.deserialize(apart, compiled[0]).exports


def test_the_surroundings_of_the_process_do_not_matter(
    apart: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", ["", tmp_path / "missing", *sys.path, "/no-such-directory/\udcff'\""])
    (tmp_path / "wasi_http.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "socket.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", "/no-such-directory")
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Compiler(apart) as compiler:
            assert Module.deserialize(apart, compiler.compile(ADD)).exports
    finally:
        signal.signal(signal.SIGCHLD, before)


# ---- what stops it --------------------------------------------------------------------------------------------------


def test_a_module_that_takes_too_long(started: list[subprocess.Popen[bytes]]) -> None:
    with Compiler(isolating(compile_timeout=1.5)) as compiler:
        with pytest.raises(CompileError, match=r"longer than 1\.5 s \(--compile-timeout, EngineConfig"):
            compiler.compile(ENDLESS)
        assert started[0].returncode == -signal.SIGKILL


def test_the_time_is_for_all_modules(started: list[subprocess.Popen[bytes]]) -> None:
    def compile_all() -> None:
        with Compiler(isolating(compile_timeout=2)) as compiler:
            for _ in range(1000):
                compiler.compile(nested_loops(3000))

    with pytest.raises(CompileError, match="takes longer than 2 s"):
        compile_all()
    assert len(started) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems do not bound memory")
def test_a_module_that_takes_too_much_memory() -> None:
    with Compiler(isolating(compile_memory=64 << 20)) as compiler:
        with pytest.raises(CompileError, match=r"more memory than .* 64 MiB \(EngineConfig\.compile_memory\)"):
            compiler.compile(MANY)
        # Another process is started for another module.
        assert compiler.compile(ADD)


def test_an_exception_that_ends_the_wait_ends_the_process(
    apart: Engine, started: list[subprocess.Popen[bytes]]
) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    compiler = Compiler(apart)
    try:
        compiler.compile(ADD)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            compiler.compile(ENDLESS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("at", ["starting", "compiling"])
def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path, at: str) -> None:
    module = tmp_path / "endless.wasm"
    module.write_bytes(ENDLESS)
    program = f"""
from wasi_http.engine import Engine, EngineConfig, wat_to_wasm
from wasi_http.engine.compiler import Compiler
compiler = Compiler(Engine(EngineConfig(max_instances=1, pooling=False, cache=False)))
if {at == "compiling"}:
    compiler.compile(wat_to_wasm("(module)"))
else:
    compiler._channel = compiler._start()
print(compiler._process.pid, flush=True)
compiler.compile(open({str(module)!r}, "rb").read())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert alive(pid)
        owner.kill()
    until(lambda: not alive(pid))


# Programs that take the interpreter's place, and what is said.
PROGRAMS = [
    ("kill -SEGV $$", "the compiler was ended by SIGSEGV$"),
    ("echo stack overflow >&2; kill -ABRT $$", "the compiler was ended by SIGABRT: stack overflow$"),
    ("kill -KILL $$", "the compiler was ended by SIGKILL, perhaps for lack of memory$"),
    ("echo memory allocation of 1 bytes failed >&2; kill -ABRT $$", "more memory than there is, or than 4,096 MiB"),
    ("printf 'first\\nNo module named wasi_http\\n' >&2; exit 1", "has ended with code 1: No module named wasi_http$"),
    ("exit 0", "the compiler has ended with code 0$"),
    ("echo 'what\\033[31m' >&2; exit 7", r"has ended with code 7: what\\x1b\[31m$"),
]


@pytest.mark.parametrize(("program", "said"), PROGRAMS)
def test_a_process_that_fails(
    apart: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, said: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o700)
    with Compiler(apart) as compiler:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(python))
            with pytest.raises(CompileError, match=said):
                compiler.compile(ADD)
        assert compiler.compile(ADD)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("executable", None, "sys.executable is None"),
        ("executable", "", "sys.executable is ''"),
        ("executable", "/no-such-directory/python", "cannot be started: /no-such-directory/python: No such file"),
        ("frozen", True, "this interpreter cannot start one"),
    ],
)
def test_interpreters_that_cannot_start_one(
    apart: Engine, monkeypatch: pytest.MonkeyPatch, name: str, value: object, said: str
) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)
    with Compiler(apart) as compiler, pytest.raises(CompileError, match=said):
        compiler.compile(ADD)


@pytest.mark.parametrize("settings", [{"compile_timeout": 0}, {"compile_timeout": 1e12}, {"compile_memory": 1}])
def test_limits_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"EngineConfig.{next(iter(settings))} must be"):
        EngineConfig(**settings)  # type: ignore[arg-type]
