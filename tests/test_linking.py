"""Linkers: everything at once, HTTP alone, or one interface after the other."""

from __future__ import annotations

import pytest

from tests.embedding import component, link
from wasi_http import (
    Engine,
    Linker,
    LinkError,
    ProxyPre,
    add_only_http_to_linker_async,
    add_only_http_to_linker_sync,
    add_to_linker_async,
    add_to_linker_sync,
)
from wasi_http.component import Interface
from wasi_http.linking import HTTP_INTERFACES, INTERFACES

HTTP = ["wasi:http/types@0.2.12", "wasi:http/outgoing-handler@0.2.12"]


@pytest.mark.parametrize("add", [add_to_linker_async, add_to_linker_sync])
def test_everything(engine: Engine, add: object) -> None:
    linker = Linker(engine)
    add(linker)  # type: ignore[operator]
    assert list(linker.interfaces()) == [interface.name for interface in INTERFACES]
    assert set(HTTP) < set(linker.interfaces())


@pytest.mark.parametrize("add", [add_only_http_to_linker_async, add_only_http_to_linker_sync])
def test_http_alone(engine: Engine, add: object) -> None:
    linker = Linker(engine)
    add(linker)  # type: ignore[operator]
    assert list(linker.interfaces()) == HTTP == [interface.name for interface in HTTP_INTERFACES]


@pytest.mark.parametrize("interface", INTERFACES, ids=[interface.name for interface in INTERFACES])
def test_each_interface_alone(engine: Engine, interface: type[Interface]) -> None:
    linker = Linker(engine)
    linker.define(interface)
    assert list(linker.interfaces()) == [interface.name]


def test_what_is_missing_is_named(engine: Engine) -> None:
    linker = Linker(engine)
    add_only_http_to_linker_async(linker)
    with pytest.raises(LinkError, match=r"wasi:io/poll@0\.2\.\d+ is missing"):
        ProxyPre(linker.instantiate_pre(component(engine, "c_sleep")))
    for interface in INTERFACES:
        linker.define(interface)
    ProxyPre(linker.instantiate_pre(component(engine, "c_sleep")))
    link(engine, "c_sleep")
