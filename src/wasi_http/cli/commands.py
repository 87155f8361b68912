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


def _open_standard_streams() -> None:
    """Leads standard streams that are closed nowhere: what is opened next would take their place, sockets included."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wasi-http")
def commands() -> None:
    """Runs WebAssembly components that speak wasi:http."""


commands.add_command(serve)
commands.add_command(compile_)
