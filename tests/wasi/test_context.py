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


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"env": {"A": 1}}, "env must map str to str; it maps 'A' to int"),
        ({"env": {b"A": "1"}}, "env must map str to str; it maps b'A' to str"),
        ({"env": [("A", "1")]}, "env must be a mapping"),
        ({"args": "abc"}, "args must be a sequence of str, .* not str"),
        ({"args": b"abc"}, "args must be a sequence of str, .* not bytes"),
        ({"args": ["a", 1]}, "args must be a sequence of str; one is int"),
        ({"args": {"a"}}, "args must be a sequence of str, .* not set"),
        ({"initial_cwd": b"/"}, "initial_cwd must be a str or None, not bytes"),
        ({"random": 4}, "random must be a function"),
        ({"insecure_random": b""}, "insecure_random must be a function"),
        ({"monotonic": 0}, "monotonic must be a function"),
        ({"wall": 0}, "wall must be a function"),
        ({"max_random_bytes": "1"}, "max_random_bytes must be an int"),
        ({"max_pollables": None}, "max_pollables must be an int"),
    ],
)
def test_what_would_fail_in_a_guest_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        WasiCtx(**arguments)


def test_the_clock_starts_near_zero_and_never_goes_back() -> None:
    first = monotonic()
    assert 0 <= first <= monotonic() < 24 * 3600 * 10**9
