"""What is written about guests, and how it looks."""

from __future__ import annotations

import os
import sys
import time

import pytest

from wasi_http.server.log import Log, LogStream, visible_lines

from .serving import Log as Memory


@pytest.mark.parametrize(
    ("printed", "seen"),
    [
        (b"plain\ttext\n", b"plain\ttext\n"),
        ("grüße, 日本, 🙂\n".encode(), "grüße, 日本, 🙂\n".encode()),
        (b"\x1b[31mred\x1b[0m\n", b"\\x1b[31mred\\x1b[0m\n"),
        (b"\x1b]0;title\x07\n", b"\\x1b]0;title\\x07\n"),
        (b"over\rwritten\n", b"over\\x0dwritten\n"),
        (b"of another system\r\n", b"of another system\n"),
        (b"\x00\x08\x0b\x0c\x7f\n", b"\\x00\\x08\\x0b\\x0c\\x7f\n"),
        ("\x85 \x9b2J \xa0\n".encode(), b"\\x85 \\x9b2J \xc2\xa0\n"),
        ("\u202egnp.exe \u2066 \u2028 \u200f\n".encode(), b"\\u202egnp.exe \\u2066 \\u2028 \\u200f\n"),
        (b"not UTF-8: \xff\x9b\n", b"not UTF-8: \xff\x9b\n"),
    ],
)
def test_control_characters_of_guests_are_visible(printed: bytes, seen: bytes) -> None:
    assert visible_lines(printed) == seen
    assert visible_lines(printed * 3) == seen * 3


@pytest.mark.parametrize("unit", [b"a", b"\x1b", b"\r\n", b"\n", "\x9b".encode(), "\u202e".encode(), "日".encode()])
def test_making_them_visible_takes_linear_time(unit: bytes) -> None:
    def spent(size: int) -> float:
        data = unit * (size // len(unit))
        least = 1e9
        for _ in range(3):
            before = time.thread_time()
            visible_lines(data)
            least = min(least, time.thread_time() - before)
        return least

    assert spent(8 << 20) < 40 * spent(1 << 20) + 0.05


def test_a_line_is_bounded_and_cannot_be_forged() -> None:
    log = Memory()
    log.line("error: one\nerror: two\x85error: three\u2028\r\x1b[2J\udcff")
    log.line("x" * 100_000_000)
    first, second, third = log.whole.splitlines()
    assert first == "error: one"
    assert second == "  error: two\\x85error: three\\u2028\\x0d\\x1b[2J\\udcff"
    assert third == "x" * 8192 + " …"


def test_streams_that_lead_to_the_same_place_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    other = os.dup(writer)
    with os.fdopen(writer, "w") as out, os.fdopen(other, "w") as err, open(os.devnull, "w") as elsewhere:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        log = Log.standard()
        assert log.stdout is log.stderr
        log.stdout.write(b"one\n")
        log.line("two")
        log.drain()
        assert os.read(reader, 100) == b"one\ntwo\n"
        monkeypatch.setattr(sys, "stdout", elsewhere)
        assert Log.standard().stdout is not Log.standard().stderr
    os.close(reader)


def test_what_the_interpreter_says_goes_the_same_way() -> None:
    log = Memory()
    print("Task exception was never retrieved", "\udcff", file=LogStream(log))
    assert log.whole == "Task exception was never retrieved \\udcff\n"
