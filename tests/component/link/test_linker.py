"""What components import, matched with what the host provides, through real (small) components."""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

from wasi_http.component import (
    Borrow,
    Component,
    Interface,
    Linker,
    LinkError,
    Own,
    Resource,
    constructor,
    func,
    method,
    raises,
    u8,
    u32,
    u64,
)
from wasi_http.component.link.versions import semver_track
from wasi_http.component.model.errors import MAX_PROBLEMS
from wasi_http.engine import Engine, EngineConfig, Store

pytestmark = pytest.mark.usefixtures("no_leaks")


def calls(name: str, result: str = "u32") -> str:
    """A component that imports ``name`` with one function ``f``, and exports a ``run`` that calls it."""
    return f"""(component
      (import "{name}" (instance $i (export "f" (func (result {result})))))
      (core func $f (canon lower (func $i "f")))
      (core module $m (import "i" "f" (func $f (result i32))) (func (export "run") (result i32) (call $f)))
      (core instance $m (instantiate $m (with "i" (instance (export "f" (func $f))))))
      (func $run (result u32) (canon lift (core func $m "run")))
      (instance $run (export "run" (func $run)))
      (export "test:run/run@0.2.3" (instance $run)))"""


class Run(Interface, name="test:run/run@0.2.0"):
    @func
    def run() -> u32: ...


def provides(name: str, answer: int) -> Interface:
    def f() -> u32:
        return answer

    made: Any = type("Provided", (Interface,), {"f": func(f)}, name=name)  # type: ignore[call-overload]
    instance: Interface = made()
    return instance


def answer(engine: Engine, wanted: str, *given: str) -> int | None:
    """Which of the given interfaces the component reaches, None if linking fails."""
    linker = Linker(engine)
    for i, name in enumerate(given):
        linker.define(provides(name, i))
    try:
        pre = linker.instantiate_pre(Component(engine, calls(wanted)))
    except LinkError:
        return None
    store = Store(engine)
    try:
        pre.instantiate(store)
        call = pre.export(Run)["run"].start(store)
        assert call.poll()
        assert isinstance(call.result, int)
        return call.result
    finally:
        store.close()


VERSIONS: list[tuple[str, tuple[str, ...], int | None]] = [
    # The same.
    ("0.2.0", ("0.2.0",), 0),
    ("0.2.12", ("0.2.0", "0.2.12"), 1),
    # Both directions on one track.
    *((f"0.2.{patch}", ("0.2.12",), 0) for patch in range(13)),
    *(("0.2.12", (f"0.2.{patch}",), 0) for patch in range(13)),
    # Exactly if that is there, otherwise the highest; numbers are compared as numbers.
    ("0.2.3", ("0.2.9", "0.2.3", "0.2.12"), 1),
    ("0.2.4", ("0.2.9", "0.2.12", "0.2.3"), 1),
    ("0.2.4", ("0.2.9", "0.2.10"), 1),
    ("0.2", ("0.2.9", "0.2.10"), 1),
    ("0.2.4", ("0.2",), 0),
    # Other tracks.
    ("0.3.0", ("0.2.12",), None),
    ("0.2.12", ("0.3.0", "0.1.0", "1.2.12"), None),
    ("0.2.1", ("0.2.0-rc-2023-11-10",), None),
    ("0.2.0-rc-2023-11-10", ("0.2.0", "0.2.12"), None),
    ("0.2.0-rc-2023-11-10", ("0.2.0-rc-2023-12-05",), None),
    ("0.2.0-rc-2023-11-10", ("0.2.0", "0.2.0-rc-2023-11-10"), 1),
    ("0.0.1", ("0.0.2",), None),
    ("0.0.1", ("0.0.2", "0.0.1"), 1),
    ("1.4.0", ("1.0.0",), 0),
    ("1.0.0", ("1.4.2", "1.10.0", "2.0.0"), 1),
    ("1", ("1.4.2",), 0),
    ("2.0.0", ("1.4.0",), None),
    ("0.2.0+build.1", ("0.2.7",), 0),
    # Without a version there is nothing to be compatible with.
    ("", ("0.2.0",), None),
    ("0.2.0", ("",), None),
    ("", ("0.2.0", ""), 1),
]


@pytest.mark.parametrize(("wanted", "given", "expected"), VERSIONS)
def test_versions(engine: Engine, wanted: str, given: tuple[str, ...], expected: int | None) -> None:
    def named(version: str) -> str:
        return f"test:v/i@{version}" if version else "test:v/i"

    assert answer(engine, named(wanted), *map(named, given)) == expected


def test_a_version_that_is_not_compatible_is_named(engine: Engine) -> None:
    text = '(component (import "test:cafe/kitchen@0.3.0" (instance)))'
    assert problems(engine, text, Kitchen) == (
        "test:cafe/kitchen@0.3.0 is missing; it is not compatible with test:cafe/kitchen@0.2.12",
    )


def test_versions_of_other_interfaces_do_not_count(engine: Engine) -> None:
    assert answer(engine, "test:v/i@0.2.0", "test:v/j@0.2.0", "other:v/i@0.2.0") is None


def test_tracks() -> None:
    assert semver_track("a:b/c@0.2.7") == ("a:b/c@0.2", (0, 2, 7))
    assert semver_track("a:b/c@1.4.0") == ("a:b/c@1", (1, 4, 0))
    assert semver_track("a:b/c@0.2") == ("a:b/c@0.2", (0, 2, 0))
    for name in ("a:b/c", "a:b/c@0.0.7", "a:b/c@0.2.0-rc.1", "a:b/c@1.0.0-rc.1+2", "plain"):
        assert semver_track(name) is None


def test_versions_with_thousands_of_digits(engine: Engine) -> None:
    huge = "9" * 5000
    for version in (f"{huge}.0.0", f"1.{huge}.0", f"0.2.{huge}"):
        name = f"test:v/i@{version}"
        assert answer(engine, name, name) == 0
        assert answer(engine, name, "test:v/i@1.0.0", "test:v/i@0.2.0") is None


def test_an_interface_that_is_defined_again_is_replaced(engine: Engine) -> None:
    linker = Linker(engine)
    linker.define(provides("test:v/i", 1))
    linker.define(provides("test:v/i", 2))
    assert list(linker.interfaces()) == ["test:v/i"]
    pre = linker.instantiate_pre(Component(engine, calls("test:v/i")))
    store = Store(engine)
    pre.instantiate(store)
    call = pre.export(Run)["run"].start(store)
    assert call.poll()
    assert call.result == 2
    store.close()


# What a LinkError says


class Cup(Resource, name="cup"):
    @constructor
    def new() -> Own[Cup]: ...

    @method
    def sip(self, amount: u32) -> u32: ...


class Saucer(Resource, name="saucer"):
    pass


class Kitchen(Interface, name="test:cafe/kitchen@0.2.12"):
    resources = (Cup, Saucer)

    @func
    def wash(cup: Borrow[Cup]) -> None: ...

    @func
    @raises(str)
    def order(dishes: list[tuple[str, u8]], tip: u64 | None) -> Own[Cup]: ...


CAFE = """(component
  (import "test:cafe/kitchen@0.2.3" (instance
    (export "cup" (type $cup (sub resource)))
    (export "spoon" (type $spoon (sub resource)))
    (export "[constructor]cup" (func (result (own $cup))))
    (export "[method]cup.sip" (func (param "self" (borrow $cup)) (param "amount" u64) (result u32)))
    (export "[method]cup.smash" (func (param "self" (borrow $cup))))
    (export "wash" (func (param "dirty" (borrow $cup))))
    (export "order" (func (param "dishes" (list (tuple string u8))) (param "tip" (option u64)) (result (own $cup))))))
  (import "test:cafe/garden@0.2.3" (instance (export "f" (func))))
  (import "test:shop/till" (instance (export "f" (func))))
  (import "lone" (func))
  (import "piece" (core module)))"""


def problems(engine: Engine, text: str, *interfaces: type[Interface]) -> tuple[str, ...]:
    linker = Linker(engine)
    for interface in interfaces:
        linker.define(interface)
    linker.suggest("test:shop/", "start the shop with --till")
    component = Component(engine, text)
    with pytest.raises(LinkError) as caught:
        linker.instantiate_pre(component)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_everything_that_is_wrong_is_listed_at_once(engine: Engine) -> None:
    given = "test:cafe/kitchen@0.2.3 (given test:cafe/kitchen@0.2.12)"
    dishes = "func(dishes: list<tuple<string, u8>>, tip: option<u64>)"
    assert problems(engine, CAFE, Kitchen) == (
        "lone is a func that the component imports; only interfaces can be provided",
        "piece is a core module that the component imports; only interfaces can be provided",
        'test:cafe/garden@0.2.3 is missing; define a class Interface with name="test:cafe/garden@0.2.3" in the linker',
        "test:shop/till is missing; start the shop with --till",
        f"{given}: the resource spoon is missing",
        f"{given}: [method]cup.sip does not match: the component expects func(self: borrow<cup>, amount: u64) -> u32, "
        "the host gives func(self: borrow<cup>, amount: u32) -> u32",
        f"{given}: the function [method]cup.smash is missing: func(self: borrow<cup>)",
        f"{given}: order does not match: the component expects {dishes} -> own<cup>, "
        f"the host gives {dishes} -> result<own<cup>, string>",
    )


def wants(function: str) -> str:
    return f"""(component (import "test:cafe/kitchen@0.2.12" (instance
      (export "cup" (type $cup (sub resource))) (export "saucer" (type $saucer (sub resource)))
      (export "wash" (func {function})))))"""


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("", "func()"),
        ('(param "cup" (own $cup))', "func(cup: own<cup>)"),
        ('(param "cup" (borrow $saucer))', "func(cup: borrow<saucer>)"),
        ('(param "cup" (borrow $cup)) (param "x" u8)', "func(cup: borrow<cup>, x: u8)"),
        ('(param "cup" (borrow $cup)) (result bool)', "func(cup: borrow<cup>) -> bool"),
        ('(param "cup" u32)', "func(cup: u32)"),
    ],
)
def test_a_signature_that_differs_in_anything(engine: Engine, function: str, expected: str) -> None:
    (problem,) = problems(engine, wants(function), Kitchen)
    assert problem == (
        f"test:cafe/kitchen@0.2.12: wash does not match: the component expects {expected}, "
        "the host gives func(cup: borrow<cup>)"
    )


def test_many_problems_are_counted(engine: Engine) -> None:
    functions = "".join(f'(export "f{i}" (func))' for i in range(1000))
    text = f"""(component (import "test:cafe/kitchen@0.2.12" (instance {functions}))
      (import "{"a" * 9000}" (func)))"""
    found = problems(engine, text, Kitchen)
    assert len(found) == MAX_PROBLEMS == 50
    assert found[0].endswith("aa is a func that the component imports; only interfaces can be provided")
    assert len(found[0]) < 1100
    assert found[1] == "test:cafe/kitchen@0.2.12: the function f0 is missing: func()"
    assert found[-1] == "… and 952 more"
    assert pickle.loads(pickle.dumps(LinkError(found))).problems == found


def test_names_of_parameters_are_documentation(engine: Engine) -> None:
    linker = Linker(engine)
    linker.define(Kitchen)
    linker.instantiate_pre(Component(engine, wants('(param "mug" (borrow $cup))')))


def test_two_resources_are_not_one_because_of_their_names(engine: Engine) -> None:
    class Rival(Resource, name="cup"):
        pass

    class RivalKitchen(Interface, name="test:cafe/kitchen@0.2.12"):
        resources = (Rival, Saucer)

        @func
        def wash(cup: Borrow[Cup]) -> None: ...

    (problem,) = problems(engine, wants('(param "cup" (borrow $cup))'), RivalKitchen)
    assert problem == (
        "test:cafe/kitchen@0.2.12: wash does not match: func(cup: borrow<cup>) here has other resources of the same "
        "names: declare it with the classes of the interface that defines them"
    )


def test_a_resource_that_one_interface_uses_of_another(engine: Engine) -> None:
    class Garden(Interface, name="test:cafe/garden"):
        @func
        def bury(cup: Own[Cup]) -> None: ...

    text = """(component
      (import "test:cafe/kitchen@0.2.1" (instance $kitchen
        (export "cup" (type (sub resource))) (export "{0}" (type (sub resource)))))
      (alias export $kitchen "{1}" (type $cup))
      (import "test:cafe/garden" (instance
        (export "cup" (type $c (eq $cup)))
        (export "bury" (func (param "cup" (own $c)))))))"""
    linker = Linker(engine)
    linker.define(Kitchen)
    linker.define(Garden)
    linker.instantiate_pre(Component(engine, text.format("saucer", "cup")))
    (problem,) = problems(engine, text.format("saucer", "saucer"), Kitchen, Garden)
    assert problem == (
        "test:cafe/garden: bury does not match: the component expects func(cup: own<saucer>), "
        "the host gives func(cup: own<cup>)"
    )


@pytest.mark.parametrize("function", ['(param "cup" (own $c))', '(param "cups" (list (own $c)))', ""])
def test_functions_with_resources_of_what_is_missing_are_no_further_problems(engine: Engine, function: str) -> None:
    class Garden(Interface, name="test:cafe/garden"):
        @func
        def bury(cup: Own[Cup]) -> None: ...

    text = f"""(component
      (import "test:cafe/kitchen@0.2.1" (instance $kitchen (export "cup" (type (sub resource)))))
      (alias export $kitchen "cup" (type $cup))
      (import "test:cafe/garden" (instance (export "cup" (type $c (eq $cup))) (export "bury" (func {function})))))"""
    missing, *others = problems(engine, text, Garden)
    assert missing.startswith("test:cafe/kitchen@0.2.1 is missing; ")
    assert [": bury does not match: " in problem for problem in others] == ([] if function else [True])


def test_a_component_of_another_engine(engine: Engine) -> None:
    other = Engine(EngineConfig(max_instances=1, cache=False))
    with pytest.raises(ValueError, match="different engines"):
        Linker(other).instantiate_pre(Component(engine, "(component)"))


def test_an_interface_that_is_declared_wrongly(engine: Engine) -> None:
    class Wrong(Interface, name="test:v/wrong"):
        @func
        def f(x: int) -> None: ...

    with pytest.raises(TypeError, match="int has no width"):
        Linker(engine).define(Wrong)


# Exports


def exporting(engine: Engine, name: str = "test:v/i") -> Any:
    linker = Linker(engine)
    linker.define(provides("test:v/i", 5))
    return linker.instantiate_pre(Component(engine, calls(name)))


def test_an_export_of_another_version(engine: Engine) -> None:
    pre = exporting(engine)
    assert list(pre.export(Run)) == ["run"]
    assert list(pre.export(Run())) == ["run"]

    class Later(Run, name="test:run/run@0.3.0"):
        pass

    with pytest.raises(LinkError) as caught:
        pre.export(Later)
    assert caught.value.problems == ("the component does not export test:run/run@0.3.0; it exports test:run/run@0.2.3",)


def test_exports_that_do_not_match(engine: Engine) -> None:
    class Wider(Interface, name="test:run/run@0.2.0"):
        resources = (Cup,)

        @func
        def run() -> u64: ...

        @func
        def stop(when: u32) -> None: ...

    with pytest.raises(LinkError) as caught:
        exporting(engine).export(Wider)
    problems = sorted(caught.value.problems)
    exported = "test:run/run@0.2.3"
    assert f"{exported}: the resource cup is not exported" in problems
    assert f"{exported}: the function stop is not exported: func(when: u32)" in problems
    assert f"{exported}: run does not match: the component exports func() -> u32, expected func() -> u64" in problems


def test_a_component_that_exports_nothing(engine: Engine) -> None:
    pre = Linker(engine).instantiate_pre(Component(engine, "(component)"))
    with pytest.raises(LinkError, match=re.escape("does not export test:run/run@0.2.0; it exports nothing")):
        pre.export(Run)


def test_core_modules_that_do_not_fit(engine: Engine) -> None:
    """What only the engine knows shows when the component is instantiated."""
    text = """(component
      (core module $small (memory (export "memory") 1))
      (core module $large (import "s" "memory" (memory 2)))
      (core instance $s (instantiate $small))
      (core instance (instantiate $large (with "s" (instance $s)))))"""
    pre = Linker(engine).instantiate_pre(Component(engine, text))
    store = Store(engine)
    with pytest.raises(LinkError, match="the core modules do not fit: incompatible import type"):
        pre.instantiate(store)
    store.close()
