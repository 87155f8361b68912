"""The first moments of the command, in which it is imported: signals end it without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.server.processes import COMMAND
from tests.server.serving import PATIENCE

SCRIPT = [sys.executable, "-c", "from wasi_http.cli import main; main()"]

#: Takes the place of what the command imports first: says what was imported before, and never comes to an end.
ENDLESS = """
import os, sys
os.write(2, " ".join(sorted(name for name in sys.modules if name in ("asyncio", "wasi_http.engine"))).encode() + b"\\n")
while True:
    os.read(0, 1)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "click.py").write_text(ENDLESS)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}


def interrupted(
    command: list[str],
    environment: dict[str, str],
    number: signal.Signals,
    find: Callable[[int], int] = int,
) -> tuple[int, bytes]:
    """The exit code of a command that gets a signal while it is imported, and what it says."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stderr is not None
        try:
            assert process.stderr.readline() == b"\n", "what takes long is imported before signals are handled"
            os.kill(find(process.pid), number)
            return process.wait(PATIENCE), process.stderr.read()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [COMMAND, SCRIPT], ids=["module", "script"])
def test_signals_end_it(environment: dict[str, str], command: list[str], number: signal.Signals) -> None:
    assert interrupted([*command, "serve", "app.wasm"], environment, number) == (128 + number, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_process_1(environment: dict[str, str], number: signal.Signals) -> None:
    """The system ignores signals for it that it does not handle."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child"]
    try:
        allowed = subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("namespaces are not allowed here")

    def child(pid: int) -> int:
        (found,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(found)

    assert interrupted([*unshare, *COMMAND, "serve", "app.wasm"], environment, number, child) == (128 + number, b"")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signals_that_are_ignored_from_the_start(environment: dict[str, str], number: signal.Signals) -> None:
    """As nohup and jobs in the background of a script have it."""
    script = f"import signal; signal.signal({number}, signal.SIG_IGN); {SCRIPT[-1]}"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"\n"
        process.send_signal(number)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
