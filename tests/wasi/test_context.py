from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from wasi_http.wasi import WasiCtx
from wasi_http.wasi.context import MAX_POLLABLES, MAX_RANDOM_BYTES, monotonic
from wasi_http.wasi.io import BytesInput, NullOutput


def test_everything_is_empty_or_denied_by_default() -> None:
    ctx = WasiCtx()
    assert (dict(ctx.env), list(ctx.args), ctx.initial_cwd) == ({}, [], None)
    assert (ctx.stdin, ctx.stdout, ctx.stderr) == (None, None, None)
    assert (ctx.stdin_terminal, ctx.stdout_terminal, ctx.stderr_terminal) == (False, False, False)
    assert (ctx.max_random_bytes, ctx.max_pollables) == (MAX_RANDOM_BYTES, MAX_POLLABLES) == (1 << 20, 10_000)


@pytest.mark.parametrize(
    "arguments",
    [
        {"stdin": b"bytes"},
        {"stdin": io.BytesIO()},
        {"stdin": BytesInput(b"")},
        {"stdout": print, "stderr": [].append},
        {"stdout": io.BytesIO(), "stderr": NullOutput()},
    ],
)
def test_streams_are_accepted(arguments: dict[str, Any]) -> None:
    ctx = WasiCtx(**arguments)
    assert all(getattr(ctx, name) is stream for name, stream in arguments.items())


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
@pytest.mark.parametrize("stream", ["text", 1, io.StringIO(), sys.__stdout__])
def test_what_is_no_stream_of_bytes_is_refused(name: str, stream: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be None"):
        WasiCtx(**{name: stream})


def test_the_clock_starts_near_zero_and_never_goes_back() -> None:
    first = monotonic()
    assert 0 <= first <= monotonic() < 24 * 3600 * 10**9
