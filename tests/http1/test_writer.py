"""Bytes of heads and bodies: framing in every combination, lengths held, nothing injected."""

from __future__ import annotations

import re

import pytest

from wasi_http.http1 import (
    BodyLengthError,
    DateCache,
    Framing,
    LocalProtocolError,
    RequestWriter,
    ResponseWriter,
    render_informational,
    render_request,
    render_response,
)

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def head_of(data: bytes) -> tuple[bytes, list[bytes]]:
    head, separator, _ = data.partition(b"\r\n\r\n")
    assert separator
    line, *fields = head.split(b"\r\n")
    return line, fields


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK"),
        (204, b"HTTP/1.1 204 No Content"),
        (413, b"HTTP/1.1 413 Content Too Large"),
        (414, b"HTTP/1.1 414 URI Too Long"),
        (416, b"HTTP/1.1 416 Range Not Satisfiable"),
        (422, b"HTTP/1.1 422 Unprocessable Content"),
        (431, b"HTTP/1.1 431 Request Header Fields Too Large"),
        (299, b"HTTP/1.1 299 "),
        (599, b"HTTP/1.1 599 "),
        (999, b"HTTP/1.1 999 "),
    ],
)
def test_status_line(status: int, line: bytes) -> None:
    assert head_of(render_response(status, [], b""))[0] == line


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 103, 199, 1000])
def test_no_final_status(status: int) -> None:
    with pytest.raises(LocalProtocolError):
        render_response(status, [], b"")
    with pytest.raises(LocalProtocolError):
        ResponseWriter().head(status, [])


# method, version, keep-alive, status, length known, content-length field: fields for framing, framing, connection kept
FRAMING: list[tuple[bytes, bytes, bool, int, int | None, bytes | None, list[bytes], Framing, bool]] = [
    (b"GET", b"1.1", True, 200, None, None, [b"transfer-encoding: chunked"], Framing.CHUNKED, True),
    (
        b"GET",
        b"1.1",
        False,
        200,
        None,
        None,
        [b"transfer-encoding: chunked", b"connection: close"],
        Framing.CHUNKED,
        False,
    ),
    (b"GET", b"1.1", True, 200, 5, None, [b"content-length: 5"], Framing.LENGTH, True),
    (b"GET", b"1.1", True, 200, None, b"5", [b"content-length: 5"], Framing.LENGTH, True),
    (b"GET", b"1.1", True, 200, None, b"0005", [b"content-length: 5"], Framing.LENGTH, True),
    (b"GET", b"1.1", True, 200, 7, b"5", [b"content-length: 5"], Framing.LENGTH, True),
    (b"GET", b"1.1", False, 200, 0, None, [b"content-length: 0", b"connection: close"], Framing.LENGTH, False),
    (b"GET", b"1.0", False, 200, None, None, [b"connection: close"], Framing.CLOSE, False),
    (b"GET", b"1.0", True, 200, None, None, [b"connection: close"], Framing.CLOSE, False),
    (b"GET", b"1.0", True, 200, 5, None, [b"content-length: 5", b"connection: keep-alive"], Framing.LENGTH, True),
    (b"GET", b"1.0", False, 200, 5, None, [b"content-length: 5", b"connection: close"], Framing.LENGTH, False),
    (b"HEAD", b"1.1", True, 200, None, None, [], Framing.NONE, True),
    (b"HEAD", b"1.1", True, 200, None, b"5", [b"content-length: 5"], Framing.NONE, True),
    (b"HEAD", b"1.1", True, 200, 5, None, [b"content-length: 5"], Framing.NONE, True),
    (b"HEAD", b"1.0", True, 200, None, None, [b"connection: keep-alive"], Framing.NONE, True),
    (b"GET", b"1.1", True, 204, None, None, [], Framing.NONE, True),
    (b"GET", b"1.1", True, 204, 0, b"0", [], Framing.NONE, True),
    (b"GET", b"1.1", True, 304, None, None, [], Framing.NONE, True),
    (b"GET", b"1.1", True, 304, None, b"5", [b"content-length: 5"], Framing.NONE, True),
    (b"GET", b"1.1", True, 205, 0, None, [b"content-length: 0"], Framing.LENGTH, True),
    (b"CONNECT", b"1.1", False, 200, None, b"5", [], Framing.CLOSE, False),
    (b"CONNECT", b"1.1", False, 400, 5, None, [b"content-length: 5", b"connection: close"], Framing.LENGTH, False),
]


@pytest.mark.parametrize("case", FRAMING)
def test_framing(
    case: tuple[bytes, bytes, bool, int, int | None, bytes | None, list[bytes], Framing, bool],
) -> None:
    method, version, keep_alive, status, length, field, expected, framing, kept = case
    writer = ResponseWriter(method, version, keep_alive)
    headers = [(b"A", b"1")] + ([(b"Content-Length", field)] if field is not None else []) + [(b"a", b"2")]
    _, fields = head_of(writer.head(status, headers, DATE, length))
    assert fields == [b"A: 1", b"a: 2", b"date: " + DATE, *expected]
    assert writer.framing is framing
    assert writer.keep_alive is kept


def test_chunks() -> None:
    writer = ResponseWriter()
    writer.head(200, [])
    assert writer.body(b"") == b""
    assert writer.body(b"hello") == b"5\r\nhello\r\n"
    assert writer.body(bytes(26)) == b"1a\r\n" + bytes(26) + b"\r\n"
    assert (writer.sent, writer.full) == (31, False)
    assert writer.end([(b"x", b"1"), (b"X", b"2")]) == b"0\r\nx: 1\r\nX: 2\r\n\r\n"


@pytest.mark.parametrize("headers", [[(b"content-length", b"3")], []])
def test_length_exact(headers: list[tuple[bytes, bytes]]) -> None:
    writer = ResponseWriter()
    writer.head(200, headers, length=3)
    assert writer.body(b"ab") + writer.body(b"") == b"ab"
    assert not writer.full
    assert writer.body(b"c") == b"c"
    assert writer.full
    assert writer.end([(b"x", b"dropped")]) == b""
    assert writer.keep_alive


def test_length_too_long() -> None:
    writer = ResponseWriter()
    writer.head(200, [], length=3)
    assert writer.body(b"ab") == b"ab"
    with pytest.raises(BodyLengthError) as caught:
        writer.body(b"cd")
    assert (caught.value.declared, caught.value.actual) == (3, 4)
    assert writer.sent == 2
    assert not writer.keep_alive


def test_length_too_short() -> None:
    writer = ResponseWriter()
    writer.head(200, [(b"Content-Length", b"3")])
    writer.body(b"ab")
    with pytest.raises(BodyLengthError) as caught:
        writer.end()
    assert (caught.value.declared, caught.value.actual) == (3, 2)
    assert not writer.keep_alive


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304), (b"HEAD", 304)])
@pytest.mark.parametrize("headers", [[], [(b"content-length", b"3")]])
@pytest.mark.parametrize("body", [b"", b"ab", b"abc", b"abcd"])
def test_no_body_leaves(method: bytes, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    writer = ResponseWriter(method)
    assert writer.head(status, headers).endswith(b"\r\n\r\n")
    assert writer.body(body) == b""
    assert writer.end([(b"x", b"1")]) == b""
    assert writer.keep_alive
    assert render_response(status, headers, body, None, method).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_unknown_length_of_head_and_304_is_not_zero(method: bytes) -> None:
    status = 200 if method == b"HEAD" else 304
    assert b"content-length" not in render_response(status, [], b"", None, method)
    assert b"content-length: 2\r\n" in render_response(status, [], b"ab", None, method)


def test_body_until_close() -> None:
    writer = ResponseWriter(version=b"1.0")
    writer.head(200, [])
    assert writer.body(b"abc") + writer.end([(b"x", b"dropped")]) == b"abc"


def test_whole_response() -> None:
    assert render_response(200, [(b"Content-Type", b"text/plain")], b"hello", DATE) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ndate: " + DATE + b"\r\ncontent-length: 5\r\n\r\nhello"
    )
    assert render_response(404, [], b"", None, b"GET", b"1.0", True) == (
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
    )
    assert render_response(200, [], b"x", None, b"CONNECT", b"1.1", False) == b"HTTP/1.1 200 OK\r\n\r\nx"


@pytest.mark.parametrize("declared", [b"0", b"4", b"6"])
def test_whole_response_of_another_length(declared: bytes) -> None:
    with pytest.raises(BodyLengthError):
        render_response(200, [(b"content-length", declared)], b"hello")


def test_date_of_the_caller_wins() -> None:
    assert head_of(render_response(204, [(b"Date", b"x")], b"", DATE))[1] == [b"Date: x"]


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"connection"])
def test_framing_is_not_the_callers(name: bytes) -> None:
    headers = [(name, b"close")]
    with pytest.raises(LocalProtocolError):
        render_response(200, headers, b"")
    with pytest.raises(LocalProtocolError):
        render_request(b"GET", b"/", b"a", headers)
    with pytest.raises(LocalProtocolError):
        render_informational(103, headers)


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1 ", b"1,1", b"0x1", b"1_0", b"\xd9\xa5", b"0" * 21])
def test_bad_length(value: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        render_response(200, [(b"content-length", value)], b"")
    with pytest.raises(LocalProtocolError):
        render_request(b"POST", b"/", b"a", [(b"content-length", value)])


def test_repeated_length() -> None:
    headers = [(b"content-length", b"0"), (b"Content-Length", b"0")]
    with pytest.raises(LocalProtocolError):
        render_response(200, headers, b"")
    with pytest.raises(LocalProtocolError):
        render_request(b"POST", b"/", b"a", headers)


@pytest.mark.parametrize("evil", [b"\r", b"\n", b"\r\n", b"\0", b"x\r\ny: z", b"\r\n\r\n", b"x\r", b"\nx"])
def test_injection(evil: bytes) -> None:
    for field in [(b"a", evil), (evil, b"a"), (b"a" + evil, b"b"), (b"date", evil)]:
        with pytest.raises(LocalProtocolError):
            render_response(200, [field], b"")
        with pytest.raises(LocalProtocolError):
            render_informational(103, [field])
        with pytest.raises(LocalProtocolError):
            render_request(b"GET", b"/", b"a", [field])
        writer = ResponseWriter()
        with pytest.raises(LocalProtocolError):
            writer.head(200, [field])
        assert writer.framing is None
        writer.head(200, [])
        with pytest.raises(LocalProtocolError):
            writer.end([field])
        assert writer.end() == b"0\r\n\r\n"
    with pytest.raises(LocalProtocolError):
        render_response(200, [], b"", evil)


@pytest.mark.parametrize("evil", [b"", b" ", b"a b", b"a\r\nb", b"a\0", b"a\x80"])
def test_injection_into_the_request_line(evil: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        render_request(evil, b"/", b"a", [])
    with pytest.raises(LocalProtocolError):
        render_request(b"GET", evil, b"a", [])
    if evil:
        with pytest.raises(LocalProtocolError):
            render_request(b"GET", b"/", evil, [])


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"connection", b"Host"])
def test_trailers_that_frame(name: bytes) -> None:
    writer = ResponseWriter()
    writer.head(200, [])
    with pytest.raises(LocalProtocolError):
        writer.end([(name, b"1")])


def test_informational() -> None:
    assert render_informational(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer = ResponseWriter()
    assert writer.informational(103, [(b"Link", b"<a>")]) == b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"
    assert ResponseWriter(version=b"1.0").informational(100) == b""
    writer.head(200, [])
    with pytest.raises(LocalProtocolError):
        writer.informational(100)


@pytest.mark.parametrize("status", [99, 101, 200])
def test_not_informational(status: int) -> None:
    with pytest.raises(LocalProtocolError):
        render_informational(status)


def test_informational_has_no_length() -> None:
    with pytest.raises(LocalProtocolError):
        render_informational(103, [(b"content-length", b"0")])


def test_order_of_calls() -> None:
    for writer in (ResponseWriter(), RequestWriter(b"POST")):
        with pytest.raises(LocalProtocolError):
            writer.body(b"x")
        with pytest.raises(LocalProtocolError):
            writer.end()
        if isinstance(writer, ResponseWriter):
            writer.head(200, [])
            with pytest.raises(LocalProtocolError):
                writer.head(200, [])
        else:
            writer.head(b"/", b"a", [], True)
            with pytest.raises(LocalProtocolError):
                writer.head(b"/", b"a", [])
        writer.end()
        with pytest.raises(LocalProtocolError):
            writer.body(b"x")
        with pytest.raises(LocalProtocolError):
            writer.end()


# method, has a body, length known, content-length field: fields for framing
REQUESTS: list[tuple[bytes, bool, int | None, bytes | None, list[bytes]]] = [
    (b"GET", False, None, None, []),
    (b"DELETE", False, None, None, []),
    (b"X-OTHER", False, None, None, []),
    (b"POST", False, None, None, [b"content-length: 0"]),
    (b"PUT", False, None, None, [b"content-length: 0"]),
    (b"PATCH", False, None, None, [b"content-length: 0"]),
    (b"GET", False, 0, None, [b"content-length: 0"]),
    (b"GET", True, None, None, [b"transfer-encoding: chunked"]),
    (b"POST", True, None, None, [b"transfer-encoding: chunked"]),
    (b"POST", True, 5, None, [b"content-length: 5"]),
    (b"POST", True, None, b"5", [b"content-length: 5"]),
    (b"POST", False, None, b"5", [b"content-length: 5"]),
]


@pytest.mark.parametrize("case", REQUESTS)
@pytest.mark.parametrize("keep_alive", [True, False])
def test_request(case: tuple[bytes, bool, int | None, bytes | None, list[bytes]], keep_alive: bool) -> None:
    method, has_body, length, field, expected = case
    headers = [(b"A", b"1")] + ([(b"Content-Length", field)] if field is not None else [])
    writer = RequestWriter(method, keep_alive)
    line, fields = head_of(writer.head(b"/x?y", b"b:8", headers, has_body, length))
    assert line == method + b" /x?y HTTP/1.1"
    assert fields == [b"host: b:8", b"A: 1", *expected, *([] if keep_alive else [b"connection: close"])]


def test_request_without_a_body_gets_one() -> None:
    writer = RequestWriter(b"GET")
    writer.head(b"/", b"a", [])
    with pytest.raises(BodyLengthError):
        writer.body(b"x")


def test_host_is_not_a_field() -> None:
    with pytest.raises(LocalProtocolError):
        render_request(b"GET", b"/", b"a", [(b"Host", b"b")])


def test_whole_request() -> None:
    assert render_request(b"POST", b"/", b"a", [], b"hi") == (
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"
    )
    assert render_request(b"GET", b"/", b"", []) == b"GET / HTTP/1.1\r\nhost: \r\n\r\n"
    with pytest.raises(BodyLengthError):
        render_request(b"POST", b"/", b"a", [(b"content-length", b"3")], b"hi")


def test_date() -> None:
    cache = DateCache()
    assert cache.value(784111777.0) == DATE
    assert cache.value(784111777.9) is cache.value(784111777.1)
    assert cache.value(784111778.0) == b"Sun, 06 Nov 1994 08:49:38 GMT"
    assert re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", cache.value(0.0))
