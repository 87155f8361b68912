from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.wasi.io import MAX_LINE, CallableOutput, LinePrefix


def prefixed(*writes: bytes, prefix: bytes | str = b"> ", max_line: int = MAX_LINE) -> list[bytes]:
    calls: list[bytes] = []
    sink = LinePrefix(calls.append, prefix, max_line=max_line)
    for data in writes:
        sink(data)
    sink.close()
    sink.close()
    return calls


@pytest.mark.parametrize(
    ("writes", "calls"),
    [
        ([], []),
        ([b""], []),
        ([b"one\n"], [b"> one\n"]),
        ([b"one\ntwo\n"], [b"> one\n> two\n"]),
        ([b"o", b"n", b"e", b"\n"], [b"> one\n"]),
        ([b"one\ntw", b"o\n"], [b"> one\n", b"> two\n"]),
        ([b"one"], [b"> one\n"]),
        ([b"\n\n"], [b"> \n> \n"]),
        ([b"a\n", b"", b"\nb"], [b"> a\n", b"> \n", b"> b\n"]),
        ([b"\xff\r\n"], [b"> \xff\r\n"]),
    ],
)
def test_lines(writes: list[bytes], calls: list[bytes]) -> None:
    assert prefixed(*writes) == calls


def test_handles_share_the_unfinished_line() -> None:
    calls: list[bytes] = []
    sink = LinePrefix(calls.append, "stdout [1] :: ")
    for text in (b"half ", b"a line\n"):
        CallableOutput(sink).write(text)
    assert calls == [b"stdout [1] :: half a line\n"]


@pytest.mark.parametrize(
    ("writes", "calls"),
    [
        ([b"0123"], [b"> 0123\n"]),
        ([b"01234"], [b"> 0123\n", b"> 4\n"]),
        ([b"0123", b"4\n"], [b"> 0123\n> 4\n"]),
        ([b"0123", b"\n"], [b"> 0123\n"]),
        ([b"0123456789\nab"], [b"> 0123\n> 4567\n> 89\n", b"> ab\n"]),
    ],
)
def test_long_lines_are_broken(writes: list[bytes], calls: list[bytes]) -> None:
    assert prefixed(*writes, max_line=4) == calls


def test_nothing_is_kept_without_bound() -> None:
    kept = 0

    def write(data: bytes) -> None:
        nonlocal kept
        kept -= len(data) - len(b"> \n") * data.count(b"\n")

    sink = LinePrefix(write, b"> ")
    for _ in range(100):
        sink(bytes(50_000))
        kept += 50_000
        assert kept <= MAX_LINE


def test_the_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_line"):
        LinePrefix(print, b"", max_line=0)


@given(st.lists(st.text("ab\n", max_size=20).map(str.encode)), st.integers(1, 10))
def test_without_the_prefix_and_the_breaks_it_is_what_was_written(writes: list[bytes], limit: int) -> None:
    lines = b"".join(prefixed(*writes, prefix=b">", max_line=limit)).split(b"\n")
    assert lines.pop() == b""
    assert all(line.startswith(b">") and len(line) <= limit + 1 for line in lines)
    written = b"".join(writes)
    assert b"".join(line[1:] for line in lines) == written.replace(b"\n", b"")
    whole = prefixed(*writes, prefix=b"")
    assert b"".join(whole) == written + (b"" if not written or written.endswith(b"\n") else b"\n")
