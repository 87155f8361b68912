"""Linkers: everything at once, HTTP alone, or one interface after the other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.embedding import State, component, link
from wasi_http import (
    Component,
    Engine,
    Linker,
    LinkError,
    ProxyPre,
    Request,
    Store,
    WasiHttpView,
    add_only_http_to_linker_async,
    add_only_http_to_linker_sync,
    add_to_linker_async,
    add_to_linker_sync,
    wasi,
)
from wasi_http.bindings import sync
from wasi_http.bindings.http.types import Scheme
from wasi_http.component import InstancePre, Interface
from wasi_http.http.linking import HTTP_INTERFACES, INTERFACES

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


@pytest.mark.parametrize("guest", ["c_sleep", "c_hello", "c_fetch"])
def test_what_is_missing_is_named(engine: Engine, guest: str) -> None:
    linker = Linker(engine)
    add_only_http_to_linker_async(linker)
    with pytest.raises(LinkError) as caught:
        ProxyPre(linker.instantiate_pre(component(engine, guest)))
    (problem,) = caught.value.problems
    assert re.search(r"wasi:io/poll@0\.2\.\d+.* missing; wasi_http\.wasi\.add_to_linker\(linker\)", problem)
    for interface in INTERFACES:
        linker.define(interface)
    ProxyPre(linker.instantiate_pre(component(engine, "c_sleep")))
    link(engine, "c_sleep")


FORGOTTEN = [
    (["wasi:http/types@0.2.0"], "{0} is missing; wasi_http.add_only_http_to_linker_async(linker) defines it"),
    (["wasi:io/poll@0.2"], "{0} is missing; wasi_http.wasi.add_to_linker(linker) defines it"),
    (
        ["wasi:io/poll@0.2.3", "wasi:http/types@0.2.3"],
        "{0}, {1} are missing; wasi_http.add_to_linker_async(linker) defines them",
    ),
    (
        [interface.name for interface in INTERFACES],
        "{0}, {1}, {2}, {3}, {4} and 25 more are missing; wasi_http.add_to_linker_async(linker) defines them",
    ),
    (
        ["wasi:http/types@0.3.0"],
        "{0} is missing; it is not compatible with wasi:http/types@0.2.12; the component is made for WASI 0.3, and ",
    ),
    (["wasi:nn/tensor@0.2.0"], 'missing; define a class Interface with name="{0}" in the linker'),
]


@pytest.mark.parametrize(("names", "problem"), FORGOTTEN, ids=[names[0] for names, _ in FORGOTTEN])
def test_what_defines_it_is_named(engine: Engine, names: list[str], problem: str) -> None:
    imports = "".join(f'(import "{name}" (instance))' for name in names)
    component = Component(engine, f"(component {imports})")
    with pytest.raises(LinkError) as caught:
        Linker(engine).instantiate_pre(component)
    (found,) = caught.value.problems
    assert problem.format(*names) in found
    linker = Linker(engine)
    linker.suggest("wasi:", "the host has none")
    with pytest.raises(LinkError, match="the host has none") as caught:
        linker.instantiate_pre(component)
    assert len(caught.value.problems) == len(names)


SWAPPED: list[tuple[Callable[..., object], tuple[str, ...], str]] = [
    (
        ProxyPre,
        ("component",),
        "expected InstancePre, got Component: write ProxyPre(linker.instantiate_pre(component))",
    ),
    (ProxyPre, ("linker",), "expected InstancePre, got Linker: write ProxyPre(linker.instantiate_pre(component))"),
    (sync.ProxyPre, ("linker",), "write ProxyPre(linker.instantiate_pre(component))"),
    (Linker, ("component",), "expected Engine, got Component: write Linker(engine)"),
    (Linker, ("Engine",), "expected Engine, got the class Engine: write Linker(engine)"),
    (Linker.instantiate_pre, ("linker", "path"), "expected Component, got PosixPath: write linker.instantiate_pre("),
    (Linker.define, ("linker", "component"), "expected Interface, got Component: write linker.define(interface)"),
    (Linker.define, ("linker", "Engine"), "expected Interface, got the class Engine: write linker.define(interface)"),
    (InstancePre.export, ("pre", "str"), "expected Interface, got str: write pre.export(interface)"),
    (Component, ("linker", "str"), "expected Engine, got Linker: write Component(engine, wasm)"),
    (
        Component,
        ("engine", "path"),
        "expected bytes or str, got PosixPath: for a file, write Component.from_file(engine, path)",
    ),
    (
        Component.from_file,
        ("path", "engine"),
        "expected Engine, got PosixPath: write Component.from_file(engine, path)",
    ),
    (Engine, ("engine",), "expected EngineConfig, got Engine: write Engine(EngineConfig(...))"),
    (Store, ("component",), "expected wasi_http.engine.engine.Engine, got Component"),
    (Store, ("engine", "State"), "a store's data is an object, not the class State: write State()"),
    (Store, ("engine", "state", "str"), "expected StoreLimits, got str: write Store(engine, data, StoreLimits(...))"),
    (
        WasiHttpView.new_incoming_request,
        ("state", "str", "request"),
        "expected Scheme, got str: write new_incoming_request(Scheme.HTTP, request)",
    ),
    (
        WasiHttpView.new_incoming_request,
        ("state", "request", "str"),
        "expected Scheme, got Request: write new_incoming_request(Scheme.HTTP, request)",
    ),
    (WasiHttpView.new_incoming_request, ("state", "scheme", "str"), "expected Request, got str: write new_incoming_"),
    (add_to_linker_async, ("component",), "expected Linker, got Component: write add_to_linker_async(linker)"),
    (add_only_http_to_linker_async, ("engine",), "expected Linker, got Engine: write add_only_http_to_linker_async("),
    (wasi.add_to_linker, ("engine",), "expected Linker, got Engine: write wasi_http.wasi.add_to_linker(linker)"),
]


@pytest.mark.parametrize(("call", "arguments", "message"), SWAPPED, ids=[f"{c.__qualname__}{a}" for c, a, _ in SWAPPED])
def test_arguments_that_are_swapped(
    engine: Engine, call: Callable[..., object], arguments: tuple[str, ...], message: str
) -> None:
    component = Component(engine, "(component)")
    linker = Linker(engine)
    given = {"engine": engine, "component": component, "linker": linker, "pre": linker.instantiate_pre(component)}
    given |= {"Engine": Engine, "path": Path("app.wasm"), "str": "test:a/b", "State": State, "state": State()}
    given |= {"request": Request(authority="a"), "scheme": Scheme.HTTP}
    with pytest.raises(TypeError, match=re.escape(message)):
        call(*map(given.get, arguments))


CALL = "write call_handle(store, request, response_out)"
CALLS: list[tuple[tuple[str, ...], type[Exception], str]] = [
    (("request", "store", "out"), TypeError, f"expected Store, got IncomingRequest: {CALL}"),
    (("store", "out", "request"), TypeError, f"expected IncomingRequest, got ResponseOutparam: {CALL}"),
    (("store", "plain", "out"), TypeError, f"expected IncomingRequest, got Request: {CALL}"),
    (("store", "request", "none"), TypeError, f"expected ResponseOutparam, got NoneType: {CALL}"),
    (("store", "used", "out"), ValueError, "the request was given to a guest before: make one for each with new_in"),
    (("store", "request", "used out"), ValueError, "the outparam was given to a guest before: make one for each with"),
]


@pytest.mark.parametrize("sync_", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(("arguments", "kind", "said"), CALLS, ids=[f"{arguments}" for arguments, _, _ in CALLS])
def test_calls_with_wrong_arguments(
    engine: Engine, arguments: tuple[str, ...], kind: type[Exception], said: str, sync_: bool
) -> None:
    """A wrong call leaves the store as it was: the right one is served."""
    pre = link(engine, "c_hello")
    state = State()
    store, other = Store(engine, state), Store(engine, state)
    plain = Request(authority="a")

    def fresh() -> tuple[Any, Any]:
        return state.new_incoming_request(Scheme.HTTP, plain), state.new_response_outparam()

    async def call(store: Any, request: Any, out: Any) -> None:
        await pre.proxy.wasi_http_incoming_handler.call_handle(store, request, out)

    def call_sync(store: Any, request: Any, out: Any) -> None:
        sync.IncomingHandlerGuest(pre.proxy.wasi_http_incoming_handler).call_handle(store, request, out)

    (used, used_out), (request, out) = fresh(), fresh()
    pre.instantiate(other)
    pre.instantiate(store)
    asyncio.run(call(other, used, used_out))
    given = {"store": store, "request": request, "out": out, "plain": plain, "used": used, "used out": used_out}
    wrong = [given.get(name) for name in arguments]
    with pytest.raises(kind, match=re.escape(said)):
        call_sync(*wrong) if sync_ else asyncio.run(call(*wrong))
    if not sync_:
        asyncio.run(call(store, *fresh()))
    other.close()
    store.close()
