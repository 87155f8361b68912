"""What holds for all bytes: no surprise errors, no dependence on packets, agreement with llhttp, and round trips."""

from __future__ import annotations

from typing import Any

import httptools
from hypothesis import given
from hypothesis import strategies as st

from tests.http1.recorder import Outcome, read_requests, read_response
from wasi_http.http1 import (
    Limits,
    LocalProtocolError,
    RemoteProtocolError,
    RequestHead,
    RequestWriter,
    ResponseHead,
    ResponseWriter,
    render_informational,
    render_request,
    render_response,
)
from wasi_http.http1.chunked import ChunkedDecoder

LIMITS = Limits(
    start_line=60, head=160, headers=5, trailer_section=30, trailers=2, chunk_extensions=12, body=40, informational=3
)

PARTS = [
    *(b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"X * HTTP/1.0\r\n"),
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 x\r\n", b"HTTP/1.0 304 \r\n", b"HTTP/1.1 "),
    *(b"Host: a\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Upgrade: x\r\n"),
    *(b"Expect: 100-continue\r\n", b"a: b \r\n", b"a : b\r\n", b" fold\r\n", b"Proxy-Connection: close\r\n"),
    *(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    *(
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    *(b"5\r\nhello\r\n", b"1;x=y\r\na\r\n", b"0\r\n\r\n", b"0\r\nt: u\r\n\r\n", b"hello", b"3\r\n"),
    *(b"HTTP/1.1 200 OK\n", b"Content-Length: 5\n", b"Content-Length: 5, 5\r\n", b"Transfer-Encoding: identity\r\n"),
    *(b"\n\n", b"\n\r\n", b"\t fold\n", b"5 ; a = b\r\nhello\r\n"),
    *(b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"\0", b" ", b":", b"x", b"\x80", b"\t"),
]

soup = st.one_of(
    st.binary(max_size=60),
    st.lists(st.one_of(st.sampled_from(PARTS), st.binary(max_size=3)), max_size=14).map(b"".join),
)


@st.composite
def packets(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Bytes, and the same bytes in pieces, empty ones among them."""
    whole = draw(data)
    marks = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    return whole, [whole[a:b] for a, b in zip([0, *marks], [*marks, len(whole)], strict=True)]


def assert_same(one: Outcome, other: Outcome) -> None:
    assert (one.error is None) == (other.error is None)
    assert one.completed() == other.completed()
    assert len(one.informational) == len(other.informational)
    if one.error is None:
        assert one.all() == other.all()


@given(packets(soup), st.booleans(), st.sampled_from([LIMITS, Limits()]))
def test_requests_do_not_depend_on_packets(case: tuple[bytes, list[bytes]], eof: bool, limits: Limits) -> None:
    data, pieces = case
    whole = read_requests([data], limits, eof)
    assert_same(whole, read_requests(pieces, limits, eof))
    assert_same(whole, read_requests(pieces, limits, eof, eager=True))
    assert_same(whole, read_requests([data[i : i + 1] for i in range(len(data))], limits, eof))


@given(
    packets(soup),
    st.booleans(),
    st.sampled_from([LIMITS, Limits()]),
    st.sampled_from([b"GET", b"HEAD", b"CONNECT"]),
)
def test_responses_do_not_depend_on_packets(
    case: tuple[bytes, list[bytes]], eof: bool, limits: Limits, method: bytes
) -> None:
    data, pieces = case
    whole = read_response([data], method, limits, eof)
    assert_same(whole, read_response(pieces, method, limits, eof))
    assert_same(whole, read_response([data[i : i + 1] for i in range(len(data))], method, limits, eof))


class Reference:
    """What llhttp itself makes of a chunked body."""

    def __init__(self) -> None:
        self.body = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete += 1


chunks = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=20).map(lambda data: b"%x\r\n%b\r\n" % (len(data), data)),
        st.sampled_from(
            [b"0\r\n", b"\r\n", b"0\r\nt: u\r\n\r\n", b"1;a\r\nx\r\n", b'1;a="\xff;"\r\nx\r\n', b"1 \r\nx\r\n"]
        ),
        st.sampled_from(
            [b"001\r\nx\r\n", b"1;\r\nx\r\n", b"1;a=\r\nx\r\n", b"\n", b"\r", b";", b"0\r\n\r\n", b"1\nx\n"]
        ),
        st.sampled_from([b"T: u\r\n", b"t : u\r\n", b" t\r\n", b"a", b'1;a="\\""\r\nx\r\n', b"1;a==\r\nx\r\n"]),
        st.binary(max_size=2),
    ),
    max_size=8,
).map(b"".join)


@given(chunks)
def test_chunks_we_accept_mean_the_same_to_llhttp(data: bytes) -> None:
    decoder = ChunkedDecoder(Limits())
    try:
        body, position = decoder.decode(data, 0)
    except RemoteProtocolError:
        return
    reference = Reference()
    parser = httptools.HttpRequestParser(reference)
    parser.feed_data(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + data[:position])
    assert reference.body == body
    assert reference.complete == decoder.done
    if decoder.done:
        assert reference.fields[1:] == decoder.trailers


TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RESERVED = {b"host", b"content-length", b"transfer-encoding", b"connection", b"date", b"expect", b"upgrade"}

tokens = st.text(TOKEN, min_size=1, max_size=12).map(str.encode)
values = st.binary(max_size=20).map(
    lambda value: bytes(byte for byte in value if byte == 9 or 32 <= byte != 127).strip(b" \t")
)
fields = st.lists(st.tuples(tokens.filter(lambda name: name.lower() not in RESERVED), values), max_size=6)
targets = st.text([chr(c) for c in range(33, 127) if chr(c) != "#"], max_size=20).map(lambda text: b"/" + text.encode())
methods = st.one_of(st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"DESCRIBE", b"PRI", b"SOURCE"]), tokens)
bodies = st.lists(st.binary(max_size=50), max_size=5)
lengths = st.sampled_from(["unknown", "known", "field"])


def framing(length: str, body: list[bytes]) -> tuple[list[tuple[bytes, bytes]], int | None]:
    size = len(b"".join(body))
    return [(b"Content-Length", b"%d" % size)] if length == "field" else [], size if length == "known" else None


@given(
    st.lists(
        st.tuples(methods.filter(lambda m: m != b"CONNECT"), targets, fields, bodies, lengths, fields), max_size=4
    ),
    st.integers(1, 50),
)
def test_requests_arrive_as_written(requests: list[tuple[Any, ...]], step: int) -> None:
    data = b""
    expected = []
    for method, target, headers, body, length, trailers in requests:
        declared, known = framing(length, body)
        writer = RequestWriter(method)
        data += writer.head(target, b"example.com", headers + declared, True, known)
        data += b"".join(map(writer.body, body))
        data += writer.end(trailers)
        expected.append((method, target, headers, b"".join(body), trailers if length == "unknown" else []))
    outcome = read_requests([data[i : i + step] for i in range(0, len(data), step)], eof=True)
    assert outcome.error is None
    read = []
    for message in outcome.messages:
        head = message.head
        assert isinstance(head, RequestHead)
        kept = [field for field in head.headers if field[0].lower() not in RESERVED]
        read.append((head.method, head.target, kept, message.body, message.trailers or []))
    assert read == expected


@given(
    st.integers(200, 999),
    fields,
    bodies,
    lengths,
    fields,
    st.sampled_from([b"GET", b"HEAD"]),
    st.sampled_from([b"1.0", b"1.1"]),
    st.booleans(),
    st.integers(1, 50),
)
def test_responses_arrive_as_written(
    status: int,
    headers: list[tuple[bytes, bytes]],
    body: list[bytes],
    length: str,
    trailers: list[tuple[bytes, bytes]],
    method: bytes,
    version: bytes,
    keep_alive: bool,
    step: int,
) -> None:
    declared, known = framing(length, body)
    writer = ResponseWriter(method, version, keep_alive)
    data = writer.informational(103, headers) + writer.head(status, headers + declared, b"now", known)
    data += b"".join(map(writer.body, body)) + writer.end(trailers)
    outcome = read_response([data[i : i + step] for i in range(0, len(data), step)], method)
    assert outcome.reusable == writer.keep_alive
    outcome = read_response([data[i : i + step] for i in range(0, len(data), step)], method, eof=True)
    assert outcome.error is None
    assert [head.headers for head in outcome.informational] == ([headers] if version == b"1.1" else [])
    [message] = outcome.messages
    assert isinstance(message.head, ResponseHead)
    assert message.head.status == status
    assert [field for field in message.head.headers if field[0].lower() not in RESERVED] == headers
    if method == b"HEAD" or status in (204, 304):
        assert message.body == b""
    else:
        assert message.body == b"".join(body)
        assert (message.trailers or []) == (trailers if version == b"1.1" and length == "unknown" else [])


@given(st.integers(200, 999), fields, st.binary(max_size=50), st.sampled_from([b"GET", b"HEAD"]), st.booleans())
def test_whole_responses_arrive_as_written(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, method: bytes, keep_alive: bool
) -> None:
    data = render_informational(100) + render_response(status, headers, body, b"now", method, b"1.1", keep_alive)
    outcome = read_response([data], method)
    assert outcome.error is None
    assert outcome.reusable == keep_alive
    [message] = outcome.messages
    assert message.body == (b"" if method == b"HEAD" or status in (204, 304) else body)


@given(methods.filter(lambda method: method != b"CONNECT"), targets, fields, st.binary(max_size=50))
def test_whole_requests_arrive_as_written(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    outcome = read_requests([render_request(method, target, b"a", headers, body)])
    assert outcome.error is None
    [message] = outcome.messages
    assert isinstance(message.head, RequestHead)
    assert (message.head.method, message.head.target, message.body) == (method, target, body)


@given(soup, st.binary(max_size=30))
def test_nothing_in_a_field_ends_the_head(name: bytes, value: bytes) -> None:
    """Whatever a name or value contains, it is refused or stays within one head."""
    try:
        data = render_response(200, [(name, value)], b"")
    except LocalProtocolError:
        return
    assert data.count(b"\r\n\r\n") == 1
    assert data.endswith(b"\r\n\r\n")
