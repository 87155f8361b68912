from __future__ import annotations

import pytest

from wasi_http.wasi.io import MAX_DEBUG_STRING, IoError


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (None, "input/output error"),
        ("connection lost", "connection lost"),
        (ValueError("bad"), "ValueError: bad"),
        (OSError(), "OSError: input/output error"),
        (OSError("closed by peer"), "OSError: closed by peer"),
        (BrokenPipeError(32, "Broken pipe"), "BrokenPipeError: Broken pipe"),
        (FileNotFoundError(2, "No such file", "/home/secret"), "FileNotFoundError: No such file"),
        ("\ud800", "?"),
    ],
)
def test_debug_string(cause: object, text: str) -> None:
    assert IoError(cause).to_debug_string() == text


def test_debug_string_is_bounded() -> None:
    assert len(IoError("x" * 10_000_000).to_debug_string()) == MAX_DEBUG_STRING
