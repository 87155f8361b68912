"""The server as a process: the command line, started and watched."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .serving import PATIENCE

COMMAND = [sys.executable, "-m", "wasi_http"]


class Process:
    """A server that listens. ``err`` is what it wrote on standard error so far."""

    def __init__(
        self,
        arguments: list[str],
        environment: dict[str, str],
        cwd: Path | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
            cwd=cwd,
            preexec_fn=before,
        )
        self.out = self.err = ""
        self._changed = threading.Condition()
        self._readers = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in ("out", "err")]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        pipe = self.process.stdout if name == "out" else self.process.stderr
        assert pipe is not None
        with pipe:
            while data := os.read(pipe.fileno(), 65536):
                with self._changed:
                    setattr(self, name, getattr(self, name) + data.decode())
                    self._changed.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Waits until standard error has a line like that."""
        with self._changed:
            found = self._changed.wait_for(lambda: re.search(pattern, self.err, re.MULTILINE), PATIENCE)
        assert found, f"no {pattern!r} in {self.err!r}"
        return found

    @property
    def address(self) -> tuple[str, int]:
        found = self.wait_for(r"^Serving HTTP on http://([\d.]+):(\d+)/$")
        return found[1], int(found[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, PATIENCE)

    def ask(self, request: bytes) -> bytes:
        """Everything that comes back until the server closes the connection."""
        with self.connect() as client:
            client.sendall(request)
            return rest(client)

    def signal(self, number: signal.Signals, group: bool = False) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def children(self) -> set[int]:
        """The processes that it started to serve."""
        found = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                pid, _, rest = path.read_text().partition(" (")
                parent = int(rest.rpartition(") ")[2].split()[1])
                command = (path.parent / "cmdline").read_text()
            except OSError:
                continue  # gone meanwhile
            if parent == self.process.pid and "resource_tracker" not in command:
                found.add(int(pid))
        return found

    def end(self) -> int:
        """Waits for the end; the exit code."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.err!r}, {self.children()}") from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return code


def rest(client: socket.socket) -> bytes:
    data = b""
    while more := client.recv(65536):
        data += more
    return data


@contextmanager
def started(
    cache: Path, guest: Path, *arguments: str, cwd: Path | None = None, before: Callable[[], None] | None = None
) -> Iterator[Process]:
    """A server on a free port of the loopback interface; ``before`` runs in the process before the command."""
    process = Process(
        [str(guest), "--addr", "127.0.0.1:0", *arguments],
        {"XDG_CACHE_HOME": str(cache), "PYTHONWARNINGS": "error"},
        cwd,
        before,
    )
    try:
        yield process
    finally:
        # Workers outlive a supervisor that was killed, if something is wrong.
        with suppress(ProcessLookupError):
            os.killpg(process.process.pid, signal.SIGKILL)
        process.end()
