"""Responses, received: tables of bytes, each read whole, byte by byte and cut at every point."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http1.recorder import Recorder, cuts, read_response
from wasi_http.http1 import Limits, Reason, RemoteProtocolError, ResponseHead, ResponseParser

CHUNKED = b"Transfer-Encoding: chunked"


def response(*lines: bytes, start: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return b"".join(line + b"\r\n" for line in (start, *lines, b"")) + body


# method, bytes, expected attributes of the head, body, trailers (None: no body), connection reusable
ACCEPTED: dict[str, tuple[bytes, bytes, dict[str, Any], bytes, list[tuple[bytes, bytes]] | None, bool]] = {
    "length": (
        b"GET",
        response(b"Content-Length: 5", b"A: b \t", b"a: \xff", body=b"hello"),
        {
            "status": 200,
            "reason": b"OK",
            "version": b"1.1",
            "headers": [(b"Content-Length", b"5"), (b"A", b"b"), (b"a", b"\xff")],
            "keep_alive": True,
            "content_length": 5,
            "chunked": False,
            "has_body": True,
        },
        b"hello",
        [],
        True,
    ),
    "length 0": (b"GET", response(b"Content-Length: 0"), {"content_length": 0, "has_body": False}, b"", None, True),
    "chunks": (
        b"GET",
        response(CHUNKED, body=b"5\r\nhello\r\n0\r\nX: 1\r\n\r\n"),
        {"chunked": True, "content_length": None},
        b"hello",
        [(b"X", b"1")],
        True,
    ),
    "padded sizes": (
        b"GET",
        response(CHUNKED, body=b'5   \r\nhello\r\n1\t;\ta = b \t; c ; d="e f" \r\n!\r\n0' + b" " * 16 + b"\r\n\r\n"),
        {"chunked": True},
        b"hello!",
        [],
        True,
    ),
    "close": (b"GET", response(b"Content-Length: 1", b"Connection: close", body=b"x"), {}, b"x", [], False),
    "HEAD": (b"HEAD", response(b"Content-Length: 5"), {"content_length": 5, "has_body": False}, b"", None, True),
    "HEAD, chunked": (b"HEAD", response(CHUNKED), {"chunked": True, "has_body": False}, b"", None, True),
    "HEAD, nothing said": (b"HEAD", response(), {"keep_alive": True}, b"", None, True),
    "204": (b"GET", response(start=b"HTTP/1.1 204 No Content"), {"status": 204}, b"", None, True),
    "204 with a length": (b"GET", response(b"Content-Length: 5", start=b"HTTP/1.1 204 x"), {}, b"", None, True),
    "304": (b"GET", response(b"Content-Length: 5", start=b"HTTP/1.1 304 x"), {"content_length": 5}, b"", None, True),
    "304, chunked": (b"GET", response(CHUNKED, start=b"HTTP/1.1 304 x"), {}, b"", None, True),
    "no reason": (b"GET", response(b"Content-Length: 0", start=b"HTTP/1.1 200 "), {"reason": b""}, b"", None, True),
    "no space": (b"GET", response(b"Content-Length: 0", start=b"HTTP/1.1 200"), {"reason": b""}, b"", None, True),
    "odd reason": (
        b"GET",
        response(b"Content-Length: 0", start=b"HTTP/1.1 200 \tn\xf6 way "),
        {"reason": b"\tn\xf6 way "},
        b"",
        None,
        True,
    ),
    "odd status": (b"GET", response(b"Content-Length: 0", start=b"HTTP/1.1 999 x"), {"status": 999}, b"", None, True),
    "1.0 with a length": (
        b"GET",
        response(b"Content-Length: 1", start=b"HTTP/1.0 200 OK", body=b"x"),
        {"version": b"1.0", "keep_alive": False},
        b"x",
        [],
        False,
    ),
    "1.0 keep-alive": (
        b"GET",
        response(b"Content-Length: 1", b"Connection: keep-alive", start=b"HTTP/1.0 200 OK", body=b"x"),
        {"keep_alive": True},
        b"x",
        [],
        True,
    ),
    "upgrade offered": (
        b"GET",
        response(b"Connection: upgrade", b"Upgrade: h2c", b"Content-Length: 1", body=b"x"),
        {},
        b"x",
        [],
        True,
    ),
    "error for CONNECT": (
        b"CONNECT",
        response(b"Content-Length: 2", start=b"HTTP/1.1 405 x", body=b"no"),
        {"status": 405},
        b"no",
        [],
        True,
    ),
}

OK1 = [(b"Content-Length", b"1")]

# What proper servers do not send, and every client reads.
ACCEPTED |= {
    "bare LF": (
        b"GET",
        b"HTTP/1.1 200 OK\nContent-Length: 1\na: b\n\nx",
        {"headers": [*OK1, (b"a", b"b")]},
        b"x",
        [],
        True,
    ),
    "bare LF in fields": (
        b"GET",
        response(b"a: b\nContent-Length: 1", body=b"x"),
        {"headers": [(b"a", b"b"), *OK1]},
        b"x",
        [],
        True,
    ),
    "bare LF at the end": (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\nx", {"headers": OK1}, b"x", [], True),
    "bare LF before the end": (
        b"GET",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\n\r\nx",
        {"headers": OK1},
        b"x",
        [],
        True,
    ),
    "bare LF, and the body looks like an end": (
        b"GET",
        b"HTTP/1.1 200 OK\nContent-Length: 4\n\n\r\n\r\n",
        {"content_length": 4},
        b"\r\n\r\n",
        [],
        True,
    ),
    "empty line first": (
        b"GET",
        b"\r\n" + response(*[b"Content-Length: 1"], body=b"x"),
        {"headers": OK1},
        b"x",
        [],
        True,
    ),
    "empty line of LF first": (
        b"GET",
        b"\n" + response(*[b"Content-Length: 1"], body=b"x"),
        {"headers": OK1},
        b"x",
        [],
        True,
    ),
    "folded": (
        b"GET",
        response(b"a: b", b" c", b"\t d", b"Content-Length:", b" 1", body=b"x"),
        {"headers": [(b"a", b"b c d"), *OK1]},
        b"x",
        [],
        True,
    ),
    "the same length twice": (
        b"GET",
        response(b"a: b", b"Content-Length: 1", b"c: d", b"content-length: 01", body=b"x"),
        {"headers": [(b"a", b"b"), (b"c", b"d"), *OK1], "content_length": 1},
        b"x",
        [],
        True,
    ),
    "the same length in one field": (
        b"GET",
        response(b"Content-Length: 1, 1 ,1", body=b"x"),
        {"headers": OK1},
        b"x",
        [],
        True,
    ),
    "identity and a length": (
        b"GET",
        response(b"Transfer-Encoding: Identity", b"Content-Length: 1", body=b"x"),
        {"chunked": False, "keep_alive": False},
        b"x",
        [],
        False,
    ),
    "identity in 1.0": (
        b"GET",
        response(b"Content-Length: 1", b"Transfer-Encoding: identity", start=b"HTTP/1.0 200 OK", body=b"x"),
        {"headers": OK1},
        b"x",
        [],
        False,
    ),
    "205 has a body if it says so": (
        b"GET",
        response(b"Content-Length: 1", start=b"HTTP/1.1 205 Reset Content", body=b"x"),
        {"status": 205},
        b"x",
        [],
        True,
    ),
}

# method, bytes, reason
REFUSED: dict[str, tuple[bytes, bytes, Reason]] = {
    "2.0": (b"GET", response(start=b"HTTP/2.0 200 OK"), Reason.VERSION),
    "1.2": (b"GET", response(start=b"HTTP/1.2 200 OK"), Reason.VERSION),
    "0.9": (b"GET", response(start=b"HTTP/0.9 200 OK"), Reason.VERSION),
    "another protocol": (b"GET", response(start=b"RTSP/1.0 200 OK"), Reason.SYNTAX),
    "ICY": (b"GET", response(start=b"ICY 200 OK"), Reason.SYNTAX),
    "two digits": (b"GET", response(start=b"HTTP/1.1 20 OK"), Reason.SYNTAX),
    "four digits": (b"GET", response(start=b"HTTP/1.1 2000 OK"), Reason.SYNTAX),
    "below 100": (b"GET", response(start=b"HTTP/1.1 099 OK"), Reason.SYNTAX),
    "two spaces": (b"GET", response(start=b"HTTP/1.1  200 OK"), Reason.SYNTAX),
    "no space": (b"GET", response(start=b"HTTP/1.1 200OK"), Reason.SYNTAX),
    "NUL in the reason": (b"GET", response(start=b"HTTP/1.1 200 O\x00K"), Reason.SYNTAX),
    "control character in the reason": (b"GET", response(start=b"HTTP/1.1 200 O\x01K"), Reason.SYNTAX),
    "CR in the reason": (b"GET", response(start=b"HTTP/1.1 200 O\rK"), Reason.SYNTAX),
    "space before the colon": (b"GET", response(b"a : b"), Reason.SYNTAX),
    "two empty lines first": (b"GET", b"\r\n\r\n" + response(), Reason.SYNTAX),
    "whitespace before the first field": (b"GET", response(b" a: b"), Reason.SYNTAX),
    "folded name": (b"GET", response(b"a", b" : b"), Reason.SYNTAX),
    "CR in a field": (b"GET", response(b"a: b\rc: d"), Reason.SYNTAX),
    "CR alone": (b"GET", b"HTTP/1.1 200 OK\r\r", Reason.SYNTAX),
    "different lengths in one field": (b"GET", response(b"Content-Length: 1, 2"), Reason.FRAMING),
    "a length and nothing": (b"GET", response(b"Content-Length: 1,"), Reason.FRAMING),
    "the same length twice, and chunked": (
        b"GET",
        response(b"Content-Length: 1", b"Content-Length: 1", CHUNKED),
        Reason.FRAMING,
    ),
    "identity, chunked": (b"GET", response(b"Transfer-Encoding: identity, chunked"), Reason.TRANSFER_CODING),
    "identity and chunked": (b"GET", response(b"Transfer-Encoding: identity", CHUNKED), Reason.TRANSFER_CODING),
    "bare LF behind a size": (b"GET", response(CHUNKED, body=b"1\nx\r\n0\r\n\r\n"), Reason.CHUNK),
    "bare LF behind a chunk": (b"GET", response(CHUNKED, body=b"1\r\nx\n0\r\n\r\n"), Reason.CHUNK),
    "bare LF in trailers": (b"GET", response(CHUNKED, body=b"0\r\na: b\n\r\n"), Reason.SYNTAX),
    "not HTTP": (b"GET", b"SSH-2.0-x\r\n\x00", Reason.SYNTAX),
    "two lengths": (b"GET", response(b"Content-Length: 1", b"Content-Length: 2"), Reason.FRAMING),
    "bad length": (b"GET", response(b"Content-Length: 1x"), Reason.FRAMING),
    "length of endless zeros": (b"GET", response(b"Content-Length: " + b"0" * 21), Reason.FRAMING),
    "length over 64 bits": (b"GET", response(b"Content-Length: 18446744073709551616"), Reason.FRAMING),
    "length and chunked": (b"GET", response(b"Content-Length: 1", CHUNKED), Reason.FRAMING),
    "chunked and length": (b"GET", response(CHUNKED, b"Content-Length: 1"), Reason.FRAMING),
    "gzip": (b"GET", response(b"Transfer-Encoding: gzip"), Reason.TRANSFER_CODING),
    "gzip, chunked": (b"GET", response(b"Transfer-Encoding: gzip, chunked"), Reason.TRANSFER_CODING),
    "chunked, gzip": (b"GET", response(b"Transfer-Encoding: chunked, gzip"), Reason.TRANSFER_CODING),
    "chunked twice": (b"GET", response(CHUNKED, CHUNKED), Reason.TRANSFER_CODING),
    "empty coding": (b"GET", response(b"Transfer-Encoding:"), Reason.TRANSFER_CODING),
    "chunked in 1.0": (b"GET", response(CHUNKED, start=b"HTTP/1.0 200 OK"), Reason.TRANSFER_CODING),
    "bad chunk": (b"GET", response(CHUNKED, body=b"x\r\n"), Reason.CHUNK),
    "length as trailer": (b"GET", response(CHUNKED, body=b"0\r\nContent-Length: 1\r\n\r\n"), Reason.FRAMING),
    "spaces and no size": (b"GET", response(CHUNKED, body=b"  \r\n"), Reason.CHUNK),
    "spaces before the size": (b"GET", response(CHUNKED, body=b" 1\r\na\r\n"), Reason.CHUNK),
    "spaces within the size": (b"GET", response(CHUNKED, body=b"1 0\r\na\r\n"), Reason.CHUNK),
    "padded, and no extension": (b"GET", response(CHUNKED, body=b"1 ; \r\na\r\n"), Reason.CHUNK),
    "padded, and no value": (b"GET", response(CHUNKED, body=b"1 ;a= \r\na\r\n"), Reason.CHUNK),
    "101": (b"GET", response(start=b"HTTP/1.1 101 x"), Reason.UPGRADE),
    "101, complete": (
        b"GET",
        response(b"Connection: upgrade", b"Upgrade: x", start=b"HTTP/1.1 101 x"),
        Reason.UPGRADE,
    ),
    "tunnel": (b"CONNECT", response(), Reason.UPGRADE),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    method, data, head, body, trailers, reusable = ACCEPTED[name]
    for packets in cuts(data):
        outcome = read_response(packets, method)
        assert outcome.error is None
        [message] = outcome.messages
        assert message.complete
        assert isinstance(message.head, ResponseHead)
        assert {key: getattr(message.head, key) for key in head} == head
        assert (message.body, message.trailers) == (body, trailers)
        assert outcome.reusable == reusable
        assert read_response(packets, method, eof=True).error is None


@pytest.mark.parametrize("name", ACCEPTED)
def test_excess_forbids_reuse(name: str) -> None:
    method, data, _, body, trailers, _ = ACCEPTED[name]
    for packets in cuts(data + b"x"):
        outcome = read_response(packets, method)
        assert outcome.error is None
        assert not outcome.reusable
        assert [(m.body, m.trailers) for m in outcome.messages] == [(body, trailers)]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    method, data, reason = REFUSED[name]
    error = read_response([data], method).error
    assert error is not None
    assert error.reason is reason
    for packets in cuts(data):
        assert read_response(packets, method).error is not None


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK"])
def test_body_until_close(start: bytes) -> None:
    data = response(b"Connection: keep-alive", start=start, body=b"all\r\n\r\nthere is")
    for packets in cuts(data):
        outcome = read_response(packets)
        assert not outcome.messages[0].complete
        assert not outcome.reusable
        outcome = read_response(packets, eof=True)
        assert outcome.error is None
        [message] = outcome.messages
        assert (message.body, message.trailers) == (b"all\r\n\r\nthere is", [])
        assert message.head.keep_alive is False


def test_identity_without_a_length_ends_with_the_connection() -> None:
    for packets in cuts(response(b"Transfer-Encoding: identity", body=b"all there is")):
        outcome = read_response(packets, eof=True)
        assert outcome.error is None
        assert outcome.messages[0].body == b"all there is"
        assert not outcome.reusable


def test_end_of_connection_forbids_reuse() -> None:
    recorder = Recorder()
    parser = ResponseParser(b"GET", recorder)
    parser.feed(response(b"Content-Length: 0"))
    assert parser.reusable
    parser.feed_eof()
    assert not parser.reusable


def test_informational() -> None:
    data = (
        response(start=b"HTTP/1.1 100 Continue")
        + response(b"Link: <a>", b"Link: <b>", b"Content-Length: 3", start=b"HTTP/1.1 103 Early Hints")
        + response(b"Content-Length: 2", body=b"ok")
    )
    for packets in cuts(data):
        outcome = read_response(packets)
        assert outcome.error is None
        assert [head.status for head in outcome.informational] == [100, 103]
        assert outcome.informational[1].headers[:2] == [(b"Link", b"<a>"), (b"Link", b"<b>")]
        assert outcome.messages[0].body == b"ok"
        assert outcome.reusable


# bytes that the connection ends with, reason
ENDS: dict[str, tuple[bytes, Reason]] = {
    "nothing": (b"", Reason.NO_RESPONSE),
    "in the status line": (b"HTT", Reason.INCOMPLETE_HEAD),
    "in the fields": (response()[:-2], Reason.INCOMPLETE_HEAD),
    "behind 100": (response(start=b"HTTP/1.1 100 Continue"), Reason.INCOMPLETE_HEAD),
    "before the body": (response(b"Content-Length: 2"), Reason.INCOMPLETE_BODY),
    "in the body": (response(b"Content-Length: 2", body=b"x"), Reason.INCOMPLETE_BODY),
    "in the chunks": (response(CHUNKED, body=b"2\r\nx"), Reason.INCOMPLETE_BODY),
    "in the trailers": (response(CHUNKED, body=b"0\r\na: b\r\n"), Reason.INCOMPLETE_BODY),
}


@pytest.mark.parametrize("name", ENDS)
def test_end_of_input(name: str) -> None:
    data, reason = ENDS[name]
    for packets in cuts(data):
        error = read_response(packets, eof=True).error
        assert error is not None
        assert error.reason is reason


# limits, just accepted, just refused, reason
LIMITS: dict[str, tuple[Limits, bytes, bytes, Reason]] = {
    "start line": (
        Limits(start_line=20),
        response(b"Content-Length: 0", start=b"HTTP/1.1 200 " + b"x" * 7),
        response(b"Content-Length: 0", start=b"HTTP/1.1 200 " + b"x" * 8),
        Reason.START_LINE_SIZE,
    ),
    "head": (
        Limits(head=60),
        response(b"Content-Length: 0", b"a: " + b"x" * 17),
        response(b"Content-Length: 0", b"a: " + b"x" * 18),
        Reason.HEADER_SECTION_SIZE,
    ),
    "headers": (
        Limits(headers=2),
        response(b"Content-Length: 0", b"a:"),
        response(b"Content-Length: 0", b"a:", b"a:"),
        Reason.HEADER_SECTION_SIZE,
    ),
    "body, declared": (
        Limits(body=2),
        response(b"Content-Length: 2", body=b"ab"),
        response(b"Content-Length: 3"),
        Reason.BODY_SIZE,
    ),
    "body, chunked": (
        Limits(body=2),
        response(CHUNKED, body=b"2\r\nab\r\n0\r\n\r\n"),
        response(CHUNKED, body=b"2\r\nab\r\n1\r\n"),
        Reason.BODY_SIZE,
    ),
    "body, until close": (Limits(body=2), response(body=b"ab"), response(body=b"abc"), Reason.BODY_SIZE),
    "padding": (
        Limits(chunk_extensions=0),
        response(CHUNKED, body=b"1" + b" " * 16 + b"\r\na\r\n0\r\n\r\n"),
        response(CHUNKED, body=b"1" + b" " * 17 + b"\r\na\r\n"),
        Reason.CHUNK,
    ),
    "padded extensions": (
        Limits(chunk_extensions=6),
        response(CHUNKED, body=b"1 ; a\r\na\r\n0 ;\tb\r\n\r\n"),
        response(CHUNKED, body=b"1 ; a\r\na\r\n0 ; b \r\n\r\n"),
        Reason.CHUNK,
    ),
    "informational": (
        Limits(informational=2),
        response(start=b"HTTP/1.1 103 x") * 2 + response(b"Content-Length: 0"),
        response(start=b"HTTP/1.1 103 x") * 3,
        Reason.TOO_MANY_INFORMATIONAL,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limit(name: str) -> None:
    limits, accepted, refused, reason = LIMITS[name]
    for packets in cuts(accepted):
        assert read_response(packets, limits=limits, eof=True).error is None
    for packets in cuts(refused):
        error = read_response(packets, limits=limits).error
        assert error is not None
        assert error.reason is reason


def test_default_limit_of_informational() -> None:
    data = response(start=b"HTTP/1.1 103 x")
    assert read_response([data * 32]).error is None
    error = read_response([data * 33]).error
    assert error is not None
    assert error.reason is Reason.TOO_MANY_INFORMATIONAL


def test_repr_of_a_head() -> None:
    [message] = read_response([response(b"Content-Length: 0")]).messages
    assert repr(message.head) == "<ResponseHead 200 b'1.1' 1 headers>"


def test_errors_carry_a_message() -> None:
    error = read_response([b"\x00"]).error
    assert isinstance(error, RemoteProtocolError)
    assert str(error) == "control character or bare CR or LF"
    assert str(RemoteProtocolError(Reason.BODY_SIZE)) == "body too large"
