"""The server as processes, driven from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.guests.build import GuestUnavailable, build
from wasi_http.engine import EngineConfig, wat_to_wasm
from wasi_http.server import ServerConfig, Worker, process
from wasi_http.server.process import ServeError, Setup, _supervise

from . import processes
from .processes import COMMAND, Process, rest, started
from .serving import PATIENCE, Log, get

HELLO = get("/status/200", "Connection: close")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled components are kept between the processes of a run."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="session")
def kitchen(cache: Path) -> Path:
    """A guest that is compiled already: servers have nothing to say of that."""
    try:
        guest = build("c_kitchen")
    except GuestUnavailable as error:
        pytest.skip(str(error))
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    subprocess.run([*COMMAND, "compile", str(guest)], env=environment, check=True, capture_output=True)
    return guest


needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")


def until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_requests_finish_after_the_first_signal(cache: Path, kitchen: Path, number: signal.Signals) -> None:
    with started(cache, kitchen) as server, server.connect() as client, server.connect() as idle:
        assert server.ask(HELLO).endswith(b"\r\n\r\nstatus\n")
        client.sendall(get("/drip/10"))
        assert client.recv(10) == b"HTTP/1.1 2"
        server.signal(number)
        assert rest(idle) == b""
        assert rest(client).endswith(b"\r\n7\r\ntick 9\n\r\n0\r\n\r\n")
        assert server.end() == 0
        host, port = server.address
        said = f"Serving HTTP on http://{host}:{port}/\nShutting down, interrupt again to quit sooner...\n"
        assert server.err == said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_connection_shuts_the_server_down(cache: Path, kitchen: Path, workers: str) -> None:
    with started(cache, kitchen, "--shutdown-addr", "127.0.0.1:0", "--workers", workers) as server:
        with server.connect() as client:
            door = server.wait_for(r"^Listening for shutdown on tcp://127\.0\.0\.1:(\d+)/$")
            client.sendall(get("/drip/20"))
            assert client.recv(10) == b"HTTP/1.1 2"
            with socket.create_connection(("127.0.0.1", int(door[1])), PATIENCE) as knock:
                assert knock.recv(1) == b""
            server.wait_for("^Shutting down")
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", int(door[1])), PATIENCE)
            assert rest(client).endswith(b"\r\n8\r\ntick 19\n\r\n0\r\n\r\n")
        assert server.end() == 0
        assert "error" not in server.err


def test_a_signal_after_a_connection_waits_for_nobody(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen, "--shutdown-addr", "127.0.0.1:0") as server, server.connect() as client:
        door = server.wait_for(r"^Listening for shutdown on tcp://127\.0\.0\.1:(\d+)/$")
        client.sendall(get("/sleep-after-head"))
        assert client.recv(10) == b"HTTP/1.1 2"
        socket.create_connection(("127.0.0.1", int(door[1])), PATIENCE).close()
        server.wait_for("^Shutting down")
        assert server.process.poll() is None
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            rest(client)
        assert server.end() == 0


def test_clients_that_stay_do_not_keep_the_server_from_ending(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen, "--shutdown-addr", "127.0.0.1:0") as server:
        door = server.wait_for(r"^Listening for shutdown on tcp://127\.0\.0\.1:(\d+)/$")
        assert server.address
        knocks = [socket.socket() for _ in range(5)]
        for knock in knocks:
            knock.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
                knock.connect(("127.0.0.1", int(door[1])))
        assert server.end() == 0
        assert server.err.count("Shutting down") == 1
        for knock in knocks:
            knock.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_it_serves(cache: Path, tmp_path: Path, number: signal.Signals) -> None:
    # As process 1 it would not end by the default action of a signal. Opening the file waits for a writer.
    os.mkfifo(tmp_path / "app.wasm")
    with started(cache, tmp_path / "app.wasm") as server:
        until(lambda: handles(server.process.pid, number))
        server.signal(number)
        assert server.end() == 128 + number
        assert server.err == ""


def handles(pid: int, number: signal.Signals) -> bool:
    found = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_that_is_ignored(cache: Path, kitchen: Path, workers: str) -> None:
    def nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started(cache, kitchen, "--workers", workers, before=nohup) as server:
        assert server.address
        server.signal(signal.SIGHUP, group=True)
        assert server.ask(HELLO).endswith(b"\r\n\r\nstatus\n")
        server.signal(signal.SIGTERM)
        assert server.end() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_listens_at_all_addresses(cache: Path, kitchen: Path, workers: str) -> None:
    with started(cache, kitchen, "--addr", ":0", "--workers", workers) as server:
        port = server.address[1]
        lines = server.err.splitlines()
        assert f"Serving HTTP on http://0.0.0.0:{port}/" in lines
        for host, line in (("127.0.0.1", "0.0.0.0"), ("::1", "[::]")):
            if f"Serving HTTP on http://{line}:{port}/" in lines:
                with socket.create_connection((host, port), PATIENCE) as client:
                    client.sendall(HELLO)
                    assert rest(client).endswith(b"status\n")
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_instances_are_reused(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen, "--max-instance-reuse-count", "3", "--idle-instance-timeout", "1h") as server:
        answers = [server.ask(get("/many-handles/1", "Connection: close")).count(b"handles") for _ in range(7)]
        assert answers == [1, 2, 3, 1, 2, 3, 1]
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_the_headers_that_guests_see(cache: Path, kitchen: Path, tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("x-b: from the file\n\n")
    with started(cache, kitchen, "-H", "env: 1", "-H", "Env: 2", "--header", f"@{file}") as server:
        said = server.ask(get("/headers", "ENV: client", "X-B: client", "X-C: client", "Connection: close"))
        assert said.endswith(b"\r\n\r\nx-c: client\nenv: 1\nenv: 2\nx-b: from the file\n")


def test_the_second_signal_waits_for_nobody(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen) as server, server.connect() as client:
        client.sendall(get("/sleep-after-head"))
        assert client.recv(10) == b"HTTP/1.1 2"
        server.signal(signal.SIGTERM)
        server.wait_for("^Shutting down")
        assert server.process.poll() is None
        server.signal(signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            rest(client)
        assert server.end() == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nobody_has_to_read_what_the_server_says(
    cache: Path, kitchen: Path, workers: int, number: signal.Signals
) -> None:
    arguments = ["serve", str(kitchen), "--addr", "127.0.0.1:0", "--workers", str(workers)]
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        start_new_session=True,
    ) as process:
        try:
            assert process.stderr is not None
            found = re.search(rb":(\d+)/", process.stderr.readline())
            assert found is not None
            process.stderr.close()
            with socket.create_connection(("127.0.0.1", int(found[1])), PATIENCE) as client:
                # The reason of the failure goes nowhere, and the server goes on.
                client.sendall(get("/trap") + get("/status/200", "Connection: close"))
                assert rest(client).endswith(b"status\n")
            process.send_signal(number)
            assert process.wait(PATIENCE) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("unread", ["stdout", "stderr", "both"])
def test_a_log_that_is_not_read_stops_nothing(cache: Path, kitchen: Path, workers: int, unread: str) -> None:
    with unread_log(cache, kitchen, unread, "--workers", str(workers), "--shutdown-timeout", "1s") as (process, port):

        def ask(path: str) -> bytes:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
                client.sendall(get(path, "Connection: close"))
                return rest(client)

        for _ in range(2 * workers):
            assert b"printed 5000\n" in ask("/print/5000")
        for _ in range(100):
            assert ask("/trap").endswith(b"500 the handler failed\n")
        # Another guest is held back, which delays nobody, and the end waits for neither.
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(get("/print/100000"))
            assert ask("/status/200").endswith(b"status\n")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0


@contextlib.contextmanager
def unread_log(cache: Path, guest: Path, unread: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server of whose standard streams one or both, which lead to one pipe, are not read after the first line."""
    process = subprocess.Popen(
        [*COMMAND, "serve", str(guest), "--addr", "127.0.0.1:0", *arguments],
        stdout=subprocess.DEVNULL if unread == "stderr" else subprocess.PIPE,
        stderr=subprocess.STDOUT if unread == "both" else subprocess.PIPE,
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        start_new_session=True,
    )
    said = process.stdout if unread == "both" else process.stderr
    assert said is not None
    try:
        found = re.search(rb":(\d+)/", said.readline())
        assert found is not None
        yield process, int(found[1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_a_log_that_is_read_slowly_has_everything(cache: Path, kitchen: Path) -> None:
    with (
        unread_log(cache, kitchen, "stdout") as (process, port),
        socket.create_connection(("127.0.0.1", port), PATIENCE) as client,
    ):
        client.sendall(get("/print/40000", "Connection: close"))
        assert process.stdout is not None
        for number in range(40_000):
            said = process.stdout.readline()
            assert said == b"stdout [0] :: " + (b"%08d" % number).ljust(63, b".") + b"\n"
        assert b"printed 40000\n" in rest(client)


def test_what_guests_print_goes_to_the_servers_streams(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen, "--no-logging-prefix") as server:
        assert server.ask(get("/stdout", "Connection: close")).endswith(b"printed\n")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        assert server.out == "first line\nsecond line\nno newline"
        assert "\na complaint\n" in server.err


def test_the_server_outlives_its_guests(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen, "--timeout", "100us") as server:
        for path, reason in [
            ("/trap", "error: request \\d+ GET \\S+: Trap: wasm `unreachable` instruction executed$"),
            ("/no-set", "error: request \\d+ GET \\S+: guest never invoked `response-outparam::set` method$"),
            ("/sleep-forever", "error: request \\d+ GET \\S+: guest timed out$"),
            ("/spin", "error: request \\d+ GET \\S+: guest timed out$"),
        ]:
            assert server.ask(get(path, "Connection: close")).startswith(b"HTTP/1.1 50")
            server.wait_for(reason)
        assert server.ask(HELLO).endswith(b"\r\n\r\nstatus\n")
        assert "Traceback" not in server.err


# ---- compiling ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A component that takes hours to compile."""
    path = tmp_path_factory.mktemp("endless") / "endless.wat"
    path.write_text(f"(component (core module (func {'loop ' * 200_000}{'end ' * 200_000})))")
    return path


@needs_proc
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_signals_end_compilation(cache: Path, endless: Path, number: signal.Signals, code: int, workers: str) -> None:
    with started(cache, endless, "--workers", workers) as server:
        server.wait_for("^compiling .*endless.wat …$")
        until(server.children)
        compilers = server.children()
        server.signal(number)
        assert server.end() == code
        until(lambda: not any(alive(pid) for pid in compilers))
        assert "Traceback" not in server.err


@needs_proc
def test_the_compiler_ends_with_the_server(cache: Path, endless: Path) -> None:
    with started(cache, endless) as server:
        server.wait_for("^compiling ")
        until(server.children)
        compilers = server.children()
        server.process.kill()
        until(lambda: not any(alive(pid) for pid in compilers))


def test_process_1_ends_while_it_compiles(cache: Path, endless: Path) -> None:
    """The system ignores signals for it that it does not handle."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("namespaces are not allowed here")
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(
        [*unshare, *COMMAND, "serve", str(endless), "--addr", "127.0.0.1:0"], stderr=subprocess.PIPE, env=environment
    ) as outer:
        assert outer.stderr is not None
        assert outer.stderr.readline().startswith(b"compiling ")
        (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        assert outer.wait(PATIENCE) == 143


@needs_proc
def test_workers_without_a_cache_do_not_compile_again(
    kitchen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even those that replace others: what was written once for all of them is not written again."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def written() -> list[tuple[str, int, int]]:
        found = [(str(path), path.stat()) for path in tmp_path.rglob("*.cwasm")]
        return [(path, status.st_ino, status.st_mtime_ns) for path, status in found]

    with started(tmp_path, kitchen, "--workers", "2", "--no-cache") as server:
        assert server.address
        lent = written()
        assert len(lent) == 1
        victim, _ = server.children()
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(server.children() - {victim}) == 2)
        until(lambda: all(serves(server) for _ in range(20)))
        assert written() == lent
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        assert written() == []


# ---- workers --------------------------------------------------------------------------------------------------------


def serves(server: Process) -> bool:
    try:
        return server.ask(HELLO).endswith(b"\r\n\r\nstatus\n")
    except OSError:
        return False  # by a worker that is gone


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers(cache: Path, kitchen: Path, number: signal.Signals) -> None:
    with started(cache, kitchen, "--workers", "2") as server, server.connect() as client:
        workers = server.children()
        assert len(workers) == 2
        for _ in range(20):
            assert serves(server)
        # A terminal sends the signal to all of them, and requests finish nevertheless.
        client.sendall(get("/drip/10"))
        assert client.recv(10) == b"HTTP/1.1 2"
        server.signal(number, group=True)
        assert rest(client).endswith(b"\r\n7\r\ntick 9\n\r\n0\r\n\r\n")
        assert server.end() == 0
        assert server.err.count("Shutting down") == 1
        assert "error" not in server.err
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


@needs_proc
def test_a_worker_that_dies_is_replaced(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen, "--workers", "2") as server:
        assert server.address
        victim, survivor = server.children()
        os.kill(victim, signal.SIGKILL)
        server.wait_for("^error: a worker ended with code -9 and is replaced$")
        until(lambda: len(server.children() - {victim}) == 2)
        assert survivor in server.children()
        until(lambda: all(serves(server) for _ in range(20)))
        server.signal(signal.SIGTERM)
        assert server.end() == 0


@needs_proc
def test_the_second_signal_reaches_workers(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen, "--workers", "2") as server, server.connect() as client:
        client.sendall(get("/sleep-after-head"))
        assert client.recv(10) == b"HTTP/1.1 2"
        server.signal(signal.SIGTERM, group=True)
        server.wait_for("^Shutting down")
        time.sleep(0.1)  # there is nothing to see while a request goes on
        assert server.process.poll() is None
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            rest(client)
        assert server.end() == 0


@needs_proc
def test_workers_end_with_their_supervisor(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen, "--workers", "2") as server:
        assert server.address
        workers = server.children()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        until(lambda: not any(alive(pid) for pid in workers))


def test_workers_that_cannot_start(tmp_path: Path) -> None:
    setup = Setup(str(tmp_path / "missing.wasm"), ("127.0.0.1", 0), 2, ServerConfig(), EngineConfig(cache=False))
    log = Log()

    async def main() -> None:
        await _supervise(setup, [(socket.AF_INET, ("127.0.0.1", 0))], lambda: None, [], log)

    with pytest.raises(ServeError, match=r"a worker could not start: /.*/missing\.wasm: No such file or directory"):
        asyncio.run(main())
    assert log.err == ""


@needs_proc
def test_the_directory_of_the_start_is_gone(cache: Path, kitchen: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "app.wasm").write_bytes(kitchen.read_bytes())
    with started(cache, Path("app.wasm"), "--workers", "2", cwd=here) as server:
        assert server.address
        (here / "app.wasm").rename(tmp_path / "app.wasm")
        here.rmdir()
        victim, _ = server.children()
        os.kill(victim, signal.SIGKILL)
        # It is tried again, as long as it takes.
        missing = f"{here}/app.wasm: No such file or directory"
        server.wait_for(f"^error: a worker could not start: {re.escape(missing)}")
        here.mkdir()
        (tmp_path / "app.wasm").rename(here / "app.wasm")
        until(lambda: len(server.children() - {victim}) == 2)
        until(lambda: all(serves(server) for _ in range(20)))
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        assert "Traceback" not in server.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_termination_that_was_ignored_from_the_start(cache: Path, kitchen: Path, workers: str) -> None:
    def ignoring() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    with started(cache, kitchen, "--workers", workers, before=ignoring) as server:
        assert server.address
        server.signal(signal.SIGTERM)
        assert server.end() == 0


def test_signals_at_the_end_do_not_change_the_code(cache: Path, kitchen: Path) -> None:
    with started(cache, kitchen) as server:
        assert server.address
        while server.process.poll() is None:
            server.signal(signal.SIGTERM)
            # With more, one may find another thread in CPython's own handler when the interpreter has ended: a crash.
            time.sleep(0.001)
        assert server.end() == 0


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def test_garbage_is_collected_when_few_requests_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[int] = []
    guests = SimpleNamespace(active=process._FEW_REQUESTS)
    worker = SimpleNamespace(answers=guests, connections=set())
    monkeypatch.setattr(process, "_COLLECT_EVERY", 0.001)
    monkeypatch.setattr(process.gc, "collect", lambda: collected.append(guests.active))

    async def main() -> None:
        collecting = asyncio.create_task(process._collect_when_quiet(cast(Worker, worker)))
        await asyncio.sleep(0.02)
        guests.active = 0
        while not collected:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        collecting.cancel()

    asyncio.run(main())
    assert set(collected) == {0}


_FAULTS = """
import resource
from wasi_http.server import process
process._keep_heap()
def run():
    for _ in range(1000):
        kept = bytearray(300_000)
        kept[::4096] = bytes(len(kept[::4096]))
run()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
run()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_buffers_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    # A page for each would be 74,000.
    assert int(done.stdout) < 1000


# ---- little address space -------------------------------------------------------------------------------------------

_LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
del sys.argv[1]
runpy.run_module("wasi_http", run_name="__main__")
"""


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("space", [4_000_000_000, 2_000_000_000, 1_000_000_000])
def test_little_address_space(
    cache: Path, kitchen: Path, monkeypatch: pytest.MonkeyPatch, space: int, workers: str
) -> None:
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", _LIMITED, str(space)])
    with started(cache, kitchen, "--workers", workers) as server:
        assert server.ask(HELLO).endswith(b"\r\n\r\nstatus\n")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        assert server.err.startswith("the pool of 1016 instances needs 82")
        assert server.err.count("the pool of") == 1


def test_too_little_address_space(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Path("examples/hello.wat").read_text(encoding="utf-8")
    component = tmp_path / "guest.wasm"
    component.write_bytes(wat_to_wasm(text.replace('(memory (export "memory") 1)', '(memory (export "memory") 4096)')))
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", _LIMITED, "400000000"])
    with started(cache, component) as server:
        assert server.end() == 1
        first, *_, second = server.err.splitlines()
        assert first.startswith("the pool of 1016 instances needs ")
        assert second.startswith("error: the limit of address space (ulimit -v) leaves no room for an instance: ")


_NO_NEW_CODE = """
import ctypes, runpy
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    raise SystemExit(77)
runpy.run_module("wasi_http", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_where_memory_cannot_be_made_executable(
    cache: Path, tmp_path: Path, kitchen: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    with started(cache, kitchen) as server:  # so that it is in the cache
        server.ask(HELLO)
    monkeypatch.setattr(processes, "COMMAND", [sys.executable, "-c", _NO_NEW_CODE])
    for compiled in (cache, tmp_path):
        with started(compiled, kitchen, "--workers", workers) as server:
            if server.end() == 77:
                pytest.skip("the kernel knows no MDWE")
            assert server.process.returncode == 1
            (line,) = (line for line in server.err.splitlines() if not line.startswith("compiling"))
            assert "this process may not make memory executable, and so cannot run WebAssembly" in line


# ---- little memory --------------------------------------------------------------------------------------------------

#: What the guest does first, and what the log then says, if anything.
_GROWTHS = {
    "fails with most of its memory": (
        "(drop (memory.grow (i32.const 29))) unreachable",
        r"\(its memory takes 1 MiB of at most 2: --max-memory-size\)$",
    ),
    "fails with little": ("(drop (memory.grow (i32.const 9))) unreachable", None),
    "answers with 500": (
        "(drop (memory.grow (i32.const 31)))"
        "(if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))"
        "(drop (call $set-status (local.get $response) (i32.const 500)))",
        r"the guest answered 500 \(its memory takes 2 MiB of at most 2: --max-memory-size\)$",
    ),
}

_SET_STATUS = "[method]outgoing-response.set-status-code"

#: What examples/hello.wat has, and what stands before it for a guest that can set a status.
_SETS_STATUS = {
    '(export "[method]outgoing-response.body" (func': f"""(export "{_SET_STATUS}" (func
      (param "self" (borrow $outgoing-response)) (param "status-code" u16) (result (result))))""",
    "(core func $drop-request": f'(core func $set-status (canon lower (func $types "{_SET_STATUS}")))',
    '(import "host" "drop-request"': '(import "host" "set-status" (func $set-status (param i32 i32) (result i32)))',
    '(export "drop-request" (func $drop-request))': '(export "set-status" (func $set-status))',
}


@pytest.mark.parametrize(("does", "said"), _GROWTHS.values(), ids=_GROWTHS)
def test_guests_that_need_more_memory(cache: Path, tmp_path: Path, does: str, said: str | None) -> None:
    text = Path("examples/hello.wat").read_text(encoding="utf-8")
    for place, before in (_SETS_STATUS | {";; result<outgoing-body>:": f"{does}\n"}).items():
        assert text.count(place) == 1
        text = text.replace(place, f"{before} {place}")
    component = tmp_path / "guest.wat"
    component.write_text(text, encoding="utf-8")
    with started(cache, component, "--max-memory-size", "2MiB") as server:
        assert server.ask(HELLO).startswith(b"HTTP/1.1 500 ")
        server.signal(signal.SIGTERM)
        assert server.end() == 0
        found = re.search(said or "--max-memory-size", server.err, re.MULTILINE)
        assert (found is None) is (said is None), server.err
