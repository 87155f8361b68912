"""Which argument fits which import, and which definition which declared type."""

from __future__ import annotations

import pytest

from wasi_http.component.decode.decoder import decode
from wasi_http.component.decode.definitions import InstanceType, TypeBound
from wasi_http.component.decode.subtyping import MAX_TYPE_WORK, TypeChecker, TypeFault
from wasi_http.component.model.errors import InvalidComponent
from wasi_http.component.model.types import FuncType, ListType, OwnType, Primitive, ResourceType, TupleType
from wasi_http.engine import wat_to_wasm


def child(wanted: str, given: str, before: str = "") -> str:
    """A component that instantiates one that imports "i" with the type ``wanted``, with an import of type ``given``."""
    return f"""(component {before}
      (component $c (import "i" {wanted.replace("$$", "$inner")}))
      (import "g" {given.replace("$$", "$given")})
      (instance (instantiate $c (with "i" {given.split()[0].replace("(core", "(core module")} $given)))))"""


FITS = {
    "function": ('(func $$ (param "a" (list u8)))', '(func $$ (param "a" (list u8)))'),
    "more exports": ('(instance $$ (export "a" (func)))', '(instance $$ (export "b" (func)) (export "a" (func)))'),
    "resource in an instance": (
        '(instance $$ (export "r" (type $r (sub resource))) (export "f" (func (param "r" (own $r)))))',
        '(instance $$ (export "r" (type $r (sub resource))) (export "f" (func (param "r" (own $r)))))',
    ),
    "one resource for two": (
        '(instance $$ (export "r" (type $r (sub resource))) (export "s" (type $s (sub resource)))'
        ' (export "f" (func (param "r" (own $r)) (param "s" (own $s)))))',
        '(instance $$ (export "r" (type $r (sub resource))) (export "s" (type $s (eq $r)))'
        ' (export "f" (func (param "r" (own $s)) (param "s" (own $r)))))',
    ),
    "resource in an instance in it": (
        '(instance $$ (export "i" (instance $i (export "r" (type (sub resource))))) (alias export $i "r" (type $r))'
        ' (export "f" (func (param "r" (borrow $r)))))',
        '(instance $$ (export "i" (instance $i (export "r" (type (sub resource))))) (alias export $i "r" (type $r))'
        ' (export "f" (func (param "r" (borrow $r)))))',
    ),
    "component with fewer imports and more exports": (
        '(component $$ (import "a" (func)) (import "b" (func)) (export "x" (func)))',
        '(component $$ (import "a" (func)) (export "x" (func)) (export "y" (func)))',
    ),
    "component with resources": (
        '(component $$ (import "r" (type $r (sub resource))) (export "s" (type $s (sub resource)))'
        ' (export "f" (func (param "r" (own $r)) (result (own $s)))))',
        '(component $$ (import "r" (type $r (sub resource))) (export "s" (type $s (sub resource)))'
        ' (export "f" (func (param "r" (own $r)) (result (own $s)))))',
    ),
    "module": (
        '(core module $$ (import "a" "b" (func)) (export "f" (func)))',
        '(core module $$ (export "f" (func)) (export "g" (func)))',
    ),
}

MISFITS = {
    "sort": ("(func $$)", "(instance $$)", '"i": expected func, found instance'),
    "parameter": (
        '(func $$ (param "a" u8))',
        '(func $$ (param "a" u16))',
        '"i": expected func(a: u8), found func(a: u16)',
    ),
    "name of a parameter": ('(func $$ (param "a" u8))', '(func $$ (param "b" u8))', "found func(b: u8)"),
    "missing export": ('(instance $$ (export "a" (func)))', "(instance $$)", '"i": missing the export "a"'),
    "function of an instance": (
        '(instance $$ (export "a" (func)))',
        '(instance $$ (export "a" (func (result u8))))',
        '"i": "a": expected func(), found func() -> u8',
    ),
    "two resources for one": (
        '(instance $$ (export "r" (type $r (sub resource))) (export "s" (type (eq $r))))',
        '(instance $$ (export "r" (type $r (sub resource))) (export "s" (type (sub resource))))',
        '"s": expected the resource type r, found another resource type, s',
    ),
    "list for a resource": (
        '(instance $$ (export "r" (type (sub resource))))',
        '(instance $$ (type $l (list u8)) (export "r" (type (eq $l))))',
        "expected resource, found type list<u8>",
    ),
    "component with more imports": (
        '(component $$ (import "a" (func)))',
        '(component $$ (import "a" (func)) (import "b" (func)))',
        'no argument for the import "b"',
    ),
    "component with fewer exports": (
        '(component $$ (export "x" (func)))',
        "(component $$)",
        'missing the export "x"',
    ),
    "module with fewer exports": (
        '(core module $$ (export "f" (func)))',
        "(core module $$)",
        'has no export "f" of the type expected',
    ),
    "module with more imports": ("(core module $$)", '(core module $$ (import "a" "b" (func)))', 'imports "a" "b"'),
}


@pytest.mark.parametrize(("wanted", "given"), FITS.values(), ids=list(FITS))
def test_what_fits(wanted: str, given: str) -> None:
    decode(wat_to_wasm(child(wanted, given)))


@pytest.mark.parametrize(("wanted", "given", "message"), MISFITS.values(), ids=list(MISFITS))
def test_what_does_not_fit(wanted: str, given: str, message: str) -> None:
    with pytest.raises(InvalidComponent) as caught:
        decode(wat_to_wasm(child(wanted, given)))
    assert message in caught.value.message


def test_a_missing_argument() -> None:
    text = '(component (component $c (import "i" (func))) (instance (instantiate $c)))'
    with pytest.raises(InvalidComponent, match='no argument for the import "i"'):
        decode(wat_to_wasm(text))


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ('(func (param "a" string))', None),
        ('(func (param "a" u8))', r"does not have its declared type: expected func\(a: u8\), found func\(a: string\)"),
    ],
)
def test_the_declared_type_of_an_export(declared: str, message: str | None) -> None:
    data = wat_to_wasm(f'(component (import "f" (func $f (param "a" string))) (export "g" (func $f) {declared}))')
    if message is None:
        decode(data)
    else:
        with pytest.raises(InvalidComponent, match=message):
            decode(data)


def test_substitution_shares_what_does_not_change() -> None:
    types = TypeChecker()
    a, b = ResourceType("a"), ResourceType("b")
    untouched = ListType(TupleType((Primitive.U8, Primitive.STRING)))
    handle = OwnType(a)
    result = types.substitute(TupleType((untouched, handle, handle)), {a: b})
    assert result == TupleType((untouched, OwnType(b), OwnType(b)))
    assert result.elements[0] is untouched
    assert result.elements[1] is result.elements[2]
    assert types.substitute(untouched, {a: b}) is untouched


def test_free_resources() -> None:
    types = TypeChecker()
    inner, outer = ResourceType("inner"), ResourceType("outer")
    function = FuncType((("a", OwnType(inner)), ("b", OwnType(outer))))
    assert types.free_resources(InstanceType({"r": TypeBound(inner), "f": function}, (inner,))) == {outer}
    opened = types.open(InstanceType({"r": TypeBound(inner), "f": function}, (inner,)), introduced := [])
    assert types.free_resources(opened) == {*introduced, outer}
    assert inner not in introduced


def test_the_account_of_the_work() -> None:
    types = TypeChecker()
    types.charge(MAX_TYPE_WORK)
    with pytest.raises(TypeFault, match="too complex"):
        types.charge(1)
