"""Requests, received: tables of bytes, each read whole, byte by byte and cut at every point."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import pytest

from tests.http1.recorder import Recorder, cuts, few_cuts, read_requests
from wasi_http.http1 import Limits, LocalProtocolError, Reason, RemoteProtocolError, RequestHead, RequestParser

HOST = b"Host: a\r\n"


def get(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (b"GET / HTTP/1.1", b"Host: a", *lines, b""))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"".join(line + b"\r\n" for line in (b"POST / HTTP/1.1", b"Host: a", *lines, b"")) + body


CHUNKED = b"Transfer-Encoding: chunked"

# bytes, expected attributes of the head, body, trailers (None: no body)
ACCEPTED: dict[str, tuple[bytes, dict[str, Any], bytes, list[tuple[bytes, bytes]] | None]] = {
    "plain": (
        b"GET /x?y=z HTTP/1.1\r\nHost: example.com:8080\r\nACCEPT: */*\r\n\r\n",
        {
            "method": b"GET",
            "target": b"/x?y=z",
            "path": b"/x?y=z",
            "scheme": None,
            "authority": b"example.com:8080",
            "version": b"1.1",
            "headers": [(b"Host", b"example.com:8080"), (b"ACCEPT", b"*/*")],
            "keep_alive": True,
            "expect_continue": False,
            "content_length": None,
            "chunked": False,
            "has_body": False,
        },
        b"",
        None,
    ),
    "repeated fields in order": (
        get(b"B: 1", b"a: 2", b"b: 3"),
        {"headers": [(b"Host", b"a"), (b"B", b"1"), (b"a", b"2"), (b"b", b"3")]},
        b"",
        None,
    ),
    "whitespace around values": (
        get(b"a:1", b"b: \t 2 \t ", b"c:", b"d:   ", b"e: x y\tz"),
        {
            "headers": [
                (b"Host", b"a"),
                (b"a", b"1"),
                (b"b", b"2"),
                (b"c", b""),
                (b"d", b""),
                (b"e", b"x y\tz"),
            ]
        },
        b"",
        None,
    ),
    "obs-text": (get(b"a: caf\xe9 \x80\xff"), {"headers": [(b"Host", b"a"), (b"a", b"caf\xe9 \x80\xff")]}, b"", None),
    "all token characters in a name": (
        get(b"!#$%&'*+-.^_`|~09azAZ: 1"),
        {"headers": [(b"Host", b"a"), (b"!#$%&'*+-.^_`|~09azAZ", b"1")]},
        b"",
        None,
    ),
    "unknown method": (b"FROB /x HTTP/1.1\r\nHost: a\r\n\r\n", {"method": b"FROB", "target": b"/x"}, b"", None),
    "methods are case-sensitive": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", {"method": b"get"}, b"", None),
    "method of another protocol": (b"DESCRIBE / HTTP/1.1\r\nHost: a\r\n\r\n", {"method": b"DESCRIBE"}, b"", None),
    "method of the HTTP/2 preface": (b"PRI / HTTP/1.1\r\nHost: a\r\n\r\n", {"method": b"PRI"}, b"", None),
    "unknown method with a body": (
        b"x~! / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        {"method": b"x~!", "content_length": 2},
        b"hi",
        [],
    ),
    "an empty line first": (b"\r\n" + get(), {"target": b"/"}, b"", None),
    "absolute-form": (
        b"GET http://b.example:81/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
        {
            "target": b"http://b.example:81/p?q",
            "scheme": b"http",
            "authority": b"b.example:81",
            "path": b"/p?q",
        },
        b"",
        None,
    ),
    "absolute-form without path": (
        b"GET HTTPS://b?q HTTP/1.1\r\nHost: a\r\n\r\n",
        {"scheme": b"HTTPS", "authority": b"b", "path": b"/?q"},
        b"",
        None,
    ),
    "absolute-form with IPv6": (
        b"GET http://[::1]:8/ HTTP/1.1\r\nHost: a\r\n\r\n",
        {"authority": b"[::1]:8", "path": b"/"},
        b"",
        None,
    ),
    "two slashes are a path": (
        b"GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n",
        {"authority": b"a", "path": b"//b/c"},
        b"",
        None,
    ),
    "asterisk-form": (
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        {"target": b"*", "path": b"*", "authority": b"a"},
        b"",
        None,
    ),
    "CONNECT": (
        b"CONNECT b.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        {
            "method": b"CONNECT",
            "target": b"b.example:443",
            "authority": b"b.example:443",
            "path": b"",
            "keep_alive": False,
            "has_body": False,
        },
        b"",
        None,
    ),
    "CONNECT without port": (
        b"CONNECT b HTTP/1.1\r\nHost: a\r\n\r\n",
        {"authority": b"b", "keep_alive": False},
        b"",
        None,
    ),
    "CONNECT with a body": (
        b"CONNECT b:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        {"authority": b"b:1", "content_length": 2, "keep_alive": False},
        b"hi",
        [],
    ),
    "upgrade is ignored": (
        get(b"Connection: Upgrade", b"Upgrade: websocket"),
        {"keep_alive": True, "has_body": False},
        b"",
        None,
    ),
    "upgrade with a body": (
        post(b"Connection: upgrade, x", b"Upgrade: h2c", b"Content-Length: 3", body=b"abc"),
        {"keep_alive": True, "content_length": 3},
        b"abc",
        [],
    ),
    "upgrade with chunks": (
        post(b"Connection: upgrade", b"Upgrade: h2c", CHUNKED, body=b"1\r\na\r\n0\r\n\r\n"),
        {"chunked": True},
        b"a",
        [],
    ),
    "empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", {"authority": None}, b"", None),
    "Host with every kind of character": (
        b"GET / HTTP/1.1\r\nHost: a-Z0.9_~!$&'()*+,;=%41:65535\r\n\r\n",
        {"authority": b"a-Z0.9_~!$&'()*+,;=%41:65535"},
        b"",
        None,
    ),
    "Host with an empty port": (b"GET / HTTP/1.1\r\nhOST: a:\r\n\r\n", {"authority": b"a:"}, b"", None),
    "Host IPv6": (
        b"GET / HTTP/1.1\r\nHost: [2001:db8::1.2.3.4]\r\n\r\n",
        {"authority": b"[2001:db8::1.2.3.4]"},
        b"",
        None,
    ),
    "1.0": (b"GET / HTTP/1.0\r\n\r\n", {"version": b"1.0", "keep_alive": False, "authority": None}, b"", None),
    "1.0 keep-alive": (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", {"keep_alive": True}, b"", None),
    "1.0 with Host": (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", {"authority": b"a"}, b"", None),
    "1.0 with a body": (b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", {"content_length": 2}, b"hi", []),
    "1.0 cannot expect": (
        b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
        {"expect_continue": False},
        b"hi",
        [],
    ),
    "close": (get(b"Connection: close"), {"keep_alive": False}, b"", None),
    "close among options": (get(b"Connection: x ,\tClOsE, y"), {"keep_alive": False}, b"", None),
    "close wins": (get(b"Connection: close", b"Connection: keep-alive"), {"keep_alive": False}, b"", None),
    "close wins, the other way": (
        get(b"Connection: keep-alive", b"Connection: close"),
        {"keep_alive": False},
        b"",
        None,
    ),
    "not quite close": (get(b"Connection: closed, xclose"), {"keep_alive": True}, b"", None),
    "proxy-connection means nothing": (get(b"Proxy-Connection: close"), {"keep_alive": True}, b"", None),
    "length": (post(b"Content-Length: 5", body=b"hello"), {"content_length": 5, "chunked": False}, b"hello", []),
    "length 0": (post(b"Content-Length: 0"), {"content_length": 0, "has_body": False}, b"", None),
    "length with zeros and spaces": (
        post(b"Content-Length: \t 0005 ", body=b"hello"),
        {"content_length": 5},
        b"hello",
        [],
    ),
    "GET with a body": (get(b"Content-Length: 1") + b"x", {"has_body": True}, b"x", []),
    "a body that looks like a request": (
        post(b"Content-Length: %d" % len(get()), body=get()),
        {"content_length": len(get())},
        get(),
        [],
    ),
    "expect": (post(b"Expect: 100-Continue", b"Content-Length: 1", body=b"x"), {"expect_continue": True}, b"x", []),
    "expect with chunks": (
        post(b"Expect: 100-continue", CHUNKED, body=b"0\r\n\r\n"),
        {"expect_continue": True},
        b"",
        [],
    ),
    "expect without a body": (post(b"Expect: 100-continue"), {"expect_continue": False}, b"", None),
    "another expectation": (
        post(b"Expect: tea", b"Content-Length: 1", body=b"x"),
        {"expect_continue": False},
        b"x",
        [],
    ),
    "UTF-8 in the target": (
        "GET /café?q=日本 HTTP/1.1\r\nHost: a\r\nA: b \t\r\na: c\r\n\r\n".encode(),
        {
            "method": b"GET",
            "path": "/café?q=日本".encode(),
            "headers": [(b"Host", b"a"), (b"A", b"b"), (b"a", b"c")],
            "keep_alive": True,
        },
        b"",
        None,
    ),
    "UTF-8 in absolute-form": (
        "PURGE http://b/😀 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n".encode(),
        {"method": b"PURGE", "authority": b"b", "path": "/😀".encode(), "scheme": b"http"},
        b"a",
        [],
    ),
    "chunks": (
        post(CHUNKED, body=b"5\r\nhello\r\n1\r\n,\r\n00A\r\n 0123\r\n789\r\n0\r\n\r\n"),
        {"chunked": True, "content_length": None},
        b"hello, 0123\r\n789",
        [],
    ),
    "no chunks": (post(b"transfer-encoding:CHUNKED ", body=b"0\r\n\r\n"), {"chunked": True}, b"", []),
    "zeros end the body": (post(CHUNKED, body=b"000\r\n\r\n"), {}, b"", []),
    "chunk extensions": (
        post(CHUNKED, body=b'1;a;b=c;d="e\\"\x80;\t";x=y\r\nA\r\n0;z\r\n\r\n'),
        {},
        b"A",
        [],
    ),
    "trailers": (
        post(CHUNKED, b"Trailer: X", body=b"1\r\nA\r\n0\r\nX: 1 \r\nx:2\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n"),
        {},
        b"A",
        [(b"X", b"1"), (b"x", b"2"), (b"Connection", b"upgrade"), (b"Upgrade", b"y")],
    ),
}

# bytes, reason
REFUSED: dict[str, tuple[bytes, Reason]] = {
    # request line
    "no version": (b"GET /\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "two spaces before the version": (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "no target": (b"GET  HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "no target, unknown method": (b"X  HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "no target, CONNECT": (b"CONNECT  HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "space behind the version": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "space first": (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "tab as separator": (b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "no method": (b" / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "bad method": (b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "LF in the method": (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "CR first": (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "two empty lines first": (b"\r\n\r\n" + get(), Reason.SYNTAX),
    "0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Reason.VERSION),
    "1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Reason.VERSION),
    "2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Reason.VERSION),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason.VERSION),
    "11.1": (b"GET / HTTP/11.1\r\nHost: a\r\n\r\n", Reason.VERSION),
    "lower-case name": (b"GET / http/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "another protocol": (b"OPTIONS / RTSP/1.0\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "bare LF after the request line": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Reason.SYNTAX),
    "bare CR after the request line": (b"GET / HTTP/1.1\rHost: a\r\n\r\n", Reason.SYNTAX),
    # target
    "asterisk with GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "asterisk and more": (b"OPTIONS *x HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "relative": (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "query only": (b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "authority-form with GET": (b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "fragment in absolute-form": (b"GET http://a/#b HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "control character": (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "NUL in the target": (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "DEL in the target": (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "target in Latin-1": (b"GET /caf\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "target with half a character": (b"GET /\xe6\x97 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "target with a surrogate": (b"GET /\xed\xa0\x80 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "target with an overlong slash": (b"GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "control character beside UTF-8": (b"GET /\xc3\xa9\x01 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "DEL beside UTF-8": (b"GET /\xc3\xa9\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "space beside UTF-8": (b"GET /\xc3\xa9 x HTTP/1.1\r\nHost: a\r\n\r\n", Reason.SYNTAX),
    "fragment beside UTF-8": (b"GET /\xc3\xa9#x HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "bad field beside UTF-8": (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\na : b\r\n\r\n", Reason.SYNTAX),
    "UTF-8 in an authority": (b"GET http://\xc3\xa9/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "UTF-8 and no slash": (b"GET \xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "CONNECT with UTF-8": (b"CONNECT \xc3\xa9:80 HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "user information": (b"GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "no authority": (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "nothing behind the scheme": (b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "one slash": (b"GET http:/x HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "bad port": (b"GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "CONNECT with a path": (b"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "CONNECT with absolute-form": (b"CONNECT http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    "CONNECT with LF": (b"CONNECT a\nb HTTP/1.1\r\nHost: a\r\n\r\n", Reason.TARGET),
    # Host
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", Reason.HOST),
    "no Host with absolute-form": (b"GET http://a/ HTTP/1.1\r\n\r\n", Reason.HOST),
    "two Hosts": (get(b"Host: b"), Reason.HOST),
    "the same Host twice": (get(b"host: a"), Reason.HOST),
    "two Hosts in 1.0": (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Reason.HOST),
    "two empty Hosts": (b"GET / HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n", Reason.HOST),
    "Host list": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Reason.HOST),
    "Host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Reason.HOST),
    "Host with user information": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Reason.HOST),
    "Host with a scheme": (b"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", Reason.HOST),
    "Host with a bad port": (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Reason.HOST),
    "Host with a port too large": (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", Reason.HOST),
    "Host of a port only": (b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", Reason.HOST),
    "Host with a bad escape": (b"GET / HTTP/1.1\r\nHost: a%4\r\n\r\n", Reason.HOST),
    "Host not ASCII": (b"GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", Reason.HOST),
    "Host with bad IPv6": (b"GET / HTTP/1.1\r\nHost: [1::2::3]\r\n\r\n", Reason.HOST),
    "Host with an open bracket": (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", Reason.HOST),
    # fields
    "space before the colon": (get(b"a : b"), Reason.SYNTAX),
    "tab before the colon": (get(b"a\t: b"), Reason.SYNTAX),
    "space before the colon of a length": (get(b"Content-Length : 5"), Reason.SYNTAX),
    "space before the colon of a coding": (get(b"Transfer-Encoding : chunked"), Reason.SYNTAX),
    "no name": (get(b": b"), Reason.SYNTAX),
    "no colon": (get(b"ab"), Reason.SYNTAX),
    "folded": (get(b"a: b", b" c"), Reason.SYNTAX),
    "folded, tab": (get(b"a: b", b"\tc"), Reason.SYNTAX),
    "folded, empty first line": (get(b"a:", b" c"), Reason.SYNTAX),
    "folded length": (get(b"Content-Length:", b" 5"), Reason.SYNTAX),
    "folded before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", Reason.SYNTAX),
    "bare LF ends a line": (get(b"a: b\nc: d"), Reason.SYNTAX),
    "bare LF ends the head": (b"GET / HTTP/1.1\nHost: a\n\n", Reason.SYNTAX),
    "bare CR in a value": (get(b"a: b\rc"), Reason.SYNTAX),
    "CR CR LF": (get(b"a: b\r"), Reason.SYNTAX),
    "NUL in a value": (get(b"a: b\x00c"), Reason.SYNTAX),
    "control character in a value": (get(b"a: b\x01c"), Reason.SYNTAX),
    "vertical tab before a coding": (get(b"Transfer-Encoding: \x0bchunked"), Reason.SYNTAX),
    "DEL in a value": (get(b"a: \x7f"), Reason.SYNTAX),
    "NUL in a name": (get(b"a\x00: b"), Reason.SYNTAX),
    "non-ASCII name": (get(b"\xc3\xa9: b"), Reason.SYNTAX),
    "separators in a name": (get(b"a(b): c"), Reason.SYNTAX),
    "LF behind a body that ends with CR": (post(b"Content-Length: 1", body=b"\r\n"), Reason.SYNTAX),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Reason.SYNTAX),
    # length
    "length and chunked": (post(b"Content-Length: 5", CHUNKED), Reason.FRAMING),
    "chunked and length": (post(CHUNKED, b"Content-Length: 5"), Reason.FRAMING),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6"), Reason.FRAMING),
    "the same length twice": (post(b"Content-Length: 5", b"content-length: 5"), Reason.FRAMING),
    "length list": (post(b"Content-Length: 5, 5"), Reason.FRAMING),
    "length with a sign": (post(b"Content-Length: +5"), Reason.FRAMING),
    "negative length": (post(b"Content-Length: -5"), Reason.FRAMING),
    "hexadecimal length": (post(b"Content-Length: 0x5"), Reason.FRAMING),
    "length with an underscore": (post(b"Content-Length: 1_0"), Reason.FRAMING),
    "length with a space": (post(b"Content-Length: 1 0"), Reason.FRAMING),
    "empty length": (post(b"Content-Length:"), Reason.FRAMING),
    "length in other digits": (post("Content-Length: \u0665".encode()), Reason.FRAMING),
    "length over 64 bits": (post(b"Content-Length: 18446744073709551616"), Reason.FRAMING),
    "length of endless zeros": (post(b"Content-Length: " + b"0" * 40 + b"5"), Reason.FRAMING),
    "chunked twice": (post(CHUNKED, CHUNKED), Reason.FRAMING),
    "chunked, chunked": (post(b"Transfer-Encoding: chunked, chunked"), Reason.FRAMING),
    "chunked is not last": (post(b"Transfer-Encoding: chunked, gzip"), Reason.FRAMING),
    "not chunked": (post(b"Transfer-Encoding: gzip"), Reason.FRAMING),
    "identity": (post(b"Transfer-Encoding: identity"), Reason.FRAMING),
    "nearly chunked": (post(b"Transfer-Encoding: xchunked"), Reason.FRAMING),
    "quoted chunked": (post(b'Transfer-Encoding: "chunked"'), Reason.FRAMING),
    "empty coding": (post(b"Transfer-Encoding:"), Reason.FRAMING),
    "chunked in 1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Reason.FRAMING),
    "another coding before chunked": (post(b"Transfer-Encoding: gzip, chunked"), Reason.TRANSFER_CODING),
    "empty element before chunked": (post(b"Transfer-Encoding: , chunked"), Reason.TRANSFER_CODING),
    "chunked with a parameter": (post(b"Transfer-Encoding: x;y=z, chunked"), Reason.TRANSFER_CODING),
    "hidden by an upgrade": (
        post(b"Connection: upgrade", b"Upgrade: x", b"Transfer-Encoding: gzip"),
        Reason.FRAMING,
    ),
    # chunks
    "no size": (post(CHUNKED, body=b"\r\n"), Reason.CHUNK),
    "bad size": (post(CHUNKED, body=b"g\r\n"), Reason.CHUNK),
    "size with 0x": (post(CHUNKED, body=b"0x1\r\na\r\n0\r\n\r\n"), Reason.CHUNK),
    "negative size": (post(CHUNKED, body=b"-1\r\na\r\n0\r\n\r\n"), Reason.CHUNK),
    "size with a sign": (post(CHUNKED, body=b"+1\r\na\r\n0\r\n\r\n"), Reason.CHUNK),
    "size with an underscore": (post(CHUNKED, body=b"1_0\r\na\r\n0\r\n\r\n"), Reason.CHUNK),
    "size of 17 digits": (post(CHUNKED, body=b"00000000000000001\r\na\r\n"), Reason.CHUNK),
    "space before the size": (post(CHUNKED, body=b" 1\r\na\r\n"), Reason.CHUNK),
    "space behind the size": (post(CHUNKED, body=b"1 \r\na\r\n"), Reason.CHUNK),
    "space before an extension": (post(CHUNKED, body=b"1 ;a\r\na\r\n"), Reason.CHUNK),
    "empty extension": (post(CHUNKED, body=b"1;\r\na\r\n"), Reason.CHUNK),
    "empty extension value": (post(CHUNKED, body=b"1;a=\r\na\r\n"), Reason.CHUNK),
    "open quotes": (post(CHUNKED, body=b'1;a="\r\na\r\n'), Reason.CHUNK),
    "CR in an extension": (post(CHUNKED, body=b"1;a\rb\r\na\r\n"), Reason.CHUNK),
    "bare LF behind the size": (post(CHUNKED, body=b"1\na\r\n0\r\n\r\n"), Reason.CHUNK),
    "bare LF behind an extension": (post(CHUNKED, body=b"1;x\na\r\n0\r\n\r\n"), Reason.CHUNK),
    "too much data": (post(CHUNKED, body=b"1\r\nab\r\n0\r\n\r\n"), Reason.CHUNK),
    "bare LF behind the data": (post(CHUNKED, body=b"1\r\na\n0\r\n\r\n"), Reason.CHUNK),
    "bare CR behind the data": (post(CHUNKED, body=b"1\r\na\rb"), Reason.CHUNK),
    # trailers
    "bad trailer": (post(CHUNKED, body=b"0\r\na : b\r\n\r\n"), Reason.SYNTAX),
    "folded trailer": (post(CHUNKED, body=b"0\r\na: b\r\n c\r\n\r\n"), Reason.SYNTAX),
    "bare LF in trailers": (post(CHUNKED, body=b"0\r\na: b\n\r\n\r\n"), Reason.SYNTAX),
    "bare LF ends the body": (post(CHUNKED, body=b"0\r\n\n"), Reason.SYNTAX),
    "length as trailer": (post(CHUNKED, body=b"0\r\nContent-Length: 1\r\n\r\n"), Reason.FRAMING),
    "coding as trailer": (post(CHUNKED, body=b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), Reason.FRAMING),
    "Host as trailer": (post(CHUNKED, body=b"0\r\nHost: b\r\n\r\n"), Reason.FRAMING),
}

# Faults of which one byte more or less at a time names another of the same status first.
OTHER_REASON = frozenset((Reason.SYNTAX, Reason.CHUNK, Reason.TARGET, Reason.FRAMING))


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    data, head, body, trailers = ACCEPTED[name]
    for packets in cuts(data):
        outcome = read_requests(packets, eof=True)
        assert outcome.error is None
        [message] = outcome.messages
        assert message.complete
        assert isinstance(message.head, RequestHead)
        assert {key: getattr(message.head, key) for key in head} == head
        assert message.head.has_body == (trailers is not None)
        assert (message.body, message.trailers) == (body, trailers)


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, reason = REFUSED[name]
    whole = read_requests([data])
    assert whole.error is not None
    assert (whole.error.reason, whole.error.status) == (reason, reason.status)
    for packets, eager in itertools.product(cuts(data), (False, True)):
        outcome = read_requests(packets, eager=eager)
        assert outcome.error is not None
        if reason in OTHER_REASON:
            assert outcome.error.reason in OTHER_REASON
        else:
            assert outcome.error.reason is reason
        assert outcome.completed() == whole.completed()


@pytest.mark.parametrize("name", [name for name, case in ACCEPTED.items() if case[1].get("keep_alive", True)])
@pytest.mark.parametrize("eager", [False, True])
def test_pipelined_behind_anything(name: str, eager: bool) -> None:
    """Whatever came before, the next request on the connection is read as if it were the first."""
    data = ACCEPTED[name][0]
    if data.startswith(b"\r\n"):
        data = data[2:]
    if b"HTTP/1.0" in data and b"Keep-Alive" not in data:
        return
    last = get(b"last: yes")
    for packets in cuts(data + last):
        outcome = read_requests(packets, eof=True, eager=eager)
        assert outcome.error is None
        first, second = outcome.messages
        assert first.summary() == read_requests([data]).messages[0].summary()
        assert second.head.headers == [(b"Host", b"a"), (b"last", b"yes")]


@pytest.mark.parametrize("name", [name for name, case in ACCEPTED.items() if case[1].get("keep_alive") is False])
def test_nothing_behind_the_last_request(name: str) -> None:
    data = ACCEPTED[name][0]
    for packets in cuts(data + b"\x00anything" + get()):
        outcome = read_requests(packets, eof=True)
        assert outcome.error is None
        assert len(outcome.messages) == 1


@pytest.mark.parametrize("eager", [False, True])
def test_pipeline(eager: bool) -> None:
    cases = [case for case in ACCEPTED.values() if case[1].get("keep_alive", True) and b"HTTP/1.0" not in case[0]]
    data = b"".join(case[0] for case in cases)
    for packets in (
        [data],
        [data[i : i + 1] for i in range(len(data))],
        [data[i : i + 7] for i in range(0, len(data), 7)],
    ):
        outcome = read_requests(packets, eof=True, eager=eager)
        assert outcome.error is None
        assert [(m.body, m.trailers) for m in outcome.messages] == [case[2:] for case in cases]


def test_reads_one_request_and_holds_still() -> None:
    recorder = Recorder()
    parser = RequestParser(recorder)
    parser.feed(get() + post(b"Content-Length: 2", body=b"hi") + b"GARBAGE\r\n\r\n")
    assert len(recorder.messages) == 1
    assert parser.complete
    held = parser.pending
    assert held > 0
    parser.feed(b"more")
    assert parser.pending == held + 4
    assert len(recorder.messages) == 1
    parser.next_message()
    assert [message.body for message in recorder.messages] == [b"", b"hi"]
    with pytest.raises(RemoteProtocolError):
        parser.next_message()


def test_next_message_without_a_complete_one_does_nothing() -> None:
    recorder = Recorder()
    parser = RequestParser(recorder)
    parser.next_message()
    parser.feed(get()[:10])
    parser.next_message()
    parser.feed(get()[10:])
    assert len(recorder.messages) == 1


def test_one_piece_of_body_per_feed() -> None:
    recorder = Recorder()
    RequestParser(recorder).feed(post(CHUNKED, body=b"1\r\na\r\n" * 1000 + b"0\r\n\r\n"))
    assert recorder.messages[0].body == b"a" * 1000
    assert recorder.pieces == 1


def test_large_body_is_not_held() -> None:
    recorder = Recorder()
    parser = RequestParser(recorder)
    for head, framed in ((b"Content-Length: 10000000", b""), (CHUNKED, b"989680\r\n")):
        parser.feed(post(head, body=framed))
        for _ in range(100):
            parser.feed(bytes(100_000))
            assert parser.pending == 0
        if framed:
            parser.feed(b"\r\n0\r\n\r\n")
        assert parser.complete
        assert len(recorder.messages[-1].body) == 10_000_000
        parser.next_message()


# bytes that the connection ends with, reason (None: a good end)
ENDS: dict[str, tuple[bytes, Reason | None]] = {
    "nothing": (b"", None),
    "empty line": (b"\r\n", None),
    "half an empty line": (b"\r", None),
    "behind a request": (get(), None),
    "behind a request and an empty line": (get() + b"\r\n", None),
    "in the request line": (b"GET /", Reason.INCOMPLETE_HEAD),
    "in the fields": (get()[:-2], Reason.INCOMPLETE_HEAD),
    "in the second head": (get() + b"G", Reason.INCOMPLETE_HEAD),
    "before the body": (post(b"Content-Length: 5"), Reason.INCOMPLETE_BODY),
    "in the body": (post(b"Content-Length: 5", body=b"hell"), Reason.INCOMPLETE_BODY),
    "before the first chunk": (post(CHUNKED), Reason.INCOMPLETE_BODY),
    "in a chunk": (post(CHUNKED, body=b"5\r\nhell"), Reason.INCOMPLETE_BODY),
    "between chunks": (post(CHUNKED, body=b"5\r\nhello\r\n"), Reason.INCOMPLETE_BODY),
    "before the last CRLF": (post(CHUNKED, body=b"0\r\n"), Reason.INCOMPLETE_BODY),
    "in the trailers": (post(CHUNKED, body=b"0\r\na: b\r\n"), Reason.INCOMPLETE_BODY),
}


@pytest.mark.parametrize("name", ENDS)
def test_end_of_input(name: str) -> None:
    data, reason = ENDS[name]
    for packets in cuts(data):
        for eager in (False, True):
            error = read_requests(packets, eof=True, eager=eager).error
            assert (error and error.reason) is reason


def test_end_of_input_while_requests_are_held() -> None:
    recorder = Recorder()
    parser = RequestParser(recorder)
    parser.feed(get() + get(b"a: b") + b"GET /")
    parser.feed_eof()
    assert len(recorder.messages) == 1
    parser.next_message()
    assert len(recorder.messages) == 2
    with pytest.raises(RemoteProtocolError) as caught:
        parser.next_message()
    assert caught.value.reason is Reason.INCOMPLETE_HEAD


def pad(head: bytes, size: int) -> bytes:
    """`head` with a field that brings it to `size` bytes."""
    start = head[:-2] + b"pad: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


LIMITS: dict[str, tuple[Limits, bytes, bytes, Reason]] = {
    # limits, just accepted, just refused, reason
    "start line": (
        Limits(start_line=100),
        b"GET /" + b"x" * 86 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /" + b"x" * 87 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        Reason.START_LINE_SIZE,
    ),
    "start line behind an empty line": (
        Limits(start_line=100, head=113),
        b"\r\nGET /" + b"x" * 86 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\r\nGET /" + b"x" * 87 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        Reason.START_LINE_SIZE,
    ),
    "start line larger than the head": (
        Limits(start_line=1000, head=113),
        b"GET /" + b"x" * 86 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /" + b"x" * 100 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        Reason.START_LINE_SIZE,
    ),
    "head": (Limits(head=200), pad(get(), 200), pad(get(), 201), Reason.HEADER_SECTION_SIZE),
    "head behind an empty line": (
        Limits(head=200),
        b"\r\n" + pad(get(), 200),
        b"\r\n" + pad(get(), 201),
        Reason.HEADER_SECTION_SIZE,
    ),
    "headers": (
        Limits(headers=5),
        get(b"a: 1", b"a: 2", b"b: 3", b"c: 4"),
        get(b"a: 1", b"a: 2", b"b: 3", b"c: 4", b"d:"),
        Reason.HEADER_SECTION_SIZE,
    ),
    "body, declared": (
        Limits(body=3),
        post(b"Content-Length: 3", body=b"abc"),
        post(b"Content-Length: 4", body=b"abcd"),
        Reason.BODY_SIZE,
    ),
    "body, chunked": (
        Limits(body=3),
        post(CHUNKED, body=b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        post(CHUNKED, body=b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n"),
        Reason.BODY_SIZE,
    ),
    "no body": (Limits(body=0), post(CHUNKED, body=b"0\r\n\r\n"), post(CHUNKED, body=b"1\r\na\r\n"), Reason.BODY_SIZE),
    "chunk extension": (
        Limits(chunk_extensions=10),
        post(CHUNKED, body=b"0;" + b"x" * 9 + b"\r\n\r\n"),
        post(CHUNKED, body=b"0;" + b"x" * 10 + b"\r\n\r\n"),
        Reason.CHUNK,
    ),
    "chunk extensions together": (
        Limits(chunk_extensions=10),
        post(CHUNKED, body=b"1;xxxx\r\na\r\n" * 2 + b"0\r\n\r\n"),
        post(CHUNKED, body=b"1;xxxx\r\na\r\n" * 2 + b"0;\r\n\r\n"),
        Reason.CHUNK,
    ),
    "endless chunk size": (
        Limits(chunk_extensions=0),
        post(CHUNKED, body=b"0000000000000001\r\na\r\n0\r\n\r\n"),
        post(CHUNKED, body=b"0000000000000000000"),
        Reason.CHUNK,
    ),
    "trailer section": (
        Limits(trailer_section=20),
        post(CHUNKED, body=b"0\r\na: " + b"x" * 13 + b"\r\n\r\n"),
        post(CHUNKED, body=b"0\r\na: " + b"x" * 14 + b"\r\n\r\n"),
        Reason.TRAILER_SECTION_SIZE,
    ),
    "no trailer section": (
        Limits(trailer_section=0),
        post(CHUNKED, body=b"0\r\n\r\n"),
        post(CHUNKED, body=b"0\r\na:\r\n\r\n"),
        Reason.TRAILER_SECTION_SIZE,
    ),
    "trailers": (
        Limits(trailers=2),
        post(CHUNKED, body=b"0\r\na: 1\r\na: 2\r\n\r\n"),
        post(CHUNKED, body=b"0\r\na: 1\r\na: 2\r\nb:\r\n\r\n"),
        Reason.TRAILER_SECTION_SIZE,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limit(name: str) -> None:
    limits, accepted, refused, reason = LIMITS[name]
    for packets in cuts(accepted):
        outcome = read_requests(packets, limits, eof=True)
        assert outcome.error is None
        assert len(outcome.completed()) == 1
    for packets in cuts(refused):
        error = read_requests(packets, limits).error
        assert error is not None
        assert error.reason is reason


DEFAULTS: dict[str, tuple[bytes, Reason, int]] = {
    "start line": (b"GET /" + b"x" * (32 * 1024 - 13), Reason.START_LINE_SIZE, 414),
    "head": (pad(get(), 64 * 1024 + 1), Reason.HEADER_SECTION_SIZE, 431),
    "unfinished head": (pad(get(), 64 * 1024 + 5)[:-4], Reason.HEADER_SECTION_SIZE, 431),
    "headers": (get(*[b"a:"] * 256), Reason.HEADER_SECTION_SIZE, 431),
    "trailers": (post(CHUNKED, body=b"0\r\n" + b"a:\r\n" * 65 + b"\r\n"), Reason.TRAILER_SECTION_SIZE, 431),
    "trailer section": (post(CHUNKED, body=b"0\r\na:" + b"x" * 16380 + b"\r\n\r\n"), Reason.TRAILER_SECTION_SIZE, 431),
    "chunk extensions": (post(CHUNKED, body=b"1;x\r\na\r\n" * 8193), Reason.CHUNK, 400),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_limit(name: str) -> None:
    data, reason, status = DEFAULTS[name]
    if name == "start line":
        data += b" HTTP/1.1\r\n\r\n"
    for packets in few_cuts(data):
        error = read_requests(packets).error
        assert error is not None
        assert (error.reason, error.status) == (reason, status)


def test_negative_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="head"):
        Limits(head=-1)


def test_dead_after_an_error() -> None:
    recorder = Recorder()
    parser = RequestParser(recorder)
    with pytest.raises(RemoteProtocolError):
        parser.feed(b"\x00")
    parser.next_message()
    parser.feed_eof()
    with pytest.raises(LocalProtocolError):
        parser.feed(get())
    assert recorder.messages == []


def test_feed_within_an_event() -> None:
    class Handler(Recorder):
        def on_request(self, head: RequestHead) -> None:
            assert self.parser is not None
            self.parser.feed(get())

    handler = Handler()
    handler.parser = RequestParser(handler)
    with pytest.raises(LocalProtocolError):
        handler.parser.feed(get())


def test_error_of_a_handler_is_not_swallowed() -> None:
    class Handler(Recorder):
        def on_request(self, head: RequestHead) -> None:
            raise KeyboardInterrupt

    parser = RequestParser(Handler())
    with pytest.raises(KeyboardInterrupt):
        parser.feed(get())
    with pytest.raises(LocalProtocolError):
        parser.feed(get())


def test_parser_is_freed_without_the_garbage_collector() -> None:
    class Handler:
        def on_request(self, head: RequestHead) -> None: ...
        def on_body(self, data: bytes) -> None: ...
        def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None: ...

    gc.disable()
    try:
        parser = RequestParser(Handler())
        parser.feed(get() + get())
        reference = weakref.ref(parser)
        del parser
        assert reference() is None
    finally:
        gc.enable()


def test_repr_of_a_head() -> None:
    [message] = read_requests([get()]).messages
    assert repr(message.head) == "<RequestHead b'GET' b'/' b'1.1' 1 headers>"
