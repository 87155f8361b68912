from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wasi_http.component.decode import decoder, reader, subtyping
from wasi_http.component.decode.decoder import decode
from wasi_http.component.decode.definitions import (
    AliasCoreExport,
    AliasExport,
    AliasOuter,
    Attributes,
    CanonBuiltin,
    CanonOptions,
    Component,
    ComponentType,
    CoreExports,
    CoreExternType,
    CoreModule,
    CoreModuleType,
    CoreTypeDefinition,
    Export,
    Import,
    InlineExports,
    InstanceType,
    Instantiate,
    Lift,
    Lower,
    NestedComponent,
    Reference,
    ResourceDefinition,
    Sort,
    StringEncoding,
    TypeBound,
    TypeDefinition,
)
from wasi_http.component.model.errors import InvalidComponent, LinkError
from wasi_http.component.model.types import (
    BorrowType,
    Case,
    EnumType,
    Field,
    FlagsType,
    FuncType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    ValType,
    VariantType,
)
from wasi_http.engine import CoreType, wat_to_wasm

LIBC = """
  (core module $libc
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    (func (export "f"))
    (func (export "g") (result i32) unreachable)
    (func (export "drop") (param i32)))
  (core instance $c (instantiate $libc))
  (alias core export $c "memory" (core memory $m))
  (alias core export $c "realloc" (core func $realloc))
"""

STREAMS = """
  (import "wasi:io/streams@0.2.12" (instance $streams
    (export "input-stream" (type $in (sub resource)))
    (export "output-stream" (type $out (sub resource)))
    (type $error (variant (case "last-operation-failed" string) (case "closed")))
    (export "stream-error" (type $stream-error (eq $error)))
    (type $r (result (list u8) (error $stream-error)))
    (export "[method]input-stream.read" (func (param "self" (borrow $in)) (param "len" u64) (result $r)))))
  (alias export $streams "input-stream" (type $input-stream))
  (import "wasi:http/types@0.2.12" (instance $http
    (alias outer 1 $input-stream (type $outer))
    (export "input-stream" (type $is (eq $outer)))
    (export "body" (type $body (sub resource)))
    (export "[method]body.stream" (func (param "self" (borrow $body)) (result (own $is))))))
"""

COUNTER = f"""(component {LIBC}
  (type $counter (resource (rep i32) (dtor (core func $c "drop"))))
  (core func $new (canon resource.new $counter))
  (core func $rep (canon resource.rep $counter))
  (core func $drop (canon resource.drop $counter))
  (export $counter' "counter" (type $counter))
  (func $make (result (own $counter')) (canon lift (core func $c "g")))
  (export "[constructor]counter" (func $make)))"""

NESTED = f"""(component {STREAMS}
  (component $shim
    (import "stream" (type $s (sub resource)))
    (import "use" (func $use (param "s" (borrow $s))))
    (export $s' "stream" (type $s))
    (type $own (resource (rep i32)))
    (export "mine" (type $own))
    (export "use" (func $use) (func (param "s" (borrow $s')))))
  (import "use" (func $use (param "s" (borrow $input-stream))))
  (instance $a (instantiate $shim (with "stream" (type $input-stream)) (with "use" (func $use))))
  (instance $b (instantiate $shim (with "stream" (type $input-stream)) (with "use" (func $use))))
  (alias export $a "mine" (type $mine-a))
  (alias export $b "mine" (type $mine-b))
  (instance $bag (export "one" (type $mine-a)) (export "two" (type $mine-b)))
  (export "my:own/shim" (instance $a)))"""

EVERYTHING = f"""(component {LIBC} {STREAMS}
  (core type $mt (module (type (func (param i32))) (import "a" "f" (func (type 0))) (export "t" (table 1 funcref))))
  (core type $ft (func (param i64) (result f32 f64)))
  (core instance $inline (export "x" (func $realloc)) (export "y" (memory $m)))
  (alias core export $inline "x" (core func $x))
  (type $point (record (field "x" s32) (field "y" s32)))
  (component $inner
    (core module (func (export "run")))
    (alias outer 1 $point (type $p))
    (alias outer 1 $libc (core module $l))
    (core instance (instantiate $l))
    (import "log" (func (param "line" string)))
    (export "p" (type $p)))
  (import "log" (func $log (param "line" string)))
  (instance $i (instantiate $inner (with "log" (func $log))))
  (core func $lowered (canon lower (func $log) (memory $m) (realloc $realloc) string-encoding=utf16))
  (core func $dropped (canon resource.drop $input-stream))
  (func $run (result string)
    (canon lift (core func $c "g") (memory $m) (realloc $realloc) (post-return (core func $c "drop"))))
  (export "run" (func $run))
  (export "other:inner/inner@1.2.3-rc.1+5" (instance $i))
  (@custom "producers" "nobody"))"""

GOOD = {"counter": COUNTER, "nested": NESTED, "everything": EVERYTHING, "empty": "(component)"}
BINARIES = [wat_to_wasm(text) for text in GOOD.values()]


def decoded(text: str) -> Component:
    return decode(wat_to_wasm(text))


def only(component: Component, kind: type) -> list:  # type: ignore[type-arg]
    return [definition for definition in component.definitions if type(definition) is kind]


# Hand-made binaries.

HEADER = b"\0asm\x0d\0\1\0"
CORE = b"\0asm\1\0\0\0"


def leb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def sleb(value: int) -> bytes:
    """A value that is not negative, signed: as type indices are written."""
    out = bytearray()
    while value > 0x3F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def section(code: int, *items: bytes) -> bytes:
    body = leb(len(items)) + b"".join(items)
    return bytes([code]) + leb(len(body)) + body


def raw(code: int, body: bytes) -> bytes:
    return bytes([code]) + leb(len(body)) + body


def name(text: str) -> bytes:
    return leb(len(text.encode())) + text.encode()


def refused(data: bytes) -> InvalidComponent:
    with pytest.raises(InvalidComponent) as caught:
        decode(data)
    assert 0 <= caught.value.offset <= len(data)
    assert str(caught.value.offset) in str(caught.value)
    return caught.value


def check_refusal(data: bytes) -> None:
    """If the data is refused, then with an offset in it, and with no other exception."""
    offset = 0
    try:
        decode(data)
    except InvalidComponent as error:
        offset = error.offset
    assert 0 <= offset <= len(data)


class TestDefinitions:
    def test_every_kind_comes_in_order_with_its_place_in_its_index_space(self) -> None:
        component = decoded(EVERYTHING)
        places: dict[Sort, int] = {}
        for definition in component.definitions:
            assert definition.index == places.get(definition.sort, 0)
            places[definition.sort] = definition.index + 1
        offsets = [definition.offset for definition in component.definitions]
        assert offsets == sorted(offsets)
        assert {type(definition).__name__ for definition in component.definitions} == {
            *("AliasCoreExport", "AliasExport", "CoreExports", "CoreInstantiate", "CoreModule", "CoreTypeDefinition"),
            *("CanonBuiltin", "Export", "Import", "Instantiate", "Lift", "Lower", "NestedComponent", "TypeDefinition"),
        }

    def test_core_modules_are_views_of_the_input(self) -> None:
        data = wat_to_wasm(EVERYTHING)
        component = decode(data)
        (module,) = only(component, CoreModule)
        assert module.code.obj is data
        assert bytes(module.code) == data[module.offset : module.end]
        assert bytes(module.code).startswith(CORE)
        (inner,) = only(component, NestedComponent)
        (module,) = only(inner.component, CoreModule)
        assert bytes(module.code) == data[module.offset : module.end]

    def test_a_view_may_be_decoded_as_well_as_bytes(self) -> None:
        data = wat_to_wasm(EVERYTHING)
        assert len(decode(memoryview(data)).definitions) == len(decode(data).definitions)

    def test_core_instances_and_their_aliases(self) -> None:
        component = decoded(EVERYTHING)
        (inline,) = only(component, CoreExports)
        assert inline.exports == (Reference("x", Sort.CORE_FUNC, 0), Reference("y", Sort.CORE_MEMORY, 0))
        aliases = [(a.sort, a.index, a.instance, a.name) for a in only(component, AliasCoreExport)]
        assert aliases[:3] == [
            (Sort.CORE_MEMORY, 0, 0, "memory"),
            (Sort.CORE_FUNC, 0, 0, "realloc"),
            (Sort.CORE_FUNC, 1, 1, "x"),
        ]

    def test_core_types(self) -> None:
        module, function = (definition.type for definition in only(decoded(EVERYTHING), CoreTypeDefinition))
        assert isinstance(module, CoreModuleType)
        assert module.imports == {("a", "f"): CoreExternType(Sort.CORE_FUNC, CoreType(("i32",), ()))}
        assert module.exports == {"t": CoreExternType(Sort.CORE_TABLE, None, ("funcref", 1, None))}
        assert function == CoreType(("i64",), ("f32", "f64"))

    def test_lift_and_lower_have_their_options_and_types(self) -> None:
        component = decoded(EVERYTHING)
        (lower,) = only(component, Lower)
        assert (lower.function, lower.options) == (0, CanonOptions(StringEncoding.UTF16, memory=0, realloc=0))
        assert lower.type == FuncType((("line", Primitive.STRING),))
        (lift,) = only(component, Lift)
        names = {a.index: a.name for a in only(component, AliasCoreExport) if a.sort is Sort.CORE_FUNC}
        assert names[lift.function] == "g"
        assert lift.options.string_encoding is StringEncoding.UTF8
        assert (lift.options.memory, names[lift.options.realloc]) == (0, "realloc")
        assert names[lift.options.post_return] == "drop"
        assert lift.type == FuncType((), Primitive.STRING)

    def test_outer_aliases_are_resolved(self) -> None:
        component = decoded(EVERYTHING)
        inner = only(component, NestedComponent)[0].component
        point = RecordType((Field("x", Primitive.S32), Field("y", Primitive.S32)))
        outer = {alias.sort: alias for alias in only(inner, AliasOuter)}
        assert (outer[Sort.TYPE].levels, outer[Sort.TYPE].type) == (1, point)
        assert outer[Sort.CORE_MODULE].target == 0
        (instance,) = only(component, Instantiate)
        assert instance.type.exports == {"p": TypeBound(point)}

    def test_imports_and_exports_with_their_types(self) -> None:
        component = decoded(EVERYTHING)
        assert list(component.type.imports) == ["wasi:io/streams@0.2.12", "wasi:http/types@0.2.12", "log"]
        assert [definition.name for definition in only(component, Import)] == list(component.type.imports)
        assert list(component.type.exports) == ["run", "other:inner/inner@1.2.3-rc.1+5"]
        assert [(e.name, e.sort, e.target) for e in only(component, Export)] == [
            ("run", Sort.FUNC, 1),
            ("other:inner/inner@1.2.3-rc.1+5", Sort.INSTANCE, 2),
        ]
        assert component.type.exports["run"] == FuncType((), Primitive.STRING)

    def test_attributes_of_names_are_kept(self) -> None:
        text = (
            """(component (import "a" (implements "w:kv/store") (external-id "users") (instance)))""",
            """(component (import "a:b/c@0.2" (versionsuffix ".12") (instance)))""",
        )
        expected = Attributes("w:kv/store", None, "users"), Attributes(None, ".12", None)
        found = tuple(definition.attributes for t in text for definition in only(decoded(t), Import))
        assert found == expected


class TestResources:
    def test_imported_resources_have_one_identity_in_all_their_uses(self) -> None:
        component = decoded(f"(component {STREAMS})")
        streams, http = component.type.imports.values()
        assert isinstance(streams, InstanceType)
        assert isinstance(http, InstanceType)
        assert streams.abstract == ()
        stream = streams.resources["input-stream"]
        assert stream is not streams.resources["output-stream"]
        assert str(stream) == "input-stream"
        assert http.resources["input-stream"] is stream
        (alias,) = only(component, AliasExport)
        assert alias.type == TypeBound(stream)
        error = VariantType((Case("last-operation-failed", Primitive.STRING), Case("closed")))
        assert streams.exports["stream-error"] == TypeBound(error)
        assert streams.functions == {
            "[method]input-stream.read": FuncType(
                (("self", BorrowType(stream)), ("len", Primitive.U64)), ResultType(ListType(Primitive.U8), error)
            )
        }
        body = http.resources["body"]
        assert http.functions["[method]body.stream"] == FuncType((("self", BorrowType(body)),), OwnType(stream))
        assert set(component.type.imported) == {*streams.resources.values(), body}

    def test_two_imports_of_one_instance_type_introduce_different_resources(self) -> None:
        component = decoded(
            """(component (type $i (instance (export "r" (type $r (sub resource)))
                 (export "f" (func (param "r" (borrow $r))))))
               (import "a" (instance (type $i))) (import "b" (instance (type $i))))"""
        )
        a, b = component.type.imports.values()
        assert isinstance(a, InstanceType)
        assert isinstance(b, InstanceType)
        assert a.resources["r"] is not b.resources["r"]
        assert a.functions["f"] != b.functions["f"]
        (definition,) = only(component, TypeDefinition)
        assert a.resources["r"] not in definition.type.abstract

    def test_local_resources(self) -> None:
        component = decoded(COUNTER)
        (definition,) = only(component, ResourceDefinition)
        counter = definition.type
        assert str(counter) == "counter"
        assert definition.destructor is not None
        builtins = only(component, CanonBuiltin)
        assert {builtin.builtin.name for builtin in builtins} == {"resource.new", "resource.rep", "resource.drop"}
        for builtin in builtins:
            assert builtin.resource is counter
            assert builtin.sort is Sort.CORE_FUNC
        assert component.type.exports["counter"] == TypeBound(counter)
        assert component.type.exports["[constructor]counter"] == FuncType((), OwnType(counter))
        assert component.type.generated == (counter,)

    def test_instances_of_components_have_resources_of_their_own(self) -> None:
        component = decoded(NESTED)
        streams = component.type.imports["wasi:io/streams@0.2.12"]
        assert isinstance(streams, InstanceType)
        stream = streams.resources["input-stream"]
        inner = only(component, NestedComponent)[0].component
        ((imported,), (mine,)) = inner.type.imported, inner.type.generated
        a, b = only(component, Instantiate)
        (alias,) = (a for a in only(component, AliasExport) if a.name == "input-stream")
        assert a.args == (Reference("stream", Sort.TYPE, alias.index), Reference("use", Sort.FUNC, 0))
        assert a.resources[imported] is b.resources[imported] is stream
        assert a.resources[mine] is not b.resources[mine]
        assert a.type.exports["mine"] == TypeBound(a.resources[mine])
        assert a.type.exports["stream"] == TypeBound(stream)
        assert a.type.exports["use"] == FuncType((("s", BorrowType(stream)),))
        (bag,) = only(component, InlineExports)
        assert [(export.name, export.sort) for export in bag.exports] == [("one", Sort.TYPE), ("two", Sort.TYPE)]
        assert bag.type.resources == {"one": a.resources[mine], "two": b.resources[mine]}
        assert component.type.exports["my:own/shim"] is a.type

    def test_a_declared_type_may_hide_which_resource_is_exported(self) -> None:
        component = decoded(
            """(component (type $r (resource (rep i32)))
               (export "r1" (type $r)) (export "r2" (type $r)) (export "r3" (type $r) (type (sub resource))))"""
        )
        r1, r2, r3 = (bound.type for bound in component.type.exports.values() if isinstance(bound, TypeBound))
        assert r1 is r2
        assert r1 is not r3
        assert [dict(export.resources) for export in only(component, Export)] == [{}, {}, {r3: r1}]

    def test_component_types_have_resources_of_both_sides(self) -> None:
        component = decoded(
            """(component (import "c" (component $C
                 (import "fs" (instance $fs (export "file" (type (sub resource)))))
                 (alias export $fs "file" (type $file))
                 (export "out" (type (sub resource)))
                 (export "process" (func (param "file" (borrow $file)))))))"""
        )
        type_ = component.type.imports["c"]
        assert isinstance(type_, ComponentType)
        (file,), (out,) = type_.imported, type_.generated
        assert type_.exports == {"out": TypeBound(out), "process": FuncType((("file", BorrowType(file)),))}


U8 = Primitive.U8
FLAGS = " ".join(f'"f{i}"' for i in range(32))
VALUE_TYPES: list[tuple[str, ValType]] = [
    *((primitive.value, primitive) for primitive in Primitive),
    ("(list u8)", ListType(U8)),
    ("(list (list string))", ListType(ListType(Primitive.STRING))),
    ('(record (field "a" u8) (field "b-c" string))', RecordType((Field("a", U8), Field("b-c", Primitive.STRING)))),
    ("(tuple u8 f64)", TupleType((U8, Primitive.F64))),
    ('(variant (case "a") (case "B2" u8))', VariantType((Case("a"), Case("B2", U8)))),
    ('(enum "a" "b")', EnumType(("a", "b"))),
    ('(flags "read" "write")', FlagsType(("read", "write"))),
    (f"(flags {FLAGS})", FlagsType(tuple(f"f{i}" for i in range(32)))),
    ("(option (option u8))", OptionType(OptionType(U8))),
    ("(result)", ResultType(None, None)),
    ("(result u8)", ResultType(U8, None)),
    ("(result (error string))", ResultType(None, Primitive.STRING)),
    ("(result u8 (error string))", ResultType(U8, Primitive.STRING)),
]


@pytest.mark.parametrize(("text", "expected"), VALUE_TYPES, ids=[text[:40] for text, _ in VALUE_TYPES])
def test_value_types(text: str, expected: ValType) -> None:
    assert only(decoded(f"(component (type {text}))"), TypeDefinition)[-1].type == expected


def test_handles_and_function_types() -> None:
    component = decoded(
        """(component (import "r" (type $r (sub resource))) (type (own $r)) (type (borrow $r))
             (type (func)) (type (func async (param "a" (own $r)) (param "b" string) (result (option (own $r))))))"""
    )
    (resource,) = component.type.imported
    types = [definition.type for definition in only(component, TypeDefinition)]
    assert types[:3] == [OwnType(resource), BorrowType(resource), FuncType(())]
    params = (("a", OwnType(resource)), ("b", Primitive.STRING))
    assert types[-1] == FuncType(params, OptionType(OwnType(resource)), is_async=True)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("", StringEncoding.UTF8),
        ("string-encoding=utf8", StringEncoding.UTF8),
        ("string-encoding=utf16", StringEncoding.UTF16),
        ("string-encoding=latin1+utf16", StringEncoding.LATIN1_UTF16),
    ],
)
def test_string_encodings(text: str, encoding: StringEncoding) -> None:
    component = decoded(f'(component (import "f" (func $f)) (core func (canon lower (func $f) {text})))')
    assert only(component, Lower)[0].options == CanonOptions(encoding)


@pytest.mark.parametrize("text", GOOD.values(), ids=list(GOOD))
def test_good_components_are_accepted(text: str) -> None:
    decoded(text)


CHAIN = b"\x42\1\4\0" + name("r") + b"\3\1"  # instance type with one resource

MALFORMED = [
    ("nothing", b"", "is empty", 0),
    ("short magic", b"\0as", "ends within its header", 3),
    ("short header", HEADER[:7], "ends within its header", 7),
    ("text", b"(component)", "is not WebAssembly", 0),
    ("core module", CORE, "this is a core module, not a component: .*wasm-tools component new", 4),
    ("old version", b"\0asm\x0c\0\1\0", "unknown version 12 and layer 1", 4),
    ("other layer", b"\0asm\x0d\0\2\0", "unknown version 13 and layer 2", 4),
    ("unknown section", HEADER + b"\x0d\0", "unknown section 0x0d", 8),
    ("no section size", HEADER + b"\7", "unexpected end in the size of the type section", 9),
    ("long section", HEADER + b"\7\5\0", "the type section has 5 bytes, and only 1 are left", 8),
    ("rest in section", HEADER + raw(7, b"\0\0"), "1 bytes too many", 11),
    ("start section", HEADER + raw(9, b"\0\0\0"), "a start section is not supported", 8),
    ("value section", HEADER + raw(12, b"\0"), "a value section is not supported", 8),
    ("custom without name", HEADER + raw(0, b""), "the name of a custom section", 10),
    ("custom name", HEADER + raw(0, b"\2\xff\xff"), "not UTF-8", 11),
    ("core header", HEADER + raw(1, HEADER), "the core module does not start", 10),
    ("core header cut", HEADER + raw(1, CORE[:7]), "the core module does not start", 10),
    ("nested core", HEADER + raw(4, CORE), "this is a core module", 14),
    ("nested end", HEADER + raw(4, HEADER + b"\7"), "unexpected end", 19),
    (
        "count beyond input",
        HEADER + raw(7, b"\xff\xff\xff\xff\x0f"),
        "4294967295 types cannot fit into the 0 bytes",
        10,
    ),
    ("overlong number", HEADER + raw(7, b"\x80\x80\x80\x80\x80\0"), "more than 5 bytes", 10),
    ("number too large", HEADER + raw(7, b"\xff\xff\xff\xff\x1f"), "does not fit into 32 bits", 10),
    ("number cut", HEADER + raw(7, b"\x80"), "unexpected end in the number of types", 11),
    ("unknown type", HEADER + section(7, b"\x30"), "0x30 is not a type", 11),
    ("stream", HEADER + section(7, b"\x66\0"), "the type stream is not supported yet", 11),
    ("list of error-context", HEADER + section(7, b"\x70\x64"), "the type error-context is not supported yet", 12),
    ("negative index", HEADER + section(7, b"\x70\x41"), "neither primitive nor the index of a type", 12),
    ("negative long", HEADER + section(7, b"\x70\xff\xff\xff\xff\x6f"), "does not fit into 33 bits", 12),
    ("overlong primitive", HEADER + section(7, b"\x70\xfd\x7f"), "neither primitive nor the index", 12),
    ("type index", HEADER + section(7, b"\x70\0"), "type index 0 is out of range: 0 are", 12),
    ("own type", HEADER + section(7, b"\x70\x7d", b"\x70\2"), "type index 2 is out of range: 1 are", 14),
    ("function as value", HEADER + section(7, b"\x40\0\1\0", b"\x70\0"), "type 0 is not a value type", 16),
    ("own of a list", HEADER + section(7, b"\x70\x7d", b"\x69\0"), "a handle needs a resource type", 14),
    ("empty record", HEADER + section(7, b"\x72\0"), "a record cannot be empty", 11),
    ("empty variant", HEADER + section(7, b"\x71\0"), "a variant cannot be empty", 11),
    ("empty tuple", HEADER + section(7, b"\x6f\0"), "a tuple cannot be empty", 11),
    ("empty flags", HEADER + section(7, b"\x6e\0"), "a flags type cannot be empty", 11),
    ("empty enum", HEADER + section(7, b"\x6d\0"), "an enum cannot be empty", 11),
    ("33 flags", HEADER + section(7, b"\x6e\x21" + b"".join(name(f"f{i}") for i in range(33))), "33 flags", 11),
    ("label", HEADER + section(7, b"\x6d\1" + name("aB")), "the label name 'aB' is not in kebab case", 13),
    ("empty label", HEADER + section(7, b"\x6d\1\0"), "the label name '' is not in kebab case", 13),
    ("label twice", HEADER + section(7, b"\x6d\2" + name("a") + name("A")), 'the label name "A" is taken', 15),
    ("label beyond", HEADER + section(7, b"\x6d\1\x7fa"), "the length of .* is 127, and only 1 bytes are left", 13),
    ("end of a case", HEADER + section(7, b"\x71\1" + name("a") + b"\0\1"), "the end of a case must be 0", 16),
    ("optional type", HEADER + section(7, b"\x6a\2\0"), "the presence of a type must be 0 or 1, not 0x02", 12),
    ("function result", HEADER + section(7, b"\x40\0\2"), "0x02 is not a kind of function result", 13),
    ("named results", HEADER + section(7, b"\x40\0\1\1"), "the number of named results must be 0", 14),
    ("resource as i64", HEADER + section(7, b"\x3f\x7e\0"), "only be represented by an i32", 12),
    ("destructor", HEADER + section(7, b"\x3f\x7f\1\0"), "core func index 0 is out of range", 14),
    ("resource in a type", HEADER + section(7, b"\x42\1\1\x3f\x7f\0"), "cannot be defined in an instance type", 14),
    ("import in instance type", HEADER + section(7, b"\x42\1\3\0"), "0x03 is not a declaration of an instance", 13),
    ("core type", HEADER + section(3, b"\x5f\0"), "0x5f is not a core function or module type", 11),
    ("core value type", HEADER + section(3, b"\x60\1\x71\0"), "0x71 is not a core value type", 13),
    ("module in module type", HEADER + section(3, b"\x50\1\1\x50\0"), "within a core module type", 13),
    ("core type index", HEADER + section(3, b"\x50\1\3\1a\0\0"), "core type index 0 is out of range", 17),
    ("core limits", HEADER + section(3, b"\x50\1\3\1a\2\1\2\1"), "a maximum is less than its minimum", 17),
    ("core memory", HEADER + section(3, b"\x50\1\3\1a\2\0\x81\x80\4"), "65536 pages at most", 16),
    ("core alias levels", HEADER + section(3, b"\x50\1\2\x10\1\2\0"), "reaches out 2 levels of 1", 14),
    ("core instance of nothing", HEADER + section(2, b"\0\0\0"), "core module index 0 is out of range: 0 are", 12),
    ("core instance kind", HEADER + section(2, b"\2"), "not a way to make a core instance", 11),
    ("core argument", HEADER + raw(1, CORE) + section(2, b"\0\0\1\1a\0\0"), 'argument "a" is not a core instance', 26),
    ("core inline export", HEADER + section(2, b"\1\1\1a\x11\0"), 'core export "a" is not a function', 15),
    (
        "core export twice",
        HEADER + raw(1, CORE) + section(2, b"\0\0\0") + section(6, b"\0\0\1\0\1f") + section(2, b"\1\2\1a\0\0\1a\0\0"),
        'two exports are called "a"',
        36,
    ),
    ("core alias of inline", HEADER + section(2, b"\1\0") + section(6, b"\0\0\1\0\1f"), 'no core func "f"', 20),
    ("alias kind", HEADER + section(6, b"\1\3"), "0x03 is not a kind of alias", 11),
    ("alias of a value", HEADER + section(6, b"\2\0\0\0"), "values .* are not supported", 11),
    ("sort", HEADER + section(6, b"\6\0\0\0"), "0x06 is not a sort", 11),
    ("core sort", HEADER + section(6, b"\0\5\0\0\0"), "0x05 is not a core sort", 11),
    ("alias of nothing", HEADER + section(6, b"\1\0\0\1f"), "instance index 0 is out of range", 13),
    (
        "alias of no export",
        HEADER + section(5, b"\1\0") + section(6, b"\1\0\0\1f"),
        'no func "f" among its exports',
        19,
    ),
    ("alias levels", HEADER + section(6, b"\3\2\1\0"), "reaches out 1 levels of 0", 11),
    ("alias of outer function", HEADER + section(6, b"\1\2\0\0"), "an outer alias cannot be a func", 11),
    ("outer index", HEADER + section(6, b"\3\2\0\0"), "outer type index 0 is out of range", 14),
    ("lift of nothing", HEADER + section(8, b"\0\0\0\0\0"), "core func index 0 is out of range", 13),
    ("lift sort", HEADER + section(8, b"\0\1\0\0\0"), "the sort of a lifted function must be 0", 12),
    ("canon", HEADER + section(8, b"\x3f"), "0x3f is not a canonical function", 11),
    ("task.return", HEADER + section(8, b"\x09\1\0\0"), "task.return is not supported yet", 11),
    ("waitable-set.new", HEADER + section(8, b"\x1f"), "waitable-set.new is not supported yet", 11),
    ("import name form", HEADER + section(10, b"\3\1a\1\0"), "0x03 is not a form of the name", 11),
    ("import name", HEADER + section(10, b"\0" + name("aB") + b"\1\0"), "the import name 'aB' is neither", 11),
    ("import type", HEADER + section(10, b"\0\1a\1\0"), "type index 0 is out of range", 15),
    ("import kind", HEADER + section(10, b"\0\1a\6\0"), "0x06 is not a kind of import", 14),
    ("import core function", HEADER + section(10, b"\0\1a\0\0\0"), "only modules can be imported", 14),
    ("import value", HEADER + section(10, b"\0\1a\2\1\x7f"), "values .* are not supported", 14),
    (
        "import list as func",
        HEADER + section(7, b"\x70\x7d") + section(10, b"\0\1a\1\0"),
        "type 0 is not a function",
        20,
    ),
    ("type bound", HEADER + section(10, b"\0\1a\3\2"), "the bound of a type must be 0 or 1", 15),
    ("import twice", HEADER + section(7, CHAIN) + section(10, b"\0\1a\5\0", b"\0\1A\5\0"), '"A" is taken', 27),
    (
        "attribute",
        HEADER + section(7, CHAIN) + section(10, b"\2\1a\1\0\1b\5\0"),
        "'b' is not the name of an interf",
        26,
    ),
    ("export of core function", HEADER + section(11, b"\0\1a\0\0\0\0"), 'export "a" is a core func: only', 14),
    ("export of nothing", HEADER + section(11, b"\0\1a\1\0\0"), "func index 0 is out of range: 0 are", 15),
    ("instance of nothing", HEADER + section(5, b"\0\0\0"), "component index 0 is out of range", 12),
    ("instance kind", HEADER + section(5, b"\2"), "not a way to make an instance", 11),
]


@pytest.mark.parametrize(("data", "message", "offset"), [case[1:] for case in MALFORMED], ids=[c[0] for c in MALFORMED])
def test_malformed_input_is_refused_with_the_offset(data: bytes, message: str, offset: int) -> None:
    with pytest.raises(InvalidComponent, match=message) as caught:
        decode(data)
    assert caught.value.offset == offset


F = '(import "f" (func $f %s))'
BIG = " ".join(f'(param "p{i}" u32)' for i in range(17))
INVALID = [
    # Canonical options.
    (
        "lower without memory",
        F % '(param "a" string)' + "(core func (canon lower (func $f)))",
        "lower .* needs the option memory",
    ),
    ("lower of many", F % BIG + "(core func (canon lower (func $f)))", "needs the option memory"),
    (
        "lower of results",
        F % "(result (tuple u8 u8))" + "(core func (canon lower (func $f)))",
        "needs the option memory",
    ),
    (
        "lower without realloc",
        LIBC + F % "(result string)" + "(core func (canon lower (func $f) (memory $m)))",
        "lower .* needs the option realloc",
    ),
    (
        "lift without realloc",
        LIBC + '(func (param "a" string) (canon lift (core func $c "f") (memory $m)))',
        "lift .* needs the option realloc",
    ),
    ("lift of many", LIBC + f'(func {BIG} (canon lift (core func $c "f") (memory $m)))', "needs the option realloc"),
    ("lift without memory", LIBC + '(func (result string) (canon lift (core func $c "g")))', "needs the option memory"),
    (
        "realloc without memory",
        LIBC + F % "" + "(core func (canon lower (func $f) (realloc $realloc)))",
        "realloc needs the option memory",
    ),
    (
        "memory twice",
        LIBC + F % "" + "(core func (canon lower (func $f) (memory $m) (memory $m)))",
        "memory is there twice",
    ),
    (
        "encoding twice",
        F % "" + "(core func (canon lower (func $f) string-encoding=utf8 string-encoding=utf8))",
        "string-encoding is there twice",
    ),
    (
        "post-return of lower",
        LIBC + F % "" + '(core func (canon lower (func $f) (post-return (core func $c "f"))))',
        "only for lifted functions",
    ),
    ("async", LIBC + '(func (canon lift (core func $c "f") async))', "the option async .* is not supported yet"),
    ("memory index", F % "" + "(core func (canon lower (func $f) (memory 3)))", "core memory index 3 is out of range"),
    (
        "lift to a list",
        LIBC + '(type $t (list u8)) (func (type $t) (canon lift (core func $c "f")))',
        "not a function type",
    ),
    # Resources.
    (
        "resource.new of an import",
        '(import "r" (type $r (sub resource))) (core func (canon resource.new $r))',
        "the resource type r is not one that this component defines",
    ),
    (
        "resource.rep of a list",
        "(type $l (list u8)) (core func (canon resource.rep $l))",
        "a handle needs a resource type",
    ),
    (
        "borrow in a result",
        '(import "r" (type $r (sub resource))) (type (func (result (option (borrow $r)))))',
        "the result of a function has a borrow",
    ),
    (
        "resource out of its component",
        "(type $r (resource (rep i32))) (component (alias outer 1 $r (type)))",
        "depends on a resource type",
    ),
    (
        "handle out of its component",
        "(type $r (resource (rep i32))) (type $o (own $r)) (component (alias outer 1 $o (type)))",
        "depends on a resource type",
    ),
    (
        "hidden resource",
        LIBC + '(type $r (resource (rep i32))) (func $g (result (own $r)) (canon lift (core func $c "g")))'
        '(export "g" (func $g))',
        'the type of "g" needs a resource type that cannot be seen',
    ),
    (
        "import with a local resource",
        '(type $r (resource (rep i32))) (import "f" (func (param "r" (own $r))))',
        'the type of "f" needs a resource type that cannot be seen',
    ),
    (
        "import with an exported resource",
        '(type (component (export "r" (type $r (sub resource)))(import "f" (func (result (own $r))))))',
        "depends on a resource type that is exported",
    ),
    # Names.
    ("method of nothing", '(import "[method]r.f" (func))', 'there is no resource type "r" before it'),
    (
        "method of another",
        '(import "r" (type (sub resource))) (import "s" (type $s (sub resource)))'
        '(import "[method]r.f" (func (param "self" (borrow $s))))',
        "is not self: borrow<r>",
    ),
    (
        "method without self",
        '(import "r" (type $r (sub resource))) (import "[method]r.f" (func (param "x" (borrow $r))))',
        "is not self: borrow<r>",
    ),
    (
        "constructor of nothing",
        '(import "r" (type (sub resource))) (import "[constructor]r" (func))',
        "does not return own<r>",
    ),
    ("static instance", '(import "r" (type (sub resource))) (import "[static]r.f" (instance))', "is not a function"),
    (
        "names alike",
        '(import "r" (type $r (sub resource))) (import "[method]r.r" (func (param "self" (borrow $r))))',
        'the name "\\[method\\]r.r" is taken: there is "r" already',
    ),
    ("exports alike", '(type $u u8) (export "a-b" (type $u)) (export "A-B" (type $u))', '"A-B" is taken'),
    ("inline exports alike", '(type $u u8) (instance (export "a" (type $u)) (export "a" (type $u)))', '"a" is taken'),
    ("version", '(import "a:b/c@1.x.0" (func))', "neither a plain name"),
    ("implements a function", '(import "a" (implements "b:c/d") (func))', "is not an instance"),
    # Core definitions.
    (
        "module argument",
        '(core type $t (module (import "a" "f" (func)))) (import "m" (core module $m (type $t)))'
        "(core instance (instantiate $m))",
        'imports "a", and there is no such argument',
    ),
    (
        "module argument's export",
        '(core type $t (module (import "a" "f" (func)))) (import "m" (core module $m (type $t)))'
        '(core instance $a) (core instance (instantiate $m (with "a" (instance $a))))',
        'has no core func "f"',
    ),
    (
        "module export",
        '(core type $t (module)) (import "m" (core module $m (type $t)))'
        '(core instance $i (instantiate $m)) (alias core export $i "x" (core func))',
        'no core func "x" among its exports',
    ),
    (
        "module imports alike",
        '(core type (module (import "a" "b" (func)) (import "a" "b" (func))))',
        'imports "a" "b" twice',
    ),
    ("module exports alike", '(core type (module (export "b" (func)) (export "b" (func))))', 'exports "b" twice'),
]


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in INVALID], ids=[case[0] for case in INVALID])
def test_invalid_components_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidComponent, match=message):
        decoded(f"(component {text})")


class TestLimits:
    def test_items(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "MAX_ITEMS", 100)
        decode(HEADER + section(7, *[b"\x7d"] * 50) * 2)
        assert "more than 100 items; these are 51 types" in refused(HEADER + section(7, *[b"\x7d"] * 51) * 2).message

    def test_length_of_names(self) -> None:
        longest = "a" * reader.MAX_NAME_LENGTH
        decode(HEADER + section(7, b"\x6d\1" + name(longest)))
        assert f"more than {len(longest)}" in refused(HEADER + section(7, b"\x6d\1" + name(longest + "a"))).message

    @pytest.mark.parametrize("kind", [0x41, 0x42])
    def test_nesting_of_types(self, kind: int) -> None:
        def nested(levels: int) -> bytes:
            type_ = bytes([kind, 0])
            for _ in range(levels - 1):
                type_ = bytes([kind, 1, 1]) + type_
            return HEADER + section(7, type_)

        decode(nested(decoder.MAX_NESTING - 1))
        for levels in (decoder.MAX_NESTING, 10_000):
            assert "nested more than" in refused(nested(levels)).message

    def test_nesting_of_components(self) -> None:
        def nested(levels: int) -> bytes:
            component = HEADER
            for _ in range(levels - 1):
                component = HEADER + raw(4, component)
            return component

        decode(nested(decoder.MAX_NESTING))
        for levels in (decoder.MAX_NESTING + 1, 1_000):
            assert "nested more than" in refused(nested(levels)).message

    def test_depth_of_types(self) -> None:
        lists = [b"\x70\x7d", *(b"\x70" + sleb(i) for i in range(subtyping.MAX_TYPE_DEPTH))]
        decode(HEADER + section(7, *lists[: subtyping.MAX_TYPE_DEPTH - 1]))
        assert "levels deep" in refused(HEADER + section(7, *lists)).message

    def test_depth_of_instance_types(self) -> None:
        types = [b"\x42\0"]
        for i in range(1000):
            types.append(b"\x42\2\2\3\2\1" + leb(i) + b"\4\0\1x\5\0")
        assert "levels deep" in refused(HEADER + section(7, *types)).message

    def test_types_that_explode_when_written_out(self) -> None:
        pairs = [b"\x6f\2\x7d\x7d", *(b"\x6f\2" + sleb(i) * 2 for i in range(60))]
        assert "parts" in refused(HEADER + section(7, *pairs)).message

    def test_work_on_types(self) -> None:
        """Few bytes for each import, and much to do: a copy of all types for its own resources."""
        many = leb(2001) + CHAIN[2:] + b"".join(b"\4\0" + name(f"r{i}") + b"\3\0\0" for i in range(2000))
        imports = section(10, *(b"\0" + name(f"i{i}") + b"\5\0" for i in range(50_000)))
        start = time.process_time()
        assert "too complex" in refused(HEADER + section(7, b"\x42" + many) + imports).message
        assert time.process_time() - start < 30

    def test_names_that_are_many(self) -> None:
        """The search for duplicates takes time in proportion to the names."""
        names = b"".join(name(f"a{i}") + b"\x12\0" for i in range(50_000))
        data = HEADER + raw(1, CORE) + section(2, b"\1\0") + raw(2, b"\1\0\0" + leb(50_001) + names + b"\1a\x12\0")
        start = time.process_time()
        decode(data)
        assert time.process_time() - start < 10


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(BINARIES), st.data())
def test_a_cut_component_is_refused_or_a_component(good: bytes, data: st.DataObject) -> None:
    cut = good[: data.draw(st.integers(0, len(good) - 1))]
    check_refusal(cut)


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(BINARIES), st.data())
def test_a_damaged_component_is_refused_or_a_component(good: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(8, max(8, len(good) - 1)))
        damaged[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    check_refusal(bytes(damaged))


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([0, 2, 3, 5, 6, 7, 8, 10, 11]), st.binary(max_size=40))
def test_any_section_is_refused_or_a_component(code: int, body: bytes) -> None:
    check_refusal(HEADER + raw(code, body))


def test_large_modules_are_not_looked_at() -> None:
    module = CORE + raw(0, name("x") + bytes(1_500_000))
    aliases = section(6, *[b"\0\0\1\0\1f"] * 3000)
    data = HEADER + raw(1, module) * 12 + section(2, b"\0\0\0") + aliases
    start = time.process_time()
    component = decode(data)
    assert time.process_time() - start < 1  # a fiftieth of it is usual
    assert len(component.definitions) == 12 + 1 + 3000


def test_errors() -> None:
    error = InvalidComponent("wrong", 28)
    assert (str(error), error.message, error.offset) == ("wrong (at offset 28, 0x1c)", "wrong", 28)
    assert isinstance(error, ValueError)
    assert str(LinkError(["one", "two"])) == "one\ntwo"
    assert LinkError(iter(["one"])).problems == ("one",)


def test_resource_types_are_compared_by_identity() -> None:
    assert OwnType(ResourceType("a")) != OwnType(ResourceType("a"))
