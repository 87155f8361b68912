"""``wasi-http compile``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from wasi_http.cli.arguments import COMPONENT_FILE, HintingCommand
from wasi_http.cli.durations import POSITIVE_DURATION
from wasi_http.cli.failure import fail, failures_of
from wasi_http.cli.progress import progress_display

__all__ = ["compile_"]


@click.command("compile", cls=HintingCommand, short_help="Compiles a component before it is served.")
@click.argument("file", type=COMPONENT_FILE, metavar="FILE")
@click.option("--cache-dir", type=click.Path(file_okay=False), metavar="DIR",
              help="Where to put compiled code.  [default: the user's cache directory]")
@click.option("--compile-timeout", default="5m", show_default=True, type=POSITIVE_DURATION, metavar="DURATION",
              help="How long compilation may take.")
@click.option("--portable", is_flag=True,
              help="Compile for any processor of this architecture: code without newer instructions.")
@click.option("--trust-guest", is_flag=True, help="Compile for `serve --trust-guest`.")
def compile_(
    file: Path, cache_dir: str | None, compile_timeout: float, portable: bool, trust_guest: bool
) -> None:
    """Compiles FILE into the compile cache, so that `wasi-http serve FILE` starts without compiling.

    For images and CI: run it when the image is built, with the --cache-dir that `serve` will use. It also checks that
    `serve` can serve FILE. Its output is valid for this version of wasi-http and, without --portable, for processors
    with the same features; otherwise `serve` compiles again. It may be owned by root and read-only.
    """
    from wasi_http.engine import EngineConfig
    from wasi_http.server.loading import load
    from wasi_http.server.log import Log
    from wasi_http.server.signals import end_early

    config = EngineConfig(
        interruptible=not trust_guest,
        portable=portable,
        isolate_compilation=True,
        compile_timeout=compile_timeout,
        cache_directory=cache_dir,
    )
    end_early()
    log = Log.standard()
    with failures_of(file):
        try:
            with progress_display(str(file)) as progress:
                component, _ = load(config, os.fspath(file), log.line, progress)
        finally:
            log.drain()
    if not component.cache.complete:
        fail(f"{file}: not cached: {component.cache.problem}")
    for entry in component.cache.entries:
        click.echo(entry)
    sys.stdout.flush()
