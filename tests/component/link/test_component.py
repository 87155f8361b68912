"""Loading components: what is accepted, in which form, and what is said about the rest."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.guests.build import build, unavailable
from wasi_http.component import Component, InvalidComponent
from wasi_http.component.link import component as component_module
from wasi_http.component.link.component import MAX_TEXT
from wasi_http.engine import CompileError, Engine, EngineConfig, Module, fuse, wat_to_wasm
from wasi_http.engine.cache import ModuleCache

TEXT = """(component
  (import "test:a/b@0.1.0" (instance $b (export "f" (func))))
  (core module $m (func (export "g")))
  (core instance $i (instantiate $m))
  (func (export "g") (canon lift (core func $i "g"))))"""


def test_binary_and_text(engine: Engine, tmp_path: Path) -> None:
    binary = wat_to_wasm(TEXT)
    wat, wasm = tmp_path / "c.wat", tmp_path / "c.wasm"
    wat.write_text(TEXT)
    wasm.write_bytes(binary)
    for component in (
        Component(engine, TEXT),
        Component(engine, binary),
        Component(engine, memoryview(binary)),
        Component.from_file(engine, wat),
        Component.from_file(engine, str(wasm)),
    ):
        assert component.engine is engine
        assert component.imports == ["test:a/b@0.1.0"]
        assert component.exports == ["g"]
        assert repr(component) == "<Component: exports g>"


REFUSED: list[tuple[str, bytes | str, str, int]] = [
    ("nothing", b"", "the component is empty", 0),
    ("no text", "", "expected at least one module field", 0),
    ("only a magic number", b"\0asm", "ends within its header", 4),
    ("something else", b"\x7fELF\1\1\1\0", "this is a native program", 0),
    ("a core module", b"\0asm\1\0\0\0", "this is a core module, not a component", 4),
    ("the text of a core module", "(module)", "this is a core module, not a component", 4),
    ("text that ends early", "(component", "expected `.`", 0),
    (
        "a core module that does not validate",
        '(component (core module (func (export "f") i32.const 1)))',
        "a core module is invalid: .*values remaining on stack",
        42,
    ),
    (
        "a component inside with code of its own",
        "(component (component (core module $m) (core instance (instantiate $m))) (instance (instantiate 0)))",
        "composed components .* are not supported yet",
        42,
    ),
    (
        "a component inside with a resource of its own",
        "(component (component (type (resource (rep i32)))) (instance (instantiate 0)))",
        "composed components .* are not supported yet",
        0,
    ),
    (
        "an imported component that is instantiated",
        '(component (import "c" (component $c)) (instance (instantiate $c)))',
        "components that import components are not supported",
        24,
    ),
    (
        "an imported core module that is instantiated",
        '(component (import "c" (core module $c)) (core instance (instantiate $c)))',
        "components that import core modules are not supported",
        0,
    ),
    (
        "an instance inside of an imported one",
        '(component (import "a" (instance $a (export "i" (instance (export "f" (func))))))'
        '(alias export $a "i" (instance $i)) (alias export $i "f" (func)))',
        "instances inside of imported ones are not supported",
        0,
    ),
    (
        "a call of its own export",
        '(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))'
        '(func $f (canon lift (core func $i "f"))) (core func (canon lower (func $f))))',
        "calls its own exports is not supported yet",
        0,
    ),
    (
        "a core import that nobody gives",
        '(component (core module $m (import "a" "b" (func))) (core instance $i (instantiate $m)))',
        "the core import 'a' 'b' is not given",
        0,
    ),
    (
        "a core import of another kind",
        '(component (core module $m (import "a" "b" (func))) (core module $n (memory (export "b") 1))'
        '(core instance $n (instantiate $n)) (core instance (instantiate $m (with "a" (instance $n)))))',
        "the core import 'a' 'b' is a func, but a memory is given",
        0,
    ),
    (
        "a core import of another type",
        '(component (core module $m (import "a" "b" (func))) (core module $n (func (export "b") (param i32)))'
        '(core instance $n (instantiate $n)) (core instance (instantiate $m (with "a" (instance $n)))))',
        "the core import 'a' 'b' is .*, but .* is given",
        0,
    ),
    (
        "a lifted function of another type",
        '(component (core module $m (func (export "f") (param i64))) (core instance $i (instantiate $m))'
        '(func (param "x" u32) (canon lift (core func $i "f"))))',
        "the lifted function is .*, but must be",
        0,
    ),
    (
        "a realloc of another type",
        '(component (core module $m (memory (export "m") 1) (func (export "f") (param i32 i32)) (func (export "r")))'
        "(core instance $i (instantiate $m))"
        '(func (param "x" string) (canon lift (core func $i "f") (memory (core memory $i "m"))'
        '(realloc (core func $i "r")))))',
        "the realloc option is .*, but must be",
        0,
    ),
    (
        "a post-return of another type",
        '(component (core module $m (func (export "f") (result i32) (i32.const 0)) (func (export "p") (param i64)))'
        "(core instance $i (instantiate $m))"
        '(func (result u32) (canon lift (core func $i "f") (post-return (core func $i "p")))))',
        "the post-return option is .*, but must be",
        0,
    ),
    (
        "a destructor of another type",
        '(component (core module $m (func (export "d") (param i64))) (core instance $i (instantiate $m))'
        '(type (resource (rep i32) (dtor (core func $i "d")))))',
        "the destructor is .*, but must be",
        0,
    ),
    (
        "an alias of nothing",
        '(component (core module $m) (core instance $i (instantiate $m)) (alias core export $i "f" (core func)))',
        "there is no core func 'f' to alias",
        0,
    ),
]


@pytest.mark.parametrize(("source", "message", "offset"), [case[1:] for case in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_is_refused(engine: Engine, source: bytes | str, message: str, offset: int) -> None:
    with pytest.raises(InvalidComponent, match=message) as caught:
        Component(engine, source)
    if offset:
        assert caught.value.offset == offset
    elif isinstance(source, str) and "expected" not in message:
        # Somewhere inside: text has no offsets that the test could know.
        assert 0 < caught.value.offset < len(wat_to_wasm(source))


def test_texts_are_short(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "c.wat"
    path.write_text(TEXT + " " * (MAX_TEXT - len(TEXT)))
    assert Component.from_file(engine, path).exports == ["g"]
    path.write_text(TEXT + " " * (MAX_TEXT - len(TEXT) + 1))
    with pytest.raises(InvalidComponent, match=r"2,097,153 characters, more than 2,097,152: convert it"):
        Component.from_file(engine, path)


@pytest.mark.parametrize("name", ["c.wasm", "c.wat"])
def test_files_that_are_no_components(engine: Engine, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(FileNotFoundError):
        Component.from_file(engine, path)
    path.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(InvalidComponent, match="neither binary WebAssembly"):
        Component.from_file(engine, path)
    path.write_bytes(b"")
    with pytest.raises(InvalidComponent, match="is empty"):
        Component.from_file(engine, path)
    path.write_bytes(b"(component ;; \xff)")
    with pytest.raises(InvalidComponent, match="is not WebAssembly"):
        Component.from_file(engine, path)
    path.write_bytes(b"import this\n")
    with pytest.raises(InvalidComponent, match="neither binary"):
        Component.from_file(engine, path)
    with pytest.raises(InvalidComponent, match=re.escape("Component.from_file(engine, path)")):
        Component(engine, str(path))
    with pytest.raises(IsADirectoryError):
        Component.from_file(engine, tmp_path)


def test_what_files_are_is_said_with_the_cure(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "app.py"
    path.write_text("print('hello')")
    with pytest.raises(InvalidComponent) as caught:
        Component.from_file(engine, path)
    command = "componentize-py -d wit -w wasi:http/proxy@0.2.12 componentize app -o app.wasm"
    assert str(caught.value) == f"this is Python source: make a component of it with `{command}`"
    with pytest.raises(InvalidComponent, match="this is compressed with gzip: unpack it first"):
        Component(engine, gzip.compress(wat_to_wasm("(component)")))


def test_components_compile_in_a_process_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fused = (Path(__file__).parents[3] / "examples" / "hello.wat").read_text()
    single = '(component (core module (func (export "a"))) (core module (func (export "b"))))'
    engine = Engine(EngineConfig(max_instances=1, cache_directory=str(tmp_path / "c"), isolate_compilation=True))
    for text, modules in ((fused, 1), (single, 2)):
        component = Component(engine, text)
        assert len(component.cache.entries) == modules
        assert component.exports == Component(Engine(EngineConfig(max_instances=1, cache=False)), text).exports
    with pytest.raises(InvalidComponent, match=r"a core module is invalid: .*values remaining on stack") as caught:
        Component(engine, '(component (core module (func (export "f") i32.const 1)))')
    assert caught.value.offset == 42
    # What is in the cache needs no process.
    monkeypatch.setattr(subprocess, "Popen", None)
    assert len(Component(engine, fused).cache.entries) == 1


def test_components_that_take_the_compiler_too_long() -> None:
    engine = Engine(EngineConfig(max_instances=1, cache=False, isolate_compilation=True, compile_timeout=1))
    loops = f'(func (export "f") {"loop " * 50_000}{"end " * 50_000})'
    instance = '(core instance $i (instantiate $m)) (func (export "f") (canon lift (core func $i "f")))'
    for text in (f"(component (core module $m {loops}) {instance})", f"(component (core module $m {loops}))"):
        with pytest.raises(CompileError, match="compiling takes longer than 1 s"):
            Component(engine, text)


def test_progress_counts_what_has_to_be_compiled(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    engine = Engine(EngineConfig(max_instances=1, cache_directory=str(tmp_path)))
    text = '(component (core module (func (export "a"))) (core module (func (export "b"))))'
    heard: list[tuple[int, int]] = []
    Component(engine, text, progress=lambda done, of: heard.append((done, of)))
    assert heard == [(0, 2), (1, 2), (2, 2)]
    heard.clear()
    Component(engine, text, progress=lambda done, of: heard.append((done, of)))
    assert heard == []


@pytest.mark.parametrize("guest", ["hello", "c_hello", "abi"])
def test_imports_and_exports_of_real_components(engine: Engine, guest: str) -> None:
    if unavailable(guest):
        pytest.skip(str(unavailable(guest)))
    component = Component.from_file(engine, build(guest))
    if guest == "abi":
        assert component.imports == ["test:abi/host"]
        assert sorted(component.exports) == [
            f"test:abi/{name}" for name in ("counters", "guest", "handles", "images", "raw")
        ]
    else:
        assert "wasi:http/types@0.2.12" in component.imports
        assert component.exports == ["wasi:http/incoming-handler@0.2.12"]


def test_linking_that_takes_too_much_work_is_refused(engine: Engine) -> None:
    imports = "".join(f'(import "" "f{i}" (func))' for i in range(700))
    exports = "".join(f'(export "f{i}" (func $f))' for i in range(700))
    text = f"""(component (core module $e (func (export "f")))
      (core instance $e (instantiate $e)) (alias core export $e "f" (core func $f))
      (core instance $i {exports}) (core module $m {imports})
      {'(core instance (instantiate $m (with "" (instance $i))))' * 700})"""
    with pytest.raises(InvalidComponent, match="too much work"):
        Component(engine, text)


FILL = '(func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 7) (local.get 0)))'

#: As one module, and one by one because of an expression that is too long to be put together.
LONG_OPERATIONS = {
    "fused": f"(component (core module $m (memory 1) {FILL}) (core instance (instantiate $m)))",
    "one by one": f"""(component
      (core module $m (global (export "g") i32 {"(i32.const 1) " * 200 + "(i32.add) " * 199}) (memory 1) {FILL})
      (core instance (instantiate $m)))""",
}


@pytest.mark.parametrize("text", LONG_OPERATIONS.values(), ids=LONG_OPERATIONS)
def test_long_operations_are_interrupted_however_modules_are_compiled(
    engine: Engine, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[bytes] = []
    fused: list[bytes | None] = []

    def fuse_(*arguments: Any) -> bytes | None:
        fused.append(fuse(*arguments))
        return fused[-1]

    def compile_(cache: ModuleCache, key: str, code: bytes) -> Module:
        compiled.append(code)
        return Module.compile(engine, code)

    monkeypatch.setattr(ModuleCache, "find", lambda cache, key: None)
    monkeypatch.setattr(ModuleCache, "compile", compile_)
    monkeypatch.setattr(component_module, "fuse", fuse_)
    Component(engine, text)
    assert [code is None for code in fused] == [text == LONG_OPERATIONS["one by one"]]
    (code,) = compiled
    # What is left of the operation is in the arms of branches.
    assert code.count(b"\xfc\x0b") > 1
