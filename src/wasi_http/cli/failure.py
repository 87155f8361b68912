"""Reports errors of a component: one line on standard error and exit code 1."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import click

from wasi_http.cli.arguments import similar_file

__all__ = ["fail", "failures_of"]


def fail(message: str) -> NoReturn:
    """Prints an error and exits."""
    from wasi_http.engine.errors import visible

    click.echo("\n".join(visible(line) for line in f"error: {message}".split("\n")), err=True)
    sys.exit(1)


@contextmanager
def failures_of(file: Path) -> Iterator[None]:
    """Reports errors of the file or of the address to serve it at, and exits."""
    from wasi_http.component import InvalidComponent, LinkError
    from wasi_http.engine import CompileError
    from wasi_http.server.process import ServeError

    try:
        yield
    except FileNotFoundError:
        similar = similar_file(file)
        fail(f"{file}: no such file" + (f"; did you mean {similar}?" if similar else ""))
    except IsADirectoryError:
        fail(f"{file}: is a directory, not a component")
    except PermissionError:
        fail(f"{file}: permission denied")
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")
    except InvalidComponent as error:
        fail(f"{file}: {_one_line(str(error))}")
    except (CompileError, LinkError) as error:
        fail(f"{file}: {error}")
    except ServeError as error:
        fail(str(error))


def _one_line(message: str) -> str:
    """Returns a component's error as one line. Errors in the text form have an excerpt of it."""
    what, _, excerpt = message.partition("\n")
    where = re.search(r"--> \S*:(\d+):(\d+)", excerpt)
    if where is None:
        return what
    return f"not a binary component, and invalid as text in line {where[1]}, column {where[2]}: {what}"
