"""``wasi-http`` and its commands."""

from __future__ import annotations

import os
from typing import Any

import click

from wasi_http import __version__
from wasi_http.cli.compile import compile_
from wasi_http.cli.serve import serve

__all__ = ["commands"]


class _Commands(click.Group):
    def main(self, *arguments: Any, **options: Any) -> Any:
        _open_standard_streams()
        return super().main(*arguments, **options)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
            of = [command for command in self.commands if name in _options(self.commands[command])]
            if not of:
                raise
            raise click.UsageError(f"No such option: {name}: write {ctx.command_path} {of[-1]} {name} …", ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            name = args[0]
            if name.endswith((".wasm", ".wat")) or os.path.isfile(name):
                cure = f"to serve the file, write {ctx.command_path} serve {name[:300]}"
            elif getattr(error, "possibilities", None):
                raise
            else:
                cure = f"the commands are {' and '.join(sorted(self.commands))}"
            raise click.UsageError(f"No such command {name[:300]!r}: {cure}", ctx) from None


def _options(command: click.Command) -> set[str]:
    return {name for option in command.params for name in option.opts}


def _open_standard_streams() -> None:
    """Opens closed standard streams on /dev/null: otherwise the next file or socket would take their descriptors."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # open() returns the lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wasi-http")
def commands() -> None:
    """Runs WebAssembly components that speak wasi:http."""


commands.add_command(serve)
commands.add_command(compile_)
