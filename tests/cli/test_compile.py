"""``wasi-http compile``: what it leaves for `serve`, and what it says."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.server.processes import COMMAND
from wasi_http.cli.commands import commands

HELLO = Path(__file__).parents[2] / "examples" / "hello.wat"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [*map(str, arguments)])


def test_serve_finds_what_was_compiled(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    result = invoke("compile", HELLO, "--cache-dir", cache)
    assert result.exit_code == 0
    (entry,) = cache.iterdir()
    assert result.stdout == f"{entry}\n"
    said = re.sub(r"\d+\.\d s", "N s", result.stderr)
    assert said == f"compiling {HELLO} …\ncompiled {HELLO} in N s (cached in {cache})\n"
    again = invoke("compile", HELLO, "--cache-dir", cache)
    assert (again.exit_code, again.stdout, again.stderr) == (0, f"{entry}\n", "")
    # As in an image: of root or the user, for others to read, and never to be written again.
    assert not stat.S_IMODE(cache.stat().st_mode) & 0o022
    cache.chmod(0o555)
    entry.chmod(0o444)
    served = invoke("serve", HELLO, "--cache-dir", cache, "--addr", "192.0.2.1:80")
    assert served.stderr.startswith("error: cannot listen on ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_at_once(tmp_path: Path, number: signal.Signals, code: int) -> None:
    path = tmp_path / "endless.wat"
    path.write_text(f"(component (core module (func {'loop ' * 200_000}{'end ' * 200_000})))")
    command = [*COMMAND, "compile", str(path), "--cache-dir", str(tmp_path / "cache")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"compiling {path} …\n".encode()
        process.send_signal(number)
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == code
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("options", [["--portable"], ["--trust-guest"], ["--compile-timeout", "1m"]])
def test_options(tmp_path: Path, options: list[str]) -> None:
    cache = tmp_path / "cache"
    assert invoke("compile", HELLO, "--cache-dir", cache, *options).exit_code == 0
    served = invoke("serve", HELLO, "--cache-dir", cache, "--addr", "192.0.2.1:80")
    assert served.stderr.startswith("compiling " if "--trust-guest" in options else "error: cannot listen on ")


def test_the_users_cache_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert invoke("compile", HELLO).stdout.startswith(f"{tmp_path}/wasi-http/")
    assert stat.S_IMODE((tmp_path / "wasi-http").stat().st_mode) == 0o700


def test_what_cannot_be_kept(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    result = invoke("compile", HELLO, "--cache-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    reason = f"others can write to {tmp_path} (its mode is 777)"
    assert result.stderr.splitlines()[-1] == f"error: {HELLO}: not cached: {reason}"


def test_what_cannot_be_served(tmp_path: Path) -> None:
    path = tmp_path / "app.wat"
    for text, error in (
        ("(module)", "this is a core module"),
        ('(component (import "test:unknown/thing@1.0.0" (instance (export "f" (func)))))', "test:unknown/thing@1.0.0"),
        ("(component (core module))", "does not export wasi:http/incoming-handler"),
    ):
        path.write_text(text)
        result = invoke("compile", path, "--cache-dir", tmp_path / "cache")
        assert result.exit_code == 1
        *_, last = result.stderr.splitlines()
        assert last.startswith(f"error: {path}: ")
        assert error in last
    assert invoke("compile", tmp_path / "missing").stderr == f"error: {tmp_path / 'missing'}: no such file\n"
    assert len(os.listdir(tmp_path / "cache")) == 1
