"""Machines that lack something, and signals at any time: the server serves or says why not, and always ends."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import wasi_http
from tests.attack.campaign import Attack, Field, Round
from tests.server.serving import PATIENCE, get

__all__ = ["ATTACK"]

_GUEST = Path(__file__).parents[2] / "examples" / "hello.wat"
_GIB = 1 << 30
_PACKAGE = os.path.dirname(wasi_http.__file__)

# What runs before the command handles signals.
_FIRST = {"__init__.py", "__main__.py", "cli/__init__.py"}

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _cache(rnd: random.Random, home: Path) -> None:
    """Leaves something in the compile cache that is none of its entries, or is damaged."""
    directory = home / "wasi-http"
    match rnd.randrange(5):
        case 0:
            directory.write_bytes(b"a file")
        case 1:
            directory.symlink_to("/nowhere")
        case 2:
            directory.mkdir(mode=0o777)
        case 3:
            for entry in directory.glob("*") if directory.is_dir() else ():
                data = bytearray(entry.read_bytes())
                data[rnd.randrange(len(data))] ^= 1
                entry.write_bytes(data)


class _Machine:
    """How a process is started: `prepare` runs in it before the program."""

    def __init__(self, rnd: random.Random, home: Path) -> None:
        self.closed = [number for number in (0, 1, 2) if rnd.random() < 0.15]
        self.files = rnd.choice([None, None, None, 16, 24, 64])
        self.space = rnd.choice([None, None, None, 1 * _GIB, 2 * _GIB, 4 * _GIB, 16 * _GIB])
        self.gone = rnd.random() < 0.2
        self.environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(sys.path)}
        if rnd.random() < 0.8:
            self.environment["XDG_CACHE_HOME"] = str(home)
        self.directory = home / "gone"

    def __str__(self) -> str:
        return f"closed {self.closed}, files {self.files}, space {self.space}, directory gone: {self.gone}"

    def prepare(self) -> None:
        if self.gone:
            os.chdir(self.directory)
            os.rmdir(self.directory)
        if self.files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.files, self.files))
        if self.space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (self.space, self.space))
        for number in self.closed:
            os.close(number)


def _ask(port: int) -> bytes:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.settimeout(PATIENCE)
        client.sendall(get("/", "Connection: close"))
        answer = b""
        while piece := client.recv(65536):
            answer += piece
        return answer
    return b""


def _until(reached: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Waits until that is so, or the process has ended."""
    end = time.monotonic() + PATIENCE
    while not reached() and process.poll() is None:
        assert time.monotonic() < end, "neither serves nor ends"
        time.sleep(0.01)


def _interrupted_early(text: str) -> bool:
    """Whether that is what Python itself says of SIGINT, before the command handles signals."""
    ours = re.findall(rf'^  File "{re.escape(_PACKAGE)}/([^"]*)"', text, re.MULTILINE)
    return text.endswith("KeyboardInterrupt\n") and set(ours) <= _FIRST


@contextlib.contextmanager
def _open(field: Field) -> Iterator[Round]:
    def attack(rnd: random.Random) -> None:
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as said:
            home = Path(name)
            (home / "gone").mkdir()
            _cache(rnd, home)
            machine, port = _Machine(rnd, home), _free_port()
            sent = [rnd.choice(_SIGNALS) for _ in range(rnd.choice([1, 2, 3]))]
            arguments = ["--workers", str(rnd.choice([1, 1, 2])), *(["--no-cache"] if rnd.random() < 0.2 else [])]
            process = subprocess.Popen(
                [sys.executable, "-m", "wasi_http", "serve", str(_GUEST), "--addr", f"127.0.0.1:{port}", *arguments],
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=machine.environment,
                preexec_fn=machine.prepare,
                start_new_session=True,
            )
            try:
                answer = b""
                if rnd.random() < 0.4:
                    time.sleep(rnd.random())  # in the midst of whatever it is at
                else:
                    _until(lambda: _ask(port), process)
                    answer = _ask(port)
                for number in sent:
                    if process.poll() is None:
                        process.send_signal(number)
                code = process.wait(PATIENCE)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            said.seek(0)
            text = said.read().decode()
            told = f"{machine}: exit code {code}, said {text!r}"
            interrupted = signal.SIGINT in sent and code in (1, -signal.SIGINT) and _interrupted_early(text)
            assert interrupted or "Traceback" not in text, told
            assert code in (0, 1, *(128 + number for number in _SIGNALS), *(-number for number in _SIGNALS)), told
            assert code != 1 or interrupted or "error: " in text or 2 in machine.closed, told
            assert not answer or answer.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 500 ")), told
            if machine.files is None and machine.space is None and answer:
                assert answer.endswith(b"Hello, WASI!\n"), told

    yield attack


ATTACK = Attack("machines", _open, rounds=12, longest=60.0)
