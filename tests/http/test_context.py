"""Limits, and the names that belong to the host."""

from __future__ import annotations

import pytest

from tests.view import View
from wasi_http.http.context import DEFAULT_FIELD_SIZE_LIMIT, DEFAULT_FORBIDDEN_HEADERS, WasiHttpCtx


def test_defaults() -> None:
    assert WasiHttpCtx().field_size_limit == DEFAULT_FIELD_SIZE_LIMIT == 128 * 1024
    assert WasiHttpCtx(field_size_limit=0).field_size_limit == 0


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        WasiHttpCtx(field_size_limit=-1)


def test_the_names_of_the_host() -> None:
    # The list of the reference implementation.
    assert {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "host",
        "http2-settings",
    } == DEFAULT_FORBIDDEN_HEADERS
    view = View(forbidden=["x-secret"])
    assert view.is_forbidden_header("host")
    assert view.is_forbidden_header("x-secret")
    assert not view.is_forbidden_header("content-length")
