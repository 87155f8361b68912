"""Sections of fields: what llhttp, read strictly, makes of the same bytes is what we make of them.

Where the two part is written down here, and nowhere else: `STRICTER` and `LOOSER`.
"""

from __future__ import annotations

import re

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.http1.recorder import read_requests, read_response
from wasi_http.http1 import Field, Reason, RemoteProtocolError
from wasi_http.http1.fieldsection import parse_fields, parse_trailers

REQUEST_LINE = b"POST / HTTP/1.1\r\n"
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"


class Collector:
    def __init__(self) -> None:
        self.fields: list[Field] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))  # llhttp leaves whitespace behind values


def llhttp(head: bytes) -> list[Field] | str:
    """The fields of a head as llhttp reads them, or why it refuses it."""
    collector = Collector()
    kind = httptools.HttpResponseParser if head.startswith(b"HTTP/") else httptools.HttpRequestParser
    try:
        kind(collector).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # raised behind the head
    except httptools.HttpParserError as error:
        return str(error)
    return collector.fields


def ours(section: bytes) -> list[Field] | str:
    try:
        return parse_fields(section, 0, len(section))
    except RemoteProtocolError as raised:
        error = raised
    assert error.reason is Reason.SYNTAX
    return str(error)


def assert_same(section: bytes) -> None:
    """`section` with its empty line, and with names that mean nothing to llhttp."""
    mine = ours(section)
    for start in (REQUEST_LINE, STATUS_LINE):
        theirs = llhttp(start + section)
        assert mine == theirs or (isinstance(mine, str) and isinstance(theirs, str)), section


# One byte in the place of %c, which are all bytes.
PLACES = [
    *(b"%c", b"%c: b", b"a%c: b", b"%ca: b", b"a%cb: c", b"a:%c", b"a:%cb", b"a:b%c", b"a: b%cc", b"a: b %c ", b"a%c"),
    *(b"a: b\r%c", b"a: b\r\n%c", b"a: b\r\n%c: d", b"a: b\r\nc%cd", b"a: b%c\nc: d", b"a:\r\n%c", b"a\r%c: b"),
    *(b"Connection: close%c", b"Connection%c: a", b"Upgrade:%c", b"Expect%c"),
]


@pytest.mark.parametrize("place", PLACES)
def test_every_byte_everywhere(place: bytes) -> None:
    for code in range(256):
        line = place.replace(b"%c", bytes((code,)))
        assert_same((line + b"\r\n\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


lines = st.one_of(
    st.sampled_from(
        [
            *(b"Host: a", b"a:", b"a: b \t", b"a:\t b c", b"x-y_z~!: \xc3\xa9", b"Connection: close, x", b"Upgrade: x"),
            *(b"Connection: upgrade", b"Proxy-Connection: close", b"Expect: 100-continue", b"Accept: */*;q=0.1"),
            *(b"a : b", b" a: b", b"\tb", b"ab", b": b", b"a: b\rc", b"a: b\nc: d", b"a: \x00", b"a: \x7f", b"\xe9: a"),
        ]
    ),
    st.binary(max_size=12),
)


@st.composite
def sections(draw: st.DrawFn, line: st.SearchStrategy[bytes] = lines) -> bytes:
    """A section with its empty line and nothing behind: lines, with bytes put in, replaced and taken out."""
    section = bytearray(b"".join(one + b"\r\n" for one in draw(st.lists(line, max_size=6))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(section)))
        section[at : at + draw(st.integers(0, 1))] = draw(
            st.one_of(st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b","]), st.binary(max_size=1))
        )
    # No message may follow, and no empty line precede.
    return b"" if section.startswith(b"\r\n") else bytes(section).partition(b"\r\n\r\n")[0].removesuffix(b"\r\n")


def close(section: bytes) -> bytes:
    return section + b"\r\n\r\n" if section else b"\r\n"


@given(sections().map(close))
def test_sections_mean_the_same_to_llhttp(section: bytes) -> None:
    if not re.search(rb"(?i)content-length|transfer-encoding", section):
        assert_same(section)


# ---- what decides on the length of a message ------------------------------------------------------------------------

framing = st.one_of(
    lines,
    st.builds(
        lambda name, value: name + b":" + value,
        st.sampled_from([b"Content-Length", b"content-length", b"Transfer-Encoding", b"TRANSFER-ENCODING"]),
        st.lists(
            st.sampled_from(
                [*(b"chunked", b"Chunked", b"gzip", b"identity", b"5", b"0", b"05", b"18446744073709551616"),
                 *(b" ", b" ", b"\t", b",", b", ", b"+", b"-", b"x", b"\x0b", b'"', b";", b"0x")]
            ),
            max_size=4,
        ).map(b"".join),
    ),
)  # fmt: skip

#: What llhttp accepts and we refuse: reasons, never the syntax of fields.
STRICTER = {
    Reason.HOST,  # llhttp does not look at it
    Reason.TRANSFER_CODING,  # codings beside chunked, which llhttp leaves to its caller
    # Lengths of more than 20 digits, the coding in HTTP/1.0, and any coding of a request that asks for an upgrade: to
    # llhttp HTTP ends with it.
    Reason.FRAMING,
}


@given(sections(framing).map(lambda section: close(b"Host: a\r\n" + section).replace(b"\r\n\r\n\r\n", b"\r\n\r\n")))
def test_requests_that_llhttp_refuses_are_refused(section: bytes) -> None:
    theirs = llhttp(REQUEST_LINE + section)
    outcome = read_requests([REQUEST_LINE + section])
    if isinstance(theirs, str):
        assert outcome.error is not None
    elif outcome.error is not None:
        assert outcome.error.reason in STRICTER
    else:
        [message] = outcome.messages
        assert message.head.headers == theirs


#: What llhttp says of lengths that we accept in responses, if they are all the same and not beside chunks.
LOOSER = {
    "Duplicate Content-Length",
    "Invalid character in Content-Length",
    "Content-Length can't be present with Transfer-Encoding",
    "Transfer-Encoding can't be present with Content-Length",
}


@given(sections(framing).map(close))
@example(b"\n a\r\n\r\n")
def test_responses_that_llhttp_refuses_are_refused(section: bytes) -> None:
    """But for LF that ends a line, and for folds, which are mended first, and for lengths that agree."""
    outcome = read_response([STATUS_LINE + section])
    if not outcome.messages:
        assert outcome.error is not None
        theirs = llhttp(STATUS_LINE + section)
        assert isinstance(theirs, str) or outcome.error.reason in STRICTER
        return
    head = outcome.messages[0].head
    # Of what a bare LF ends early, the rest is a body to us.
    mended = re.sub(rb"\r?\n", b"\r\n", b"\r\n" + section).partition(b"\r\n\r\n")[0]
    mended = (re.sub(rb"\r\n[ \t]+", b" ", mended) + b"\r\n\r\n")[2:]
    theirs = llhttp(STATUS_LINE + mended)
    if isinstance(theirs, str):
        assert theirs in LOOSER
        lengths = b",".join(re.findall(rb"(?im)^content-length:([^\r]*)\r", mended)).split(b",")
        assert {int(length) for length in lengths} == {head.content_length}
        assert not head.chunked
    else:
        assert head.headers == theirs


# Values of the fields in one request: refused, whatever else they are combined with.
LENGTHS = [
    *([value] for value in (b"+5", b"-5", b"5 5", b"5,5", b"5, 5", b"0x5", b"5;", b"5\x0b", b"\xb5", b"", b"0" * 21)),
    *([value] for value in (b"18446744073709551616", b"\r\n 5")),
    *([b"5", value] for value in (b"5", b"6", b"05", b"")),
]
CODINGS = [
    *([value] for value in (b"gzip", b"identity", b"chunked, gzip", b"chunked, chunked", b"gzip, chunked", b"", b",")),
    *([value] for value in (b"xchunked", b"chunkedx", b"chunked;a", b'"chunked"', b"chunked,", b",chunked")),
    *([value] for value in (b"chunked\t", b"chunked \t ", b"\x0bchunked", b"chunked\r", b"chun ked", b"\r\n chunked")),
    *([value] for value in (b"chunked, identity", b"identity, chunked", b"chun\xe1\xb8\xb1ed")),
    *([b"chunked", value] for value in (b"chunked", b"gzip", b"identity", b"")),
    *([value, b"chunked"] for value in (b"gzip", b"identity", b"")),
]
SMUGGLING = [
    *((b"Content-Length", values) for values in LENGTHS),
    *((b"Transfer-Encoding", values) for values in CODINGS),
    *((b"Content-Length ", [b"5"]), (b"Content-Length\t", [b"5"]), (b"Transfer-Encoding ", [b"chunked"])),
]
BESIDE = [b"", b"Connection: upgrade\r\nUpgrade: x\r\n", b"Connection: close, Transfer-Encoding\r\n"]


@pytest.mark.parametrize(("name", "values"), SMUGGLING)
@pytest.mark.parametrize("start", [b"POST / HTTP/1.0\r\n", REQUEST_LINE])
def test_ambiguous_lengths_are_refused(name: bytes, values: list[bytes], start: bytes) -> None:
    fields = b"".join(name + b": " + value + b"\r\n" for value in values)
    beside = [*BESIDE, b"Content-Length: 5\r\n" if name.startswith(b"T") else b"Transfer-Encoding: chunked\r\n"]
    for section in (order for other in beside for order in (other + fields, fields + other)):
        outcome = read_requests([start + b"Host: a\r\n" + section + b"\r\nhello"])
        assert outcome.error is not None
        assert not outcome.messages


# ---- trailers -------------------------------------------------------------------------------------------------------


@given(sections(framing).map(close))
def test_trailers_are_fields_that_frame_nothing(section: bytes) -> None:
    read = ours(section)
    names = set() if isinstance(read, str) else {name.lower() for name, _ in read}
    framing = names & {b"content-length", b"transfer-encoding", b"host"}
    if not isinstance(read, str) and not framing:
        assert parse_trailers(section) == read
        return
    with pytest.raises(RemoteProtocolError) as caught:
        parse_trailers(section)
    assert caught.value.reason is (Reason.FRAMING if framing else Reason.SYNTAX)


@pytest.mark.parametrize("section", [b"", b"\r", b"a", b"a:", b"a: b", b"a: b\r", b"a: b\r\n", b"a: b\r\n\r", b"\n"])
def test_what_is_not_a_whole_section_is_refused(section: bytes) -> None:
    assert isinstance(ours(section), str)
    assert isinstance(ours(b"a: b\r\n" + section), str)
    assert ours(b"\r\n") == []


def test_only_the_section_is_read() -> None:
    data = b"GET / HTTP/1.1\r\na: b\r\n\r\nc: d\r\n\r\n"
    assert parse_fields(data, 16, 24) == [(b"a", b"b")]
    for end in (22, 23, 25, len(data)):
        with pytest.raises(RemoteProtocolError):
            parse_fields(data, 16, end)
