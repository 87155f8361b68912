"""``python -m wasi_http``: the command ``wasi-http``, of this very Python."""

from wasi_http.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main(prog_name="python -m wasi_http")
