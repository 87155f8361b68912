"""Numbers and names are read as the specification encodes them; what is wrong is said with its offset."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wasi_http.engine.binary import Reader, Unreadable


def unsigned(number: int, size: int = 0) -> bytes:
    """LEB128, in ``size`` bytes at least."""
    rest = number >> 7
    more = rest or size > 1
    return bytes([number & 0x7F | (0x80 if more else 0)]) + (unsigned(rest, size - 1) if more else b"")


def signed(number: int, size: int = 0) -> bytes:
    rest = number >> 7
    more = size > 1 or not -64 <= number < 64
    return bytes([number & 0x7F | (0x80 if more else 0)]) + (signed(rest, size - 1) if more else b"")


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 5))
def test_u32(number: int, size: int) -> None:
    reader = Reader(unsigned(number, size) + b"x")
    assert reader.u32() == number
    assert reader.at == reader.end - 1


@given(st.integers(-(1 << 32), (1 << 32) - 1), st.integers(0, 5))
def test_s33(number: int, size: int) -> None:
    reader = Reader(signed(number, size) + b"x")
    assert reader.s33() == number
    assert reader.at == reader.end - 1


def test_names_and_parts() -> None:
    reader = Reader(memoryview(b"\x02\xc3\xa4\x03abc\xff"))
    assert reader.name() == "ä"
    part = reader.part(2)
    assert (part.at, part.end, reader.at) == (3, 5, 5)
    assert part.byte() == 3
    assert part.byte() == ord("a")
    assert part.since(3) == b"\x03a"
    assert part.since(5) == b""
    reader.skip(2)
    assert reader.byte() == 0xFF
    assert reader.at == reader.end == 8


FAULTS = [
    (Reader.byte, b"", "unexpected end in it", 0),
    (Reader.u32, b"", "unexpected end in it", 0),
    (Reader.u32, b"\x80\x80", "unexpected end in it", 2),
    (Reader.u32, b"\x80\x80\x80\x80\x80\x00", "it is a number of more than 5 bytes", 0),
    (Reader.u32, b"\x80\x80\x80\x80\x10", "it does not fit into 32 bits", 0),
    (Reader.s33, b"\xff\xff\xff", "unexpected end in it", 3),
    (Reader.s33, b"\xff\xff\xff\xff\x10", "it does not fit into 33 bits", 0),
    (Reader.s33, b"\x80\x80\x80\x80\x60", "it does not fit into 33 bits", 0),
    (Reader.s33, b"\x80\x80\x80\x80\x80\x00", "it is a number of more than 5 bytes", 0),
    (Reader.name, b"\x03ab", "unexpected end in it", 3),
    (Reader.name, b"\x03ab\xff", "it is not UTF-8", 3),
    (Reader.name, b"\x02a\xc3\xa4", "it is not UTF-8", 2),
    (lambda reader: reader.skip(2), b"a", "unexpected end in it", 1),
    (lambda reader: reader.skip(-1), b"a", "unexpected end in it", 1),
    (lambda reader: reader.part(2), b"a", "unexpected end in it", 1),
]


@pytest.mark.parametrize(("read", "data", "reason", "offset"), FAULTS)
def test_faults_are_told_with_their_offset_and_leave_the_reader_where_it_was(
    read: Callable[[Reader], object], data: bytes, reason: str, offset: int
) -> None:
    # In the midst of other data, too: a part ends where it ends.
    for before, after in ((b"", b""), (b"ab", b"cd")):
        outer = Reader(before + data + after)
        outer.skip(len(before))
        reader = outer.part(len(data))
        with pytest.raises(Unreadable) as caught:
            read(reader)
        assert caught.value.about("it") == reason
        assert caught.value.offset == len(before) + offset
        assert reader.at == len(before)


def test_readers_keep_their_data() -> None:
    data = bytearray(b"abc" * 1000)
    part = Reader(memoryview(data)).part(2)
    with pytest.raises(BufferError):
        data.clear()
    assert part.byte() == ord("a")


def test_what_was_not_read_is_not_returned() -> None:
    reader = Reader(b"abc")
    reader.byte()
    for start in (-1, 2):
        with pytest.raises(ValueError, match="nothing was read there"):
            reader.since(start)
