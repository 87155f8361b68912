"""``wasi-http`` and its commands."""

from __future__ import annotations

import click

from wasi_http.cli.compile import compile_
from wasi_http.cli.serve import serve

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="wasi-http")
def main() -> None:
    """Runs WebAssembly components that speak wasi:http."""


main.add_command(serve)
main.add_command(compile_)
