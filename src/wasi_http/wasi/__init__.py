"""WASI 0.2 on the host: all of ``wasi:cli/imports``. HTTP builds upon it."""

from wasi_http.wasi.cli import Exit
from wasi_http.wasi.context import WasiCtx, WasiView
from wasi_http.wasi.imports import INTERFACES, add_to_linker

__all__ = ["INTERFACES", "Exit", "WasiCtx", "WasiView", "add_to_linker"]
