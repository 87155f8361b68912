"""wasi:cli: environment, standard streams, exit, and terminals."""

from __future__ import annotations

from wasi_http.component import Interface, Own, Resource, State, func, u8
from wasi_http.component.model.values import Err, Ok
from wasi_http.wasi.context import WasiView
from wasi_http.wasi.io.inputs import input_stream
from wasi_http.wasi.io.outputs import output_stream
from wasi_http.wasi.io.streams import InputStream, OutputStream

__all__ = [
    "Environment",
    "Exit",
    "ExitInterface",
    "Run",
    "Stderr",
    "Stdin",
    "Stdout",
    "TerminalInput",
    "TerminalInputInterface",
    "TerminalOutput",
    "TerminalOutputInterface",
    "TerminalStderr",
    "TerminalStdin",
    "TerminalStdout",
]


class Exit(Exception):
    """The guest called exit. Raised by the call of the guest; ``code`` is 0 for success."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"the guest exited with code {self.code}"


class Environment(Interface, name="wasi:cli/environment@0.2.12"):
    @func
    def get_environment(state: State[WasiView]) -> list[tuple[str, str]]:
        return list(state.ctx.env.items())

    @func
    def get_arguments(state: State[WasiView]) -> list[str]:
        return list(state.ctx.args)

    @func
    def initial_cwd(state: State[WasiView]) -> str | None:
        return state.ctx.initial_cwd


class ExitInterface(Interface, name="wasi:cli/exit@0.2.12"):
    @func
    def exit_(status: Ok[None] | Err[None]) -> None:
        raise Exit(0 if isinstance(status, Ok) else 1)

    @func
    def exit_with_code(status_code: u8) -> None:
        raise Exit(status_code)


class Run(Interface, name="wasi:cli/run@0.2.12"):
    """What a command exports."""

    @func
    def run() -> Ok[None] | Err[None]:
        raise NotImplementedError("a guest implements wasi:cli/run")


class Stdin(Interface, name="wasi:cli/stdin@0.2.12"):
    @func
    def get_stdin(state: State[WasiView]) -> Own[InputStream]:
        return input_stream(state.ctx.stdin)


class Stdout(Interface, name="wasi:cli/stdout@0.2.12"):
    @func
    def get_stdout(state: State[WasiView]) -> Own[OutputStream]:
        return output_stream(state.ctx.stdout)


class Stderr(Interface, name="wasi:cli/stderr@0.2.12"):
    @func
    def get_stderr(state: State[WasiView]) -> Own[OutputStream]:
        return output_stream(state.ctx.stderr)


class TerminalInput(Resource, name="terminal-input"):
    """The resource ``terminal-input``, whose presence marks a terminal."""

    __slots__ = ()


class TerminalOutput(Resource, name="terminal-output"):
    """The resource ``terminal-output``."""

    __slots__ = ()


class TerminalInputInterface(Interface, name="wasi:cli/terminal-input@0.2.12"):
    resources = (TerminalInput,)


class TerminalOutputInterface(Interface, name="wasi:cli/terminal-output@0.2.12"):
    resources = (TerminalOutput,)


class TerminalStdin(Interface, name="wasi:cli/terminal-stdin@0.2.12"):
    @func
    def get_terminal_stdin(state: State[WasiView]) -> Own[TerminalInput] | None:
        return TerminalInput() if state.ctx.stdin_terminal else None


class TerminalStdout(Interface, name="wasi:cli/terminal-stdout@0.2.12"):
    @func
    def get_terminal_stdout(state: State[WasiView]) -> Own[TerminalOutput] | None:
        return TerminalOutput() if state.ctx.stdout_terminal else None


class TerminalStderr(Interface, name="wasi:cli/terminal-stderr@0.2.12"):
    @func
    def get_terminal_stderr(state: State[WasiView]) -> Own[TerminalOutput] | None:
        return TerminalOutput() if state.ctx.stderr_terminal else None
