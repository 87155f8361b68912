from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from wasi_http.component.model.values import Err, Ok
from wasi_http.wasi import Exit
from wasi_http.wasi.cli import (
    Environment,
    ExitInterface,
    Run,
    Stderr,
    Stdin,
    Stdout,
    TerminalInput,
    TerminalOutput,
    TerminalStderr,
    TerminalStdin,
    TerminalStdout,
)
from wasi_http.wasi.io import CallableOutput, InputStream, NullOutput, OutputStream

from .view import View


def test_environment() -> None:
    empty = View()
    assert Environment.get_environment(empty) == []
    assert Environment.get_arguments(empty) == []
    assert Environment.initial_cwd(empty) is None
    view = View(env={"B": "2", "A": ""}, args=("app", "-v"), initial_cwd="/data")
    assert Environment.get_environment(view) == [("B", "2"), ("A", "")]
    assert Environment.get_arguments(view) == ["app", "-v"]
    assert Environment.initial_cwd(view) == "/data"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: ExitInterface.exit_(Ok()), 0),
        (lambda: ExitInterface.exit_(Err()), 1),
        (lambda: ExitInterface.exit_with_code(0), 0),
        (lambda: ExitInterface.exit_with_code(255), 255),
    ],
)
def test_exit(call: Callable[[], None], code: int) -> None:
    with pytest.raises(Exit, match=f"code {code}$") as caught:
        call()
    assert caught.value.code == code


def test_run_is_for_guests() -> None:
    with pytest.raises(NotImplementedError):
        Run.run()


@pytest.mark.parametrize(("get", "name"), [(Stdout.get_stdout, "stdout"), (Stderr.get_stderr, "stderr")])
def test_standard_output(get: Callable[[View], OutputStream], name: str) -> None:
    assert isinstance(get(View()), NullOutput)
    pieces: list[bytes] = []
    view = View(**{name: pieces.append})
    get(view).write(b"one")
    get(view).write(b"two")
    assert pieces == [b"one", b"two"]
    file = io.BytesIO()
    get(View(**{name: file})).write(b"three")
    assert file.getvalue() == b"three"
    own = CallableOutput(print)
    assert get(View(**{name: own})) is own


def test_standard_input() -> None:
    assert Stdin.get_stdin(View(stdin=b"text")).read(10) == b"text"
    with pytest.raises(Err):
        Stdin.get_stdin(View()).read(1)
    own = InputStream()
    assert Stdin.get_stdin(View(stdin=own)) is own
    file = io.BytesIO(b"text")
    view = View(stdin=file)
    assert Stdin.get_stdin(view).read(2) + Stdin.get_stdin(view).read(9) == b"text"


@pytest.mark.parametrize(
    ("get", "name", "resource"),
    [
        (TerminalStdin.get_terminal_stdin, "stdin_terminal", TerminalInput),
        (TerminalStdout.get_terminal_stdout, "stdout_terminal", TerminalOutput),
        (TerminalStderr.get_terminal_stderr, "stderr_terminal", TerminalOutput),
    ],
)
def test_terminals(get: Callable[[View], Any], name: str, resource: type[Any]) -> None:
    assert get(View()) is None
    assert isinstance(get(View(**{name: True})), resource)
