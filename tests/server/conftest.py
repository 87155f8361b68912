"""Guests to serve, and both event loops to serve them on."""

from __future__ import annotations

from functools import cache

import pytest

from tests.guests.build import GuestUnavailable, build
from wasi_http.bindings import ProxyPre
from wasi_http.component import Component, Linker
from wasi_http.engine import Engine
from wasi_http.http.linking import add_to_linker_async

from .serving import LOOPS, Guests


@pytest.fixture(scope="session")
def guests(engine: Engine) -> Guests:
    @cache
    def load(name: str) -> ProxyPre:
        try:
            path = build(name)
        except GuestUnavailable as error:
            pytest.skip(str(error))
        linker = Linker(engine)
        add_to_linker_async(linker)
        return ProxyPre(linker.instantiate_pre(Component.from_file(engine, path)))

    return Guests(engine, load)


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)
