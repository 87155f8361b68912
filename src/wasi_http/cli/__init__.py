"""The command line, ``wasi-http``."""

from wasi_http.cli.main import main

__all__ = ["main"]
