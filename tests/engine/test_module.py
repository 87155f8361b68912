from __future__ import annotations

import pytest

from wasi_http.engine import CoreType, Engine, InvalidModule, Module, wat_to_wasm

ADD = """(module (import "a" "m" (memory 1)) (import "a" "f" (func (param i64 f32) (result f64)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (table (export "t") 1 funcref))"""


def test_imports_and_exports_are_listed_in_order_with_their_types(engine: Engine) -> None:
    module = Module.compile(engine, wat_to_wasm(ADD))
    assert [(i.module, i.name, i.kind, i.type) for i in module.imports] == [
        ("a", "m", "memory", None),
        ("a", "f", "func", CoreType(("i64", "f32"), ("f64",))),
    ]
    assert [(e.name, e.kind, e.type) for e in module.exports] == [
        ("add", "func", CoreType(("i32", "i32"), ("i32",))),
        ("t", "table", None),
    ]


def test_types_that_the_c_api_has_no_number_for(engine: Engine) -> None:
    """Asked for their kind, wasmtime aborts the process."""
    text = '(module (import "a" "f" (func (param v128 funcref))) (func (export "f") (result i32 v128) unreachable))'
    module = Module.compile(engine, wat_to_wasm(text))
    assert module.imports[0].type == CoreType(("v128", "funcref"), ())
    assert module.exports[0].type == CoreType((), ("i32", "v128"))


@pytest.mark.parametrize(
    ("wasm", "offset"),
    [(b"", 0), (b"\0asm\1\0\0\0\1\2", 10), (b"\0asm\2\0\0\0", 4), (b"plain text", 0)],
)
def test_a_malformed_module_is_refused_with_the_offset(engine: Engine, wasm: bytes, offset: int) -> None:
    with pytest.raises(InvalidModule) as caught:
        Module.compile(engine, wasm)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "name", ["at offset 1", "(at offset 0x1)", "Invalid input WebAssembly code at offset 1:", f"at offset {'9' * 5000}"]
)
def test_a_name_that_looks_like_an_offset(engine: Engine, name: str) -> None:
    wasm = wat_to_wasm(f'(module (memory 1) (export "{"x" * len(name)}" (memory 0)) (export "{name}" (memory 0)))')
    wasm = wasm.replace(b"x" * len(name), name.encode())
    for refuse in (Module.compile, Module.validate):
        with pytest.raises(InvalidModule, match="duplicate export name") as caught:
            refuse(engine, wasm)
        assert caught.value.offset == wasm.rindex(name.encode()) - (1 if len(name) < 0x80 else 2)


def test_errors_are_cut_and_show_control_characters(engine: Engine) -> None:
    name = "x" * 90_000 + r"\1b[31m\0a"
    wasm = wat_to_wasm(f'(module (memory 1) (export "{name}" (memory 0)) (export "y{name[1:]}" (memory 0)))')
    wasm = wasm.replace(b"yx", b"xx")
    with pytest.raises(InvalidModule) as caught:
        Module.validate(engine, wasm)
    assert len(str(caught.value)) < 1100
    assert str(caught.value).startswith("duplicate export name `xxxxx")
    assert "xx\\x1b[31m\n` already defined" in str(caught.value)
    with pytest.raises(InvalidModule, match=r"1:500001$") as caught:
        wat_to_wasm(" " * 500_000 + "\x1b")
    assert len(str(caught.value)) < 1100


@pytest.mark.parametrize(
    "text",
    ["(module (memory i64 1))", "(module (memory 1 1 shared))", "(module (tag (param i32)))"],
    ids=["memory64", "threads", "exceptions"],
)
def test_features_that_guests_have_no_business_with_are_off(engine: Engine, text: str) -> None:
    with pytest.raises(InvalidModule):
        Module.compile(engine, wat_to_wasm(text))


def test_text_that_does_not_parse_tells_where(engine: Engine) -> None:
    with pytest.raises(InvalidModule, match="1:10"):
        wat_to_wasm("(module (fun")


def test_what_was_serialized_can_be_had_again(engine: Engine) -> None:
    module = Module.compile(engine, wat_to_wasm(ADD))
    again = Module.deserialize(engine, module.serialize())
    assert (again.imports, again.exports) == (module.imports, module.exports)
    for data in (b"", b"damaged"):
        with pytest.raises(InvalidModule):
            Module.deserialize(engine, data)
