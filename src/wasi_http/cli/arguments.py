"""Hints for mistakes on the command line."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from pathlib import Path
from typing import Any, Final

import click

__all__ = ["COMPONENT_FILE", "ComponentFile", "HintingCommand", "listening_address", "similar_file"]

# The most directory entries compared with a missing name.
_COMPARED: Final = 1000

# Options of `wasmtime serve`, uvicorn and others, by prefix.
_HINTS: Final = (
    ("-Wtimeout", "write --timeout DURATION"),
    ("-Wmax-memory-size", "write --max-memory-size SIZE"),
    ("-W", "see --timeout and --max-memory-size"),
    ("-Smax-resources", "write --max-resources N"),
    ("-Scli", "leave it out: all of WASI 0.2 is always there"),
    ("-Scommon", "leave it out: all of WASI 0.2 is always there"),
    ("-Shttp", "leave it out: wasi:http is always there"),
    ("-S", "all of WASI 0.2 and wasi:http are always there; see --env and --allow-egress for what guests are given"),
    ("-D", "there is nothing like it here"),
    ("-C", "there is nothing like it here; see --no-cache and wasi-http compile"),
    ("-O", "there is nothing like it here; see wasi-http compile"),
    ("--dir", "guests have no files here"),
    ("--bind", "write --addr HOST:PORT"),
    ("--listen", "write --addr HOST:PORT"),
    ("--address", "write --addr HOST:PORT"),
    ("--reload", "start the server again"),
)

_URL: Final = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://").match


class ComponentFile(click.ParamType):  # type: ignore[type-arg]
    """The path of a component."""

    name = "file"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if isinstance(value, str) and _URL(value):
            self.fail(f"{value[:300]!r} is a URL: download it, and give the name of the file", param, ctx)
        return Path(os.fsdecode(value) if isinstance(value, bytes) else str(value))


COMPONENT_FILE = ComponentFile()


class HintingCommand(click.Command):
    """A command that explains options of similar tools."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = _hint(given, error.option_name)
            if hint is None:
                raise
            raise click.UsageError(hint, ctx) from None


def _hint(arguments: list[str], name: str) -> str | None:
    """Returns what to write instead of the first argument that is the option ``name``."""
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        if argument.split("=")[0] == name or (len(name) == 2 and argument.startswith(name)):
            written = argument if argument != name else f"{argument}{following}"
            for begin, hint in _HINTS:
                if written.startswith(begin):
                    shown = argument if begin == name or argument != name else f"{argument} {following}"
                    return f"No such option: {shown[:100]}: {hint} (docs/serve.md compares with wasmtime serve)"
            return None
    return None


def similar_file(path: Path) -> str | None:
    """Returns a file with a similar name in the same directory, or None."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _COMPARED) if entry.is_file()]
    except OSError:
        return None
    found = difflib.get_close_matches(path.name[:255], names, 1)
    return str(path.with_name(found[0])) if found else None


def listening_address(context: click.Context, options: dict[str, Any]) -> tuple[str, int]:
    """Returns the address of ``--addr``, or of ``--host`` and ``--port``. Removes the three from the options."""
    address: tuple[str, int] = options.pop("addr")
    host, port = options.pop("host"), options.pop("port")
    if host is None and port is None:
        return address
    if context.get_parameter_source("addr") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--addr HOST:PORT replaces --host and --port: give one or the other")
    if host is not None:
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return address[0] if host is None else host, address[1] if port is None else port
