"""Machines, users and shells that are not what one expects: it serves, or says in one line why not."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.guests.build import GuestUnavailable, build

from .processes import COMMAND, rest
from .serving import PATIENCE, get

SERVING = re.compile(r"^Serving HTTP on http://127\.0\.0\.1:(\d+)/$", re.MULTILINE)


def nothing() -> None:
    pass


def closed(*descriptors: int) -> Callable[[], None]:
    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


def files(soft: int, hard: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def somebody() -> None:
    os.setgroups([])
    os.setgid(12345)
    os.setuid(12345)


def non_blocking() -> None:
    os.set_blocking(1, False)
    os.set_blocking(2, False)


def files_of_no_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


@dataclass
class Surroundings:
    """``before`` runs before the command, ``said`` is the error if it does not serve, ``mute`` has no log."""

    before: Callable[[], None] = nothing
    environment: dict[str, str] | None = None
    name: str = "app.wasm"
    arguments: list[str] = field(default_factory=list)
    said: str | None = None
    mute: bool = False


CASES = {
    "ordinary": Surroundings(),
    "workers": Surroundings(arguments=["--workers", "2"]),
    "no stdin": Surroundings(closed(0)),
    "no stdout": Surroundings(closed(1)),
    "no stderr": Surroundings(closed(2), mute=True),
    "no standard streams": Surroundings(closed(0, 1, 2), mute=True),
    "no standard streams, workers": Surroundings(closed(0, 1, 2), mute=True, arguments=["--workers", "2"]),
    "non-blocking streams": Surroundings(non_blocking),
    "no environment": Surroundings(environment={}),
    "no home": Surroundings(environment={"HOME": "/nonexistent"}),
    "no cache": Surroundings(environment={}, arguments=["--no-cache"]),
    "a user without name": Surroundings(somebody, environment={}),
    "locale C": Surroundings(environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "unknown locale": Surroundings(environment={"LC_ALL": "tlh_QO.KOI-7"}),
    "a name that is not UTF-8": Surroundings(name="caf\udce9.wasm"),
    "the same in locale C": Surroundings(
        name="caf\udce9.wasm", environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "a name with controls": Surroundings(name="\x1b[2J\n.wasm"),
    "files of no size": Surroundings(files_of_no_size, mute=True),
    "few files": Surroundings(files(12, 12), said="error: Too many open files: the server needs 16 beside"),
    "few files, workers": Surroundings(
        files(20, 20), arguments=["--workers", "2"], said="error: Too many open files: the server needs 24 beside"
    ),
    "few files at first": Surroundings(files(12, 64)),
}


@pytest.mark.parametrize("name", CASES)
def test_surroundings(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    try:
        guest = build("c_kitchen")
    except GuestUnavailable as error:
        pytest.skip(str(error))
    here = tmp_path / "here"
    here.mkdir(0o555)
    path = tmp_path / case.name
    shutil.copy(guest, os.fsencode(path))
    log = tmp_path / "log"
    environment = os.environ if case.environment is None else case.environment
    port = free_port()
    arguments = [*COMMAND, "serve", str(path), "--addr", f"127.0.0.1:{port}", *case.arguments]
    with open(log, "w") as file, contextlib.ExitStack() as stack:
        try:
            process = stack.enter_context(
                subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                    cwd=here,
                    env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
                    preexec_fn=case.before,
                    start_new_session=True,
                )
            )
        except PermissionError:
            pytest.skip("this Python is not there for others")
        stack.callback(kill, process)
        if case.said is not None:
            assert process.wait(PATIENCE) == 1
            (line,) = log.read_text().splitlines()
            assert line.startswith(case.said)
            return
        while not case.mute and not SERVING.search(log.read_text(errors="replace")):
            assert process.poll() is None
            time.sleep(0.02)
        assert ask(process, port).endswith(b"printed\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in log.read_text(errors="replace")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def ask(process: subprocess.Popen[bytes], port: int) -> bytes:
    """The answer to a request, as soon as it is served."""
    while process.poll() is None:
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(get("/stdout", "Connection: close"))
            return rest(client)
        time.sleep(0.02)
    raise AssertionError(f"it ended with code {process.returncode}")


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
